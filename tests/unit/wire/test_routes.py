"""Each route knows its dialect, its kind and whether it streams."""

from __future__ import annotations

import pytest

from sollold.core.model import Dialect, TaskKind
from sollold.wire.routes import InferenceRoute


@pytest.mark.parametrize(
    ("path", "dialect", "kind", "streams", "can_stream"),
    [
        ("/api/chat", Dialect.OLLAMA, TaskKind.CHAT, True, True),
        ("/api/generate", Dialect.OLLAMA, TaskKind.GENERATE, True, True),
        ("/api/embed", Dialect.OLLAMA, TaskKind.EMBED, False, False),
        ("/api/embeddings", Dialect.OLLAMA, TaskKind.EMBED, False, False),
        ("/api/show", Dialect.OLLAMA, None, False, False),
        ("/v1/chat/completions", Dialect.OPENAI, TaskKind.CHAT, False, True),
        ("/v1/completions", Dialect.OPENAI, TaskKind.GENERATE, False, True),
        ("/v1/embeddings", Dialect.OPENAI, TaskKind.EMBED, False, False),
    ],
)
def test_routes(
    path: str, dialect: Dialect, kind: TaskKind | None, streams: bool, can_stream: bool
) -> None:
    route = InferenceRoute(path)
    assert route.path == path
    assert route.dialect is dialect
    assert route.kind is kind
    assert route.default_stream is streams
    assert route.can_stream is can_stream


def test_the_table_above_is_complete() -> None:
    assert len(InferenceRoute) == 8
