"""Ways to choose a node in the simulated house: everybody's, ours, and a knowing yardstick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sollold.core.assign import (
    DEFAULT_POLICY,
    AssignPolicy,
    NodeTable,
    assign,
    recall_due_s,
    recall_target,
)
from sollold.core.load import Load
from sollold.core.model import (
    Digest,
    Fleet,
    ModelKey,
    ModelView,
    NodeId,
    NodeKind,
    NodeState,
    NodeView,
    RequestId,
    ResidentView,
    TaskKind,
    WaitingRequest,
)
from sollold.core.queue import Queue
from sollold.core.rates import RateTable, Sample
from sollold.core.slots import SlotTable
from tests.bench.routing.world import MODELS, OVERHEAD_S, PROMPT_TOKENS, Clock, Job, Node

if TYPE_CHECKING:
    import random

    from sollold.core.model import Grant


class Policy(Protocol):
    """Gets every request of ours and every change of a node."""

    def submit(self, job: Job) -> None: ...
    def first(self, node: Node, job: Job) -> None: ...
    def done(self, node: Node, job: Job) -> None: ...
    def residents(self, node: Node) -> None: ...


class LeastConnections:
    """Bound on arrival to the node with the fewest requests of ours."""

    def __init__(self, nodes: list[Node], _clock: Clock, rng: random.Random) -> None:
        self._nodes = nodes
        self._rng = rng
        self._count = {node.spec.name: 0 for node in nodes}

    def submit(self, job: Job) -> None:
        """Send it at once."""
        node = min(self._nodes, key=lambda n: (self._count[n.spec.name], self._rng.random()))
        self._count[node.spec.name] += 1
        node.send(job)

    def first(self, node: Node, job: Job) -> None:
        """Ignore."""

    def done(self, node: Node, job: Job) -> None:
        """Count."""
        self._count[node.spec.name] -= 1

    def residents(self, node: Node) -> None:
        """Ignore."""


class Knowing:
    """The yardstick: late binding by the true rates, a swap costs its load once more."""

    def __init__(self, nodes: list[Node], clock: Clock, _rng: random.Random) -> None:
        self._nodes = nodes
        self._clock = clock
        self._queue: list[Job] = []
        self._running: dict[str, tuple[Job, float]] = {}
        self._is_timed = False

    def submit(self, job: Job) -> None:
        """Let it wait."""
        self._queue.append(job)
        self._pump()

    def first(self, node: Node, job: Job) -> None:
        """Ignore."""

    def done(self, node: Node, job: Job) -> None:
        """Free the node."""
        del self._running[node.spec.name]
        self._pump()

    def residents(self, node: Node) -> None:
        """Ignore."""

    def _pump(self) -> None:
        now_s = self._clock.now_s
        promised: dict[str, float] = {}
        loaded = {node.spec.name: list(node.runners) for node in self._nodes}
        for job in list(self._queue):
            best, best_cost, best_service = None, float("inf"), 0.0
            for node in self._nodes:
                name = node.spec.name
                wait = promised.get(name, 0.0)
                if name in self._running:
                    running, expected = self._running[name]
                    elapsed = now_s - running.sent_s
                    wait += max(expected - elapsed, 0.25 * expected, 0.5 * elapsed)
                service, swap = self._service(node, job, loaded[name])
                if wait + service + swap < best_cost:
                    best, best_cost, best_service = node, wait + service + swap, service
            assert best is not None
            name = best.spec.name
            if job.model.name not in loaded[name]:
                loaded[name] = [*loaded[name], job.model.name][-best.spec.room :]
            if name in self._running or name in promised:
                promised[name] = promised.get(name, 0.0) + best_service
                continue
            self._queue.remove(job)
            self._running[name] = (job, best_service)
            best.send(job)
        if self._queue and not self._is_timed:
            self._is_timed = True
            self._clock.at(now_s + 0.5, self._again)

    def _again(self) -> None:
        self._is_timed = False
        self._pump()

    def _service(self, node: Node, job: Job, loaded: list[str]) -> tuple[float, float]:
        speed = job.model.speed
        prefill = OVERHEAD_S + job.prompt / (node.spec.prefill_tps * speed)
        decode = job.model.output_tokens / (node.spec.decode_tps * speed)
        if job.model.name in loaded:
            return prefill + decode, 0.0
        load = node.spec.load_s / speed
        swap = load if len(loaded) >= node.spec.room else 0.0
        return load + prefill + decode, swap


class Late:
    """The product's own code: queue, assign, rates, slots."""

    is_knowing = False

    def __init__(
        self,
        nodes: list[Node],
        clock: Clock,
        rng: random.Random,
        *,
        policy: AssignPolicy = DEFAULT_POLICY,
        is_stream: bool = True,
    ) -> None:
        self.rates = RateTable()
        self.slots = SlotTable()
        self.recalls = 0
        self.trials = 0
        self._nodes = {NodeId(node.spec.name): node for node in nodes}
        self._clock = clock
        self._rng = rng
        self._policy = policy
        self._is_stream = is_stream
        self._table = NodeTable(self.rates, self.slots)
        self._queue = Queue(limit=10**9)
        self._load = Load()
        self._jobs: dict[RequestId, Job] = {}
        self._waiting: dict[RequestId, WaitingRequest] = {}
        self._grants: dict[RequestId, Grant] = {}
        self._started_with: dict[RequestId, tuple[int, int]] = {}
        self._views = {name: self._view(node) for name, node in self._nodes.items()}
        self._generation = 0
        self._alarm_s = float("inf")
        self._publish()
        if self.is_knowing:
            self._tell()

    def submit(self, job: Job) -> None:
        """Let it wait."""
        now_s = self._clock.now_s
        request = WaitingRequest(
            id=RequestId(f"r-{job.id}"),
            model=ModelKey(job.model.name),
            digest=Digest(job.model.name),
            kind=TaskKind.CHAT,
            is_stream=self._is_stream,
            arrival_s=job.arrival_s,
            prompt_tokens=job.prompt,
            output_tokens=self.rates.expected_output(
                Digest(job.model.name), TaskKind.CHAT, None, now_s
            ),
        )
        self._jobs[request.id] = job
        self._waiting[request.id] = request
        self._queue.push(request)
        self._pump()

    def first(self, node: Node, job: Job) -> None:
        """Learn from the first token."""
        now_s = self._clock.now_s
        request = RequestId(f"r-{job.id}")
        grant = self._grants[request]
        self._load.note_first(request)
        seen_s = now_s - job.sent_s
        measured = self.rates.lookup(grant.node, grant.runner.digest, now_s).is_measured
        others, on_runner = self._started_with[request]
        if measured and not grant.is_load and not job.did_load:
            self.slots.note_first(
                request,
                grant.node,
                grant.runner,
                now_s,
                started_with=on_runner,
                first_with=len(self._load.on_runner(grant.node, grant.runner)),
                expected_s=grant.expected_first_s,
                seen_s=seen_s,
            )
        if measured and others == 1:
            self.rates.observe_first(grant.node, grant.expected_first_s, seen_s, now_s)

    def done(self, node: Node, job: Job) -> None:
        """Learn from the whole answer and free the slot."""
        now_s = self._clock.now_s
        request = RequestId(f"r-{job.id}")
        grant = self._grants.pop(request)
        self._load.remove(request, now_s)
        others, _ = self._started_with.pop(request)
        self.slots.note_ended(request, grant.node, grant.runner)
        del self._waiting[request]
        decode_s = job.done_s - job.prefilled_s
        sample = Sample(
            kind=TaskKind.CHAT,
            prompt_tokens=job.prompt,
            prompt_s=job.prefilled_s - job.granted_s - OVERHEAD_S,
            output_tokens=job.output,
            output_s=decode_s,
            load_s=job.granted_s - job.sent_s,
            first_s=job.prefilled_s - job.sent_s,
            total_s=job.done_s - job.sent_s,
            occupancy=max(others, 1),
            prefill_is_known=True,
            is_load=job.did_load,
            was_queued=others > 1,
        )
        self.rates.observe(grant.node, grant.runner.digest, sample, now_s)
        self._pump()

    def residents(self, node: Node) -> None:
        """Publish what is in memory."""
        name = NodeId(node.spec.name)
        self._views[name] = self._view(node)
        self._publish()

    def _pump(self) -> None:
        now_s = self._clock.now_s
        while True:
            result = assign(
                self._queue.head(),
                self._table,
                self._load,
                now_s,
                policy=self._policy,
                dice=self._rng.random(),
            )
            for grant in result.grants:
                self._queue.remove(grant.request)
                self._start(grant)
            tried = [
                self.slots.note_waiting(one.node, one.runner, NodeKind.OLLAMA, None, now_s)
                for one in result.reservations
                if one.runner is not None
            ]
            self.trials += sum(tried)
            if not any(tried):
                break
        wakeup_s = result.next_wakeup_s
        if wakeup_s is not None and (wakeup_s < self._alarm_s or self._alarm_s <= now_s):
            self._alarm_s = wakeup_s
            self._clock.at(wakeup_s, self._pump)

    def _start(self, grant: Grant) -> None:
        job = self._jobs[grant.request]
        running = self._load.start(grant, "", self._clock.now_s)
        self._grants[grant.request] = grant
        self._started_with[grant.request] = (
            self._load.count(grant.node),
            len(self._load.on_runner(grant.node, grant.runner)),
        )
        self.slots.note_started(
            grant.request, grant.node, grant.runner, self._started_with[grant.request][1]
        )
        due_s = recall_due_s(running)
        if due_s is not None and not job.moved:
            self._clock.at(due_s + 0.001, lambda: self._recall(grant))
        self._nodes[grant.node].send(job)

    def _recall(self, grant: Grant) -> None:
        running = self._load.get(grant.request)
        job = self._jobs[grant.request]
        if running is None or running.node != grant.node or job.prefilled_s or job.moved:
            return
        request = self._waiting[grant.request]
        now_s = self._clock.now_s
        target = recall_target(
            running, request, self._table, self._load, now_s, policy=self._policy
        )
        if target is None:
            if now_s < running.started_s + 60.0:
                self._clock.at(now_s + 1.0, lambda: self._recall(grant))
            return
        if self._nodes[grant.node].withdraw(job):
            job.moved = True
            self.recalls += 1
            self.rates.observe_first(grant.node, grant.expected_first_s, now_s - job.sent_s, now_s)
            self._load.remove(grant.request, now_s)
            self.slots.note_ended(grant.request, grant.node, grant.runner)
            request.excluded = frozenset({grant.node})
            self._queue.push(request, is_returning=True)
            self._pump()

    def _view(self, node: Node) -> NodeView:
        models = {
            ModelKey(model.name): ModelView(
                key=ModelKey(model.name),
                name=model.name,
                digest=Digest(model.name),
                size_bytes=1,
                modified_at="",
            )
            for model in MODELS
        }
        residents = tuple(
            ResidentView(
                key=ModelKey(name),
                digest=Digest(name),
                context_length=4096,
                expires_at=f"{runner.used_s:012.3f}",
                size_bytes=1,
                size_vram_bytes=1,
                options=(),
            )
            for name, runner in node.runners.items()
            if runner.is_ready
        )
        return NodeView(
            id=NodeId(node.spec.name),
            kind=NodeKind.OLLAMA,
            url="",
            host="",
            port=0,
            state=NodeState.UP,
            reason=None,
            since_s=0.0,
            found_by=(),
            is_routable=True,
            models=models,
            residents=residents,
            resident_room=node.spec.room,
            probe_ms=1.0,
        )

    def _publish(self) -> None:
        self._generation += 1
        self._table.update(Fleet(self._generation, tuple(self._views.values())))

    def _tell(self) -> None:
        for name, node in self._nodes.items():
            for model in MODELS:
                sample = Sample(
                    kind=TaskKind.CHAT,
                    prompt_tokens=PROMPT_TOKENS,
                    prompt_s=PROMPT_TOKENS / (node.spec.prefill_tps * model.speed),
                    output_tokens=model.output_tokens,
                    output_s=model.output_tokens / (node.spec.decode_tps * model.speed),
                    load_s=node.spec.load_s / model.speed,
                    total_s=node.spec.load_s / model.speed
                    + PROMPT_TOKENS / (node.spec.prefill_tps * model.speed)
                    + model.output_tokens / (node.spec.decode_tps * model.speed)
                    + OVERHEAD_S,
                    is_load=True,
                    prefill_is_known=True,
                )
                for _ in range(9):
                    self.rates.observe(name, Digest(model.name), sample, 0.0)


class LateKnowing(Late):
    """The product's own code, told the true rates first; shows what learning costs."""

    is_knowing = True
