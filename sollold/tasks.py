"""Background loops: named, restarted with back-off when they crash, counted. Threads for reading.

Owns when a loop runs again, not what it does. A loop deals with the failures it expects by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from sollold.errors import SollolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class CrashPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often a loop may crash before the daemon gives up, and the pauses in between."""

    crashes: int = 5
    """With this many inside the window, the daemon stops."""
    window_s: float = 60.0
    delay_s: float = 0.5
    """Before the first restart; doubled for each further crash inside the window."""
    delay_max_s: float = 30.0


class LoopCrashed(SollolError):
    """A background loop crashed too often; its last exception is the cause."""

    code = "loop_crashed"

    def __init__(self, name: str, crashes: int) -> None:
        super().__init__(f"the background loop {name} crashed {crashes} times")
        self.name = name


class Loops:
    """The daemon's background loops, as tasks of one TaskGroup.

    A loop that crashes too often raises LoopCrashed, which cancels the group.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        *,
        policy: CrashPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._policy = policy or CrashPolicy()
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._restarts: dict[str, int] = {}
        self._is_cancelled = False

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often each loop was restarted, by name; a live view."""
        return MappingProxyType(self._restarts)

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run `run()` until it returns, again after each crash. No await."""
        if self._is_cancelled:
            raise RuntimeError(f"the loops are cancelled; {name} cannot start")
        if name in self._restarts:
            raise ValueError(f"a loop named {name} was started already")
        self._restarts[name] = 0
        task = self._group.create_task(self._keep_running(name, run), name=f"loop {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Ask every loop to end; the TaskGroup waits for them. No await."""
        self._is_cancelled = True
        for task in self._tasks:
            task.cancel()

    async def _keep_running(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        crashes: deque[float] = deque(maxlen=self._policy.crashes)
        while True:
            try:
                await run()
            except asyncio.CancelledError as exc:
                if _is_being_cancelled():
                    raise
                # Nobody cancelled this task: the loop awaited something that was cancelled.
                self._note_crash(name, crashes, exc)
            except Exception as exc:
                if _is_being_cancelled():
                    _logger.exception("loop failed while it was cancelled loop=%s", name)
                    raise asyncio.CancelledError from exc
                self._note_crash(name, crashes, exc)
            else:
                return
            self._restarts[name] += 1
            await asyncio.sleep(self._delay_s(len(crashes)))

    def _note_crash(self, name: str, crashes: deque[float], crash: BaseException) -> None:
        """Remember a crash, or let it out when there were too many."""
        now = self._clock()
        while crashes and now - crashes[0] > self._policy.window_s:
            crashes.popleft()
        crashes.append(now)
        count = len(crashes)
        if count < self._policy.crashes:
            text = "loop crashed, it restarts loop=%s in_s=%g"
            _logger.error(text, name, self._delay_s(count), exc_info=crash)
            return
        text = "loop crashed too often, the daemon stops loop=%s crashes=%d window_s=%g"
        _logger.critical(text, name, count, self._policy.window_s, exc_info=crash)
        raise LoopCrashed(name, count) from crash

    def _delay_s(self, crashes: int) -> float:
        return min(self._policy.delay_s * 2.0 ** (crashes - 1), self._policy.delay_max_s)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class StuckError(SollolError):
    """Work in a thread took longer than it may."""

    code = "stuck"


class Reader:
    """Does work that may block for good, reading files, each time in a thread of its own.

    A thread that is stuck keeps nobody waiting: neither those who come later, nor the exit.
    """

    def __init__(self, limit_s: float = 10.0, most_stuck: int = 8) -> None:
        self._limit_s = limit_s
        self._most_stuck = most_stuck
        self.stuck = 0
        """Threads that nobody waits for any more."""

    async def run(self, work: Callable[[], T], what: str) -> T:
        """Return what `work` returns, or raise what it raises.

        Raises:
            StuckError: it takes too long, or too many others still do.
        """
        if self.stuck >= self._most_stuck:
            raise StuckError(f"{what}: {self.stuck} attempts before this one hang still")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def do() -> None:
            result, error = None, None
            try:
                result = work()
            except Exception as exc:
                error = exc
            # The loop may be gone by now.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._finish, done, cast("T", result), error)

        threading.Thread(target=do, name=what, daemon=True).start()
        # Not wait_for: the work itself may raise a TimeoutError, which means something else.
        try:
            await asyncio.wait((done,), timeout=self._limit_s)
        finally:
            if not done.done():
                done.cancel()
                self.stuck += 1
        if not done.cancelled():
            return done.result()
        raise StuckError(f"{what} is not done after {self._limit_s:g} s: a file or its disk hangs")

    def _finish(self, done: asyncio.Future[T], result: T, error: Exception | None) -> None:
        if done.cancelled():
            self.stuck -= 1
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)
