"""Reads a reply for a client that wants a stream.

Owns when the head is certain: with the first content, or at the end. An error that comes earlier is
an answer of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sollold.wire.translate.reply_errors import SPOILERS, Broken, Failure
from sollold.wire.translate.seam import ReplyHead

if TYPE_CHECKING:
    from sollold.wire.translate.reply_parts import Part
    from sollold.wire.translate.reply_source import Source
    from sollold.wire.translate.reply_tally import Tally


class Form(Protocol):
    """How an answer is printed."""

    @property
    def stream_type(self) -> str:
        """Content type of a stream."""
        ...

    @property
    def whole_type(self) -> str:
        """Content type of an answer that is one object."""
        ...

    @property
    def ends_with_reason(self) -> bool:
        """Whether a finish reason completes the stream, even if its own end is missing."""
        ...

    def begin_burst(self) -> None:
        """Prepare for parts that came together."""
        ...

    def part(self, part: Part) -> bytes:
        """Print a part; nothing if it has no content."""
        ...

    def ending(self, tally: Tally, *, is_split: bool) -> bytes:
        """Print the end of a stream; may raise `Broken`."""
        ...

    def whole(self, part: Part, tally: Tally, *, is_split: bool) -> bytes:
        """Print everything as one object; may raise `Broken`."""
        ...

    def broken(self, failure: Failure) -> bytes:
        """Print an error inside a stream."""
        ...

    def refusal(self, failure: Failure) -> tuple[bytes, str]:
        """Print an error instead of an answer; with its content type."""
        ...


class StreamReader:
    """Prints the parts of a reply as they come (`sollold.wire.translate.seam.ReplyReader`)."""

    __slots__ = ("_form", "_is_over", "_is_spoiled", "_source", "_tally", "head")

    is_heavy = False

    def __init__(self, source: Source, form: Form, tally: Tally) -> None:
        self.head: ReplyHead | None = None
        self._source = source
        self._form = form
        self._tally = tally
        self._is_over = False
        self._is_spoiled = False

    @property
    def is_spoiled(self) -> bool:
        """Whether what follows is not worth waiting for."""
        return self._is_spoiled or self._source.is_spoiled

    def begin(self, status: int, content_type: str) -> None:
        """Take the head of the engine's reply."""
        self._source.begin(status, content_type)

    def feed(self, data: bytes) -> bytes:
        """Take a piece of its body; return what goes on."""
        if self._is_over:
            return b""
        parts = self._source.feed(data)
        out = self._print(parts) if parts else b""
        if self._source.failure is not None:
            return out + self._fail(self._source.failure)
        return out + self._end() if self._source.is_done else out

    def finish(self) -> bytes:
        """Take the clean end of its body; return the rest."""
        out = b""
        if not self._is_over:
            out = self._print(self._source.finish())
            if self._source.failure is not None:
                out += self._fail(self._source.failure)
            elif self._source.is_done or self._form.ends_with_reason:
                out += self._end()
        self._settle_head()
        return out

    def _print(self, parts: list[Part]) -> bytes:
        form, tally = self._form, self._tally
        form.begin_burst()
        printed: list[bytes] = []
        try:
            for part in parts:
                tally.take(part)
                printed.append(form.part(part))
        except Broken as broken:
            printed.append(self._fail_after(printed, broken.failure))
        out = b"".join(printed)
        if out:
            self._settle_head()
        return out

    def _fail_after(self, printed: list[bytes], failure: Failure) -> bytes:
        if any(printed):
            self._settle_head()
        return self._fail(failure)

    def _end(self) -> bytes:
        """Print the end. Without a finish reason there is none: nothing is made up."""
        if self._is_over or self._tally.finish is None:
            self._is_over = True
            return b""
        try:
            out = self._form.ending(self._tally, is_split=self._source.is_split)
        except Broken as broken:
            return self._fail(broken.failure)
        self._is_over = True
        self._settle_head()
        return out

    def _fail(self, failure: Failure) -> bytes:
        if self._is_over:
            return b""
        self._is_over = True
        self._is_spoiled = failure in SPOILERS
        if self.head is not None:
            return self._form.broken(failure)
        body, content_type = self._form.refusal(failure)
        self.head = ReplyHead(failure.status, content_type)
        return body

    def _settle_head(self) -> None:
        if self.head is None:
            self.head = ReplyHead(200, self._form.stream_type)
