"""For how long an answer holds the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.component.lab import Lab


async def held_while(lab: Lab, path: str) -> tuple[float, bytes]:
    """Return what one turn of the loop took at most, in its thread's time, and the answer."""
    worst_s, is_over = 0.0, False

    async def watch() -> None:
        nonlocal worst_s
        before = time.thread_time()
        while not is_over:
            await asyncio.sleep(0)
            now = time.thread_time()
            worst_s, before = max(worst_s, now - before), now

    watcher = asyncio.create_task(watch())
    async with lab.session.get(path) as answer:
        pieces = [piece async for piece in answer.content.iter_any()]
    is_over = True
    await watcher
    return worst_s, b"".join(pieces)
