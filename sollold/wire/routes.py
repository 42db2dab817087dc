"""The inference routes: their paths and what each one is.

Owns the closed list of routes whose bodies are read. Must not parse anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sollold.core.model import Dialect, TaskKind


class InferenceRoute(StrEnum):
    """A route that names one model in a JSON body; the value is its path."""

    API_CHAT = "/api/chat"
    API_GENERATE = "/api/generate"
    API_EMBED = "/api/embed"
    API_EMBEDDINGS = "/api/embeddings"
    API_SHOW = "/api/show"
    V1_CHAT = "/v1/chat/completions"
    V1_COMPLETIONS = "/v1/completions"
    V1_EMBEDDINGS = "/v1/embeddings"

    @property
    def path(self) -> str:
        """The path, for requests to nodes."""
        return self.value

    @property
    def dialect(self) -> Dialect:
        """The API family whose shapes the answers have."""
        return Dialect.OPENAI if self in _OPENAI else Dialect.OLLAMA

    @property
    def kind(self) -> TaskKind | None:
        """What an engine is asked to do; None when none is."""
        return _KINDS.get(self)


_OPENAI: Final = frozenset(
    {InferenceRoute.V1_CHAT, InferenceRoute.V1_COMPLETIONS, InferenceRoute.V1_EMBEDDINGS}
)
_KINDS: Final = {
    InferenceRoute.API_CHAT: TaskKind.CHAT,
    InferenceRoute.API_GENERATE: TaskKind.GENERATE,
    InferenceRoute.API_EMBED: TaskKind.EMBED,
    InferenceRoute.API_EMBEDDINGS: TaskKind.EMBED,
    InferenceRoute.V1_CHAT: TaskKind.CHAT,
    InferenceRoute.V1_COMPLETIONS: TaskKind.GENERATE,
    InferenceRoute.V1_EMBEDDINGS: TaskKind.EMBED,
}
