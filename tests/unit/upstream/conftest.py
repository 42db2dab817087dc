"""The wheel is turned by a clock the tests own."""

from __future__ import annotations

import heapq
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, cast

import pytest

from sollold.upstream.wheel import TimerWheel

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Handle:
    """What `call_at` returns."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """The part of an event loop that a wheel uses, with time as a number."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.early_s = 0.0
        """How much too soon timers run; real loops round."""
        self.reports: list[dict[str, Any]] = []
        self.armed = 0
        self._due: list[tuple[float, int, Handle, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(
        self, when_s: float, callback: Callable[[], None], *, context: Context | None = None
    ) -> Handle:
        """Run `callback` when it is due, in the context of the call unless another is given."""
        handle = Handle()
        self.armed += 1
        # An empty context is false, and just what the wheel asks for.
        own = copy_context() if context is None else context

        def run() -> None:
            own.run(callback)

        heapq.heappush(self._due, (when_s, self.armed, handle, run))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.reports.append(context)

    @property
    def pending(self) -> int:
        return sum(not handle.is_cancelled for _, _, handle, _ in self._due)

    def advance(self, seconds: float) -> None:
        """Let time pass, running what falls due on the way."""
        end_s = self.now_s + seconds
        while self._due and self._due[0][0] - self.early_s <= end_s:
            when_s, _, handle, callback = heapq.heappop(self._due)
            self.now_s = max(self.now_s, when_s - self.early_s)
            if not handle.is_cancelled:
                callback()
        self.now_s = end_s

    def jump(self, seconds: float) -> None:
        """Let time pass with the loop blocked, then run what is overdue once."""
        self.now_s += seconds
        self.advance(0.0)


def wheel_on(clock: Clock) -> TimerWheel:
    """Build a wheel with ticks of 0.1 s on a clock."""
    return TimerWheel(cast("asyncio.AbstractEventLoop", clock), tick_s=0.1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wheel(clock: Clock) -> TimerWheel:
    return wheel_on(clock)
