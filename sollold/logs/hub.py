"""Keeps the last log lines and hands new ones to readers.

Lines come from any thread, readers live on the event loop: lines wait in a bounded queue until the
loop takes them. A reader that does not keep up loses the oldest lines and is told how many. What
is logged while lines are being sent is kept but not sent, or every line sent would make another.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from sollold.events.query import newest
from sollold.events.subscription import Subscription
from sollold.logs.line import line_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from logging import LogRecord

    from sollold.logs.line import Line
    from sollold.logs.query import LogQuery

_is_sending: ContextVar[bool] = ContextVar("is_sending_log_lines", default=False)


class Followed(NamedTuple):
    """The last lines, oldest first, and those that come after them: none twice, none left out.

    The last ones are looked for step by step; a step that finds none yields None.
    """

    first: Iterator[Line | None]
    later: Subscription[Line]


class LogHub:
    """The ring of log lines and its readers.

    `take` may be called from any thread, everything else from the loop's thread only.
    """

    def __init__(self, size: int = 2000, max_queue: int = 1000) -> None:
        # Re-entrant: the collector of garbage may log at any moment, on the thread that holds it.
        self._lock = threading.RLock()
        self._kept: deque[Line] = deque(maxlen=size)
        self._waiting: deque[Line] = deque()
        self._lost = 0
        self._max_queue = max_queue
        self._readers: tuple[Subscription[Line], ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def reader_count(self) -> int:
        """Readers that follow now."""
        return len(self._readers)

    def take(self, record: LogRecord) -> None:
        """Keep a record's line and have the loop hand it to the readers. Any thread."""
        line = line_of(record)
        with self._lock:
            self._kept.append(line)
            loop = self._loop
            if loop is None or not self._readers or _is_sending.get():
                return
            if len(self._waiting) >= self._max_queue:
                self._waiting.popleft()
                self._lost += 1
            self._waiting.append(line.shared())
            if len(self._waiting) > 1:
                return
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(self._hand_over)

    def last(self, query: LogQuery) -> Iterator[Line | None]:
        """Return the newest lines that pass, oldest first; None for a step that finds none."""
        with self._lock:
            kept = list(self._kept)
        lines = newest(kept, query.passes, query.limit)
        return lines  # noqa: RET504 - returned at once, mypy takes T for `Line | None`

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand lines over on this loop from now on. No await."""
        self._loop = loop

    def follow(self, query: LogQuery) -> Followed:
        """Return the last lines that pass and a reader of what comes next. No await."""
        wanted = query.filter.matches
        reader = Subscription(wanted, self._max_queue, self._forget)
        with self._lock:
            # Those that wait are among the kept: the readers until now get them, this one has them.
            self._hand_over()
            kept = list(self._kept)
            self._readers = (*self._readers, reader)
        if self._loop is None:
            reader.close()
        first = newest(kept, query.passes, query.limit)
        return Followed(first, reader)

    def close(self) -> None:
        """End every reader, also those still to come; lines are only kept. No await."""
        self._hand_over()
        self._loop = None
        for reader in self._readers:
            reader.close()

    def _hand_over(self) -> None:
        with self._lock:
            lines, self._waiting = self._waiting, deque()
            lost, self._lost = self._lost, 0
            readers = self._readers
        for reader in readers:
            if lost:
                reader.miss(lost)
            for line in lines:
                reader.offer(line)

    def _forget(self, gone: Subscription[Line]) -> None:
        with self._lock:
            self._readers = tuple(reader for reader in self._readers if reader is not gone)


@contextlib.contextmanager
def sending() -> Iterator[None]:
    """Keep what this task logs meanwhile from being sent."""
    token = _is_sending.set(True)
    try:
        yield
    finally:
        _is_sending.reset(token)
