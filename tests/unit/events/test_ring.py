from __future__ import annotations

import json

from sollold.events.query import Filter
from sollold.events.ring import Origin, Record, Ring, gap_json, rfc3339
from sollold.events.types import NodeLeft

ORIGIN = Origin(instance_id="i", hostname="h", pid=1)


def ring_of(*at_s: float, size: int = 100) -> Ring:
    ring = Ring(size)
    for number, moment_s in enumerate(at_s, 1):
        node = "even" if number % 2 == 0 else "odd"
        ring.append(Record(number, moment_s, NodeLeft(reason="gone", node=node), ORIGIN))
    return ring


def numbers(records: list[Record]) -> list[int]:
    return [record.seq for record in records]


def test_the_oldest_goes_when_the_ring_is_full() -> None:
    ring = ring_of(1, 2, 3, 4, 5, size=3)

    assert len(ring) == 3
    assert numbers(ring.last(10)) == [3, 4, 5]
    assert ring.oldest_s == 3


def test_an_empty_ring_has_nothing() -> None:
    ring = Ring(3)

    assert ring.last(10) == []
    assert ring.oldest_s is None


def test_filters_apply_before_counting() -> None:
    ring = ring_of(1, 2, 3, 4, 5, 6)

    assert numbers(ring.last(2, Filter.parse({"node": "odd"}))) == [3, 5]
    assert numbers(ring.last(2)) == [5, 6]
    assert ring.last(0) == []


def test_a_range_includes_its_start_and_not_its_end() -> None:
    assert numbers(ring_of(1, 2, 3, 4).last(10, None, 2, 4)) == [2, 3]


def test_a_clock_that_stepped_back_hides_nothing() -> None:
    assert numbers(ring_of(10, 11, 5, 6, 12).last(10, None, 10)) == [1, 2, 5]


def test_json_is_made_once_for_all_readers_and_not_kept_with_the_record() -> None:
    record = Record(1, 0.0, NodeLeft(reason="gone"), ORIGIN)
    shared = record.shared()

    assert shared.json() is shared.json()
    assert shared.json() == record.json()
    assert record.json() is not record.json()


def test_times_are_utc_with_milliseconds() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1795252443.1209) == "2026-11-21T09:14:03.120Z"


def test_a_gap_is_a_line_of_its_own() -> None:
    assert json.loads(gap_json(412, 0)) == {
        "event_type": "GAP",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "kind": "gap",
        "text": "412 events dropped here (slow reader)",
        "dropped": 412,
    }
