"""Coarse timers for many deadlines that almost never come true.

One loop handle turns the whole wheel, and only while something is registered. A timer never fires
early and at most one tick late. Not for anything that needs better than a tenth of a second.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Timer:
    """One deadline; a fired or cancelled timer may be pushed again.

    `due_tick` and `filed_tick` belong to the wheel: a pushed timer stays filed under its old tick
    until that comes, then moves.
    """

    __slots__ = ("callback", "due_tick", "filed_tick", "wheel")

    def __init__(self, wheel: TimerWheel, callback: Callable[[], None]) -> None:
        self.wheel = wheel
        self.callback = callback
        self.due_tick = 0
        self.filed_tick: int | None = None

    @property
    def is_armed(self) -> bool:
        """Whether the callback is still to come."""
        return self.filed_tick is not None

    def cancel(self) -> None:
        """Forget the deadline. No await."""
        if self.filed_tick is not None:
            self.wheel.unfile(self)

    def push(self, delay_s: float) -> None:
        """Move the deadline to `delay_s` from now; a later one costs no more than a store."""
        due_tick = self.due_tick = self.wheel.tick_after(delay_s)
        if self.filed_tick is not None and self.filed_tick <= due_tick:
            return
        self.cancel()
        self.wheel.file(self)


class Watch:
    """A callable that is looked at every tick until cancelled."""

    __slots__ = ("look", "wheel")

    def __init__(self, wheel: TimerWheel, look: Callable[[], None]) -> None:
        self.wheel = wheel
        self.look = look

    def cancel(self) -> None:
        """Stop being called. No await."""
        self.wheel.unwatch(self)


class TimerWheel:
    """All coarse deadlines of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tick_s: float = 0.1) -> None:
        self.loop = loop
        self.tick_s = tick_s
        self.now_s = loop.time()
        """Loop time at the last tick; stands still while nothing is registered."""
        self._origin_s = self.now_s
        self._turned_tick = 0
        self._slots: dict[int, dict[Timer, None]] = {}
        self._watches: dict[Watch, None] = {}
        self._handle: asyncio.TimerHandle | None = None
        # It turns for everybody: it must not carry on in one request's context.
        self._context = contextvars.Context()
        self._is_closed = False

    @property
    def is_turning(self) -> bool:
        """Whether the loop holds a handle for the next tick."""
        return self._handle is not None

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once, `delay_s` from now, unless cancelled or pushed."""
        timer = Timer(self, callback)
        timer.push(delay_s)
        return timer

    def watch(self, look: Callable[[], None]) -> Watch:
        """Call `look` every tick until the returned handle is cancelled."""
        watch = Watch(self, look)
        if self._handle is None:
            self._turn_on()
        self._watches[watch] = None
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Stop looking; unknown watches are ignored. No await."""
        self._watches.pop(watch, None)

    def close(self) -> None:
        """Drop everything; nothing fires any more, whatever is registered later."""
        self._is_closed = True
        for slot in self._slots.values():
            for timer in slot:
                timer.filed_tick = None
        self._slots.clear()
        self._watches.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def tick_after(self, delay_s: float) -> int:
        """Return the first tick that is not before `delay_s` from now and not yet turned."""
        due_s = self.loop.time() - self._origin_s + delay_s
        return max(int(due_s / self.tick_s), self._turned_tick) + 1

    def file(self, timer: Timer) -> None:
        """Put a timer under the tick it is due at. No await."""
        if self._handle is None:
            self._turn_on()
            # The clock may have passed a tick since the due tick was worked out.
            timer.due_tick = max(timer.due_tick, self._turned_tick + 1)
        slot = self._slots.get(timer.due_tick)
        if slot is None:
            slot = self._slots[timer.due_tick] = {}
        slot[timer] = None
        timer.filed_tick = timer.due_tick

    def unfile(self, timer: Timer) -> None:
        """Take a filed timer out. No await."""
        tick, timer.filed_tick = timer.filed_tick, None
        if tick is None:
            return
        slot = self._slots[tick]
        del slot[timer]
        if not slot:
            del self._slots[tick]

    def _turn_on(self) -> None:
        if self._is_closed:
            return
        self.now_s = self.loop.time()
        self._turned_tick = int((self.now_s - self._origin_s) / self.tick_s)
        self._arm()

    def _arm(self) -> None:
        next_s = self._origin_s + (self._turned_tick + 1) * self.tick_s
        self._handle = self.loop.call_at(next_s, self._turn, context=self._context)

    def _turn(self) -> None:
        self.now_s = self.loop.time()
        first = self._turned_tick + 1
        # A loop may run its timers a hair early; one tick has passed all the same.
        last = self._turned_tick = max(first, int((self.now_s - self._origin_s) / self.tick_s))
        for tick in self._filed_between(first, last):
            self._fire(tick)
        for watch in tuple(self._watches):
            if watch in self._watches:
                self._call(watch.look)
        if self._is_closed:
            return
        if self._slots or self._watches:
            self._arm()
        else:
            self._handle = None

    def _filed_between(self, first: int, last: int) -> list[int]:
        if last - first < len(self._slots):
            return [tick for tick in range(first, last + 1) if tick in self._slots]
        return sorted(tick for tick in self._slots if tick <= last)

    def _fire(self, tick: int) -> None:
        for timer in tuple(self._slots.get(tick, ())):
            if timer.filed_tick != tick:
                continue
            self.unfile(timer)
            if timer.due_tick > self._turned_tick:
                self.file(timer)
            else:
                self._call(timer.callback)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # one bad callback must not stop the others
            self.loop.call_exception_handler(
                {"message": "a timer callback failed", "exception": error}
            )
