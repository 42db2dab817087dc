"""One question to several addresses of one node: staggered, the first good answer wins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

_T = TypeVar("_T")


async def first_good(
    calls: Sequence[Callable[[], Coroutine[None, None, _T]]],
    is_good: Callable[[_T], bool],
    stagger_s: float,
) -> tuple[int, list[_T]]:
    """Return which call was good and its answer; else -1 and every answer, in order.

    The next call starts when the ones before failed, or gave no answer for `stagger_s`.
    """
    if len(calls) == 1:
        answer = await calls[0]()
        return (0 if is_good(answer) else -1), [answer]
    tasks: list[asyncio.Task[_T]] = []
    try:
        for call in calls:
            tasks.append(asyncio.create_task(call(), name=f"address {len(tasks)}"))
            is_last = len(tasks) == len(calls)
            winner = await _watch(tasks, is_good, None if is_last else stagger_s)
            if winner is not None:
                return winner, [tasks[winner].result()]
        return -1, [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(
    tasks: Sequence[asyncio.Task[_T]], is_good: Callable[[_T], bool], limit_s: float | None
) -> int | None:
    """Wait until one is good, all have failed, or the time is over."""
    loop = asyncio.get_running_loop()
    end_s = None if limit_s is None else loop.time() + limit_s
    while True:
        for index, task in enumerate(tasks):
            if task.done() and is_good(task.result()):
                return index
        waiting = [task for task in tasks if not task.done()]
        left_s = None if end_s is None else end_s - loop.time()
        if not waiting or (left_s is not None and left_s <= 0):
            return None
        await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
