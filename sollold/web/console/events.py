"""Events as rows of the page: decisions about requests, and what changed in the fleet."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from sollold.events.query import Filter
from sollold.events.types import (
    EVENT_KINDS,
    FallbackTriggered,
    NodeJoined,
    NodeLeft,
    NodeStateChanged,
    OllamaNodeSelected,
    RequestDone,
    RequestFailed,
    RouteDecision,
)

if TYPE_CHECKING:
    from sollold.events.bus import EventBus
    from sollold.events.ring import Record

MAX_DECISIONS = 200
MAX_CHANGES = 40

_ABOUT_REQUESTS = frozenset({"route", "failover", "queue", "task", "request"})
CHANGE_KINDS = frozenset(EVENT_KINDS) - _ABOUT_REQUESTS
_DECISIONS = Filter.parse({"event_type": "ROUTE_DECISION,FALLBACK_TRIGGERED,REQUEST_FAILED"})


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One event as people read it."""

    id: str
    at_s: float
    kind: str
    subject: str
    text: str
    why: str = ""
    state: str = ""
    """State of a node that it shows the mark of."""


def wanted(request: str) -> Filter:
    """Return which events are decisions: all of them, or everything about one request."""
    return Filter.parse({"request": request}) if request.strip(" ,") else _DECISIONS


def is_wanted(record: Record, filter_: Filter) -> bool:
    """Whether an event is shown; that of an attempt's address says nothing new."""
    return filter_.matches(record) and not isinstance(record.event, OllamaNodeSelected)


def decisions(bus: EventBus, request: str) -> list[Row]:
    """Return the last decisions, newest first."""
    filter_ = wanted(request)
    found = bus.last(2 * MAX_DECISIONS, filter_)
    shown = [record for record in found if is_wanted(record, filter_)][-MAX_DECISIONS:]
    return [decision_row(record) for record in reversed(shown)]


class Recent:
    """What changed last and when a request last ended; looks at each event once."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._seen = 0
        self._changes: deque[Record] = deque(maxlen=MAX_CHANGES)
        self._ended_s: float | None = None

    def changes(self) -> list[Row]:
        """Return what changed last, newest first. No await."""
        self._catch_up()
        return [change_row(record) for record in reversed(self._changes)]

    def last_ending(self) -> float | None:
        """Return when a request last ended, on the wall clock. No await."""
        self._catch_up()
        return self._ended_s

    def _catch_up(self) -> None:
        published = self._bus.published_total
        for record in reversed(self._bus.ring.newest(published - self._seen)):
            if record.event.kind in CHANGE_KINDS:
                self._changes.append(record)
            elif isinstance(record.event, RequestDone | RequestFailed):
                self._ended_s = record.at_s
        self._seen = published


def decision_row(record: Record) -> Row:
    """Return the row of an event about a request."""
    event = record.event
    kind, text, why = event.kind, event.sentence(), ""
    subject = event.request_id or ""
    if isinstance(event, RouteDecision):
        text = f"{event.model or '?'} → {event.node or event.backend or '?'}"
        why = event.reason
    elif isinstance(event, FallbackTriggered):
        source = event.from_node or event.from_backend or "?"
        text = f"{event.model or '?'} {source} → {event.node or 'queue'}"
        why = f"{event.reason}, try {event.attempt}"
    elif isinstance(event, RequestFailed):
        kind = event.outcome.replace("_", " ")
        text = " on ".join(part for part in (event.model, event.node) if part)
        why = event.reason
    else:
        text = text.removeprefix(f"{subject} ")
    return Row(
        id=f"ev-{record.seq}", at_s=record.at_s, kind=kind, subject=subject, text=text, why=why
    )


def change_row(record: Record) -> Row:
    """Return the row of an event about a node or the daemon."""
    event = record.event
    text, why, state = event.change(), "", ""
    if isinstance(event, NodeStateChanged):
        text, why, state = f"{event.from_state} → {event.to_state}", event.reason or "", ""
        state = event.to_state
    elif isinstance(event, NodeJoined):
        found = f", found by {', '.join(event.found_by)}" if event.found_by else ""
        why = f"{event.node_url}{found}"
    elif isinstance(event, NodeLeft):
        why = event.reason
    return Row(
        id=f"ch-{record.seq}",
        at_s=record.at_s,
        kind=event.kind,
        subject=event.node or "",
        text=text,
        why=why,
        state=state,
    )
