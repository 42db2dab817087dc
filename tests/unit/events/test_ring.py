from __future__ import annotations

import json

from sollold.events.query import Filter
from sollold.events.ring import Origin, Record, Ring, gap_json, rfc3339
from sollold.events.types import NodeLeft, RequestDone

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


def asked_about(request_id: str, ring: Ring) -> list[int]:
    return numbers(ring.last(100, Filter.parse({"request": request_id})))


def test_what_is_about_a_request_is_found_without_looking_at_the_rest() -> None:
    ring = Ring(6)
    looked: list[int] = []

    class Watched(Filter, frozen=True):
        def matches(self, record: Record) -> bool:
            looked.append(record.seq)
            return super().matches(record)

    for number, request_id in enumerate(
        ["r-1", "r-2", "r-12", None, "r-1", "job", "job", "r-2"], 1
    ):
        event = RequestDone(request_id=request_id, model="m", status=200, total_ms=1.0)
        ring.append(Record(number, 1.0, event, ORIGIN))

    assert asked_about("r-1", ring) == [3, 5]
    assert asked_about("r-12", ring) == [3]
    assert asked_about("job", ring) == [6, 7]
    assert asked_about("jo", ring) == []
    assert asked_about("r-", ring) == [3, 5, 8]
    assert asked_about("r-1,job", ring) == [3, 5, 6, 7]
    assert numbers(ring.last(100, Watched(requests=("r-2",)))) == [8]
    assert looked == [8]
    assert numbers(ring.newest(2)) == [8, 7]


def test_a_word_that_fits_most_requests_is_found_by_looking_at_all() -> None:
    ring = Ring(1000)
    for number in range(1, 501):
        event = RequestDone(request_id=f"r-{number}", model="m", status=200, total_ms=1.0)
        ring.append(Record(number, 1.0, event, ORIGIN))

    assert numbers(ring.last(3, Filter.parse({"request": "r-"}))) == [498, 499, 500]
