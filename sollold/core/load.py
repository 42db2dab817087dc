"""The requests that hold a slot now.

Owns which request runs where. Every request is added once and removed once; anything else raises,
because a lost or doubled slot would go unnoticed for days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sollold.core.model import Running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sollold.core.model import Grant, NodeId, RequestId, RunnerKey

_K = TypeVar("_K")

_NOBODY: dict[RequestId, Running] = {}


class Load:
    """Running requests, by id, node, runner and client."""

    def __init__(self) -> None:
        self._all: dict[RequestId, Running] = {}
        self._by_node: dict[NodeId, dict[RequestId, Running]] = {}
        self._by_client: dict[str, int] = {}
        self._by_runner: dict[tuple[NodeId, RunnerKey], int] = {}
        self._loading: dict[NodeId, int] = {}
        self._idle_since: dict[NodeId, float] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, request: RequestId) -> bool:
        return request in self._all

    def __iter__(self) -> Iterator[Running]:
        return iter(self._all.values())

    @property
    def busy(self) -> Mapping[NodeId, Mapping[RequestId, Running]]:
        """Nodes with work of ours, and that work in order of its start."""
        return self._by_node

    def start(self, grant: Grant, client: str, now_s: float) -> Running:
        """Count a granted request and return its record."""
        running = Running(
            request=grant.request,
            node=grant.node,
            runner=grant.runner,
            client=client,
            started_s=now_s,
            expected_s=grant.expected_s,
            is_loading=grant.is_load,
            expected_first_s=grant.expected_first_s,
            expected_load_s=grant.expected_load_s,
        )
        self.add(running)
        return running

    def add(self, running: Running) -> None:
        """Count a request that was granted a slot."""
        if running.request in self._all:
            msg = f"{running.request} holds a slot already"
            raise ValueError(msg)
        self._all[running.request] = running
        self._by_node.setdefault(running.node, {})[running.request] = running
        self._by_client[running.client] = self._by_client.get(running.client, 0) + 1
        alike = (running.node, running.runner)
        self._by_runner[alike] = self._by_runner.get(alike, 0) + 1
        if running.is_loading:
            self._loading[running.node] = self._loading.get(running.node, 0) + 1

    def remove(self, request: RequestId, now_s: float) -> Running:
        """Free the request's slot."""
        running = self._all.pop(request, None)
        if running is None:
            msg = f"{request} holds no slot"
            raise ValueError(msg)
        on_node = self._by_node[running.node]
        del on_node[request]
        if not on_node:
            del self._by_node[running.node]
            self._idle_since[running.node] = now_s
        _take_one(self._by_client, running.client)
        _take_one(self._by_runner, (running.node, running.runner))
        if running.is_loading:
            _take_one(self._loading, running.node)
        return running

    def get(self, request: RequestId) -> Running | None:
        """Return the running request of this id."""
        return self._all.get(request)

    def note_first(self, request: RequestId) -> None:
        """Note a request's first byte: whatever it had to load is loaded."""
        running = self._all[request]
        running.has_first_byte = True
        if running.is_loading:
            running.is_loading = False
            _take_one(self._loading, running.node)

    def on_node(self, node: NodeId) -> tuple[Running, ...]:
        """Return what runs on a node, in order of start."""
        return tuple(self._by_node.get(node, _NOBODY).values())

    def on_runner(self, node: NodeId, runner: RunnerKey) -> tuple[Running, ...]:
        """Return what runs on one loaded model of a node."""
        on_node = self._by_node.get(node, _NOBODY).values()
        return tuple(running for running in on_node if running.runner == runner)

    def count_on_runner(self, node: NodeId, runner: RunnerKey) -> int:
        """Count the requests that run on one loaded model of a node."""
        return self._by_runner.get((node, runner), 0)

    def is_loading(self, node: NodeId) -> bool:
        """Tell whether a node loads a model for a request of ours."""
        return node in self._loading

    def count(self, node: NodeId) -> int:
        """Count the requests that run on a node."""
        return len(self._by_node.get(node, _NOBODY))

    def of_client(self, client: str) -> int:
        """Count the running requests of a client."""
        return self._by_client.get(client, 0)

    def clients(self) -> dict[str, int]:
        """Return running requests per client."""
        return dict(self._by_client)

    def idle_since(self, node: NodeId) -> float:
        """Return when the node's last request ended; minus infinity if it never had one."""
        return self._idle_since.get(node, float("-inf"))

    def forget(self, node: NodeId) -> None:
        """Drop what is remembered of a node that left; its running requests stay."""
        self._idle_since.pop(node, None)


def _take_one(counts: dict[_K, int], key: _K) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
