"""A simulated house: nodes that behave like Ollama, and the requests of a day.

Owns time, nodes and workload. Knows no policy.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

OVERHEAD_S = 0.05


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One model: how popular, how heavy, how talkative."""

    name: str
    share: float
    speed: float
    """Its rates and load time, relative to the first model."""
    output_tokens: float


MODELS = (
    ModelSpec(name="a", share=0.7, speed=1.0, output_tokens=120.0),
    ModelSpec(name="b", share=0.2, speed=0.7, output_tokens=120.0),
    ModelSpec(name="c", share=0.1, speed=1.5, output_tokens=120.0),
)
PROMPT_TOKENS = 300.0
PROMPT_SIGMA = 0.9
OUTPUT_SIGMA = 0.7
BURST = 3.0
BURST_GAP_S = 0.3


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One machine."""

    name: str
    decode_tps: float
    prefill_tps: float
    load_s: float
    room: int
    parallel: int = 1
    foreign: float = 0.0
    """Part of the node's offered load that others bring."""


def _node(name: str, tps: float, load_s: float, room: int, foreign: float = 0.0) -> NodeSpec:
    return NodeSpec(
        name=name,
        decode_tps=tps,
        prefill_tps=20 * tps,
        load_s=load_s,
        room=room,
        foreign=foreign,
    )


_MIXED = ((120.0, 4.0, 3), (60.0, 6.0, 2), (40.0, 8.0, 2), (20.0, 10.0, 2), (10.0, 15.0, 1),
          (5.0, 20.0, 1))  # fmt: skip
FLEETS = {
    "equal": tuple(_node(f"n{i}", 40.0, 10.0, 2) for i in range(4)),
    "mixed": tuple(_node(f"n{i}", *row) for i, row in enumerate(_MIXED)),
    "tight": tuple(_node(f"n{i}", 40.0, 10.0, 1) for i in range(4)),
    "one_fast": tuple(_node(f"n{i}", 120.0 if i == 0 else 10.0, 5.0, 3) for i in range(4)),
    "shared": tuple(_node(f"n{i}", *row, 0.3) for i, row in enumerate(_MIXED)),
}


class Job(msgspec.Struct, kw_only=True, eq=False):
    """One request with what only the simulation knows, and what happened to it."""

    id: int
    model: ModelSpec
    arrival_s: float
    prompt: float
    output: float
    is_foreign: bool = False
    sent_s: float = 0.0
    granted_s: float = 0.0
    """When the node gave it a runner."""
    prefilled_s: float = 0.0
    done_s: float = 0.0
    did_load: bool = False
    work_left: float = 0.0
    """Of the present phase, in seconds alone on the node."""
    occupancy_sum: float = 0.0
    moved: bool = False


class Clock:
    """Events in order of time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = count()

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Call `action` at a time."""
        heapq.heappush(self._events, (max(time_s, self.now_s), next(self._sequence), action))

    def run(self, is_done: Callable[[], bool]) -> None:
        """Let time pass until `is_done`, or nothing is left to happen."""
        while self._events and not is_done():
            self.now_s, _, action = heapq.heappop(self._events)
            action()


class Runner:
    """One model in a node's memory."""

    def __init__(self, model: ModelSpec) -> None:
        self.model = model
        self.is_ready = False
        self.active: list[Job] = []
        self.waiting: deque[Job] = deque()
        self.used_s = 0.0

    @property
    def is_idle(self) -> bool:
        """Nothing runs or waits on it."""
        return self.is_ready and not self.active and not self.waiting


