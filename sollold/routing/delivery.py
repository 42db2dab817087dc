"""The client's side of one run: how it gets its answer, and how that ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sollold.core.model import Reason
from sollold.errors import Draining
from sollold.routing.job import WholeAnswer
from sollold.routing.record import Outcome
from sollold.wire.watch import interrupt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sollold.routing.attempt import Attempt
    from sollold.routing.job import ClientReply
    from sollold.routing.record import RequestRecord
    from sollold.wire.routes import InferenceRoute


class Delivery:
    """Hands one committed reply to the client and records how that ended."""

    __slots__ = ("_record", "_reply", "_route")

    def __init__(self, route: InferenceRoute, record: RequestRecord, reply: ClientReply) -> None:
        self._route = route
        self._record = record
        self._reply = reply

    def open(self, attempt: Attempt) -> None:
        """Begin to pass a committed reply on: from now on its bytes go straight there. No await."""
        sink = attempt.sink = self._reply.sink()
        if attempt.held:
            sink(attempt.take_held())
        self._reply.start(attempt)

    def whole(self, attempt: Attempt) -> WholeAnswer:
        """Return a reply that goes out in one piece. No await."""
        body = attempt.take_held()
        self._record.bytes_out = len(body)
        self._record.outcome = Outcome.OK if attempt.status < 400 else Outcome.CALLER
        return WholeAnswer(attempt, body)

    async def finish(self, attempt: Attempt) -> None:
        """End a stream that said its last word."""
        self._record.bytes_out = attempt.bytes_in
        is_fine = attempt.ending().error is None
        self._record.outcome = Outcome.OK if is_fine else Outcome.INTERRUPTED
        await self._reply.finish()

    def interrupt(self, attempt: Attempt, why: str) -> None:
        """Tell the client that this is not the whole answer, in a way it cannot miss. No await."""
        self._record.bytes_out = attempt.bytes_in
        self._record.outcome = Outcome.INTERRUPTED
        frame = b""
        if attempt.is_stream:
            frame = interrupt(
                self._route,
                is_stream=True,
                at_line_boundary=attempt.ends_at_line_boundary,
                text=f"sollold: {why} (request {self._record.id})",
            )
        self._reply.interrupt(frame)

    def depart(self, live: Iterable[Attempt]) -> None:
        """Note that the client left, maybe with the whole answer, as some do. No await."""
        is_stalled = self._reply.is_unread
        self._record.outcome = Outcome.STALLED if is_stalled else Outcome.CANCELED
        for attempt in live:
            if attempt.sink is None:
                continue
            self._record.bytes_out = attempt.bytes_in
            if attempt.is_stream and attempt.ending().is_terminated:
                if not is_stalled:
                    self._record.outcome = Outcome.OK
                attempt.end_early()

    async def cut(self, live: Iterable[Attempt]) -> None:
        """End because the daemon stops, and say so where it can still be said.

        Raises:
            Draining: the client has got nothing yet, so this is its answer.
            CancelledError: all was said, only the client has yet to read it.
        """
        if self._record.outcome is Outcome.OK or self._record.outcome is Outcome.INTERRUPTED:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        committed = next((item for item in live if item.sink is not None), None)
        if committed is None:
            self._record.outcome = Outcome.REFUSED
            raise Draining
        if committed.is_stream and committed.ending().is_terminated:
            # Its last word is out; only the node lingers.
            committed.end_early()
            await self.finish(committed)
            return
        stop = Draining()
        self._record.reason = Reason(stop.code, stop.message)
        self.interrupt(committed, stop.message)
