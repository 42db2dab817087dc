"""Reads what an engine sends, stream or body, into parts.

Owns the bytes of a reply that are not read yet, and when it is over. Must not print anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sollold.wire.translate.reply_errors import (
    MAX_ERROR_BYTES,
    OVERLONG,
    SPOILERS,
    UNREADABLE,
    Broken,
    Errors,
    Failure,
)
from sollold.wire.translate.reply_parts import Part
from sollold.wire.translate.sse import SseSplitter, is_event_stream

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BODY_BYTES: Final = 128 * 1024 * 1024
"""Embeddings of a large batch are the largest bodies there are."""

HEAVY_BYTES: Final = 256 * 1024
"""More takes longer to print, all at once, than others should wait: about 5 ms."""

_DONE: Final = b"[DONE]"


class Body:
    """A body that is kept whole, up to a limit."""

    __slots__ = ("_chunks", "_limit_bytes", "is_overlong", "size_bytes")

    def __init__(self, limit_bytes: int = MAX_BODY_BYTES) -> None:
        self.is_overlong = False
        self._limit_bytes = limit_bytes
        self.size_bytes = 0
        self._chunks: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Take a piece; what is beyond the limit is dropped."""
        room_bytes = self._limit_bytes - self.size_bytes
        if len(data) > room_bytes:
            self.is_overlong = True
            data = data[:room_bytes]
        if data:
            self.size_bytes += len(data)
            self._chunks.append(data)

    def take(self) -> bytes:
        """Return what was kept and forget it."""
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)


class Source:
    """One reply as parts. After `failure` or `is_done` nothing comes any more."""

    __slots__ = (
        "_body", "_echo", "_errors", "_guess", "_held", "_parse", "_splitter", "_status",
        "failure", "is_done",
    )  # fmt: skip

    def __init__(
        self, parse: Callable[[bytes], Part], errors: Errors, *, prefill: str = ""
    ) -> None:
        self.failure: Failure | None = None
        """Why the reply ends here; the parts before it are sound."""
        self.is_done = False
        """The engine said that this was all."""
        self._parse = parse
        self._echo = prefill
        self._held = ""
        self._guess: Part | None = None
        self._errors = errors
        self._status = 200
        self._body = Body()
        self._splitter: SseSplitter | None = None

    @property
    def is_split(self) -> bool:
        """Whether the answer comes in pieces."""
        return self._splitter is not None

    @property
    def is_spoiled(self) -> bool:
        """Whether what follows is not worth waiting for."""
        return self._body.is_overlong or self.failure in SPOILERS

    @property
    def _is_over(self) -> bool:
        return self.failure is not None or self.is_done

    def begin(self, status: int, content_type: str) -> None:
        """Take the head of the reply."""
        self._status = status
        if status != 200:
            self._body = Body(MAX_ERROR_BYTES)
        elif is_event_stream(content_type):
            self._splitter = SseSplitter()

    def feed(self, data: bytes) -> list[Part]:
        """Return the parts that are complete now."""
        if self._is_over:
            return []
        if self._splitter is None:
            self._body.add(data)
            return []
        parts = self._read(self._splitter.feed(data))
        if self._splitter.is_overlong and not self._is_over:
            self.failure = OVERLONG
        return parts

    def finish(self) -> list[Part]:
        """Return the parts that were left at the clean end."""
        if self._is_over:
            return []
        if self._splitter is None:
            return self._read_body()
        parts = self._read(self._splitter.finish())
        if self.failure is UNREADABLE:
            self.failure = None  # cut in the middle: the missing terminator tells
        return parts

    def _read(self, payloads: list[bytes]) -> list[Part]:
        parts: list[Part] = []
        try:
            for payload in payloads:
                if payload == _DONE or payload.strip() == _DONE:
                    self.is_done = True
                    if self._guess is not None:
                        parts.append(self._guess)
                    break
                part = self._parse(payload)
                if part.error is not None:
                    self.failure = self._errors.of_event(part.error)
                    break
                if self._echo:
                    self._take_echo(part)
                if part.is_guess and self.is_split:
                    self._put_off_end(part)
                parts.append(part)
                if part.break_off is not None:
                    self.failure = part.break_off
                    break
                if part.is_last:
                    self.is_done = True
                    break
        except Broken as broken:
            self.failure = broken.failure
        return parts

    def _put_off_end(self, part: Part) -> None:
        """Keep a reason that is a guess until the stream's own end proves it."""
        self._guess = Part(finish=part.finish, id=part.id, created=part.created)
        part.finish = None

    def _take_echo(self, part: Part) -> None:
        """Take what the engine repeats of the history off the beginning of its answer."""
        text = self._held + part.text
        self._held = ""
        if text.startswith(self._echo):
            text = text[len(self._echo) :]
            self._echo = ""
        elif part.finish is None and self._echo.startswith(text):
            self._held, text = text, ""
        else:
            self._echo = ""
        part.text = text

    def _read_body(self) -> list[Part]:
        if self._status != 200:
            self.failure = self._errors.of_body(self._status, self._body.take())
            return []
        if self._body.is_overlong:
            self.failure = OVERLONG
            return []
        parts = self._read([self._body.take()])
        if parts and parts[0].is_empty:
            self.failure = UNREADABLE
        if self.failure is not None:
            return []
        self.is_done = True
        return parts
