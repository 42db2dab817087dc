"""Residency and slots of the fake node: who waits, who is pushed out, what a cancel frees."""

from __future__ import annotations

import asyncio
import math

import pytest

from tests.fakes.decode import ApiError
from tests.fakes.engine import Engine, LoadOptions, Settings
from tests.fakes.models import FakeModel
from tests.fakes.watch import Watch

A, B, C = (FakeModel(name=name) for name in "abc")
AUTO = LoadOptions(4096)


class Bench:
    """An engine, and jobs that hold a slot until told."""

    def __init__(self, **settings: float) -> None:
        self.watch = Watch()
        self.engine = Engine(Settings(**settings), self.watch)  # type: ignore[arg-type]
        self.order: list[str] = []

    def hold(
        self, name: str, model: FakeModel = A, options: LoadOptions = AUTO
    ) -> tuple[asyncio.Task[None], asyncio.Event]:
        """A job, and the event that ends it."""
        release = asyncio.Event()

        async def run() -> None:
            async with self.engine.lease(model, options, None):
                self.order.append(name)
                self.watch.changed()
                await release.wait()

        return asyncio.create_task(run()), release

    async def until(self, *order: str) -> None:
        """Return when exactly these jobs have begun."""
        async with asyncio.timeout(5):
            await self.watch.until(lambda: self.order == list(order))

    async def until_waiting(self, count: int) -> None:
        """Return when so many jobs wait."""
        async with asyncio.timeout(5):
            await self.watch.until(lambda: self.engine.waiting == count)

    def resident(self) -> set[str]:
        """Names in memory."""
        return {runner.model.name for runner in self.engine.runners}


async def test_one_slot_serves_in_the_order_of_arrival() -> None:
    bench = Bench()
    jobs = []
    for number, name in enumerate("xyz"):
        jobs.append(bench.hold(name))
        await bench.until_waiting(number)
        await bench.until("x")

    for count in (1, 2, 3):
        await bench.until(*"xyz"[:count])
        jobs[count - 1][1].set()
    await asyncio.gather(*(task for task, _ in jobs))

    assert bench.engine.max_active == 1
    assert bench.engine.active == bench.engine.waiting == 0


async def test_more_slots_serve_together() -> None:
    bench = Bench(slots=2)
    jobs = [bench.hold(name) for name in "xyz"]
    await bench.until("x", "y")
    await bench.until_waiting(1)

    jobs[1][1].set()
    await bench.until("x", "y", "z")

    for task, release in jobs:
        release.set()
        await task
    assert bench.engine.max_active == 2


async def test_who_leaves_the_line_does_not_keep_the_slot() -> None:
    bench = Bench()
    first, release = bench.hold("x")
    await bench.until("x")
    second, _ = bench.hold("y")
    await bench.until_waiting(1)
    third, last = bench.hold("z")
    await bench.until_waiting(2)

    second.cancel()
    await bench.until_waiting(1)
    release.set()
    await bench.until("x", "z")
    last.set()
    await asyncio.gather(first, third)

    assert second.cancelled()
    assert bench.engine.active == 0


async def test_a_slot_handed_to_one_who_leaves_at_that_moment_goes_on() -> None:
    bench = Bench()
    async with bench.engine.lease(A, AUTO, None):
        second, _ = bench.hold("y")
        await bench.until_waiting(1)
        third, last = bench.hold("z")
        await bench.until_waiting(2)
    # The slot is the second's by now, but it has not run since.
    second.cancel()

    await bench.until("z")
    last.set()
    await third

    assert second.cancelled()
    assert bench.engine.active == 0


async def test_loads_are_one_at_a_time_and_joined() -> None:
    bench = Bench(load_s=0.05, slots=9)
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    jobs = [bench.hold(f"{model.name}{number}", model) for model in (A, B) for number in (0, 1)]
    for task, release in jobs:
        release.set()
        await task

    assert loop.time() - started_s >= 0.095
    assert [load.model for load in bench.engine.loads] == ["a:latest", "b:latest"]
    assert bench.resident() == {"a", "b"}


