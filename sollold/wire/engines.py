"""What a translation is told of the node it is made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.core.model import NodeKind
from sollold.wire.translate.seam import Engine

if TYPE_CHECKING:
    from sollold.core.model import ModelKey, NodeView


def engine_for(node: NodeView | None, key: ModelKey) -> Engine | None:
    """Return the engine that runs a model; None where requests go unchanged."""
    view = None if node is None else node.models.get(key)
    if node is None or view is None or view.engine is None:
        return None
    return Engine(
        kind=node.kind,
        model=view.engine.name,
        context_length=view.engine.context_length,
        capabilities=view.capabilities,
        has_templates=node.kind is NodeKind.LLAMA_SERVER,
    )
