"""Long work in turns, with a clock that the work itself turns."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from sollold.web.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bench:
    """Work whose every step takes a second."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def clock(self) -> float:
        return self.now_s

    def work(self, steps: int) -> Iterator[int | None]:
        for step in range(steps):
            self.now_s += 1.0
            yield None if step % 4 == 3 else step


async def test_a_turn_ends_when_its_time_is_over() -> None:
    bench = Bench()
    turns = Turns(bench.clock, turn_s=3.0)

    found = [portion async for portion in turns.portions(bench.work(8))]

    assert found == [[0, 1, 2], [4, 5], [6]]


async def test_others_run_between_two_turns() -> None:
    bench = Bench()
    turns = Turns(bench.clock, turn_s=1.0)
    seen: list[float] = []
    is_over = False

    async def watch() -> None:
        while not is_over:
            seen.append(bench.now_s)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    assert await turns.all(bench.work(20)) == [step for step in range(20) if step % 4 != 3]
    is_over = True
    await watcher

    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert max(steps) == 1.0


async def test_many_who_work_hold_the_loop_no_longer_than_one() -> None:
    bench = Bench()
    turns = Turns(bench.clock, turn_s=1.0)
    seen: list[float] = []
    is_over = False

    async def watch() -> None:
        while not is_over:
            seen.append(bench.now_s)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(turns.all(bench.work(10)) for _ in range(5)))
    is_over = True
    await watcher

    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert bench.now_s == 50.0
    assert max(steps) == 1.0
