"""Waiting for a condition that other tasks make true, without polling."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Watch:
    """Whoever changes something calls `changed`; whoever waits gives a condition."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def changed(self) -> None:
        """Have every waiter look at its condition again. No await."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Return as soon as the condition holds."""
        while not is_true():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                await future
            finally:
                self._waiting.discard(future)
