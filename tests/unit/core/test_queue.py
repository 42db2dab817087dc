"""The queue: order, ageing, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.core.model import RequestId
from sollold.core.queue import Queue
from sollold.errors import QueueFull
from tests.unit.core.routing_values import ids, patient, request


def test_first_come_first_served_among_equals() -> None:
    queue = Queue()
    for number, arrival_s in ((1, 2.0), (2, 1.0), (3, 2.0)):
        queue.push(request(number, arrival_s=arrival_s))
    assert ids(queue.head()) == ["r-2", "r-1", "r-3"]
    assert ids(queue.head(1)) == ["r-2"]
    assert [queue.place(RequestId(f"r-{n}")) for n in (1, 2, 3)] == [2, 1, 3]
    assert ids(list(queue)) == ["r-2", "r-1", "r-3"]


def test_priority_moves_the_arrival() -> None:
    queue = Queue(age_step_s=30.0)
    queue.push(request(1, arrival_s=0.0, priority=5))
    queue.push(request(2, arrival_s=29.0, priority=6))
    queue.push(request(3, arrival_s=31.0, priority=6))
    queue.push(request(4, arrival_s=148.0, priority=10))
    assert ids(queue.head()) == ["r-4", "r-2", "r-1", "r-3"]


def test_equal_virtual_arrivals_go_by_arrival() -> None:
    queue = Queue(age_step_s=30.0)
    queue.push(request(1, arrival_s=30.0, priority=6))
    queue.push(request(2, arrival_s=0.0, priority=5))
    assert ids(queue.head()) == ["r-2", "r-1"]


def test_removal_and_counts() -> None:
    queue = Queue()
    queue.push(request(1, client="x"))
    queue.push(request(2, client="x"))
    queue.push(request(3, client="y", arrival_s=-4.0))
    assert (len(queue), queue.of_client("x"), queue.clients()) == (3, 2, {"x": 2, "y": 1})
    assert queue.remove(RequestId("r-1")).id == "r-1"
    assert RequestId("r-1") not in queue
    assert queue.get(RequestId("r-1")) is None
    waiting = queue.get(RequestId("r-2"))
    assert waiting is not None
    assert waiting.id == "r-2"
    queue.remove(RequestId("r-2"))
    queue.remove(RequestId("r-3"))
    assert (len(queue), queue.clients()) == (0, {})


def test_misuse_raises() -> None:
    queue = Queue()
    queue.push(request(1))
    with pytest.raises(ValueError, match="r-1 waits already"):
        queue.push(request(1))
    with pytest.raises(ValueError, match="r-2 does not wait"):
        queue.remove(RequestId("r-2"))


def test_a_full_queue_takes_returning_requests_only() -> None:
    queue = Queue(limit=1)
    queue.push(request(1, arrival_s=5.0))
    with pytest.raises(QueueFull, match="1 requests are waiting"):
        queue.push(request(2))
    queue.push(request(3, arrival_s=1.0), is_returning=True)
    assert ids(queue.head()) == ["r-3", "r-1"]


def test_one_client_cannot_fill_the_queue() -> None:
    queue = Queue(client_limit=1)
    queue.push(request(1, client="x"))
    with pytest.raises(QueueFull, match="of this client"):
        queue.push(request(2, client="x"))
    queue.push(request(3, client="y"))
    assert len(queue) == 2


arrivals = st.lists(st.tuples(st.floats(0, 1000), st.integers(1, 10)), min_size=2, max_size=30)


@patient
@given(arrivals, st.floats(0.1, 100))
def test_nobody_is_overtaken_by_those_who_come_after_the_bound(
    coming: list[tuple[float, int]], age_step_s: float
) -> None:
    queue = Queue(age_step_s=age_step_s)
    for number, (arrival_s, priority) in enumerate(coming):
        queue.push(request(number, arrival_s=arrival_s, priority=priority))
    order = queue.head(len(coming))
    for place, later in enumerate(order):
        bound_s = queue.overtaking_bound_s(later.priority)
        for earlier in order[:place]:
            assert earlier.arrival_s <= later.arrival_s + bound_s + 1e-6
        assert queue.place(later.id) == place + 1


@patient
@given(arrivals)
def test_a_request_that_returns_finds_its_old_place(
    coming: list[tuple[float, int]],
) -> None:
    queue = Queue()
    waiting = [
        request(number, arrival_s=arrival_s, priority=priority)
        for number, (arrival_s, priority) in enumerate(sorted(coming))
    ]
    distinct = {(queue.virtual_arrival_s(one), one.arrival_s): one for one in waiting}
    for one in distinct.values():
        queue.push(one)
    before = ids(queue.head(99))
    middle = before[len(before) // 2]
    queue.push(queue.remove(RequestId(middle)), is_returning=True)
    assert ids(queue.head(99)) == before


def test_other_bounds_leave_what_waits_and_order_it_anew() -> None:
    queue = Queue(age_step_s=30.0)
    queue.push(request(1, arrival_s=0.0, priority=5, client="x"))
    queue.push(request(2, arrival_s=20.0, priority=6, client="x"))
    queue.push(request(3, arrival_s=20.0, priority=6, client="y"))
    assert ids(queue.head()) == ["r-2", "r-3", "r-1"]

    queue.set_bounds(limit=3, client_limit=2, age_step_s=10.0)

    assert ids(queue.head()) == ["r-1", "r-2", "r-3"]
    assert [queue.place(RequestId(f"r-{n}")) for n in (1, 2, 3)] == [1, 2, 3]
    with pytest.raises(QueueFull, match="3 requests are waiting"):
        queue.push(request(4))
    queue.set_bounds(limit=9, client_limit=2, age_step_s=10.0)
    with pytest.raises(QueueFull, match="2 requests of this client"):
        queue.push(request(4, client="x"))
    assert [queue.remove(RequestId(f"r-{n}")).id for n in (2, 1, 3)] == ["r-2", "r-1", "r-3"]
    assert len(queue) == 0
