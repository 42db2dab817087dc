"""What finished attempts teach: rates, output lengths, slots, foreign load, residency.

Durations are taken only where they mean something: an engine's prompt duration leaves out cached
tokens that its count includes, a load duration includes waiting, and `/v1` streams carry neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.core.model import NodeKind, TaskKind
from sollold.core.rates import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.core.load import Load
    from sollold.core.model import Digest, Grant, NodeId, RequestId
    from sollold.core.rates import RateTable
    from sollold.core.slots import SlotTable
    from sollold.nodes.registry import Registry
    from sollold.routing.attempt import Attempt
    from sollold.routing.job import Job
    from sollold.routing.record import RequestRecord

_LESSON_EVERY_S = 0.05


class Learner:
    """Feeds the tables that decisions are made from."""

    def __init__(
        self,
        *,
        rates: RateTable,
        slots: SlotTable,
        load: Load,
        registry: Registry,
        clock: Callable[[], float],
    ) -> None:
        self._rates = rates
        self._slots = slots
        self._load = load
        self._registry = registry
        self._clock = clock
        self._occupancy: dict[RequestId, tuple[int, int]] = {}
        self._learned_s: dict[tuple[NodeId, Digest], float] = {}

    def is_due(self, attempt: Attempt) -> bool:
        """Whether there is anything new in an attempt that ended well. No await.

        Hundreds of small requests a second teach no more than the first few of them, and each
        lesson makes the next decision work out its costs anew.
        """
        grant = attempt.grant
        key = (grant.node, grant.runner.digest)
        now_s = self._clock()
        if not grant.is_load and now_s - self._learned_s.get(key, 0.0) < _LESSON_EVERY_S:
            return False
        self._learned_s[key] = now_s
        return True

    def was_alone(self, grant: Grant) -> bool:
        """Whether an attempt found its model loaded and the node free of our work. No await."""
        return not grant.is_load and self._occupancy.get(grant.decision.request, (1, 1))[0] == 1

    def count(self, record: RequestRecord, attempt: Attempt) -> None:
        """Note what the engine counted, for metrics and events. No await."""
        counters = attempt.ending().counters
        record.prompt_tokens = counters.prompt_tokens
        record.output_tokens = counters.output_tokens

    def forget(self, node: NodeId) -> None:
        """Take the next lesson of a node whenever it comes: it failed, or left. No await."""
        for key in [key for key in self._learned_s if key[0] == node]:
            del self._learned_s[key]

    def started(self, grant: Grant) -> None:
        """Note how many share the node and the runner with a new attempt. No await."""
        request = grant.decision.request
        running = self._load.count_on_runner(grant.node, grant.runner)
        self._occupancy[request] = (self._load.count(grant.node), running)
        self._slots.note_started(request, grant.node, grant.runner, running)

    def loaded(self, grant: Grant) -> None:
        """Note that a node has loaded a model for us. No await."""
        runner = grant.runner
        self._registry.note_resident(
            grant.node, grant.decision.model, runner.digest, runner.options
        )

    def first_token(self, attempt: Attempt) -> None:
        """Judge from a first token how many requests its runner can take at once. No await."""
        grant = attempt.grant
        known = self._occupancy.get(grant.decision.request)
        if known is None or grant.is_load or attempt.first_content_s is None:
            return
        self._slots.note_first(
            grant.decision.request,
            grant.node,
            grant.runner,
            attempt.first_content_s,
            started_with=known[1],
            first_with=self._load.count_on_runner(grant.node, grant.runner),
            expected_s=grant.expected_first_s,
            seen_s=attempt.first_content_s - attempt.started_s,
        )

    def ended(self, grant: Grant) -> None:
        """Forget an attempt. No await."""
        self._occupancy.pop(grant.decision.request, None)
        self._slots.note_ended(grant.decision.request, grant.node, grant.runner)

    def learn(self, job: Job, record: RequestRecord, attempt: Attempt) -> None:
        """Learn from an attempt that ended well. No await."""
        grant = attempt.grant
        now_s = self._clock()
        node, digest = grant.node, grant.runner.digest
        counters = attempt.ending().counters
        first_s = 0.0
        if attempt.first_content_s is not None and attempt.is_stream:
            first_s = attempt.first_content_s - attempt.started_s
            if grant.is_first_measured and self.was_alone(grant):
                self._rates.observe_first(node, grant.expected_first_s, first_s, now_s)
        if job.is_load and record.kind is not TaskKind.EMBED:
            return
        occupancy = self._occupancy.get(grant.decision.request, (1, 1))[0]
        view = self._registry.get(node)
        # Another's engine tells no durations: those of its replies are ours, its distance included.
        is_clocked_here = view is not None and view.kind is NodeKind.OPENAI
        is_output_told = attempt.is_stream or not is_clocked_here
        sample = Sample(
            kind=record.kind,
            prompt_tokens=counters.prompt_tokens or job.waiting.prompt_tokens,
            prompt_s=0.0 if is_clocked_here else counters.prompt_s or 0.0,
            output_tokens=counters.output_tokens or 0.0,
            output_s=(counters.output_s or 0.0) if is_output_told else 0.0,
            load_s=(counters.load_s or 0.0) if grant.is_load else 0.0,
            first_s=first_s,
            total_s=now_s - attempt.started_s,
            occupancy=occupancy,
            prefill_is_known=grant.is_load,
            is_load=grant.is_load,
            was_queued=occupancy > 1,
            frames=attempt.frames,
            text_bytes=job.text_bytes,
        )
        self._rates.observe(node, digest, sample, now_s)
