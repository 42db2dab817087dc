"""Tells the rest of the daemon what happens to requests: events, figures, the log line."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sollold.core.model import NodeKind, Reason
from sollold.events.types import (
    FallbackTriggered,
    OllamaNodeSelected,
    RequestDone,
    RequestFailed,
    RouteDecision,
    TaskComplete,
    TaskQueued,
    TaskStart,
)
from sollold.routing.record import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sollold.core.model import Grant, NodeId, NodeView
    from sollold.events.bus import EventBus
    from sollold.routing.record import RequestRecord
    from sollold.routing.steps import StepLog
    from sollold.wire.routes import InferenceRoute

_log = logging.getLogger(__name__)

_MAX_TEXT_CHARS = 300

_LINES_PER_S = 20
"""Requests logged one by one within a second; twice as many when they failed."""


class EventReporter:
    """Publishes a request's life (`sollold.routing.dispatch.Reporter`)."""

    def __init__(
        self,
        bus: EventBus,
        *,
        node: Callable[[NodeId], NodeView | None],
        on_done: Sequence[Callable[[RequestRecord], None]],
        is_logging: bool,
        steps: StepLog,
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        """`later` calls something after so many seconds."""
        self._bus = bus
        self._node = node
        self._on_done = tuple(on_done)
        self._is_logging = is_logging
        self._steps = steps
        self._later = later
        self._second = 0
        self._lines = 0
        self._unlogged = 0

    def set_logging(self, *, is_on: bool) -> None:
        """Choose whether requests get a line of the log. No await."""
        self._is_logging = is_on

    def flush(self) -> None:
        """Say how many requests were not logged one by one. No await."""
        if self._unlogged:
            text = "%d more requests ended, not logged one by one"
            _log.info(text, self._unlogged, extra={"request_id": ""})
            self._unlogged = 0

    def queued(self, record: RequestRecord) -> None:
        """Say that a request waits for a slot. No await."""
        self._steps.publish(
            TaskQueued(
                model=record.model,
                request_id=record.id,
                reason="every node that is worth waiting for is busy",
                priority=record.priority,
            )
        )

    def granted(self, record: RequestRecord, grant: Grant) -> None:
        """Say which node was chosen, and why. No await."""
        view = self._node(grant.node)
        backend = None if view is None else view.kind.value
        publish = self._steps.publish
        queue_ms = record.queue_s * 1000
        publish(
            RouteDecision.of(
                grant.decision,
                model=record.model,
                backend=backend,
                request_id=record.id,
                task=record.kind,
                priority=record.priority,
                queue_ms=queue_ms,
            )
        )
        if view is not None and view.kind is NodeKind.OLLAMA:
            publish(
                OllamaNodeSelected(
                    model=record.model,
                    backend=backend,
                    node=grant.node,
                    request_id=record.id,
                    node_url=view.url,
                    reason=grant.decision.reason,
                    priority=record.priority,
                    attempt=record.attempts,
                    is_load=grant.is_load,
                    expected_first_ms=grant.expected_first_s * 1000,
                    expected_ms=grant.expected_s * 1000,
                )
            )
        publish(
            TaskStart(
                model=record.model,
                backend=backend,
                node=grant.node,
                request_id=record.id,
                attempt=record.attempts,
                queue_ms=queue_ms,
                is_load=grant.is_load,
            )
        )

    def failed_over(self, record: RequestRecord, node: NodeId, text: str) -> None:
        """Say that an attempt was given up. No await."""
        _log.info(
            "request looks for another node model=%s after=%s reason=%s",
            record.model,
            node,
            text[:_MAX_TEXT_CHARS],
            extra={"request_id": record.id},
        )
        code = record.failures[-1].code if record.failures else None
        self._steps.publish(
            FallbackTriggered(
                model=record.model,
                request_id=record.id,
                from_node=node,
                reason=text[:_MAX_TEXT_CHARS],
                reason_code=code,
                attempt=record.attempts + 1,
            )
        )

    def done(self, record: RequestRecord) -> None:
        """Say how a request ended. No await."""
        ended_s = record.ended_s or record.received_s
        total_ms = (ended_s - record.received_s) * 1000
        why = _why(record)
        if record.node is not None and record.granted_s is not None:
            self._steps.publish(
                TaskComplete(
                    model=record.model,
                    node=record.node,
                    request_id=record.id,
                    success=record.outcome is Outcome.OK,
                    duration_ms=(ended_s - record.granted_s) * 1000,
                    attempt=record.attempts,
                    status=record.status or None,
                    reason=None if why is None else why.text[:_MAX_TEXT_CHARS],
                )
            )
        if record.outcome is Outcome.OK:
            self._bus.publish(_done_event(record, total_ms))
        else:
            self._bus.publish(_failed_event(record, total_ms))
        for listener in self._on_done:
            listener(record)
        if self._may_log(record.ended_s or 0.0, record.outcome):
            _log_line(record, total_ms)

    def undispatched(
        self, route: InferenceRoute, status: int, outcome: Outcome, now_s: float
    ) -> None:
        """Log a request that ended without a place in the queue. No await."""
        if self._may_log(now_s, outcome):
            _log.info("request route=%s status=%d outcome=%s", route.path, status, outcome)

    def _may_log(self, now_s: float, outcome: Outcome | None) -> bool:
        """Whether a request gets a line of its own; there may be too many to read. No await."""
        if not self._is_logging:
            return False
        second = int(now_s)
        if second != self._second:
            self.flush()
            self._second, self._lines = second, 0
        limit = _LINES_PER_S if outcome is Outcome.OK else 2 * _LINES_PER_S
        if self._lines < limit:
            self._lines += 1
            return True
        if not self._unlogged:
            self._later(1.0, self.flush)
        self._unlogged += 1
        return False


def _why(record: RequestRecord) -> Reason | None:
    """Return why a request ended, or needed more than one attempt; None when all went well."""
    if record.outcome is Outcome.STALLED:
        return Reason("stalled", "the client took nothing of the answer for too long")
    if record.reason is not None:
        return record.reason
    if not record.failures:
        return None
    last = record.failures[-1]
    return Reason(last.code, last.text)


def _done_event(record: RequestRecord, total_ms: float) -> RequestDone:
    first_ms = tokens_per_s = None
    if record.is_stream and record.first_content_s is not None:
        first_ms = (record.first_content_s - record.received_s) * 1000
        seconds = (record.ended_s or record.first_content_s) - record.first_content_s
        if record.output_tokens and seconds > 0:
            tokens_per_s = record.output_tokens / seconds
    return RequestDone(
        model=record.model,
        node=record.node,
        request_id=record.id,
        status=record.status,
        total_ms=total_ms,
        attempts=record.attempts,
        queue_ms=record.queue_s * 1000,
        first_token_ms=first_ms,
        task=record.kind,
        dialect=record.route.dialect,
        prompt_tokens=record.prompt_tokens,
        output_tokens=record.output_tokens,
        tokens_per_s=tokens_per_s,
    )


def _failed_event(record: RequestRecord, total_ms: float) -> RequestFailed:
    outcome = record.outcome or Outcome.FAILED
    why = _why(record) or Reason("", outcome.value.replace("_", " "))
    return RequestFailed(
        model=record.model,
        node=record.node,
        request_id=record.id,
        outcome=outcome.value,
        reason=why.text[:_MAX_TEXT_CHARS],
        reason_code=why.code or None,
        status=record.status or None,
        total_ms=total_ms,
        attempts=record.attempts,
        queue_ms=record.queue_s * 1000,
        task=record.kind,
        dialect=record.route.dialect,
    )


def _log_line(record: RequestRecord, total_ms: float) -> None:
    first_ms = -1.0
    if record.first_content_s is not None:
        first_ms = (record.first_content_s - record.received_s) * 1000
    _log.info(
        "request route=%s model=%s node=%s attempts=%d status=%d bytes=%d "
        "queue_ms=%.0f first_ms=%.0f total_ms=%.0f outcome=%s",
        record.route.path,
        record.model[:200],
        record.node or "-",
        record.attempts,
        record.status,
        record.bytes_out,
        record.queue_s * 1000,
        first_ms,
        total_ms,
        record.outcome or Outcome.FAILED,
    )
