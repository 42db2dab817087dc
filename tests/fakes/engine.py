"""Residency, slots and token clock of a fake node: what Ollama's scheduler and its runners do.

Loads are one at a time, each runner has its slots, waiting is first come first served, and nothing
here knows HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tests.fakes.decode import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.models import FakeModel
    from tests.fakes.watch import Watch

BUSY_TEXT = "server busy, please try again.  maximum pending requests exceeded"
FOREVER_S = 292 * 365 * 86_400.0


class Settings(msgspec.Struct, kw_only=True):
    """How fast and how large a fake node is. May be changed while it runs."""

    rate: float = 1000.0
    """Tokens a second and slot; 0: as fast as it goes."""
    prefill_s: float = 0.0
    prefill_rate: float = 0.0
    """Prompt tokens a second on top of `prefill_s`; 0: no cost."""
    load_s: float = 0.0
    slots: int = 1
    max_resident: int = 3
    max_queue: int = 512
    answer_tokens: int = 16
    default_num_ctx: int = 4096
    keep_alive_s: float = 300.0
    crowding: float = 0.0
    """Each further generation under way slows every token by this share."""
    has_prefix_cache: bool = False
    """A prompt that begins like the runner's last one costs prefill only for the rest."""


class LoadOptions(NamedTuple):
    """What forces a runner to be loaded anew when it differs."""

    num_ctx: int
    others: tuple[tuple[str, object], ...] = ()


class Load(NamedTuple):
    """One load that happened."""

    model: str
    num_ctx: int
    is_reload: bool


class Runner:
    """A loaded model."""

    def __init__(self, model: FakeModel, options: LoadOptions, keep_alive_s: float) -> None:
        self.model = model
        self.options = options
        self.keep_alive_s = keep_alive_s
        self.expires_s = time.time() + keep_alive_s
        self.users = 0
        self.running = 0
        self.line: deque[asyncio.Future[None]] = deque()
        self.last_prompt: tuple[str, ...] = ()

    @property
    def is_idle(self) -> bool:
        """True when nobody uses it or waits for it."""
        return self.users == 0


class Lease:
    """The right to use one slot of a runner."""

    def __init__(self, runner: Runner, granted_s: float, asked_s: float) -> None:
        self.runner = runner
        self.load_ns = max(1, round((granted_s - asked_s) * 1e9))
        self.asked_s = asked_s


