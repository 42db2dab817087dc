"""Reads a reply for a client that wants one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sollold.wire.translate.reply_errors import OVERLONG, UNREADABLE, Broken
from sollold.wire.translate.reply_parts import Part
from sollold.wire.translate.seam import ReplyHead

if TYPE_CHECKING:
    from sollold.wire.translate.reply_errors import Failure
    from sollold.wire.translate.reply_source import Source
    from sollold.wire.translate.reply_stream import Form
    from sollold.wire.translate.reply_tally import Tally

_MAX_PARTS: Final = 1024 * 1024
_MAX_CHARS: Final = 64 * 1024 * 1024


class WholeReader:
    """Gathers a reply, which the engine may have streamed, and prints it at its end.

    (`sollold.wire.translate.seam.ReplyReader`)
    """

    __slots__ = ("_chars", "_failure", "_form", "_parts", "_source", "_tally", "head")

    def __init__(self, source: Source, form: Form, tally: Tally) -> None:
        self.head: ReplyHead | None = None
        self._source = source
        self._form = form
        self._tally = tally
        self._parts: list[Part] = []
        self._chars = 0
        self._failure: Failure | None = None

    def begin(self, status: int, content_type: str) -> None:
        """Take the head of the engine's reply."""
        self._source.begin(status, content_type)

    def feed(self, data: bytes) -> bytes:
        """Take a piece of its body; nothing goes on before the end."""
        self._gather(self._source.feed(data))
        return b""

    def finish(self) -> bytes:
        """Take the clean end of its body; return the answer."""
        self._gather(self._source.finish())
        failure = self._failure or self._source.failure
        if failure is None and self._source.is_split and self._tally.finish is None:
            # A stream that was cut, even if its last word came: nothing is made up.
            failure = UNREADABLE
        if failure is None:
            try:
                out = self._form.whole(self._whole(), self._tally, is_split=self._source.is_split)
            except Broken as broken:
                failure = broken.failure
            else:
                self.head = ReplyHead(200, self._form.whole_type)
                return out
        body, content_type = self._form.refusal(failure)
        self.head = ReplyHead(failure.status, content_type)
        return body

    def _gather(self, parts: list[Part]) -> None:
        if self._failure is not None:
            return
        try:
            for part in parts:
                self._tally.take(part)
                self._parts.append(part)
                self._chars += len(part.text) + len(part.thinking)
        except Broken as broken:
            self._failure = broken.failure
        if self._chars > _MAX_CHARS or len(self._parts) > _MAX_PARTS:
            self._failure = OVERLONG
            self._parts = []

    def _whole(self) -> Part:
        """Return all parts as one."""
        parts = self._parts
        if len(parts) == 1:
            return parts[0]
        named = next((part for part in parts if part.id is not None), Part())
        return Part(
            text="".join([part.text for part in parts]),
            thinking="".join([part.thinking for part in parts]),
            finish=self._tally.finish,
            logprobs=_joined([part.logprobs for part in parts]),
            id=named.id,
            created=named.created,
        )


def _joined(logprobs: list[object]) -> list[object]:
    """Return the entries of all parts; those that are no list of entries have none."""
    entries: list[object] = []
    for found in logprobs:
        rows = found.get("content") if isinstance(found, dict) else found
        entries += rows if isinstance(rows, list) else []
    return entries
