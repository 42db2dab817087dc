"""Nobody waits beside an idle node longer than that node would take, whatever answers do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sollold.core.model import NodeId, RequestId, WaitingRequest
from sollold.core.queue import Queue
from tests.unit.core.routing_values import House, node, patient, request

GRAIN_S = 0.06
"""The alarm is not set closer than 0.05 s ahead."""
PREFILL_S = 0.2
"""Of the usual prompt, overhead included, on every node here."""


class Day:
    """Simulated time over nodes with known rates and answers of any length."""

    def __init__(self, speeds: dict[str, float]) -> None:
        self.house = House(*[node(name) for name in speeds])
        self.speeds = speeds
        for name, tps in speeds.items():
            self.house.teach(name, tps)
        self.queue = Queue()
        self.lengths: dict[RequestId, float] = {}
        self.ends: dict[RequestId, float] = {}
        self.started: dict[RequestId, tuple[float, str]] = {}
        self.idle_since = dict.fromkeys(speeds, 0.0)
        self.worst: dict[RequestId, float] = {}
        """How long a request waited beside an idle node, as a part of that node's time for it."""
        self.alarm_s: float | None = None

    def run(self, arrivals: list[tuple[WaitingRequest, float]]) -> None:
        """Let all requests come, and all answers end."""
        coming = sorted(arrivals, key=lambda one: one[0].arrival_s)
        while coming or self.ends or len(self.queue):
            times = [coming[0][0].arrival_s] if coming else []
            times += self.ends.values()
            if self.alarm_s is not None:
                times.append(self.alarm_s)
            now_s = min(times)
            self._end(now_s)
            while coming and coming[0][0].arrival_s <= now_s:
                waiting, length = coming.pop(0)
                self.lengths[waiting.id] = length
                self.queue.push(waiting)
            self._watch(now_s)
            self._start(now_s)

    def service_s(self, name: str, tokens: float) -> float:
        return PREFILL_S + tokens / self.speeds[name]

    def _end(self, now_s: float) -> None:
        for done in [one for one, end_s in self.ends.items() if end_s <= now_s]:
            del self.ends[done]
            name = self.house.load.remove(done, now_s).node
            self.idle_since[name] = now_s

    def _watch(self, now_s: float) -> None:
        busy = self.house.load.busy
        for waiting in self.queue:
            for name in self.speeds:
                if NodeId(name) in busy:
                    continue
                beside_s = now_s - max(waiting.arrival_s, self.idle_since[name])
                part = (beside_s - GRAIN_S) / self.service_s(name, waiting.output_tokens)
                self.worst[waiting.id] = max(self.worst.get(waiting.id, 0.0), part)

    def _start(self, now_s: float) -> None:
        result = self.house.assign(*self.queue.head(), now_s=now_s)
        self.alarm_s = result.next_wakeup_s
        for grant in result.grants:
            self.queue.remove(grant.request)
            self.house.load.start(grant, "", now_s)
            self.started[grant.request] = now_s, grant.node
            length = self.lengths[grant.request]
            self.ends[grant.request] = now_s + self.service_s(grant.node, length)


HOUSE = {"fast": 120.0, "slow1": 10.0, "slow2": 10.0, "slow3": 10.0}


def test_a_runaway_answer_holds_nobody_beside_idle_nodes() -> None:
    day = Day(HOUSE)
    runaway = request(0, arrival_s=0.0)
    others = [request(number, arrival_s=1.0 + 0.5 * number) for number in range(1, 4)]
    day.run([(runaway, 20_000.0), *[(other, 100.0) for other in others]])
    assert day.started[runaway.id] == (0.0, "fast")
    slow_s = day.service_s("slow1", 100.0)
    for other in others:
        start_s, name = day.started[other.id]
        assert name.startswith("slow")
        assert 0.0 < start_s - other.arrival_s <= slow_s + GRAIN_S


def test_those_who_come_late_in_a_runaway_do_not_wait_at_all() -> None:
    day = Day(HOUSE)
    late = request(1, arrival_s=60.0)
    day.run([(request(0), 20_000.0), (late, 100.0)])
    assert day.started[late.id][0] == 60.0


def test_without_a_runaway_the_fast_node_is_worth_the_wait() -> None:
    day = Day(HOUSE)
    others = [request(number) for number in range(4)]
    day.run([(other, 100.0) for other in others])
    assert {name for _, name in day.started.values()} == {"fast"}


@pytest.mark.parametrize("number", [1, 8, 30])
def test_a_runaway_under_load(number: int) -> None:
    day = Day(HOUSE)
    others = [(request(n, arrival_s=0.7 * n), 100.0) for n in range(1, number + 1)]
    day.run([(request(0), 20_000.0), *others])
    assert max(day.worst.values()) <= 1.0


@settings(patient, max_examples=60)
@given(
    st.lists(st.floats(2.0, 200.0), min_size=1, max_size=4),
    st.lists(
        st.tuples(
            st.floats(0.0, 60.0),
            st.floats(1.0, 400.0),
            st.sampled_from([0.01, 0.5, 1.0, 3.0, 100.0]),
            st.integers(1, 10),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_no_request_waits_beside_an_idle_node_longer_than_it_would_take(
    speeds: list[float], coming: list[tuple[float, float, float, int]]
) -> None:
    day = Day({f"n{number}": speed for number, speed in enumerate(speeds)})
    day.run(
        [
            (
                request(n, arrival_s=arrival_s, output_tokens=tokens, priority=priority),
                tokens * surprise,
            )
            for n, (arrival_s, tokens, surprise, priority) in enumerate(coming)
        ]
    )
    assert len(day.started) == len(coming)
    assert max(day.worst.values(), default=0.0) <= 1.0
