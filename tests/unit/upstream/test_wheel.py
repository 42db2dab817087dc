"""Coarse timers: never early, at most a tick late, free when unused."""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.upstream.wheel import Timer
from tests.unit.upstream.conftest import Clock, wheel_on

if TYPE_CHECKING:
    from sollold.upstream.wheel import TimerWheel


def test_a_timer_fires_once_and_not_early(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[float] = []
    timer = wheel.after(0.25, lambda: fired.append(clock.now_s))
    clock.advance(0.24)
    assert fired == []
    clock.advance(0.2)
    assert len(fired) == 1
    assert 1000.25 <= fired[0] <= 1000.36
    assert not timer.is_armed
    clock.advance(5.0)
    assert len(fired) == 1


def test_a_cancelled_timer_never_fires(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[int] = []
    timer = wheel.after(0.2, lambda: fired.append(1))
    timer.cancel()
    timer.cancel()
    assert not timer.is_armed
    clock.advance(1.0)
    assert fired == []


def test_nothing_is_armed_while_nothing_is_registered(clock: Clock, wheel: TimerWheel) -> None:
    assert clock.pending == 0
    timer = wheel.after(0.5, lambda: None)
    assert clock.pending == 1
    timer.cancel()
    clock.advance(0.2)
    assert clock.pending == 0
    wheel.after(0.1, lambda: None)
    clock.advance(0.3)
    assert (wheel.is_turning, clock.pending) == (False, 0)


def test_many_timers_share_one_handle(clock: Clock, wheel: TimerWheel) -> None:
    for number in range(1_000):
        wheel.after(number / 100, lambda: None)
    assert clock.pending == 1


def test_cancelled_timers_leave_nothing_behind(clock: Clock, wheel: TimerWheel) -> None:
    for _ in range(100):
        wheel.after(600.0, lambda: None).cancel()
    assert wheel._slots == {}


def test_pushing_later_moves_the_deadline(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[float] = []
    timer = wheel.after(0.2, lambda: fired.append(clock.now_s))
    for _ in range(10):
        clock.advance(0.1)
        timer.push(0.2)
    assert fired == []
    clock.advance(0.4)
    assert len(fired) == 1
    assert fired[0] >= 1001.2


def test_pushing_later_is_a_store_until_the_old_tick_comes(clock: Clock, wheel: TimerWheel) -> None:
    timer = wheel.after(0.2, lambda: None)
    filed = timer.filed_tick
    timer.push(30.0)
    assert timer.filed_tick == filed
    clock.advance(0.4)
    assert timer.filed_tick == timer.due_tick
    assert timer.is_armed


def test_pushing_sooner_moves_the_deadline_too(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[float] = []
    timer = wheel.after(60.0, lambda: fired.append(clock.now_s))
    timer.push(0.2)
    clock.advance(0.4)
    assert len(fired) == 1


def test_a_fired_or_cancelled_timer_can_be_pushed_again(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[int] = []
    timer = wheel.after(0.1, lambda: fired.append(1))
    clock.advance(0.3)
    timer.push(0.1)
    clock.advance(0.3)
    assert fired == [1, 1]
    timer.push(0.1)
    timer.cancel()
    timer.push(0.1)
    clock.advance(0.3)
    assert fired == [1, 1, 1]


def test_a_timer_made_by_hand_is_not_armed(wheel: TimerWheel) -> None:
    assert not Timer(wheel, lambda: None).is_armed
    assert not wheel.is_turning


def test_a_callback_may_push_itself(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[float] = []

    def again() -> None:
        fired.append(clock.now_s)
        if len(fired) < 3:
            timer.push(0.2)

    timer = wheel.after(0.2, again)
    clock.advance(2.0)
    assert len(fired) == 3
    assert all(later - sooner >= 0.2 for sooner, later in pairwise(fired))
    assert not wheel.is_turning


def test_a_callback_may_cancel_another_of_the_same_tick(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[str] = []
    timers: dict[str, Timer] = {}

    def fire(name: str, other: str) -> None:
        fired.append(name)
        timers[other].cancel()

    timers["a"] = wheel.after(0.1, lambda: fire("a", "b"))
    timers["b"] = wheel.after(0.1, lambda: fire("b", "a"))
    clock.advance(1.0)
    assert len(fired) == 1


def test_a_blocked_loop_catches_up(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[int] = []
    for number in range(50):
        wheel.after(number / 10, lambda number=number: fired.append(number))  # type: ignore[misc]
    clock.jump(4.0)
    assert fired == list(range(len(fired)))
    assert 38 <= len(fired) <= 41
    clock.jump(1_000_000.0)
    assert fired == list(range(50))


def test_a_handle_that_runs_a_hair_early_still_turns(clock: Clock, wheel: TimerWheel) -> None:
    clock.early_s = 0.001
    fired: list[float] = []
    for _ in range(3):
        wheel.after(0.3, lambda: fired.append(clock.now_s))
        clock.advance(1.0)
    assert len(fired) == 3
    assert not wheel.is_turning


def test_a_deadline_set_just_before_a_tick_is_not_lost(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[int] = []
    timer = Timer(wheel, lambda: fired.append(1))
    timer.due_tick = wheel.tick_after(0.0)
    clock.now_s += 0.3
    wheel.file(timer)
    clock.advance(0.2)
    assert fired == [1]


@pytest.mark.parametrize("delay_s", [0.0, -5.0])
def test_no_delay_means_the_next_tick(clock: Clock, wheel: TimerWheel, delay_s: float) -> None:
    fired: list[int] = []
    wheel.after(delay_s, lambda: fired.append(1))
    assert fired == []
    clock.advance(0.2)
    assert fired == [1]


def test_a_watch_is_called_each_tick_until_cancelled(clock: Clock, wheel: TimerWheel) -> None:
    looked: list[float] = []
    watch = wheel.watch(lambda: looked.append(wheel.now_s))
    clock.advance(1.05)
    assert 9 <= len(looked) <= 11
    watch.cancel()
    watch.cancel()
    clock.advance(1.0)
    assert 9 <= len(looked) <= 11
    assert not wheel.is_turning


def test_a_watch_may_cancel_itself_and_others(clock: Clock, wheel: TimerWheel) -> None:
    looked: list[str] = []

    def first() -> None:
        looked.append("first")
        one.cancel()
        two.cancel()

    one = wheel.watch(first)
    two = wheel.watch(lambda: looked.append("second"))
    clock.advance(0.5)
    assert looked == ["first"]


def test_a_failing_callback_is_reported_and_stops_nobody(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    wheel.after(0.05, fail)
    wheel.after(0.05, lambda: fired.append(1))
    watch = wheel.watch(fail)
    clock.advance(0.15)
    watch.cancel()
    assert fired == [1]
    assert [type(report["exception"]) for report in clock.reports] == [ZeroDivisionError] * 2


def test_closing_stops_everything(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[int] = []
    timer = wheel.after(0.1, lambda: fired.append(1))
    wheel.watch(lambda: fired.append(2))
    wheel.close()
    assert (wheel.is_turning, clock.pending, timer.is_armed) == (False, 0, False)
    timer.cancel()
    timer.push(0.1)
    wheel.after(0.1, lambda: fired.append(3)).cancel()
    wheel.watch(lambda: fired.append(4))
    clock.advance(5.0)
    assert fired == []
    assert clock.pending == 0
    wheel.close()


def test_closing_from_a_callback(clock: Clock, wheel: TimerWheel) -> None:
    fired: list[int] = []
    wheel.after(0.05, wheel.close)
    wheel.after(0.05, wheel.close)
    wheel.after(0.3, lambda: fired.append(1))
    wheel.watch(lambda: fired.append(2))
    clock.advance(2.0)
    assert fired == []
    assert clock.pending == 0


def test_the_wheel_does_not_turn_in_a_requests_context(clock: Clock, wheel: TimerWheel) -> None:
    request: ContextVar[str] = ContextVar("request", default="nobody")
    seen: list[str] = []

    def register() -> None:
        request.set("the first request")
        wheel.after(0.05, lambda: seen.append(request.get()))
        wheel.after(0.35, lambda: seen.append(request.get()))

    copy_context().run(register)
    clock.advance(1.0)
    assert seen == ["nobody", "nobody"]


def test_the_clock_of_the_wheel_stands_at_the_last_tick(clock: Clock, wheel: TimerWheel) -> None:
    assert wheel.now_s == 1000.0
    clock.advance(5.0)
    assert wheel.now_s == 1000.0
    wheel.after(1.0, lambda: None)
    assert wheel.now_s == 1005.0
    clock.advance(0.55)
    assert 1005.4 < wheel.now_s <= 1005.55


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["push", "cancel", "advance", "jump"]),
            st.integers(0, 4),
            st.floats(0.0, 3.0),
        ),
        max_size=40,
    )
)
def test_every_timer_fires_in_its_window_whatever_happens(
    steps: list[tuple[str, int, float]],
) -> None:
    clock = Clock()
    wheel = wheel_on(clock)
    due_s: dict[int, float] = {}
    late_by_s = 0.0

    def fire(number: int) -> None:
        assert clock.now_s >= due_s[number] - 1e-6, "early"
        assert clock.now_s <= due_s[number] + 0.2 + late_by_s, "late"
        del due_s[number]

    timers = [Timer(wheel, lambda number=number: fire(number)) for number in range(5)]  # type: ignore[misc]
    for what, number, seconds in steps:
        match what:
            case "push":
                timers[number].push(seconds)
                due_s[number] = clock.now_s + seconds
            case "cancel":
                timers[number].cancel()
                due_s.pop(number, None)
            case "advance":
                late_by_s = 0.0
                clock.advance(seconds)
            case _:
                late_by_s = seconds
                clock.jump(seconds)
                late_by_s = 0.0
        assert clock.reports == []
        assert {i for i, timer in enumerate(timers) if timer.is_armed} == set(due_s)
    clock.advance(4.0)
    assert due_s == {}
    assert clock.reports == []
    assert not wheel.is_turning
