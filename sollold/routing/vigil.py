"""Watches the attempts of one run for nodes that are silent, and finds out why.

A node may be frozen, hung, busy with other people's work, or simply slow at a long prompt. Only the
first three are acted upon, each in its own way; see `docs/failures.md`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sollold.errors import UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.routing.attempt import Attempt
    from sollold.routing.dispatch import Dispatcher
    from sollold.routing.run import RequestRun
    from sollold.upstream.wheel import Timer, TimerWheel

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 5.0
_SHORTEST_IDLE_STEP_S = 0.2
_HUNG_FACTOR = 5.0


class FirstBytes:
    """Attempts that wait for their first byte, in the order in which they become overdue.

    One timer for all of them: nearly every attempt leaves before its time has come.
    """

    def __init__(self, wheel: TimerWheel, clock: Callable[[], float], *, overdue_s: float) -> None:
        self._wheel = wheel
        self._clock = clock
        self._overdue_s = overdue_s
        self._due: dict[Attempt, tuple[float, Callable[[Attempt], None]]] = {}
        self._timer: Timer | None = None

    def add(self, attempt: Attempt, on_overdue: Callable[[Attempt], None]) -> None:
        """Call `on_overdue` unless the attempt is forgotten before its time. No await."""
        self._due[attempt] = (self._clock() + self._overdue_s, on_overdue)
        if self._timer is None:
            self._timer = self._wheel.after(self._overdue_s, self._look)

    def forget(self, attempt: Attempt) -> None:
        """Leave an attempt alone. No await."""
        self._due.pop(attempt, None)

    def set_overdue(self, overdue_s: float) -> None:
        """Give those that wait, and those to come, another time. No await."""
        later_s, self._overdue_s = overdue_s - self._overdue_s, overdue_s
        self._due = {
            attempt: (due_s + later_s, on_overdue)
            for attempt, (due_s, on_overdue) in self._due.items()
        }
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._wheel.after(0.0, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._clock()
        for attempt, (due_s, on_overdue) in tuple(self._due.items()):
            if due_s > now_s:
                self._timer = self._wheel.after(due_s - now_s, self._look)
                return
            del self._due[attempt]
            on_overdue(attempt)


class Vigil:
    """Timers and investigations of one run."""

    def __init__(self, run: RequestRun, kit: Dispatcher) -> None:
        self._run = run
        self._kit = kit
        self._timers: dict[Attempt, Timer] = {}
        self._is_closed = False

    def await_progress(self, attempt: Attempt) -> None:
        """Look into a stream that stops. No await."""
        self._watch_idle(attempt, self._kit.clock(), attempt.heard_bytes)

    def forget(self, attempt: Attempt) -> None:
        """Stop watching an attempt. No await."""
        timer = self._timers.pop(attempt, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Stop watching. No await."""
        self._is_closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    # Before the first byte ---------------------------------------------------------------------

    def _look_later(self, attempt: Attempt, delay_s: float) -> None:
        self._timers[attempt] = self._kit.wheel.after(delay_s, lambda: self.overdue(attempt))

    def overdue(self, attempt: Attempt) -> None:
        """Look into an attempt that is late with its first byte. No await."""
        self._timers.pop(attempt, None)
        if not self._is_settled(attempt):
            self._kit.spawn(self._investigate(attempt))

    def _is_settled(self, attempt: Attempt) -> bool:
        return self._is_closed or attempt.is_over or attempt.first_content_s is not None

    async def _investigate(self, attempt: Attempt) -> None:
        is_frozen = await self._ask(attempt)
        if self._is_settled(attempt):
            return
        silent_s = self._kit.clock() - attempt.heard_s
        settings = self._kit.settings
        if is_frozen:
            self._leave_frozen(attempt, silent_s)
        elif self._run.recall(attempt):
            return
        elif silent_s > max(settings.progress_s, _HUNG_FACTOR * attempt.grant.expected_s):
            text = f"{attempt.grant.node} gave no answer for {silent_s:.0f} s"
            attempt.fail(UpstreamTimeout(text, phase="head"))
        if not self._is_settled(attempt):
            pause_s = min(_LONGEST_PAUSE_S, max(settings.overdue_s, silent_s / 4))
            self._look_later(attempt, pause_s)

    def _leave_frozen(self, attempt: Attempt, silent_s: float) -> None:
        if not self._run.leave_frozen(attempt) and silent_s > self._kit.settings.frozen_idle_s:
            text = (
                f"{attempt.grant.node} has been frozen for {silent_s:.0f} s and no other node "
                "can answer"
            )
            attempt.fail(UpstreamTimeout(text, phase="head"))

    async def _ask(self, attempt: Attempt) -> bool:
        """Have the node probed; a check that fails by itself says nothing about the node."""
        try:
            return await self._kit.is_frozen(attempt.grant.node)
        except Exception:
            _log.exception("could not find out whether %s is frozen", attempt.grant.node)
            return False

    # Between bytes -------------------------------------------------------------------------------

    def _watch_idle(self, attempt: Attempt, since_s: float, seen: int) -> None:
        """Look again soon; nothing beyond `seen` bytes has come since `since_s`. No await."""
        step_s = max(_SHORTEST_IDLE_STEP_S, self._kit.settings.frozen_idle_s / 4)
        self._timers[attempt] = self._kit.wheel.after(
            step_s, lambda: self._look_idle(attempt, since_s, seen)
        )

    def _look_idle(self, attempt: Attempt, since_s: float, seen: int) -> None:
        self._timers.pop(attempt, None)
        if attempt.is_over or self._is_closed:
            return
        is_held = attempt.exchange is not None and attempt.exchange.is_paused
        if attempt.heard_bytes != seen or is_held:
            self._watch_idle(attempt, self._kit.clock(), attempt.heard_bytes)
        else:
            self._kit.spawn(self._investigate_idle(attempt, since_s, seen))

    async def _investigate_idle(self, attempt: Attempt, since_s: float, seen: int) -> None:
        settings = self._kit.settings
        is_frozen = await self._ask(attempt)
        if attempt.is_over or self._is_closed:
            return
        now_s = self._kit.clock()
        if attempt.heard_bytes != seen:
            self._watch_idle(attempt, now_s, attempt.heard_bytes)
            return
        idle_s = now_s - since_s
        if idle_s >= (settings.frozen_idle_s if is_frozen else settings.progress_s):
            attempt.fail(UpstreamTimeout(f"nothing came for {idle_s:.0f} s", phase="idle"))
        else:
            self._watch_idle(attempt, since_s, seen)
