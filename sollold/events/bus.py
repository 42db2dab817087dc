"""The event bus: publishers hand over a struct and go on, readers get bounded batches.

Publishing is synchronous, never waits and never raises. A slow reader loses the oldest events and
is told how many. Everything is touched from the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Self

from sollold.events.query import EVERYTHING, Filter
from sollold.events.ring import Origin, Record, Ring

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.events.base import EventBase

_log = logging.getLogger(__name__)

_TOGETHER_S = 0.05


class Batch(NamedTuple):
    """Events for one push. `dropped` events were lost just before the first of them."""

    dropped: int
    records: tuple[Record, ...]


class Subscription:
    """An asynchronous iterator of batches for one reader; close it when the reader goes.

    The first event comes at once, later ones of the same 50 ms together.
    """

    def __init__(
        self,
        wanted: Filter,
        max_queue: int,
        on_closed: Callable[[Subscription], None],
        together_s: float = _TOGETHER_S,
    ) -> None:
        self.filter = wanted
        self.dropped_total = 0
        self._queue: deque[Record] = deque()
        self._max_queue = max_queue
        self._on_closed = on_closed
        self._together_s = together_s
        self._dropped = 0
        self._next_push_s = 0.0
        self._has_news = asyncio.Event()
        self._closed = asyncio.Event()

    def offer(self, record: Record) -> None:
        """Queue a record if it is wanted; when full, the oldest goes. No await."""
        if self.filter is not EVERYTHING and not self.filter.matches(record):
            return
        if len(self._queue) >= self._max_queue:
            self._queue.popleft()
            self._dropped += 1
            self.dropped_total += 1
        self._queue.append(record)
        self._has_news.set()

    def close(self) -> None:
        """Take no more events; what is queued can still be read. No await."""
        if not self._closed.is_set():
            self._closed.set()
            self._has_news.set()
            self._on_closed(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        """Return the next batch; stops once closed and empty."""
        await self._has_news.wait()
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_push_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_push_s - now_s):
                    await self._closed.wait()
        if not self._queue:
            raise StopAsyncIteration
        self._next_push_s = asyncio.get_running_loop().time() + self._together_s
        return self._take()

    def _take(self) -> Batch:
        batch = Batch(self._dropped, tuple(self._queue))
        self._queue.clear()
        self._dropped = 0
        if not self._closed.is_set():
            self._has_news.clear()
        return batch


class EventBus:
    """Numbers events, keeps the last ones and hands them to every reader."""

    def __init__(
        self,
        instance: str,
        hostname: str,
        pid: int,
        wall_clock: Callable[[], float],
        ring_size: int = 10_000,
    ) -> None:
        self.origin = Origin(instance_id=instance, hostname=hostname, pid=pid)
        self.ring = Ring(ring_size)
        self._wall_clock = wall_clock
        self._seq = 0
        self._subscriptions: tuple[Subscription, ...] = ()
        self._dropped_by_gone = 0
        self._is_closed = False

    @property
    def published_total(self) -> int:
        """Events published since the start; the newest one's sequence number."""
        return self._seq

    @property
    def dropped_total(self) -> int:
        """Events lost by slow readers since the start."""
        return self._dropped_by_gone + sum(item.dropped_total for item in self._subscriptions)

    @property
    def subscriber_count(self) -> int:
        """Readers listening now."""
        return len(self._subscriptions)

    def publish(self, event: EventBase) -> None:
        """Keep an event and hand it to the readers. Never raises. No await."""
        self._seq += 1
        record = Record(self._seq, self._wall_clock(), event, self.origin)
        self.ring.append(record)
        if self._subscriptions:
            self._distribute(record)

    def subscribe(self, wanted: Filter = EVERYTHING, max_queue: int = 1000) -> Subscription:
        """Return a reader of the events from now on. No await.

        Together with `last` in the same step nothing is missed and nothing comes twice.
        """
        subscription = Subscription(wanted, max_queue, self._forget)
        self._subscriptions = (*self._subscriptions, subscription)
        if self._is_closed:
            subscription.close()
        return subscription

    def last(
        self,
        n: int,
        wanted: Filter | None = None,
        since_s: float | None = None,
        until_s: float | None = None,
    ) -> list[Record]:
        """Return the newest `n` events that pass, oldest first. Times are wall-clock seconds."""
        return self.ring.last(n, wanted, since_s, until_s)

    def close(self) -> None:
        """End every reader, also those still to come; publishing only fills the ring. No await."""
        self._is_closed = True
        for subscription in self._subscriptions:
            subscription.close()

    def _distribute(self, record: Record) -> None:
        for subscription in self._subscriptions:
            try:
                subscription.offer(record)
            except Exception:
                _log.exception("event reader failed and was closed event=%r", record.event)
                subscription.close()

    def _forget(self, gone: Subscription) -> None:
        self._dropped_by_gone += gone.dropped_total
        self._subscriptions = tuple(item for item in self._subscriptions if item is not gone)
