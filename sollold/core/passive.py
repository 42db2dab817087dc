"""What traffic says about one node: refusals, pauses it asked for, failures and successes.

Evidence from probes is kept apart, in `sollold.core.health`.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from sollold.core.breaker import Breaker, span, spared, struck
from sollold.core.model import Reason
from sollold.core.observation import (
    HealthPolicy,
    Misconfigured,
    Refused,
    Saturated,
    TrafficFailed,
    TrafficOk,
    TrialEnded,
    Warming,
)
from sollold.core.pace import Pace, add_sample


class Passive(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence from traffic."""

    refused: Reason | None = None
    misconfigured: Reason | None = None
    """Set until a request succeeds, or the node comes back from being down."""
    misconfigured_until_s: float = 0.0
    misconfigured_count: int = 0
    busy_until_s: float = 0.0
    busy_count: int = 0
    """Refusals since the last request that succeeded."""
    busy_text: str = ""
    warming_until_s: float = 0.0
    warming_text: str = ""
    breaker: Breaker = Breaker()
    pace: Pace = Pace()


def from_traffic(
    passive: Passive,
    seen: Refused | TrafficOk | TrafficFailed | Saturated | Misconfigured | Warming | TrialEnded,
    now_s: float,
    policy: HealthPolicy,
) -> Passive:
    """Return the evidence after one more observation; the same object when nothing changes."""
    replace = msgspec.structs.replace
    match seen:
        case Refused():
            return replace(passive, refused=Reason("refused", seen.text))
        case TrafficOk():
            return _succeeded(passive, seen, now_s)
        case TrafficFailed():
            breaker = struck(passive.breaker, seen, now_s, policy)
            return passive if breaker is passive.breaker else replace(passive, breaker=breaker)
        case Saturated():
            return _saturated(passive, seen.retry_after_s, now_s, policy)
        case Misconfigured():
            return _turned_away(passive, seen.text, now_s, policy)
        case Warming():
            until_s = now_s + policy.warming_s
            return replace(passive, warming_until_s=until_s, warming_text=seen.text)
        case TrialEnded():
            if seen.trial != passive.breaker.trial:
                return passive
            return replace(passive, breaker=replace(passive.breaker, trial=0))
        case _ as unreachable:
            assert_never(unreachable)


def _succeeded(passive: Passive, seen: TrafficOk, now_s: float) -> Passive:
    """Return `passive` itself in the usual case: this runs once per request."""
    breaker = spared(passive.breaker, seen.trial, now_s)
    is_news = (
        breaker is not passive.breaker
        or passive.busy_count
        or passive.warming_until_s
        or passive.misconfigured is not None
    )
    if is_news:
        passive = msgspec.structs.replace(
            passive,
            breaker=breaker,
            busy_count=0,
            busy_until_s=0.0,
            warming_until_s=0.0,
            misconfigured=None,
            misconfigured_until_s=0.0,
            misconfigured_count=0,
        )
    if seen.first_s is not None:
        passive = msgspec.structs.replace(passive, pace=add_sample(passive.pace, seen.first_s))
    return passive


def _turned_away(passive: Passive, text: str, now_s: float, policy: HealthPolicy) -> Passive:
    """Pause the node. Requests turned away together double the pause once."""
    if now_s < passive.misconfigured_until_s:
        return passive
    count = passive.misconfigured_count + 1
    for_s = min(policy.misconfigured_cap_s, policy.misconfigured_s * 2.0 ** min(count - 1, 16))
    return msgspec.structs.replace(
        passive,
        misconfigured=Reason("misconfigured", text),
        misconfigured_until_s=now_s + for_s,
        misconfigured_count=count,
    )


def _saturated(
    passive: Passive, retry_after_s: float | None, now_s: float, policy: HealthPolicy
) -> Passive:
    """Pause the node. Requests refused together are one refusal and double the pause once."""
    is_first = now_s >= passive.busy_until_s
    count = passive.busy_count + is_first
    if retry_after_s is not None:
        for_s = min(max(retry_after_s, 0.0), policy.retry_after_cap_s)
    elif is_first:
        for_s = min(policy.busy_cap_s, policy.busy_s * 2.0 ** min(count - 1, 16))
    else:
        return passive
    if now_s + for_s <= passive.busy_until_s:
        return passive
    text = f"said it is busy, left alone for {span(for_s)}"
    return msgspec.structs.replace(
        passive, busy_count=count, busy_until_s=now_s + for_s, busy_text=text
    )
