"""What models can do, learned once per digest and node version.

Different versions of Ollama read different abilities out of the same file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sollold.core.model import Digest, ModelView

_MAX_KNOWN = 8192

_Key = tuple["Digest", str]


class Capabilities:
    """Answers of `/api/show`; bounded, the oldest go first."""

    def __init__(self) -> None:
        self._known: dict[_Key, frozenset[str] | None] = {}
        self._asked: set[_Key] = set()
        self._news: set[Digest] = set()

    def apply(self, model: ModelView, version: str) -> ModelView:
        """Return the model with what is known for certain; the listing's word otherwise."""
        known = self._known.get((model.digest, version))
        if known is None or known == model.capabilities:
            return model
        return msgspec.structs.replace(model, capabilities=known)

    def unknown(self, models: Iterable[ModelView], version: str) -> list[ModelView]:
        """Return the models worth asking about; stubs would have the node ask elsewhere."""
        return [
            model
            for model in models
            if not model.is_remote
            and (model.digest, version) not in self._known
            and (model.digest, version) not in self._asked
        ]

    def begin(self, model: ModelView, version: str) -> bool:
        """Claim a question; False when another node is being asked it."""
        key = (model.digest, version)
        if key in self._asked or key in self._known:
            return False
        self._asked.add(key)
        return True

    def finish(self, model: ModelView, version: str) -> None:
        """Give a claim back without an answer, so that somebody asks again."""
        self._asked.discard((model.digest, version))

    def learn(self, model: ModelView, version: str, found: frozenset[str] | None) -> None:
        """Note an answer; None: there is none to be had, do not ask again."""
        self.finish(model, version)
        if len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[model.digest, version] = found
        if found is not None:
            self._news.add(model.digest)

    def take_news(self) -> frozenset[Digest]:
        """Return the models about which something was learned since the last call. No await."""
        news = frozenset(self._news)
        self._news.clear()
        return news