class Engine:
    """All runners of one node."""

    def __init__(self, settings: Settings, watch: Watch) -> None:
        self.settings = settings
        self.loads: list[Load] = []
        self.evictions: list[str] = []
        self.active = 0
        self.max_active = 0
        self.generated_tokens = 0
        self._watch = watch
        self._runners: dict[str, Runner] = {}
        self._load_turn = asyncio.Lock()
        self._pending = 0

    @property
    def runners(self) -> list[Runner]:
        """What is in memory, last to expire first."""
        self._expire()
        return sorted(self._runners.values(), key=lambda runner: -runner.expires_s)

    @property
    def waiting(self) -> int:
        """Requests that hold no slot yet."""
        return self._pending + sum(len(runner.line) for runner in self._runners.values())

    def forget(self) -> None:
        """Lose all that was loaded, as a restart does. No await."""
        self._runners.clear()

    def unload(self, model: FakeModel) -> None:
        """Drop a model as soon as nobody uses it. No await."""
        runner = self._runners.get(model.blob)
        if runner is not None:
            runner.keep_alive_s = 0.0
            self._touch(runner)

    @asynccontextmanager
    async def lease(
        self, model: FakeModel, options: LoadOptions, keep_alive_s: float | None
    ) -> AsyncIterator[Lease]:
        """A slot of a runner of `model` with these options, loaded first if need be."""
        asked_s = time.monotonic()
        runner = await self._runner(model, options)
        try:
            if keep_alive_s is not None:
                runner.keep_alive_s = keep_alive_s
            await self._take_slot(runner)
            try:
                yield Lease(runner, time.monotonic(), asked_s)
            finally:
                self._give_slot(runner)
        finally:
            runner.users -= 1
            self._touch(runner)

    async def load(
        self, model: FakeModel, options: LoadOptions, keep_alive_s: float | None
    ) -> None:
        """Have a model in memory without using a slot."""
        runner = await self._runner(model, options)
        if keep_alive_s is not None:
            runner.keep_alive_s = keep_alive_s
        runner.users -= 1
        self._touch(runner)

    async def prefill(self, lease: Lease, prompt: tuple[str, ...]) -> int:
        """Read the prompt; returns the nanoseconds it took."""
        started_s = time.monotonic()
        fresh = len(prompt) - self._cached(lease.runner, prompt)
        rate = self.settings.prefill_rate
        lasts_s = self.settings.prefill_s + (fresh / rate if rate > 0 else 0.0)
        if lasts_s > 0:
            await asyncio.sleep(lasts_s)
        lease.runner.last_prompt = prompt
        return max(1, round((time.monotonic() - started_s) * 1e9))

    def clock(self, lease: Lease) -> TokenClock:
        """Counts this answer's tokens off at the model's rate."""
        rate = lease.runner.model.rate
        return TokenClock(self, self.settings.rate if rate is None else rate)

    def _cached(self, runner: Runner, prompt: tuple[str, ...]) -> int:
        if not self.settings.has_prefix_cache:
            return 0
        count = 0
        for ours, theirs in zip(runner.last_prompt, prompt, strict=False):
            if ours != theirs:
                break
            count += 1
        return count

    async def _runner(self, model: FakeModel, options: LoadOptions) -> Runner:
        """A suitable runner, with this caller counted among its users."""
        runner = self._suitable(model, options)
        if runner is None:
            if self._pending >= self.settings.max_queue:
                raise ApiError(503, BUSY_TEXT)
            self._pending += 1
            self._watch.changed()
            try:
                async with self._load_turn:
                    runner = self._suitable(model, options) or await self._load(model, options)
            finally:
                self._pending -= 1
                self._watch.changed()
        runner.users += 1
        return runner

    def _suitable(self, model: FakeModel, options: LoadOptions) -> Runner | None:
        self._expire()
        runner = self._runners.get(model.blob)
        return runner if runner is not None and runner.options == options else None

    async def _load(self, model: FakeModel, options: LoadOptions) -> Runner:
        old = self._runners.get(model.blob)
        if old is not None:
            await self._watch.until(lambda: old.is_idle)
            self._runners.pop(model.blob, None)
        while len(self._runners) >= self.settings.max_resident:
            await self._watch.until(lambda: any(r.is_idle for r in self._runners.values()))
            idle = [runner for runner in self._runners.values() if runner.is_idle]
            victim = min(idle, key=lambda runner: runner.keep_alive_s)
            del self._runners[victim.model.blob]
            self.evictions.append(victim.model.short)
        load_s = self.settings.load_s if model.load_s is None else model.load_s
        await asyncio.sleep(load_s)
        runner = Runner(model, options, self.settings.keep_alive_s)
        self._runners[model.blob] = runner
        self.loads.append(Load(model.short, options.num_ctx, old is not None))
        return runner

    async def _take_slot(self, runner: Runner) -> None:
        if runner.running >= self.settings.slots or runner.line:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            runner.line.append(turn)
            self._watch.changed()
            try:
                await turn
            except asyncio.CancelledError:
                if turn in runner.line:
                    runner.line.remove(turn)
                elif not turn.cancelled():
                    self._next(runner)
                raise
        else:
            runner.running += 1
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        self._watch.changed()

    def _give_slot(self, runner: Runner) -> None:
        self.active -= 1
        self._next(runner)
        self._watch.changed()

    def _next(self, runner: Runner) -> None:
        """Hand one freed slot to the first in line, or free it. No await."""
        while runner.line:
            turn = runner.line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        runner.running -= 1

    def _touch(self, runner: Runner) -> None:
        """Start the keep-alive clock of an idle runner. No await."""
        runner.expires_s = time.time() + runner.keep_alive_s
        self._expire()
        self._watch.changed()

    def _expire(self) -> None:
        now = time.time()
        for blob, runner in list(self._runners.items()):
            if runner.is_idle and runner.expires_s <= now:
                del self._runners[blob]


class TokenClock:
    """When each token of one answer is due, without drift."""

    def __init__(self, engine: Engine, rate: float) -> None:
        self._engine = engine
        self._rate = rate
        self._due_s = time.monotonic()

    async def tick(self) -> None:
        """Wait for the next token."""
        if self._rate > 0:
            crowd = 1 + self._engine.settings.crowding * (self._engine.active - 1)
            self._due_s += crowd / self._rate
        await asyncio.sleep(max(0.0, self._due_s - time.monotonic()))
        self._engine.generated_tokens += 1
