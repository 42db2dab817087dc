"""The candidates of a decision, as the event log keeps and shows them."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from sollold.core.model import Candidate, Decision

MAX_CANDIDATES = 16
"""Candidates kept of one decision, so that ten thousand events stay small."""


class CandidateView(msgspec.Struct, frozen=True, kw_only=True):
    """One node's part in a decision as JSON shows it; `null` cost: left out."""

    node: str
    cost_ms: float | None
    wait_ms: float
    load_ms: float
    swap_ms: float
    foreign_ms: float
    prefill_ms: float
    decode_ms: float
    risk_ms: float
    tier_ms: float
    is_measured: bool
    excluded: str | None


def best_candidates(decision: Decision) -> tuple[Candidate, ...]:
    """Return at most `MAX_CANDIDATES` candidates: the pick, then the cheapest."""
    candidates = decision.candidates
    if len(candidates) <= MAX_CANDIDATES:
        return candidates
    return tuple(
        heapq.nsmallest(
            MAX_CANDIDATES, candidates, key=lambda item: (item.node != decision.node, item.cost_s)
        )
    )


def candidate_view(item: Candidate) -> CandidateView:
    """Return a candidate as JSON shows it, in milliseconds."""
    return CandidateView(
        node=item.node,
        cost_ms=None if item.excluded else _ms(item.cost_s),
        wait_ms=_ms(item.wait_s),
        load_ms=_ms(item.load_s),
        swap_ms=_ms(item.swap_s),
        foreign_ms=_ms(item.foreign_s),
        prefill_ms=_ms(item.prefill_s),
        decode_ms=_ms(item.decode_s),
        risk_ms=_ms(item.risk_s),
        tier_ms=_ms(item.tier_s),
        is_measured=item.is_measured,
        excluded=item.excluded or None,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
