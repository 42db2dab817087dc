"""Long work on the event loop, taken in turns so that everything else goes on in between."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

T = TypeVar("T")

_TURN_S = 0.002


class Turns:
    """Does work step by step; between two turns of anybody's work the loop does the rest."""

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, turn_s: float = _TURN_S
    ) -> None:
        self._clock = clock
        self._turn_s = turn_s
        # One turn of all at a time: many that work together hold the loop no longer than one.
        self._turn = asyncio.Lock()

    async def portions(self, work: Iterator[T | None]) -> AsyncIterator[list[T]]:
        """Yield what comes of each turn; a step of the work may yield None."""
        is_over = False
        while not is_over:
            async with self._turn:
                portion, is_over = self._take(work)
                await asyncio.sleep(0)
            yield portion

    async def all(self, work: Iterator[T | None]) -> list[T]:
        """Return what comes of the work."""
        return [item async for portion in self.portions(work) for item in portion]

    def _take(self, work: Iterator[T | None]) -> tuple[list[T], bool]:
        portion: list[T] = []
        until_s = self._clock() + self._turn_s
        for item in work:
            if item is not None:
                portion.append(item)
            if self._clock() >= until_s:
                return portion, False
        return portion, True
