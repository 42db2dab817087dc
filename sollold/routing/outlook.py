"""What routing would decide about one more request for a model, asked of routing itself.

Nothing is started, and the rows that real requests are priced with are left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sollold.core.assign import assign, explain_rejection
from sollold.core.model import RequestId, TaskKind, WaitingRequest
from sollold.core.nodetable import NodeTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.core.model import (
        Digest,
        Fleet,
        Grant,
        ModelKey,
        ModelView,
        NodeId,
        Reason,
        Reservation,
    )
    from sollold.routing.admission import Admission

TYPICAL_PROMPT_TOKENS = 512.0

_ID = RequestId("r-outlook")
_DICE = 0.5
"""Neither explores nor matters beyond the choice between equals."""


class Outlook(NamedTuple):
    """The decision about one request: a grant, else a place it would wait for, else neither."""

    request: WaitingRequest
    grant: Grant | None
    reservation: Reservation | None
    rejections: dict[NodeId, Reason]
    """Why each node does not serve it now, whatever was decided."""
    equals: tuple[NodeId, ...]
    """Other nodes that would cost about the same now."""
    ahead: int
    """Requests that wait already."""


class Oracle:
    """Answers from the live queue, load and rates. Every method is synchronous."""

    def __init__(self, *, admission: Admission, fleet: Callable[[], Fleet]) -> None:
        self._admission = admission
        self._fleet = fleet
        table = admission.nodes
        # A table of its own: asking about every model must not push out the rows in use.
        self._table = NodeTable(table.rates, table.slots)

    def ask(self, key: ModelKey, digest: Digest, view: ModelView, now_s: float) -> Outlook:
        """Say where a typical request for a model would go. No await."""
        self._table.update(self._fleet())
        request = self._request(key, digest, view, now_s)
        ahead = self._admission.queue.head()
        load, policy = self._admission.load, self._admission.policy
        done = assign([*ahead, request], self._table, load, now_s, policy=policy, dice=_DICE)
        grant = next((item for item in done.grants if item.request == _ID), None)
        reserved = next((item for item in done.reservations if item.request == _ID), None)
        rejections = explain_rejection(request, self._table)
        return Outlook(request, grant, reserved, rejections, self._equals(grant), len(ahead))

    def _request(
        self, key: ModelKey, digest: Digest, view: ModelView, now_s: float
    ) -> WaitingRequest:
        kind = TaskKind.EMBED if _only_embeds(view) else TaskKind.CHAT
        return WaitingRequest(
            id=_ID,
            model=key,
            digest=digest,
            kind=kind,
            is_stream=kind is not TaskKind.EMBED,
            arrival_s=now_s,
            prompt_tokens=TYPICAL_PROMPT_TOKENS,
            output_tokens=self._table.rates.expected_output(digest, kind, None, now_s),
        )

    def _equals(self, grant: Grant | None) -> tuple[NodeId, ...]:
        if grant is None:
            return ()
        eligible = [item for item in grant.decision.candidates if not item.excluded]
        best_s = min((item.cost_s for item in eligible), default=0.0)
        policy = self._admission.policy
        limit_s = best_s + policy.margin * abs(best_s) + policy.margin_s
        return tuple(
            item.node for item in eligible if item.cost_s <= limit_s and item.node != grant.node
        )


def _only_embeds(view: ModelView) -> bool:
    known = view.capabilities or frozenset()
    return "embedding" in known and "completion" not in known
