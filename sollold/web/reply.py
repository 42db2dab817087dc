"""Turns a node's reply into the client's: headers, whole answers, streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from sollold.routing.record import Outcome
from sollold.web.caller import queried
from sollold.web.client_stream import ClientStream
from sollold.web.context import CONTEXT
from sollold.wire.headers import reply_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.routing.attempt import Attempt
    from sollold.routing.job import WholeAnswer
    from sollold.routing.record import RequestRecord
    from sollold.upstream.exchange import Head
    from sollold.upstream.sockets import Tuner
    from sollold.upstream.wheel import TimerWheel
    from sollold.web.context import Context
    from sollold.wire.routing_note import RoutingNote


def merged_headers(head: Head, context: Context) -> list[tuple[str, str]]:
    """Return a node's headers with ours in their place."""
    ours = {name.lower() for name, _ in context.headers}
    headers = [pair for pair in reply_headers(head.headers) if pair[0].lower() not in ours]
    return headers + context.headers


def routing_headers(record: RequestRecord) -> list[tuple[str, str]]:
    """Return the headers that tell where a request went and why."""
    headers = [
        ("X-Sollold-Attempts", str(record.attempts)),
        ("X-Sollold-Queue-Ms", str(round(record.queue_s * 1000))),
    ]
    if record.node is not None:
        headers.append(("X-Sollold-Node", record.node))
    if record.decision is not None:
        headers.append(("X-Sollold-Reason", record.decision.reason))
    return headers


def routing_note(record: RequestRecord, clock: Callable[[], float]) -> bytes:
    """Return the seeds' routing object."""
    decision = record.decision
    costs = () if decision is None else decision.candidates
    chosen = next((item for item in costs if item.node == record.node), None)
    return msgspec.json.encode(
        {
            "host": record.node,
            "task_type": record.kind.value,
            "request_id": record.id,
            "attempts": record.attempts,
            "queue_ms": round(record.queue_s * 1000, 3),
            "reason": None if decision is None else decision.reason,
            "decision_cost_s": None if chosen is None else round(chosen.cost_s, 3),
            "actual_duration_ms": round((clock() - record.received_s) * 1000, 3),
        }
    )


def wants_note(request: web.Request, *, is_default: bool) -> bool:
    """Whether the caller, or the configuration, asks for routing data in the body."""
    asked = request.headers.get("X-Sollold-Routing")
    if asked is not None:
        return asked.strip().lower() == "body"
    return is_default or queried(request, "routing") == "1"


def whole_response(
    request: web.Request, answer: WholeAnswer, record: RequestRecord, note: RoutingNote | None
) -> web.Response:
    """Return a node's complete answer as ours."""
    context = request[CONTEXT]
    head = answer.attempt.head
    if head is None:
        raise AssertionError("a whole answer has a head")
    body = answer.body
    if note is not None:
        body = note.feed(body) + note.finish()
    headers = merged_headers(head, context)
    headers.extend(routing_headers(record))
    response = context.decorated = web.Response(status=head.status, body=body, headers=headers)
    return response


class StreamReply:
    """The client's side of a streamed answer (`sollold.routing.run.ClientReply`)."""

    __slots__ = (
        "_made",
        "_note",
        "_record",
        "_request",
        "_spool_bytes",
        "_stall_s",
        "_tuner",
        "_wheel",
        "response",
    )

    def __init__(
        self,
        request: web.Request,
        record: RequestRecord,
        *,
        wheel: TimerWheel,
        spool_bytes: int,
        stall_s: float,
        tuner: Tuner,
        note: RoutingNote | None,
    ) -> None:
        self._note = note
        self._tuner = tuner
        self._request = request
        self._record = record
        self._wheel = wheel
        self._spool_bytes = spool_bytes
        self._stall_s = stall_s
        self._made: ClientStream | None = None
        self.response: web.StreamResponse | None = None

    @property
    def _stream(self) -> ClientStream:
        """The client's stream, made when first needed: most whole answers never do."""
        if self._made is None:
            self._made = ClientStream(
                self._request,
                wheel=self._wheel,
                spool_bytes=self._spool_bytes,
                stall_s=self._stall_s,
                tuner=self._tuner,
                on_stalled=self._note_stall,
            )
        return self._made

    def _note_stall(self) -> None:
        self._record.is_stalled = True

    @property
    def is_unread(self) -> bool:
        """Whether the client's connection ended because it took nothing for too long."""
        return self._record.is_stalled or self._request[CONTEXT].is_timed_out

    def start(self, attempt: Attempt) -> None:
        """Send the head, and what was written to the sink so far. No await."""
        head = attempt.head
        if head is None:
            raise AssertionError("a stream starts with a head")
        headers = merged_headers(head, self._request[CONTEXT])
        headers.extend(routing_headers(self._record))
        if attempt.is_stream:
            headers.append(("X-Accel-Buffering", "no"))
        elif attempt.is_over and self._note is None:
            headers.append(("Content-Length", str(attempt.bytes_in)))
        self._stream.start_at_once(head.status, headers, attempt.exchange)

    def sink(self) -> Callable[[bytes], None]:
        """Return what takes pieces of the body, the client's stream itself where possible."""
        return self._stream.write if self._note is None else self._write_noted

    def _write_noted(self, data: bytes) -> None:
        if self._note is not None:
            self._stream.write(self._note.feed(data))

    async def finish(self) -> None:
        """End the answer cleanly."""
        if self._note is not None:
            self._stream.write(self._note.finish())
        self.response = await self._stream.finish()
        if self._record.is_stalled:
            self._record.outcome = Outcome.STALLED

    def interrupt(self, frame: bytes) -> None:
        """Tell the client in its protocol, then end so that it cannot look complete. No await."""
        if self._note is not None:
            frame = self._note.release() + frame
        if frame:
            self._stream.write(frame)
        self.response = self._stream.abort()
