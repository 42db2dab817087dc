"""Reads a reply for a client that wants one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sollold.wire.translate.reply_errors import (
    OVERLONG,
    SPOILERS,
    UNREADABLE,
    Broken,
)
from sollold.wire.translate.reply_parts import Part
from sollold.wire.translate.reply_source import HEAVY_BYTES
from sollold.wire.translate.seam import ReplyHead

if TYPE_CHECKING:
    from sollold.wire.translate.reply_errors import Failure
    from sollold.wire.translate.reply_source import Source
    from sollold.wire.translate.reply_stream import Form
    from sollold.wire.translate.reply_tally import Tally

_MAX_PARTS: Final = 1024 * 1024
_MAX_BYTES: Final = 64 * 1024 * 1024
_MAX_BYTES_OF_NUMBERS: Final = 32 * 1024 * 1024
"""Log-probabilities take six times the room that they took in the reply."""


class WholeReader:
    """Gathers a reply, which the engine may have streamed, and prints it at its end.

    (`sollold.wire.translate.seam.ReplyReader`)
    """

    __slots__ = (
        "_failure",
        "_fed_bytes",
        "_form",
        "_keeps_logprobs",
        "_limit_bytes",
        "_parts",
        "_source",
        "_tally",
        "head",
    )

    def __init__(
        self, source: Source, form: Form, tally: Tally, *, keeps_logprobs: bool = False
    ) -> None:
        self.head: ReplyHead | None = None
        self._source = source
        self._form = form
        self._tally = tally
        self._parts: list[Part] = []
        self._keeps_logprobs = keeps_logprobs
        self._fed_bytes = 0
        self._limit_bytes = _MAX_BYTES_OF_NUMBERS if keeps_logprobs else _MAX_BYTES
        self._failure: Failure | None = None

    @property
    def is_spoiled(self) -> bool:
        """Whether what follows is not worth waiting for."""
        return self._failure in SPOILERS or self._source.is_spoiled

    @property
    def is_heavy(self) -> bool:
        """Whether much was gathered."""
        return self._fed_bytes > HEAVY_BYTES

    def begin(self, status: int, content_type: str) -> None:
        """Take the head of the engine's reply."""
        self._source.begin(status, content_type)

    def feed(self, data: bytes) -> bytes:
        """Take a piece of its body; nothing goes on before the end."""
        if self._failure is not None:
            return b""
        self._fed_bytes += len(data)
        self._gather(self._source.feed(data))
        if self._fed_bytes > self._limit_bytes or len(self._parts) > _MAX_PARTS:
            self._failure = OVERLONG
            self._parts = []
        return b""

    def finish(self) -> bytes:
        """Take the clean end of its body; return the answer."""
        if self._failure is None:
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
        try:
            for part in parts:
                self._tally.take(part)
                if not self._keeps_logprobs:
                    part.logprobs = None
                self._parts.append(part)
        except Broken as broken:
            self._failure = broken.failure

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
