"""A request's place in the queue, the bounds of waiting, and which nodes a request waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.core.model import Grant, NodeView, WaitingRequest
    from sollold.errors import SollolError
    from sollold.upstream.wheel import Timer


class Ticket:
    """A place in the queue; ends with exactly one of grant, rejection, withdrawal."""

    __slots__ = ("hold_timer", "limit_timer", "may_hold", "on_grant", "on_reject", "waiting")

    def __init__(
        self,
        waiting: WaitingRequest,
        on_grant: Callable[[Grant], None],
        on_reject: Callable[[SollolError], None],
    ) -> None:
        self.waiting = waiting
        self.on_grant = on_grant
        self.on_reject = on_reject
        self.may_hold = True
        self.hold_timer: Timer | None = None
        self.limit_timer: Timer | None = None

    def stop_timers(self) -> None:
        """Cancel what would end the wait. No await."""
        for timer in (self.hold_timer, self.limit_timer):
            if timer is not None:
                timer.cancel()
        self.hold_timer = self.limit_timer = None


class QueueRules(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of waiting; 0 means no bound where one is optional."""

    look_ahead: int
    max_wait_s: float
    holder_down_s: float


def holds(node: NodeView, waiting: WaitingRequest) -> bool:
    """Whether a node has what a request asks for, and may be the one that serves it."""
    if waiting.pinned is not None and node.id != waiting.pinned:
        return False
    model = node.models.get(waiting.model)
    return model is not None and (waiting.digest is None or model.digest == waiting.digest)


def no_holder_text(waiting: WaitingRequest, holders: list[NodeView]) -> str:
    """Say why none of those that hold the model can serve a request."""
    if not holders:
        return f"no node holds '{waiting.model}' any more"
    parts = []
    for node in holders:
        if node.id in waiting.excluded:
            parts.append(f"{node.id} failed this request")
        else:
            why = node.reason.text if node.reason is not None else "no reason known"
            parts.append(f"{node.id} is {node.state} ({why})")
    return f"no node can serve '{waiting.model}' now: " + "; ".join(parts[:8])
