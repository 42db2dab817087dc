"""The dispatcher: what every run shares, and the list of runs under way.

Owns detached loads and the tasks that investigate silent nodes. Tells others what happened through
the callbacks of `Reporter`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from sollold.core.estimate import fits
from sollold.core.model import Reason
from sollold.errors import CapacityError, SollolError
from sollold.routing.judge import engine_failure
from sollold.routing.record import Outcome, Phase
from sollold.routing.run import RequestRun
from sollold.routing.vigil import FirstBytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from sollold.core.model import Grant, NodeId, RequestId, WaitingRequest
    from sollold.core.outcome import Verdict
    from sollold.routing.admission import Admission
    from sollold.routing.attempt import Attempt
    from sollold.routing.blame import Blame
    from sollold.routing.job import ClientReply, Job, WholeAnswer
    from sollold.routing.learning import Learner
    from sollold.routing.plain import PlainForwarder
    from sollold.routing.pools import Pools
    from sollold.routing.record import RequestRecord
    from sollold.upstream.wheel import Timer, TimerWheel
    from sollold.wire.translate.seam import Call, Steps

_MAX_DETACHED = 64

_log = logging.getLogger(__name__)


def _nowhere(_node: NodeId, _call: Call | None) -> bytes | None:
    return None


def _no_steps(_node: NodeId) -> Steps | None:
    return None


class DispatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of attempts; see `[failover]`, `[loads]` and `[limits]` in the configuration."""

    attempts: int
    overdue_s: float
    frozen_idle_s: float
    progress_s: float
    hold_bytes: int
    detach_loads: bool
    load_limit_s: float


class Reporter(Protocol):
    """Hears what happens to requests; must not raise or wait."""

    def queued(self, record: RequestRecord) -> None:
        """Hear that a request waits for a slot."""

    def granted(self, record: RequestRecord, grant: Grant) -> None:
        """Hear that a request got a slot."""

    def failed_over(self, record: RequestRecord, node: NodeId, text: str) -> None:
        """Hear that an attempt was given up and another node is asked."""

    def done(self, record: RequestRecord) -> None:
        """Hear that a request ended."""


