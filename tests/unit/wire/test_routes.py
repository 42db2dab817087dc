"""Each route knows its dialect and its kind."""

from __future__ import annotations

import pytest

from sollold.core.model import Dialect, TaskKind
from sollold.wire.routes import InferenceRoute


@pytest.mark.parametrize(
    ("path", "dialect", "kind"),
    [
        ("/api/chat", Dialect.OLLAMA, TaskKind.CHAT),
        ("/api/generate", Dialect.OLLAMA, TaskKind.GENERATE),
        ("/api/embed", Dialect.OLLAMA, TaskKind.EMBED),
        ("/api/embeddings", Dialect.OLLAMA, TaskKind.EMBED),
        ("/api/show", Dialect.OLLAMA, None),
        ("/v1/chat/completions", Dialect.OPENAI, TaskKind.CHAT),
        ("/v1/completions", Dialect.OPENAI, TaskKind.GENERATE),
        ("/v1/embeddings", Dialect.OPENAI, TaskKind.EMBED),
    ],
)
def test_routes(path: str, dialect: Dialect, kind: TaskKind | None) -> None:
    route = InferenceRoute(path)
    assert route.path == path
    assert route.dialect is dialect
    assert route.kind is kind


def test_the_table_above_is_complete() -> None:
    assert len(InferenceRoute) == 8
