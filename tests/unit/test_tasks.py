from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from typing import TYPE_CHECKING

import pytest

from sollold.errors import SollolError
from sollold.tasks import CrashPolicy, LoopCrashed, Loops, Reader, StuckError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

QUICK = CrashPolicy(crashes=3, window_s=60.0, delay_s=0.0, delay_max_s=0.0)


def failing(times: int, then: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Return a loop that crashes so many times and then does something else."""
    left = times

    async def run() -> None:
        nonlocal left
        if left:
            left -= 1
            raise ValueError(f"crash, {left} left")
        await then()

    return run


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_loop_runs_until_it_is_cancelled() -> None:
    running = asyncio.Event()

    async def run() -> None:
        running.set()
        await forever()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        loops = Loops(group)
        loops.start("probe", run)
        await running.wait()
        assert [task.get_name() for task in asyncio.all_tasks() if "loop " in task.get_name()] == [
            "loop probe"
        ]
        loops.cancel()
    assert dict(loops.restarts) == {"probe": 0}


async def test_a_loop_that_returns_is_done() -> None:
    calls = 0

    async def run() -> None:
        nonlocal calls
        calls += 1

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        Loops(group).start("once", run)
    assert calls == 1


async def test_a_crash_is_logged_counted_and_the_loop_runs_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recovered = asyncio.Event()

    async def then() -> None:
        recovered.set()
        await forever()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        loops = Loops(group, policy=QUICK)
        loops.start("probe", failing(2, then))
        loops.start("other", forever)
        await recovered.wait()
        loops.cancel()
    assert dict(loops.restarts) == {"probe": 2, "other": 0}
    first, second = caplog.records
    assert first.getMessage() == "loop crashed, it restarts loop=probe in_s=0"
    assert second.levelno == logging.ERROR
    assert first.exc_info is not None
    assert "crash, 1 left" in str(first.exc_info[1])


async def test_too_many_crashes_end_the_group(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            loops = Loops(group, policy=QUICK)
            loops.start("probe", failing(99, forever))
            loops.start("other", forever)
    (error,) = caught.value.exceptions
    assert isinstance(error, LoopCrashed)
    assert isinstance(error, SollolError)
    assert isinstance(error.__cause__, ValueError)
    assert str(error) == "the background loop probe crashed 3 times"
    assert error.name == "probe"
    assert loops.restarts["probe"] == 2
    assert caplog.records[-1].levelno == logging.CRITICAL


async def test_crashes_outside_the_window_are_forgiven() -> None:
    now = 0.0
    recovered = asyncio.Event()

    async def run() -> None:
        nonlocal now
        now += 31.0
        if now < 31.0 * 10:
            raise ValueError
        recovered.set()
        await forever()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        loops = Loops(group, policy=QUICK, clock=lambda: now)
        loops.start("probe", run)
        await recovered.wait()
        loops.cancel()
    assert loops.restarts["probe"] == 9


async def test_the_pause_doubles_up_to_its_limit(caplog: pytest.LogCaptureFixture) -> None:
    policy = CrashPolicy(crashes=9, delay_s=0.002, delay_max_s=0.007)
    began: list[float] = []
    clock = asyncio.get_running_loop().time

    async def run() -> None:
        began.append(clock())
        if len(began) < 5:
            raise ValueError

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        Loops(group, policy=policy).start("probe", run)
    told = [float(record.getMessage().rpartition("=")[2]) for record in caplog.records]
    assert told == [0.002, 0.004, 0.007, 0.007]
    pauses = [later - earlier for earlier, later in itertools.pairwise(began)]
    # The loop's timers are as coarse as a millisecond.
    assert all(pause > wanted - 0.0015 for pause, wanted in zip(pauses, told, strict=True))


async def test_a_pause_can_be_cancelled() -> None:
    policy = CrashPolicy(delay_s=3600, delay_max_s=3600)
    crashed = asyncio.Event()

    async def run() -> None:
        crashed.set()
        raise ValueError

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        loops = Loops(group, policy=policy)
        loops.start("probe", run)
        await crashed.wait()
        await asyncio.sleep(0)
        loops.cancel()


async def test_a_loop_that_fails_while_it_is_cancelled_does_not_start_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = asyncio.Event()

    async def run() -> None:
        running.set()
        try:
            await forever()
        finally:
            raise ValueError("clean-up failed")

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        loops = Loops(group, policy=QUICK)
        loops.start("probe", run)
        await running.wait()
        loops.cancel()
    assert loops.restarts["probe"] == 0
    assert caplog.records[0].getMessage() == "loop failed while it was cancelled loop=probe"


async def test_a_failing_sibling_ends_a_loop_whose_clean_up_fails() -> None:
    running = asyncio.Event()

    async def run() -> None:
        running.set()
        try:
            await forever()
        finally:
            raise ValueError("clean-up failed")

    async def sibling() -> None:
        await running.wait()
        raise KeyError("sibling")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            Loops(group, policy=QUICK).start("probe", run)
            group.create_task(sibling())
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


async def test_a_cancellation_from_inside_is_a_crash_like_any_other() -> None:
    """A loop that awaits something cancelled by others must not vanish without a word."""
    recovered = asyncio.Event()
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        recovered.set()
        await forever()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        loops = Loops(group, policy=QUICK)
        loops.start("probe", run)
        await recovered.wait()
        loops.cancel()
    assert loops.restarts["probe"] == 1


async def test_nothing_starts_twice_or_after_the_end() -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        loops = Loops(group)
        loops.start("probe", forever)
        with pytest.raises(ValueError, match="probe"):
            loops.start("probe", forever)
        loops.cancel()
        with pytest.raises(RuntimeError, match="cancelled"):
            loops.start("late", forever)


async def test_what_a_thread_returns_or_raises_is_passed_on() -> None:
    reader = Reader()
    assert await reader.run(lambda: 3, "counting") == 3

    def fail() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await reader.run(fail, "counting")


async def test_a_stuck_thread_keeps_nobody_waiting_and_too_many_are_refused() -> None:
    reader = Reader(limit_s=0.05, most_stuck=1)
    release = threading.Event()
    try:
        with pytest.raises(StuckError, match=r"counting is not done after 0\.05 s"):
            await reader.run(release.wait, "counting")
        with pytest.raises(StuckError, match="1 attempts before this one hang"):
            await reader.run(lambda: 3, "counting")
    finally:
        release.set()
    async with asyncio.timeout(5):
        while reader.stuck:
            await asyncio.sleep(0.01)
    reader._limit_s = 5
    assert await reader.run(lambda: 3, "counting") == 3
