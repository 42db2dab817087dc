"""Log lines: where they go, how they look, which request they belong to.

Nothing here may stall the event loop: records are formatted and written by a thread of their own,
from a bounded backlog. Prompts, answers and keys are never logged, by anybody.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
import threading
from collections import deque
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol

from sollold.wire.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "text", "json", "journal"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that is being worked on; every line logged meanwhile carries it."""

_PACKAGE = "sollold"
_SHUTDOWN_S = 3.0
_JOURNAL_PRIORITY = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_COLOUR = ((logging.ERROR, "\x1b[31m"), (logging.WARNING, "\x1b[33m"), (logging.INFO, "\x1b[36m"))
_DIM = "\x1b[2m"
_PLAIN = "\x1b[0m"


class Stream(Protocol):
    """What lines are written to."""

    def write(self, text: str, /) -> object:
        """Take a text."""

    def flush(self) -> object:
        """Pass on what was written."""

    def fileno(self) -> int:
        """Return the descriptor, or raise OSError."""

    def isatty(self) -> bool:
        """Whether a person reads along."""


class Logging:
    """The log while it runs; `shutdown()` ends it and puts everything back."""

    def __init__(self, writer: _Writer, handler: logging.Handler, level: Level) -> None:
        self._writer = writer
        self._handler = handler
        self._root = logging.getLogger()
        self._package = logging.getLogger(_PACKAGE)
        self._before = (self._root.level, self._package.level)
        self._is_running = True
        self._root.addHandler(handler)
        self.set_level(level)
        writer.start()

    @property
    def dropped(self) -> int:
        """Lines lost because they came faster than they could be written."""
        return self._writer.dropped

    def set_level(self, level: Level) -> None:
        """Choose the least important lines to write; libraries are kept one step quieter."""
        number = logging.getLevelNamesMapping()[level.upper()]
        self._package.setLevel(number)
        self._root.setLevel(logging.INFO if level == "debug" else max(number, logging.WARNING))

    def shutdown(self, timeout_s: float = _SHUTDOWN_S) -> None:
        """Write what is waiting, for at most `timeout_s`, and stop. May be called twice."""
        if not self._is_running:
            return
        self._is_running = False
        self._root.removeHandler(self._handler)
        self._root.setLevel(self._before[0])
        self._package.setLevel(self._before[1])
        self._writer.stop(timeout_s)


def setup(
    level: Level = "info",
    log_format: Format = "auto",
    stream: Stream | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    backlog: int = 8192,
    also: Callable[[logging.LogRecord], None] | None = None,
) -> Logging:
    """Send all log lines to `stream` (standard error) in the given format.

    `also` gets every record too, with its message made, on the thread that logs.
    """
    target: Stream = stream or sys.stderr
    variables = os.environ if environ is None else environ
    writer = _Writer(target, make_formatter(log_format, target, variables), backlog)
    handler = _Handler(writer, also)
    handler.addFilter(_add_request_id)
    return Logging(writer, handler, level)


def make_formatter(
    log_format: Format, stream: Stream, environ: Mapping[str, str]
) -> logging.Formatter:
    """Choose how lines look on a stream."""
    if log_format == "auto":
        log_format = "journal" if is_journal(stream, environ) else "text"
    if log_format == "journal":
        return _JournalFormatter()
    if log_format == "json":
        return _JsonFormatter()
    return _TextFormatter(has_colour=_has_colour(stream, environ))


