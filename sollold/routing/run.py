"""One request from admission to its last byte: attempts, failover, commit.

A run is driven by the handler's own task, which sleeps until something happened: a grant, a reply
that is ready, a failure, a node found frozen. It decides with `sollold.core.outcome`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sollold.core.model import TaskKind
from sollold.core.outcome import Fault, Verdict, is_incapable
from sollold.routing.attempt import Attempt
from sollold.routing.delivery import Delivery
from sollold.routing.job import ClientReply, Job, WholeAnswer
from sollold.routing.judge import UNSUPPORTED, UNSUPPORTED_TEXT, judge, judge_error
from sollold.routing.loads import LoadWait
from sollold.routing.place import Place
from sollold.routing.record import Failure, Outcome, Phase
from sollold.routing.sending import begin
from sollold.routing.tried import Tried
from sollold.routing.vigil import Vigil
from sollold.upstream.exchange import Head
from sollold.wire.errors import error_body
from sollold.wire.refusal import has_error_text

if TYPE_CHECKING:
    from sollold.core.model import Grant
    from sollold.routing.dispatch import Dispatcher
    from sollold.upstream.exchange import Exchange


_BRIEF_BYTES = 64 * 1024
"""Longer whole answers leave as streams do: a client that takes none of them is noticed."""


def _is_brief(attempt: Attempt) -> bool:
    """Whether a reply may go out in one piece."""
    is_whole = attempt.is_over and not attempt.is_stream
    return is_whole and (attempt.held_bytes <= _BRIEF_BYTES or attempt.status >= 400)


class RequestRun:
    """Serves one job; `serve` is awaited once."""

    def __init__(self, job: Job, reply: ClientReply, dispatcher: Dispatcher) -> None:
        self.job = job
        self.record = job.record
        self._delivery = Delivery(job.route, job.record, reply)
        self._kit = dispatcher
        self._place = Place(job.waiting, dispatcher.admission, self.wake)
        self._live: list[Attempt] = []
        self._tried = Tried(job.waiting.excluded)
        self._has_recalled = False
        self._vigil: Vigil | None = None
        self._loads: LoadWait | None = None
        self._sleeper: asyncio.Future[None] | None = None

    async def serve(self) -> WholeAnswer | None:
        """Answer the job.

        Returns the whole answer for the caller to send, or None when it was streamed.

        Raises:
            SollolError: no node answered, or the daemon stops; nothing was sent to the client.
        """
        try:
            self._submit()
            while True:
                attempt = self._ready_attempt()
                if attempt is not None:
                    if attempt.sink is not None:
                        await self._stream(attempt)
                        return None
                    if self._weigh(attempt):
                        self._commit(attempt)
                        if _is_brief(attempt):
                            self._live.clear()
                            return self._delivery.whole(attempt)
                        self._open(attempt)
                elif (grant := self._place.take()) is not None:
                    await self._start(grant)
                elif self._live or self._place.is_queued or self._awaits_load():
                    await self._sleep()
                else:
                    return self._conclude()
        except asyncio.CancelledError:
            if not self._kit.is_cutting:
                self._delivery.depart(self._live)
                raise
            await self._delivery.cut(self._live)
            return None
        finally:
            self._close()

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a slot and has none."""
        return self._place.is_queued and not self._live

    @property
    def stream(self) -> Attempt | None:
        """The attempt whose stream goes to the client; None before it begins."""
        found = (item for item in self._live if item.sink is not None and item.is_stream)
        return next(found, None)

    @property
    def place(self) -> int | None:
        """1-based place in the queue; None when it is not in it."""
        return self._place.number

    def wake(self) -> None:
        """Let the run look at what changed. No await."""
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def _sleep(self) -> None:
        self._sleeper = self._kit.loop.create_future()
        try:
            await self._sleeper
        finally:
            self._sleeper = None

    # Admission ------------------------------------------------------------------------------

    def _submit(self) -> None:
        """Ask for a slot on a node that has not failed this request. No await."""
        place = self._place
        place.ask(
            self._tried.excluded,
            is_second=bool(self._live),
            may_hold=not self._tried.replies and not self._live,
        )
        if place.count == 1 and place.is_queued:
            self._kit.on_queued(self.record)

    # Attempts -------------------------------------------------------------------------------

    async def _start(self, grant: Grant) -> None:
        attempt = self._begin(grant)
        work = begin(attempt, self.job, self._kit, self._sent)
        if work is None:
            return
        if len(self._live) > 1:
            # The first attempt may answer while this one is still being connected.
            self._kit.spawn(work)
        else:
            await work

    def _sent(self, attempt: Attempt, exchange: Exchange) -> None:
        """Note that an attempt has its connection. No await."""
        attempt.exchange = exchange
        if attempt.is_over:
            return
        self.record.phase = Phase.READING
        if attempt.is_ready:
            exchange.pause()
        elif attempt.first_content_s is None:
            self._kit.first_bytes.add(attempt, self._overdue)

    def _begin(self, grant: Grant) -> Attempt:
        """Note an attempt that is about to be sent. No await."""
        kit, record = self._kit, self.record
        attempt = Attempt(
            grant, self.job.route, self, clock=kit.clock, hold_bytes=kit.settings.hold_bytes
        )
        self._live.append(attempt)
        record.attempts += 1
        record.node = grant.node
        record.decision = grant.decision
        record.phase = Phase.CONNECTING
        if record.granted_s is None:
            record.granted_s = attempt.started_s
        kit.on_granted(record, attempt)
        return attempt

    def first_byte(self, attempt: Attempt) -> None:
        """Note that the engine has begun to answer. No await."""
        self._kit.on_first_byte(attempt)
        self._forget(attempt)
        if attempt.is_detached:
            attempt.drop()
            return
        if not attempt.is_stream:
            self._kit.first_bytes.add(attempt, self._unfinished)
        is_embed = self.record.kind is TaskKind.EMBED
        self.record.phase = Phase.EMBEDDING if is_embed else Phase.GENERATING

    def ready(self, attempt: Attempt) -> None:
        """Commit a stream at once if nothing stands against it, else look at it soon. No await.

        The first token does not wait for the run's task to get its turn.
        """
        is_alone = self._live == [attempt] and not self._place.is_hopeful
        if is_alone and self._sleeper is not None and attempt.has_content and attempt.is_stream:
            self._commit(attempt)
            self._open(attempt)
            return
        if attempt.exchange is not None:
            attempt.exchange.pause()
        self.wake()

    def settled(self, attempt: Attempt) -> None:
        """Free the slot and learn: the node is done with the message. No await."""
        self._forget(attempt)
        self._kit.settle(self, attempt)

    def _overdue(self, attempt: Attempt) -> None:
        self._watcher().overdue(attempt)

    def _unfinished(self, attempt: Attempt) -> None:
        """Watch a whole answer that has begun and does not come to its end. No await."""
        self._watcher().await_progress(attempt)

    def _watcher(self) -> Vigil:
        """Return the run's vigil, made when first needed: most runs never do."""
        if self._vigil is None:
            self._vigil = Vigil(self, self._kit)
        return self._vigil

    def _forget(self, attempt: Attempt) -> None:
        """Watch an attempt no longer. No await."""
        self._kit.first_bytes.forget(attempt)
        if self._vigil is not None:
            self._vigil.forget(attempt)

    def _ready_attempt(self) -> Attempt | None:
        for attempt in self._live:
            if attempt.is_ready or attempt.is_over:
                return attempt
        return None

    # Judging --------------------------------------------------------------------------------

    def _weigh(self, attempt: Attempt) -> bool:
        """Return whether the reply may be committed; else the attempt is given up. No await."""
        if attempt.error is not None:
            self._give_up(attempt, judge_error(attempt), attempt.error.message)
            return False
        is_ollama = self._kit.admission.is_ollama(attempt.grant.node)
        verdict, text, reason = judge(attempt, is_ollama=is_ollama)
        if verdict.fault is Fault.CLIENT and self._may_be_done_elsewhere(attempt, text):
            verdict, reason = UNSUPPORTED, UNSUPPORTED_TEXT
        if verdict.fault in (Fault.NONE, Fault.CLIENT):
            return True
        if self._tried.is_second_opinion(attempt, text):
            for other, _ in self._tried.take_suspects():
                self._kit.acquit(other)
            return True
        self._tried.note_reply(attempt, verdict, text, reason)
        self._give_up(attempt, verdict, reason)
        return False

    def _may_be_done_elsewhere(self, attempt: Attempt, text: str) -> bool:
        """Whether an engine lacks a capability that another kind of engine may have. No await."""
        if not attempt.is_over or not is_incapable(attempt.status, text):
            return False
        # One that is loading is waited for.
        left = self._tried.excluded - self._tried.loading
        waiting, node = self._place.waiting, attempt.grant.node
        return self._kit.admission.has_other_kind(waiting, node, left)

    def _give_up(self, attempt: Attempt, verdict: Verdict, text: str) -> None:
        """Drop an attempt that failed before commit and ask for another node. No await."""
        node = attempt.grant.node
        self._live.remove(attempt)
        attempt.drop()
        self.record.failures.append(
            Failure(node, verdict.code, text, is_nodes=not verdict.is_unfit)
        )
        if not self._tried.note_failure(attempt, verdict, text):
            self._kit.blame(attempt, verdict, text)
        if verdict.fault is Fault.ENGINE:
            self._tried.excluded |= self._kit.admission.alike(node)
        if self._is_being_served():
            return
        if verdict.may_retry and self._tried.reached < self._kit.settings.attempts:
            self._kit.on_failover(self.record, node, text)
            self._submit()

    def _is_being_served(self) -> bool:
        """Whether anything but a frozen attempt may still bring an answer. No await."""
        is_hopeful = any(attempt not in self._tried.frozen for attempt in self._live)
        return is_hopeful or self._place.is_hopeful

    def _awaits_load(self) -> bool:
        """Whether nobody else is left to ask, and a node may have it loaded soon. No await."""
        if not self._tried.loading:
            return False
        if self._loads is None:
            self._loads = LoadWait(self._kit, self.job.waiting.deadline_s, self._ask_again)
        return self._loads.goes_on(self._tried.loading)

    def _ask_again(self) -> None:
        """Ask for a slot on the nodes that were loading. No await."""
        self._tried.pardon_loading()
        self._submit()
        self.wake()

    def _conclude(self) -> WholeAnswer:
        """Nobody is left to ask: forward a node's own reply, or say what happened. No await."""
        self._accuse()
        self.record.outcome = Outcome.FAILED
        attempt = self._tried.last_reply()
        if attempt is None:
            refusal = self._place.refusal
            error = self._tried.last_error(refusal)
            if error is refusal:
                self.record.outcome = Outcome.REFUSED
            raise error
        self.record.node = attempt.grant.node
        self.record.status = attempt.status
        if self._tried.is_about_request(attempt):
            self.record.outcome = Outcome.CALLER
        body = attempt.take_held()
        if attempt in self._tried.denied and not has_error_text(body):
            # A front end's page is no answer in any dialect.
            text = f"{attempt.grant.node} answered {attempt.status}"
            body, content_type = error_body(self.job.route.dialect, attempt.status, text)
            attempt.head = Head(attempt.status, [(b"Content-Type", content_type.encode())])
        return WholeAnswer(attempt, body)

    def _accuse(self) -> None:
        """Count server errors against their nodes: no second node gave the same answer."""
        for attempt, text in self._tried.take_suspects():
            self._kit.blame_engine(attempt, text)

    # Commit ---------------------------------------------------------------------------------

    def _commit(self, attempt: Attempt) -> None:
        """Choose a reply: from now on it is the client's answer. No await."""
        self._live.remove(attempt)
        for other in self._live:
            other.drop()
        self._live = [attempt]
        if self._tried.suspects:
            self._accuse()
        self._place.leave()
        record = self.record
        record.node = attempt.grant.node
        record.status = attempt.status
        record.first_content_s = attempt.first_content_s
        if attempt.status >= 400:
            self._kit.acquit(attempt)

    def _open(self, attempt: Attempt) -> None:
        """Begin to pass a committed reply on. No await."""
        self._delivery.open(attempt)
        if not attempt.is_over:
            self._watcher().await_progress(attempt)

    async def _stream(self, attempt: Attempt) -> None:
        while not attempt.is_over:
            await self._sleep()
        self._live.clear()
        ending = attempt.ending()
        if attempt.error is not None:
            self._kit.blame(attempt, judge_error(attempt), attempt.error.message)
        elif not attempt.is_stream or ending.is_terminated or ending.error is not None:
            await self._delivery.finish(attempt)
            return
        why = "the answer ended early" if attempt.error is None else attempt.error.message
        self.record.failures.append(Failure(attempt.grant.node, "interrupted", why))
        self._delivery.interrupt(attempt, f"{attempt.grant.node}: {why}")

    # Called by the vigil --------------------------------------------------------------------

    def leave_frozen(self, attempt: Attempt) -> bool:
        """Ask a second node, once, and keep the first attempt: it may yet answer.

        Returns False when nothing else can bring an answer any more.
        """
        tried = self._tried
        if attempt not in tried.frozen:
            is_first = not tried.frozen
            node = attempt.grant.node
            text = f"{node} does not answer its probes"
            tried.leave(attempt)
            tried.frozen.add(attempt)
            self.record.failures.append(Failure(node, "frozen", text))
            may_ask = is_first and tried.reached < self._kit.settings.attempts
            if may_ask and not self._is_being_served():
                self._kit.on_failover(self.record, node, text)
                self._submit()
        return self._is_being_served()

    def recall(self, attempt: Attempt) -> bool:
        """Take a request back from a node that others keep busy, once, if another is sooner.

        Only a streamed one: the first byte of a whole answer is its end.
        """
        if (
            self._has_recalled
            or self._tried.frozen
            or not self.record.is_stream
            or len(self._live) > 1
            or self._place.is_hopeful
            or self._tried.reached + 1 >= self._kit.settings.attempts
            or not self._kit.should_recall(attempt, self._place.waiting)
        ):
            return False
        self._has_recalled = True
        self._tried.leave(attempt)
        node = attempt.grant.node
        text = "overdue there, and another node is sooner"
        self._live.remove(attempt)
        attempt.drop()
        self.record.failures.append(Failure(node, "recalled", text))
        self._kit.on_failover(self.record, node, text)
        self._submit()
        self.wake()
        return True

    # End ------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Leave nothing behind: queue place, slots, connections, timers. No await."""
        if self._vigil is not None:
            self._vigil.close()
        if self._loads is not None:
            self._loads.close()
        self._place.close()
        for attempt in self._live:
            if not attempt.is_over and self._kit.may_detach(attempt):
                self._forget(attempt)
                self._kit.detach(attempt)
            else:
                attempt.drop()
        self._live.clear()
