"""The routing log: each step of a request as an event, each decision as a line where wanted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sollold.events.types import RouteDecision

if TYPE_CHECKING:
    from sollold.events.base import EventBase
    from sollold.events.bus import EventBus

_log = logging.getLogger(__name__)

_MAX_LINE_CHARS = 500


class StepLog:
    """Publishes steps, or keeps them back; prints decisions, or does not."""

    def __init__(self, bus: EventBus, *, is_kept: bool, is_printed: bool) -> None:
        self._bus = bus
        self._is_kept = is_kept
        self._is_printed = is_printed

    def set(self, *, is_kept: bool, is_printed: bool) -> None:
        """Choose anew. No await."""
        self._is_kept, self._is_printed = is_kept, is_printed

    def publish(self, event: EventBase) -> None:
        """Take one step of a request. No await."""
        if self._is_kept:
            self._bus.publish(event)
        if self._is_printed and isinstance(event, RouteDecision):
            text = event.sentence()[:_MAX_LINE_CHARS]
            _log.info("ROUTE_DECISION %s", text, extra={"request_id": ""})
