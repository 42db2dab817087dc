"""What a view of a node says of itself."""

from __future__ import annotations

import pytest

from sollold.core.model import NodeKind
from tests.unit.core.routing_values import node


@pytest.mark.parametrize(
    ("kind", "is_told"),
    [(NodeKind.OLLAMA, True), (NodeKind.LLAMA_SERVER, True), (NodeKind.OPENAI, False)],
)
def test_what_is_in_memory_is_told_by_some_kinds(kind: NodeKind, is_told: bool) -> None:
    assert node("x", kind=kind).tells_memory is is_told