class Dispatcher:
    """Runs jobs."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        admission: Admission,
        pools: Pools,
        plain: PlainForwarder,
        learner: Learner,
        blame: Blame,
        reporter: Reporter,
        is_frozen: Callable[[NodeId], Awaitable[bool]],
        settings: DispatchSettings,
    ) -> None:
        self.loop = loop
        self.clock = time.monotonic
        self.wheel = wheel
        self.admission = admission
        self.pools = pools
        self.plain = plain
        self.settings = settings
        self.is_frozen = is_frozen
        self.first_bytes = FirstBytes(wheel, self.clock, overdue_s=settings.overdue_s)
        self._learner = learner
        self._blame = blame
        self._reporter = reporter
        self._runs: dict[RequestId, RequestRun] = {}
        self._detached: dict[Attempt, Timer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_cutting = False

    def set_settings(self, settings: DispatchSettings) -> None:
        """Replace the limits; attempts under way look at them anew. No await."""
        self.settings = settings
        self.first_bytes.set_overdue(settings.overdue_s)
        self.plain.set_overdue(settings.overdue_s)

    @property
    def runs(self) -> Iterable[RequestRun]:
        """Requests under way, oldest first."""
        return self._runs.values()

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused because the daemon stops."""
        return self.admission.is_draining

    @property
    def detached_count(self) -> int:
        """Loads that go on although their client left."""
        return len(self._detached)

    async def serve(self, job: Job, reply: ClientReply) -> WholeAnswer | None:
        """Answer a job; see `RequestRun.serve`."""
        record = job.record
        run = RequestRun(job, reply, self)
        self._runs[record.id] = run
        self._idle.clear()
        try:
            return await run.serve()
        except SollolError as error:
            if record.outcome is None:
                record.outcome = Outcome.FAILED
            if not record.status:
                record.status = error.http_status
            if isinstance(error, CapacityError):
                record.reason = Reason(error.code, error.message)
            raise
        finally:
            # What made the request is of no use any more, and large.
            job.body = b""
            job.head_for = _nowhere
            job.steps_for = _no_steps
            del self._runs[record.id]
            if not self._runs:
                self._idle.set()
            record.phase = Phase.DONE
            record.ended_s = self.clock()
            self._reporter.done(record)

    async def drain(self, limit_s: float) -> bool:
        """Refuse new requests and wait for those under way; True when all ended in time."""
        self.admission.drain()
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def cut(self) -> None:
        """Let runs that are cancelled from now on tell their clients that the daemon stops."""
        self.is_cutting = True

    def close(self) -> None:
        """Let go of detached loads and investigations. No await."""
        for attempt in list(self._detached):
            attempt.drop()
        for task in self._tasks:
            task.cancel()

    # For runs -------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run an investigation beside the run that asked for it. No await."""
        task = self.loop.create_task(work, name="investigate")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def on_queued(self, record: RequestRecord) -> None:
        """Report a request that waits. No await."""
        self._reporter.queued(record)

    def on_granted(self, record: RequestRecord, attempt: Attempt) -> None:
        """Report a grant. No await."""
        attempt.trial = self._blame.take_trial(attempt.grant.node)
        self._learner.started(attempt.grant)
        self._reporter.granted(record, attempt.grant)

    def on_first_byte(self, attempt: Attempt) -> None:
        """Note that an engine has begun to answer. No await."""
        self.admission.note_first_byte(attempt.grant.decision.request)
        if attempt.status != 200:
            return
        if attempt.grant.is_load:
            self._learner.loaded(attempt.grant)
        if attempt.is_stream:
            self._learner.first_token(attempt)

    def on_failover(self, record: RequestRecord, node: NodeId, text: str) -> None:
        """Report a change of node. No await."""
        self._reporter.failed_over(record, node, text)

    def blame(self, attempt: Attempt, verdict: Verdict, text: str) -> None:
        """Count a failed attempt. No await."""
        self._learner.forget(attempt.grant.node)
        self._blame.verdict(attempt.grant.node, verdict, text, attempt.trial)

    def acquit(self, attempt: Attempt) -> None:
        """End a trial whose outcome was the caller's fault. No await."""
        self._blame.no_verdict(attempt.grant.node, attempt.trial)

    def blame_engine(self, attempt: Attempt, text: str) -> None:
        """Count a server error. No await."""
        self._learner.forget(attempt.grant.node)
        self._blame.engine(attempt.grant.node, text, attempt.trial)

    def settle(self, run: RequestRun, attempt: Attempt) -> None:
        """Free the attempt's slot and learn from it. No await."""
        timer = self._detached.pop(attempt, None)
        if timer is not None:
            timer.cancel()
        grant = attempt.grant
        try:
            is_fine = attempt.error is None and not attempt.is_dropped and attempt.status == 200
            if is_fine and attempt.exchange is not None:
                self._succeeded(run, attempt)
            elif is_fine or attempt.is_dropped:
                # A node that was not asked has proved nothing.
                self._blame.no_verdict(grant.node, attempt.trial)
        except Exception:
            # Whatever could not be learned, the slot must go on to the next request.
            _log.exception("could not learn from an attempt on %s", grant.node)
        finally:
            self._learner.ended(grant)
            self.admission.release(grant.decision.request)

    def _succeeded(self, run: RequestRun, attempt: Attempt) -> None:
        ending = attempt.ending()
        error = ending.error
        if error is None and not ending.is_terminated and attempt.sink is None:
            # The run has yet to say what an answer that is not whole is worth.
            return
        if error is not None:
            if attempt.sink is not None:
                self._blame.engine(attempt.grant.node, engine_failure(error), attempt.trial)
            return
        first_s = None
        if (
            attempt.is_stream
            and attempt.first_content_s is not None
            and self._learner.was_alone(attempt.grant)
        ):
            first_s = attempt.first_content_s - attempt.started_s
        self._learner.count(run.record, attempt)
        if attempt.trial is not None or self._learner.is_due(attempt):
            self._blame.success(attempt.grant.node, first_s, attempt.trial)
            self._learner.learn(run.job, run.record, attempt)

    def should_recall(self, attempt: Attempt, waiting: WaitingRequest) -> bool:
        """Whether an overdue request, alone on its node, would be sooner elsewhere."""
        load = self.admission.load
        mine = load.get(attempt.grant.decision.request)
        if mine is None or load.count(mine.node) > 1:
            return False
        return self.admission.recall_target(mine, waiting) is not None

    def fleet_changed(self) -> None:
        """Let go of detached loads that a node's own list shows to be done. No await."""
        for attempt in list(self._detached):
            if self._is_loaded(attempt.grant):
                attempt.drop()

    def _is_loaded(self, grant: Grant) -> bool:
        view, runner = self.admission.view(grant.node), grant.runner
        return view is not None and any(
            resident.digest == runner.digest and fits(resident, runner.options)
            for resident in view.residents
        )

    def may_detach(self, attempt: Attempt) -> bool:
        """Whether the node is loading the model for this attempt and may go on doing so."""
        return (
            self.settings.detach_loads
            and attempt.grant.is_load
            and attempt.first_content_s is None
            and attempt.exchange is not None
            and attempt.exchange.is_sent
            and not self._is_loaded(attempt.grant)
            and len(self._detached) < _MAX_DETACHED
        )

    def detach(self, attempt: Attempt) -> None:
        """Keep a load going without its client, until its first byte or the limit. No await."""
        attempt.is_detached = True
        attempt.held = []
        exchange = attempt.exchange
        if exchange is not None:
            # The body's memory is given back: it cannot be sent a second time.
            exchange.request = exchange.request._replace(body=b"", is_replayable=False)
        self._blame.look_soon(attempt.grant.node)
        self._detached[attempt] = self.wheel.after(self.settings.load_limit_s, attempt.drop)
