"""The event bus: publishers hand over a struct and go on, readers get bounded batches.

Publishing is synchronous, never waits and never raises. A slow reader loses the oldest events and
is told how many. Everything is touched from the event loop's thread only.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sollold.events.query import EVERYTHING, Filter
from sollold.events.ring import Origin, Record, Ring
from sollold.events.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.events.base import EventBase

_log = logging.getLogger(__name__)


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
        self._subscriptions: tuple[Subscription[Record], ...] = ()
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

    def subscribe(self, wanted: Filter = EVERYTHING, max_queue: int = 1000) -> Subscription[Record]:
        """Return a reader of the events from now on. No await.

        Together with `last` in the same step nothing is missed and nothing comes twice.
        """
        is_wanted = None if wanted is EVERYTHING else wanted.matches
        subscription = Subscription(is_wanted, max_queue, self._forget)
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

    def kept(self) -> list[Record]:
        """Return every event that is kept, oldest first."""
        return self.ring.all()

    def close(self) -> None:
        """End every reader, also those still to come; publishing only fills the ring. No await."""
        self._is_closed = True
        for subscription in self._subscriptions:
            subscription.close()

    def _distribute(self, record: Record) -> None:
        shared = record.shared()
        for subscription in self._subscriptions:
            try:
                subscription.offer(shared)
            except Exception:
                _log.exception("event reader failed and was closed event=%r", record.event)
                subscription.close()

    def _forget(self, gone: Subscription[Record]) -> None:
        self._dropped_by_gone += gone.dropped_total
        self._subscriptions = tuple(item for item in self._subscriptions if item is not gone)
