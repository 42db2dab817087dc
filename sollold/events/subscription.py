"""A reader's share of a stream: a bounded queue that is taken in batches.

Used for events and for log lines. Everything is touched from the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Generic, NamedTuple, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_TOGETHER_S = 0.05


class Batch(NamedTuple, Generic[T]):
    """Items for one push. `dropped` items were lost just before the first of them."""

    dropped: int
    records: tuple[T, ...]


class Subscription(Generic[T]):
    """An asynchronous iterator of batches for one reader; close it when the reader goes.

    The first item comes at once, later ones of the same 50 ms together. `is_wanted` chooses what
    is queued; None: everything.
    """

    def __init__(
        self,
        is_wanted: Callable[[T], bool] | None,
        max_queue: int,
        on_closed: Callable[[Subscription[T]], None],
        together_s: float = _TOGETHER_S,
    ) -> None:
        self.dropped_total = 0
        self._is_wanted = is_wanted
        self._queue: deque[T] = deque()
        self._max_queue = max_queue
        self._on_closed = on_closed
        self._together_s = together_s
        self._dropped = 0
        self._next_push_s = 0.0
        self._has_news = asyncio.Event()
        self._closed = asyncio.Event()

    def offer(self, item: T) -> None:
        """Queue an item if it is wanted; when full, the oldest goes. No await."""
        if self._is_wanted is not None and not self._is_wanted(item):
            return
        if len(self._queue) >= self._max_queue:
            self._queue.popleft()
            self.miss(1)
        self._queue.append(item)
        self._has_news.set()

    def miss(self, count: int) -> None:
        """Note items that were lost before they got here. No await."""
        self._dropped += count
        self.dropped_total += count

    def close(self) -> None:
        """Take no more items; what is queued can still be read. No await."""
        if not self._closed.is_set():
            self._closed.set()
            self._has_news.set()
            self._on_closed(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch[T]:
        """Return the next batch; stops once closed and empty."""
        await self._has_news.wait()
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_push_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_push_s - now_s):
                    await self._closed.wait()
        if not self._queue:
            raise StopAsyncIteration
        self._next_push_s = asyncio.get_running_loop().time() + self._together_s
        return self._take()

    def _take(self) -> Batch[T]:
        batch = Batch(self._dropped, tuple(self._queue))
        self._queue.clear()
        self._dropped = 0
        if not self._closed.is_set():
            self._has_news.clear()
        return batch
