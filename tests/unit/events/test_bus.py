from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING

import pytest

from sollold.events.bus import EventBus
from sollold.events.query import EVERYTHING, Filter
from sollold.events.subscription import Batch, Subscription
from sollold.events.types import NodeLeft, TaskStart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sollold.events.ring import Record


class Clock:
    """Wall-clock time that moves a second with every look."""

    def __init__(self) -> None:
        self._ticks: Iterator[int] = itertools.count(100)

    def __call__(self) -> float:
        return float(next(self._ticks))


def make_bus(ring_size: int = 10_000) -> EventBus:
    return EventBus("desk_1_a", "desk", 1, Clock(), ring_size)


def left(node: str = "pi-5") -> NodeLeft:
    return NodeLeft(reason="gone", node=node)


def numbers(batch: Batch[Record]) -> list[int]:
    return [record.seq for record in batch.records]


async def next_batch(subscription: Subscription[Record]) -> Batch[Record]:
    async with asyncio.timeout(5):
        return await anext(subscription)


def test_events_are_numbered_timed_and_kept() -> None:
    bus = make_bus(ring_size=2)
    for _ in range(3):
        bus.publish(left())

    kept = bus.last(10)

    assert [(record.seq, record.at_s) for record in kept] == [(2, 101.0), (3, 102.0)]
    assert kept[0].origin.instance_id == "desk_1_a"
    assert bus.published_total == 3
    assert bus.last(10, Filter.parse({"node": "other"})) == []
    assert bus.last(10, None, 102.0) == kept[1:]
    assert bus.last(10, None, None, 102.0) == kept[:1]


async def test_a_reader_gets_only_what_comes_after_it() -> None:
    bus = make_bus()
    bus.publish(left())
    reader = bus.subscribe()
    bus.publish(left())

    assert numbers(await next_batch(reader)) == [2]


async def test_a_reader_is_woken_by_an_event() -> None:
    bus = make_bus()
    reader = bus.subscribe()
    waiting = asyncio.ensure_future(next_batch(reader))
    await asyncio.sleep(0)
    assert not waiting.done()

    bus.publish(left())

    assert numbers(await waiting) == [1]


async def test_the_first_event_comes_at_once() -> None:
    bus = make_bus()
    patient: Subscription[Record] = Subscription(None, 10, lambda _: None, together_s=3600)
    bus.publish(left())

    patient.offer(bus.last(1)[0])

    assert numbers(await next_batch(patient)) == [1]


async def test_later_events_come_together() -> None:
    bus = make_bus()
    reader = bus.subscribe()
    loop = asyncio.get_running_loop()
    bus.publish(left())
    begin_s = loop.time()
    assert numbers(await next_batch(reader)) == [1]

    bus.publish(left())
    second = asyncio.ensure_future(next_batch(reader))
    await asyncio.sleep(0)
    assert not second.done()
    bus.publish(left())
    bus.publish(left())

    assert numbers(await second) == [2, 3, 4]
    assert loop.time() - begin_s >= 0.045


async def test_a_slow_reader_loses_the_oldest_and_is_told() -> None:
    bus = make_bus()
    reader = bus.subscribe(max_queue=3)
    for _ in range(5):
        bus.publish(left())

    batch = await next_batch(reader)
    assert (batch.dropped, numbers(batch)) == (2, [3, 4, 5])
    bus.publish(left())
    assert (await next_batch(reader)).dropped == 0
    assert bus.dropped_total == 2
    reader.close()
    assert bus.dropped_total == 2


async def test_filtered_events_take_no_room() -> None:
    bus = make_bus()
    reader = bus.subscribe(Filter.parse({"node": "gpu-1"}), max_queue=2)
    bus.publish(left("gpu-1"))
    for _ in range(10):
        bus.publish(left("pi-5"))
    bus.publish(left("gpu-1"))

    batch = await next_batch(reader)

    assert (batch.dropped, numbers(batch)) == (0, [1, 12])


async def test_readers_do_not_disturb_each_other() -> None:
    bus = make_bus()
    slow, quick = bus.subscribe(max_queue=1), bus.subscribe()
    bus.publish(left())
    bus.publish(left())

    assert numbers(await next_batch(quick)) == [1, 2]
    late = await next_batch(slow)
    assert (late.dropped, numbers(late)) == (1, [2])
    assert bus.subscriber_count == 2


async def test_a_closed_reader_ends_after_what_it_has() -> None:
    bus = make_bus()
    reader = bus.subscribe()
    bus.publish(left())
    reader.close()
    reader.close()
    bus.publish(left())

    batches = [batch async for batch in reader]

    assert [numbers(batch) for batch in batches] == [[1]]
    assert bus.subscriber_count == 0


async def test_closing_the_bus_ends_readers_that_wait() -> None:
    bus = make_bus()
    reader = bus.subscribe()
    bus.publish(left())
    await next_batch(reader)
    in_pause = asyncio.ensure_future(next_batch(reader))
    idle = asyncio.ensure_future(next_batch(bus.subscribe()))
    await asyncio.sleep(0)
    bus.publish(left())

    bus.close()

    assert numbers(await in_pause) == [2]
    assert numbers(await idle) == [2]
    with pytest.raises(StopAsyncIteration):
        await next_batch(reader)
    with pytest.raises(StopAsyncIteration):
        await next_batch(bus.subscribe())
    bus.publish(left())
    assert bus.published_total == 3


async def test_a_cancelled_wait_loses_nothing() -> None:
    bus = make_bus()
    reader = bus.subscribe()
    waiting = asyncio.ensure_future(next_batch(reader))
    await asyncio.sleep(0)
    bus.publish(left())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert numbers(await next_batch(reader)) == [1]


async def test_a_reader_that_fails_is_closed_and_does_not_reach_the_publisher(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = make_bus()
    broken = bus.subscribe(Filter.parse({"node": "pi-5"}))
    healthy = bus.subscribe()

    with caplog.at_level(logging.ERROR):
        bus.publish(TaskStart(node=5))  # type: ignore[arg-type]

    assert numbers(await next_batch(healthy)) == [1]
    assert "event reader failed" in caplog.text
    assert bus.subscriber_count == 1
    with pytest.raises(StopAsyncIteration):
        await next_batch(broken)


async def test_history_and_what_follows_join_without_gap_or_repeat() -> None:
    bus = make_bus()
    bus.publish(left())
    past, reader = bus.last(50), bus.subscribe(EVERYTHING)
    bus.publish(left())

    assert [record.seq for record in past] + numbers(await next_batch(reader)) == [1, 2]
