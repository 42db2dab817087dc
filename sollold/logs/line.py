"""One log line as it is kept: short, on one line, without the frames of a traceback."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from sollold.api_types import LogLevel, LogLine
from sollold.events.ring import rfc3339
from sollold.wire.visible import visible

if TYPE_CHECKING:
    from logging import LogRecord

_MAX_CHARACTERS = 2000
"""Longer messages are clipped; the log itself has them whole."""

_GAP_SOURCE = "sollold.logs"
_LEVELS: tuple[tuple[int, LogLevel], ...] = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)


class Line(msgspec.Struct, gc=False, eq=False):
    """What is kept of a record. `at_s` is wall-clock time.

    The record itself would keep alive what its traceback refers to.
    """

    at_s: float
    level: int
    source: str
    message: str
    request: str

    def shared(self) -> SharedLine:
        """Return the line for readers that listen; its JSON is made once for all of them."""
        return SharedLine(self.at_s, self.level, self.source, self.message, self.request)

    def text(self) -> str:
        """Return what is searched for a text."""
        return f"{level_word(self.level)} {self.source}: {self.message}"

    def document(self) -> LogLine:
        """Return the line as documents have it."""
        return LogLine(
            at=rfc3339(self.at_s),
            level=level_word(self.level),
            source=visible(self.source),
            message=visible(self.message),
            request=visible(self.request) or None,
        )

    def json(self) -> bytes:
        """Return the line as one JSON object, without a line end."""
        return msgspec.json.encode(self.document())


class SharedLine(Line, gc=False, eq=False):
    """A line on its way to readers."""

    encoded: bytes | None = None

    def json(self) -> bytes:
        """Return the line as one JSON object, without a line end."""
        if self.encoded is None:
            self.encoded = Line.json(self)
        return self.encoded


def line_of(record: LogRecord) -> Line:
    """Return what is kept of a record; of an exception its type and text."""
    message = record.getMessage()
    failure = record.exc_info[1] if record.exc_info else None
    if failure is not None:
        message = f"{message}: {type(failure).__name__}: {failure}"
    if len(message) > _MAX_CHARACTERS:
        message = message[: _MAX_CHARACTERS - 1] + "…"
    return Line(
        record.created, record.levelno, record.name, message, getattr(record, "request_id", "")
    )


def level_word(number: int) -> LogLevel:
    """Return the word for a level; levels between two are the lower one."""
    return next((word for least, word in _LEVELS if number >= least), "debug")


def gap_json(dropped: int, at_s: float) -> bytes:
    """Return the line that stands where a slow reader lost some."""
    return msgspec.json.encode(
        LogLine(
            at=rfc3339(at_s),
            level="warning",
            source=_GAP_SOURCE,
            message=f"{dropped} log lines dropped here (slow reader)",
            dropped=dropped,
        )
    )