def is_journal(stream: Stream, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the one that systemd connected to the journal."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _has_colour(stream: Stream, environ: Mapping[str, str]) -> bool:
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environ.get("TERM") != "dumb"


def _add_request_id(record: logging.LogRecord) -> bool:
    if not hasattr(record, "request_id"):
        record.request_id = request_id.get()
    return True


def _pick(table: tuple[tuple[int, object], ...], level: int, default: object) -> object:
    return next((value for least, value in table if level >= least), default)


class _Handler(logging.Handler):
    """Hands records to the writer; all that happens on the caller's thread."""

    def __init__(self, writer: _Writer, also: Callable[[logging.LogRecord], None] | None) -> None:
        super().__init__()
        self._writer = writer
        self._also = also

    def emit(self, record: logging.LogRecord) -> None:
        """Freeze the message, whose arguments may change, and queue the record."""
        try:
            message = record.getMessage()
        except Exception:  # a wrong format string must not break the caller
            self.handleError(record)
            return
        # A bare copy: the constructor would look up time, thread and process once more.
        frozen = logging.LogRecord.__new__(logging.LogRecord)
        frozen.__dict__.update(record.__dict__, msg=message, args=None)
        self._writer.put(frozen)
        if self._also is not None:
            try:
                self._also(frozen)
            except Exception:  # an exception whose text cannot be made, for one
                self.handleError(record)


class _Writer:
    """A thread that formats and writes; the newest `backlog` records may wait for it."""

    def __init__(self, stream: Stream, formatter: logging.Formatter, backlog: int) -> None:
        self._stream = stream
        self._formatter = formatter
        self._backlog = backlog
        self._records: deque[logging.LogRecord] = deque()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self.dropped = 0
        self._reported = 0

    def start(self) -> None:
        self._thread.start()

    def put(self, record: logging.LogRecord) -> None:
        with self._changed:
            if len(self._records) >= self._backlog:
                self._records.popleft()
                self.dropped += 1
            self._records.append(record)
            if len(self._records) == 1:
                self._changed.notify()

    def stop(self, timeout_s: float) -> None:
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._records and not self._is_stopping:
                    self._changed.wait()
                batch, self._records = self._records, deque()
                dropped = self.dropped
                is_last = self._is_stopping
            for record in batch:
                self._write(record)
            if dropped > self._reported and (is_last or not self._records):
                self._report(dropped)
            self._flush()
            if is_last and not self._records:
                return

    def _report(self, dropped: int) -> None:
        count, self._reported = dropped - self._reported, dropped
        text = "log lines were lost, they came faster than they could be written lines=%d"
        arguments = (_PACKAGE + ".log", logging.WARNING, __file__, 0, text, (count,), None)
        self._write(logging.LogRecord(*arguments))

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(self._formatter.format(record) + "\n")
        except Exception:  # a record or a stream that fails must not end the log
            with self._changed:
                self.dropped += 1

    def _flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


class _TextFormatter(logging.Formatter):
    """Time, level, where, what; for people."""

    def __init__(self, *, has_colour: bool) -> None:
        super().__init__()
        self._has_colour = has_colour

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback's lines after it."""
        moment = datetime.fromtimestamp(record.created).astimezone()
        time = f"{moment:%Y-%m-%d %H:%M:%S}.{int(record.msecs):03d}"
        level = f"{record.levelname.lower():<8}"
        if self._has_colour:
            time = f"{_DIM}{time}{_PLAIN}"
            level = f"{_pick(_COLOUR, record.levelno, _DIM)}{level}{_PLAIN}"
        return "\n".join([f"{time} {level} {_text(record)}", *_traceback(self, record)])


class _JournalFormatter(logging.Formatter):
    """A priority the journal understands; it keeps the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback's lines after it, each with the priority."""
        prefix = f"<{_pick(_JOURNAL_PRIORITY, record.levelno, 7)}>"
        return "\n".join(prefix + line for line in [_text(record), *_traceback(self, record)])


class _JsonFormatter(logging.Formatter):
    """One JSON object per line; escapes keep every character and are safe to print."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, object] = {
            "at": f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if getattr(record, "request_id", ""):
            fields["request"] = getattr(record, "request_id", "")
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _text(record: logging.LogRecord) -> str:
    where = record.name.removeprefix(f"{_PACKAGE}.")
    request = getattr(record, "request_id", "")
    text = f"{where}: {record.getMessage()}"
    return visible(f"{text} request={request}" if request else text)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    if not record.exc_info:
        return []
    return [visible(line) for line in formatter.formatException(record.exc_info).split("\n")]