async def test_a_load_whose_client_leaves_is_given_up() -> None:
    bench = Bench(load_s=30)
    task, _ = bench.hold("x")
    await bench.until_waiting(1)

    task.cancel()
    await asyncio.wait([task])

    assert bench.engine.waiting == 0
    assert not bench.engine.loads


async def test_the_idle_one_with_the_shortest_life_is_pushed_out() -> None:
    bench = Bench(max_resident=2)
    await bench.engine.load(A, AUTO, math.inf)
    await bench.engine.load(B, AUTO, 60.0)

    await bench.engine.load(C, AUTO, None)

    assert bench.engine.evictions == ["b:latest"]
    assert bench.resident() == {"a", "c"}


async def test_a_busy_model_is_waited_for_not_pushed_out() -> None:
    bench = Bench(max_resident=1)
    first, release = bench.hold("x", A)
    await bench.until("x")
    second, last = bench.hold("y", B)
    await bench.until_waiting(1)
    assert bench.resident() == {"a"}

    release.set()
    await bench.until("x", "y")
    last.set()
    await asyncio.gather(first, second)

    assert bench.engine.evictions == ["a:latest"]


async def test_other_options_reload() -> None:
    bench = Bench()
    for options in (AUTO, LoadOptions(8192), LoadOptions(8192), AUTO):
        await bench.engine.load(A, options, None)

    assert [(load.num_ctx, load.is_reload) for load in bench.engine.loads] == [
        (4096, False),
        (8192, True),
        (4096, True),
    ]


async def test_tags_over_the_same_weights_share_a_runner() -> None:
    bench = Bench()
    for name in ("one", "two"):
        await bench.engine.load(FakeModel(name=name, weights="same"), AUTO, None)

    assert bench.resident() == {"one"}


async def test_an_unloaded_or_expired_model_is_gone_once_idle() -> None:
    bench = Bench()
    task, release = bench.hold("x", A)
    await bench.until("x")
    bench.engine.unload(A)
    assert bench.resident() == {"a"}

    release.set()
    await task

    assert bench.resident() == set()
    await bench.engine.load(B, AUTO, 0.0)
    assert bench.resident() == set()


async def test_too_many_waiting_for_a_load_are_turned_away() -> None:
    bench = Bench(load_s=30, max_queue=1)
    task, _ = bench.hold("x")
    await bench.until_waiting(1)

    with pytest.raises(ApiError, match="server busy") as caught:
        await bench.engine.load(B, AUTO, None)

    assert caught.value.status == 503
    task.cancel()
    await asyncio.wait([task])


async def test_a_warm_prefix_costs_no_prefill() -> None:
    bench = Bench(prefill_rate=100.0, has_prefix_cache=True)
    words = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
    async with bench.engine.lease(A, AUTO, None) as lease:
        cold_ns = await bench.engine.prefill(lease, words)
        warm_ns = await bench.engine.prefill(lease, (*words, "k"))

    assert cold_ns >= 95e6
    assert warm_ns < cold_ns / 2


async def test_tokens_keep_the_rate_and_crowding_slows_them() -> None:
    bench = Bench(crowding=1.0, slots=2)
    loop = asyncio.get_running_loop()
    model = FakeModel(name="a", rate=100.0)
    async with bench.engine.lease(model, AUTO, None) as lease:
        began_s = loop.time()
        clock = bench.engine.clock(lease)
        for _ in range(5):
            await clock.tick()
        alone_s = loop.time() - began_s
        async with bench.engine.lease(model, AUTO, None):
            began_s = loop.time()
            clock = bench.engine.clock(lease)
            for _ in range(5):
                await clock.tick()
            together_s = loop.time() - began_s

    assert alone_s >= 0.048
    assert together_s >= 0.098
    assert bench.engine.generated_tokens == 10