class Node:
    """An Ollama: runners in memory, one load at a time, requests share the processor."""

    def __init__(self, spec: NodeSpec, clock: Clock) -> None:
        self.spec = spec
        self.runners: dict[str, Runner] = {}
        self.loads = 0
        self.on_first: Callable[[Node, Job], None] = lambda _node, _job: None
        self.on_done: Callable[[Node, Job], None] = lambda _node, _job: None
        self.on_residents: Callable[[Node], None] = lambda _node: None
        self._clock = clock
        self._pending: deque[Job] = deque()
        self._is_loading = False
        self._worked_s = 0.0
        self._version = 0

    def send(self, job: Job) -> None:
        """Take a request."""
        job.sent_s = self._clock.now_s
        self._pending.append(job)
        self._schedule()

    def withdraw(self, job: Job) -> bool:
        """Drop a request that waits inside the node."""
        for line in (self._pending, *(runner.waiting for runner in self.runners.values())):
            if job in line:
                line.remove(job)
                return True
        return False

    def active(self) -> list[Job]:
        """What runs now."""
        return [job for runner in self.runners.values() for job in runner.active]

    def _schedule(self) -> None:
        self._work()
        while self._pending and self._accept(self._pending[0]):
            self._pending.popleft()
        for runner in self.runners.values():
            while runner.is_ready and runner.waiting and len(runner.active) < self.spec.parallel:
                self._start(runner, runner.waiting.popleft())
        self._plan()

    def _accept(self, job: Job) -> bool:
        """Hand the head of the line to a runner; a missing one blocks those behind."""
        runner = self.runners.get(job.model.name)
        if runner is None:
            if self._is_loading or not self._make_room():
                return False
            runner = self._load(job)
        runner.waiting.append(job)
        return True

    def _make_room(self) -> bool:
        if len(self.runners) < self.spec.room:
            return True
        idle = [runner for runner in self.runners.values() if runner.is_idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda runner: runner.used_s)
        del self.runners[oldest.model.name]
        return True

    def _load(self, job: Job) -> Runner:
        runner = self.runners[job.model.name] = Runner(job.model)
        self._is_loading = True
        job.did_load = True
        self.loads += 1
        self._clock.at(
            self._clock.now_s + self.spec.load_s / job.model.speed, lambda: self._loaded(runner)
        )
        return runner

    def _loaded(self, runner: Runner) -> None:
        runner.is_ready = True
        runner.used_s = self._clock.now_s
        self._is_loading = False
        self.on_residents(self)
        self._schedule()

    def _start(self, runner: Runner, job: Job) -> None:
        job.granted_s = self._clock.now_s
        speed = self.spec.prefill_tps * job.model.speed
        job.work_left = OVERHEAD_S + job.prompt / speed
        runner.active.append(job)

    def _share(self, running: int) -> float:
        return 1.0 / running

    def _work(self) -> None:
        """Account for the time since the last change."""
        active = self.active()
        passed = self._clock.now_s - self._worked_s
        self._worked_s = self._clock.now_s
        for job in active:
            job.work_left -= passed * self._share(len(active))
            if job.prefilled_s:
                job.occupancy_sum += passed * len(active)

    def _plan(self) -> None:
        """Set the alarm for the next end of a phase."""
        self._version += 1
        version = self._version
        active = self.active()
        if not active:
            return
        left = max(0.0, min(job.work_left for job in active))
        self._clock.at(
            self._clock.now_s + left / self._share(len(active)), lambda: self._phase(version)
        )

    def _phase(self, version: int) -> None:
        if version != self._version:
            return
        self._work()
        finished: list[Job] = []
        begun: list[Job] = []
        for runner in self.runners.values():
            for job in [job for job in runner.active if job.work_left <= 1e-9]:
                if not job.prefilled_s:
                    job.prefilled_s = self._clock.now_s
                    job.work_left = job.output / (self.spec.decode_tps * job.model.speed)
                    begun.append(job)
                    continue
                job.done_s = runner.used_s = self._clock.now_s
                runner.active.remove(job)
                finished.append(job)
        self._schedule()
        for job in begun:
            self.on_first(self, job)
        for job in finished:
            self.on_done(self, job)


def capacity(spec: NodeSpec) -> float:
    """Requests per second of a node with every model loaded."""
    service = 0.0
    for model in MODELS:
        prefill = PROMPT_TOKENS / (spec.prefill_tps * model.speed)
        decode = model.output_tokens / (spec.decode_tps * model.speed)
        service += model.share * (OVERHEAD_S + prefill + decode)
    return 1.0 / service


def _log_normal(rng: random.Random, mean: float, sigma: float) -> float:
    return max(1.0, rng.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma))


def make_job(rng: random.Random, number: int, arrival_s: float, *, is_foreign: bool = False) -> Job:
    """Draw one request."""
    model = rng.choices(MODELS, [model.share for model in MODELS])[0]
    return Job(
        id=number,
        model=model,
        arrival_s=arrival_s,
        prompt=_log_normal(rng, PROMPT_TOKENS, PROMPT_SIGMA),
        output=_log_normal(rng, model.output_tokens, OUTPUT_SIGMA),
        is_foreign=is_foreign,
    )


def make_jobs(rng: random.Random, rate: float, number: int) -> list[Job]:
    """Draw requests that come in bursts."""
    jobs: list[Job] = []
    now_s = 0.0
    while len(jobs) < number:
        now_s += rng.expovariate(rate / BURST)
        at_s = now_s
        while len(jobs) < number:
            jobs.append(make_job(rng, len(jobs), at_s))
            at_s += rng.expovariate(1.0 / BURST_GAP_S)
            if rng.random() < 1.0 / BURST:
                break
    jobs.sort(key=lambda job: job.arrival_s)
    return jobs
