"""Models that configuration declares to be the same as those of Ollama nodes.

Owns under which digest they take part. A declared equality holds by name: the model is whatever
the name stands for on Ollama nodes; where no Ollama has it, those declared equal are equal among
themselves.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sollold.core.model import Digest, Fleet, NodeKind
from sollold.wire.catalogue import preferred_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sollold.core.model import ModelKey, ModelView, NodeView, ResidentView


class Equality:
    """Applies what is declared; returns the same object for a view that did not change."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[NodeView, tuple[object, ...], NodeView]] = {}
        self._adopted: dict[ModelKey, ModelView] = {}

    def apply(self, nodes: Sequence[NodeView]) -> tuple[NodeView, ...]:
        """Return the nodes, with every declared model under the digest it takes part with."""
        wanted = {key for node in nodes for key in _declared(node)}
        if not wanted:
            self._known.clear()
            self._adopted = {}
            return tuple(nodes)
        ollamas = tuple(node for node in nodes if node.kind is NodeKind.OLLAMA)
        found = preferred_views(Fleet(0, ollamas), wanted)
        self._adopted = {key: view for key, view in found.items() if not view.is_remote}
        names = {node.id for node in nodes}
        self._known = {name: entry for name, entry in self._known.items() if name in names}
        return tuple(map(self.apply_again, nodes))

    def apply_again(self, node: NodeView) -> NodeView:
        """Return a later view of one node, given what the others held at the last `apply`."""
        adopted = self._adopted
        models = {key: _adopt(node.models[key], adopted.get(key)) for key in _declared(node)}
        if not models:
            return node
        made_of = tuple((view.digest, view.modified_at) for view in models.values())
        entry = self._known.get(node.id)
        if entry is None or entry[0] is not node or entry[1] != made_of:
            residents = tuple(_follow(resident, models) for resident in node.residents)
            changed = replace(node, models={**node.models, **models}, residents=residents)
            entry = (node, made_of, changed)
        self._known[node.id] = entry
        return entry[2]


def _declared(node: NodeView) -> Iterator[ModelKey]:
    if node.kind is NodeKind.OLLAMA:
        return
    for key, view in node.models.items():
        if view.engine is not None and view.engine.is_same_as_ollama:
            yield key


def _adopt(view: ModelView, original: ModelView | None) -> ModelView:
    """Return the model as Ollama's, as far as lists and routing are concerned."""
    if original is None:
        digest = Digest(hashlib.sha256(f"sollold 1\nname\n{view.key}\n".encode()).hexdigest())
        return replace(view, digest=digest, entry={**view.entry, "digest": digest})
    return replace(
        view,
        digest=original.digest,
        size_bytes=original.size_bytes,
        modified_at=original.modified_at,
        entry=original.entry,
        is_synthetic=False,
    )


def _follow(resident: ResidentView, models: dict[ModelKey, ModelView]) -> ResidentView:
    view = models.get(resident.key)
    if view is None:
        return resident
    entry = {**resident.entry, "digest": view.digest}
    return replace(resident, digest=view.digest, entry=entry)
