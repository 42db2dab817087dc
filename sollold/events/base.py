"""What all event types share: the common fields and the parts of their sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventBase(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="event_type"):
    """What all events carry. Absent values are None, in JSON `null`."""

    kind: ClassVar[str] = ""

    model: str | None = None
    """The name as the client wrote it."""
    backend: str | None = None
    """What serves the model: `ollama`, `llama_server`, `openai`, `rpc` or `coordinator`."""
    node: str | None = None
    request_id: str | None = None

    def sentence(self) -> str:
        """Return what happened and why, for people; without time and kind."""
        raise NotImplementedError

    def change(self) -> str:
        """Return what happened to the node, for a list that is about that node only."""
        return self.sentence()

    def seed_fields(self) -> Mapping[str, object]:
        """Return fields under the names older readers know, derived from the others."""
        return {}

    def wire(self) -> EventBase:
        """Return the event as JSON shows it."""
        return self

    def nodes(self) -> tuple[str | None, ...]:
        """Return every node the event is about."""
        return (self.node,)


def subject(event: EventBase) -> str:
    """Return request and model, the start of most sentences."""
    return f"{event.request_id or '-'} {event.model or '?'}"


def nth_try(attempt: int) -> str:
    """Return the end of a sentence about a later attempt."""
    return f", try {attempt}" if attempt > 1 else ""


def span(ms: float) -> str:
    """Return a duration in words: `84 ms`, `1.9 s`, `2m 03s`, `3h 12m`."""
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m"
