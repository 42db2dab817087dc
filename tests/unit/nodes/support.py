"""A registry with a clock that stands still, and a list of what it announced."""

from __future__ import annotations

from typing import Any

from sollold.core.model import Digest, ModelView, NodeId, NodeState, ResidentView
from sollold.core.names import key_of
from sollold.nodes.candidates import Candidate
from sollold.nodes.own import OwnAddresses
from sollold.nodes.registry import Registry

OWN = OwnAddresses(
    listeners=frozenset({("127.0.0.1", 11434)}),
    interfaces=frozenset({"127.0.0.1", "192.168.1.2", "::1"}),
)


class Bench:
    """A registry under test."""

    def __init__(self, own: OwnAddresses = OWN, **options: Any) -> None:
        self.now_s = 100.0
        self.events: list[tuple[str, dict[str, object]]] = []
        self.calls = 0
        self.registry = Registry(
            clock=lambda: self.now_s,
            on_event=lambda kind, fields: self.events.append((kind, fields)),
            own=own,
            **options,
        )
        self.registry.subscribe(self._called)

    def _called(self) -> None:
        self.calls += 1

    def add(self, url: str, source: str = "config", **fields: Any) -> NodeId:
        node = self.registry.add(Candidate(url=url, source=source, **fields))
        assert node is not None
        return node

    def ids(self) -> list[str]:
        return [view.id for view in self.registry.fleet().nodes]

    def state(self, node: str) -> NodeState:
        view = self.registry.get(NodeId(node))
        assert view is not None
        return view.state

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    def take(self) -> list[tuple[str, dict[str, object]]]:
        events, self.events = self.events, []
        return events


def model(name: str, digest: str = "") -> ModelView:
    key = key_of(name)
    assert key is not None
    return ModelView(
        key=key,
        name=name,
        digest=Digest(digest or name * 3),
        size_bytes=1000,
        modified_at="2026-01-01T00:00:00Z",
    )


def resident(
    name: str, digest: str = "", context: int | None = 4096, **fields: Any
) -> ResidentView:
    key = key_of(name)
    assert key is not None
    return ResidentView(
        key=key,
        digest=Digest(digest or name * 3),
        context_length=context,
        expires_at=fields.pop("expires_at", "2026-01-01T00:05:00Z"),
        size_bytes=1000,
        size_vram_bytes=500,
        **fields,
    )
