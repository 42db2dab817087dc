"""Passes replies of `/v1/*` through as they are, but for the model's name.

Owns the incomplete line at the end of a stream. Must not parse.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sollold.core.model import Dialect
from sollold.wire.errors import error_body
from sollold.wire.gojson import go_json
from sollold.wire.translate.reply_errors import MAX_ERROR_BYTES
from sollold.wire.translate.reply_source import MAX_BODY_BYTES, Body
from sollold.wire.translate.seam import ReplyHead
from sollold.wire.translate.sse import MAX_EVENT_BYTES, is_event_stream

if TYPE_CHECKING:
    from sollold.wire.translate.asked import Asked
    from sollold.wire.translate.reply_errors import Errors
    from sollold.wire.translate.seam import Engine

# Inside a string a quote is always escaped, so this can only be a member.
_MODEL: Final = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')


class RelayReader:
    """Puts the asked name in place of the engine's (`sollold.wire.translate.seam.ReplyReader`).

    The first name that is seen is the one that is replaced from then on.
    """

    __slots__ = (
        "_errors",
        "_held",
        "_is_stream",
        "_is_through",
        "_limit_bytes",
        "_new",
        "_old",
        "_page",
        "head",
    )

    is_heavy = False

    def __init__(self, engine: Engine, asked: Asked, errors: Errors) -> None:
        self.head: ReplyHead | None = None
        self._errors = errors
        self._page: tuple[int, Body] | None = None
        self._is_through = engine.model == asked.model
        self._is_stream = False
        self._new = b'"model":' + go_json(asked.model)
        self._old: bytes | None = None
        self._held = bytearray()
        self._limit_bytes = MAX_BODY_BYTES

    @property
    def is_spoiled(self) -> bool:
        """Whether what follows is not worth waiting for: a page has no end."""
        return self._page is not None and self._page[1].is_overlong

    def begin(self, status: int, content_type: str) -> None:
        """Take the head of the engine's reply, which is passed on unless it is a page of errors."""
        if status >= 400 and "json" not in content_type.lower():
            self._page = status, Body(MAX_ERROR_BYTES)
            return
        self.head = ReplyHead(status, content_type)
        self._is_through = self._is_through or status != 200
        self._is_stream = is_event_stream(content_type)
        if self._is_stream:
            self._limit_bytes = MAX_EVENT_BYTES

    def feed(self, data: bytes) -> bytes:
        """Take a piece of its body; return what goes on: whole lines of a stream."""
        if self._page is not None:
            self._page[1].add(data)
            return b""
        if self._is_through:
            return data
        if self._is_stream and not self._held and data.endswith(b"\n"):
            return self._renamed(data)
        self._held += data
        cut = self._held.rfind(b"\n") + 1 if self._is_stream and b"\n" in data else 0
        if not cut and len(self._held) > self._limit_bytes:
            # No answer is that long; it goes on as it is rather than being kept.
            self._is_through = True
            return self._released()
        lines = bytes(self._held[:cut])
        del self._held[:cut]
        return self._renamed(lines)

    def finish(self) -> bytes:
        """Take the clean end of its body; return the rest."""
        if self._page is not None:
            status, page = self._page
            failure = self._errors.of_body(status, page.take())
            body, content_type = error_body(Dialect.OPENAI, failure.status, failure.text)
            self.head = ReplyHead(failure.status, content_type)
            return body
        return self._renamed(self._released())

    def _released(self) -> bytes:
        held = bytes(self._held)
        self._held.clear()
        return held

    def _renamed(self, data: bytes) -> bytes:
        if self._old is None:
            found = _MODEL.search(data)
            if found is None:
                return data
            self._old = found[0]
            if not self._is_stream:
                return data[: found.start()] + self._new + data[found.end() :]
        return data.replace(self._old, self._new)
