"""What the bus keeps: an event with its number, time and origin, and the ring of the last ones.

JSON is made only when somebody listens or asks. What is kept does not keep it: the ring would hold
many times its size. Readers that listen share it while it is on its way to them.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from sollold.events.base import EventBase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sollold.events.query import Filter

_MANY_REQUESTS = 200
"""Where more are meant, looking at all records soon finds enough."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon an event comes from."""

    instance_id: str
    hostname: str
    pid: int


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What every event begins with."""

    seq: int
    timestamp: str
    instance_id: str
    hostname: str
    pid: int
    kind: str
    text: str


class Record(msgspec.Struct, gc=False, eq=False):
    """A published event. `at_s` is wall-clock time."""

    seq: int
    at_s: float
    event: EventBase
    origin: Origin

    def shared(self) -> SharedRecord:
        """Return the record for readers that listen; its JSON is made once for all of them."""
        return SharedRecord(self.seq, self.at_s, self.event, self.origin)

    def json(self) -> bytes:
        """Return the event as one JSON object, without a line end."""
        event, origin = self.event, self.origin
        head = Head(
            seq=self.seq,
            timestamp=rfc3339(self.at_s),
            instance_id=origin.instance_id,
            hostname=origin.hostname,
            pid=origin.pid,
            kind=event.kind,
            text=event.sentence(),
        )
        encode = msgspec.json.encode
        parts = [encode(head), encode(event.wire())]
        seed_fields = event.seed_fields()
        if seed_fields:
            parts.append(encode(seed_fields))
        return b"{" + b",".join(part[1:-1] for part in parts) + b"}"


class SharedRecord(Record, gc=False, eq=False):
    """A record on its way to readers."""

    encoded: bytes | None = None

    def json(self) -> bytes:
        """Return the event as one JSON object, without a line end."""
        if self.encoded is None:
            self.encoded = Record.json(self)
        return self.encoded


class Ring:
    """The last `size` records, oldest first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._records: deque[Record] = deque()
        self._by_request: dict[str, list[Record]] = {}
        """Records of each request, oldest first: who asks about one must not look at all."""

    def append(self, record: Record) -> None:
        """Add a record; the oldest one goes when the ring is full. No await."""
        self._records.append(record)
        request_id = record.event.request_id
        if request_id:
            self._by_request.setdefault(request_id, []).append(record)
        if len(self._records) > self._size:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        request_id = self._records.popleft().event.request_id
        if request_id:
            records = self._by_request[request_id]
            del records[0]
            if not records:
                del self._by_request[request_id]

    def __len__(self) -> int:
        return len(self._records)

    @property
    def oldest_s(self) -> float | None:
        """Wall-clock time of the oldest record; None when there is none."""
        return self._records[0].at_s if self._records else None

    def all(self) -> list[Record]:
        """Return every record, oldest first."""
        return list(self._records)

    def last(
        self,
        n: int,
        filter_: Filter | None = None,
        since_s: float | None = None,
        until_s: float | None = None,
    ) -> list[Record]:
        """Return the newest `n` records that pass, oldest first.

        Everything is looked at, because a wall clock may step back.
        """
        found: list[Record] = []
        for record in self._newest_first(filter_):
            if len(found) >= n:
                break
            if since_s is not None and record.at_s < since_s:
                continue
            if until_s is not None and record.at_s >= until_s:
                continue
            if filter_ is None or filter_.matches(record):
                found.append(record)
        found.reverse()
        return found

    def newest(self, n: int) -> list[Record]:
        """Return the newest `n` records, newest first, without looking at others."""
        return list(islice(reversed(self._records), n))

    def _newest_first(self, filter_: Filter | None) -> Iterable[Record]:
        """Return the records that a filter can be about; few where it names requests."""
        if filter_ is None or not filter_.requests:
            return reversed(self._records)
        ids = filter_.requests_among(self._by_request)
        if len(ids) > _MANY_REQUESTS:
            return reversed(self._records)
        records = [record for name in ids for record in self._by_request[name]]
        return sorted(records, key=lambda record: record.seq, reverse=True)


def rfc3339(at_s: float) -> str:
    """Return a wall-clock time in UTC with milliseconds, such as `2026-11-21T09:14:03.120Z`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def gap_json(dropped: int, at_s: float) -> bytes:
    """Return the line that stands where a slow reader lost events."""
    text = f"{dropped} events dropped here (slow reader)"
    return msgspec.json.encode(
        {"event_type": "GAP", "timestamp": rfc3339(at_s), "kind": "gap", "text": text}
        | {"dropped": dropped}
    )
