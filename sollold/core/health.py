"""The health of one node, as data: what probes saw, what traffic saw, what the operator wants.

Owns the transitions and the words for them. Routability is derived when asked, never stored.
Decides nothing about requests and does not know which failure is whose fault: its callers do.
"""

from __future__ import annotations

from math import inf

import msgspec

from sollold.core import breaker as brk
from sollold.core.breaker import span
from sollold.core.model import NodeState, Reason
from sollold.core.observation import (
    Drain,
    Frozen,
    HealthPolicy,
    Misconfigured,
    Observation,
    ProbeFailed,
    ProbeOk,
    Refused,
    Saturated,
    TrafficFailed,
    TrafficOk,
    TrialEnded,
    Warming,
)
from sollold.core.pace import Pace, add_sample, describe_slowness
from sollold.core.passive import Passive, from_traffic

__all__ = [
    "Active",
    "Drain",
    "Frozen",
    "Health",
    "HealthPolicy",
    "Misconfigured",
    "Observation",
    "Passive",
    "ProbeFailed",
    "ProbeOk",
    "Refused",
    "Saturated",
    "TrafficFailed",
    "TrafficOk",
    "TrialEnded",
    "Warming",
    "assess",
    "is_ejected",
    "is_routable",
    "is_slow",
    "next_change_s",
    "next_probe_in_s",
    "observe",
    "penalty_rank",
    "penalty_until_s",
    "reason",
    "state",
    "take_trial",
    "takes_trial",
]

_PROBE_MARGIN_S = 0.25
_FIRST_MARGIN_S = 1.0
_NOT_PROBED = Reason("not_probed", "not probed yet")


class Active(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence from probes."""

    at_s: float | None = None
    """The last probe, whatever came of it."""
    ok_s: float | None = None
    fails: int = 0
    """In a row."""
    first_fail_s: float = 0.0
    failure: Reason | None = None
    is_down: bool = False
    stale_at_s: float = inf
    pace: Pace = Pace()


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All evidence on one node. The default is a node nobody has looked at."""

    active: Active = Active()
    passive: Passive = Passive()
    drain: Drain | None = None


def observe(health: Health, seen: Observation, now_s: float, policy: HealthPolicy) -> Health:
    """Return the health after one more observation; the same object when nothing changes."""
    match seen:
        case ProbeOk():
            return _answered(health, seen.latency_s, now_s, policy)
        case ProbeFailed():
            reason = Reason(seen.code, seen.text)
            return _unanswered(health, reason, now_s, policy, is_certain=seen.is_refused)
        case Frozen():
            reason = Reason("frozen", seen.text)
            return _unanswered(health, reason, now_s, policy, is_certain=True)
        case Drain():
            return msgspec.structs.replace(health, drain=seen if seen.is_on else None)
        case Misconfigured() if seen.is_probe:
            reason = Reason("misconfigured", seen.text)
            return _unanswered(health, reason, now_s, policy, is_certain=True)
        case Warming() if seen.is_probe:
            health = _reset_failures(health, now_s, policy)
    passive = from_traffic(health.passive, seen, now_s, policy)
    return health if passive is health.passive else msgspec.structs.replace(health, passive=passive)


def _answered(health: Health, latency_s: float, now_s: float, policy: HealthPolicy) -> Health:
    health = _reset_failures(health, now_s, policy)
    active = msgspec.structs.replace(
        health.active, ok_s=now_s, pace=add_sample(health.active.pace, latency_s)
    )
    passive = health.passive
    if passive.refused is not None or passive.warming_until_s:
        passive = msgspec.structs.replace(passive, refused=None, warming_until_s=0.0)
    return msgspec.structs.replace(health, active=active, passive=passive)


def _reset_failures(health: Health, now_s: float, policy: HealthPolicy) -> Health:
    """Note an answer. Who comes back from being down was likely mended: old grudges go."""
    passive = health.passive
    if health.active.is_down or passive.refused is not None:
        breaker = msgspec.structs.replace(passive.breaker, run=0.0, strikes=())
        passive = msgspec.structs.replace(
            passive,
            breaker=breaker,
            refused=None,
            misconfigured=None,
            misconfigured_until_s=0.0,
            misconfigured_count=0,
        )
    active = msgspec.structs.replace(
        health.active,
        at_s=now_s,
        fails=0,
        failure=None,
        is_down=False,
        stale_at_s=now_s + _stale_s(policy),
    )
    return msgspec.structs.replace(health, active=active, passive=passive)


def _unanswered(
    health: Health, reason: Reason, now_s: float, policy: HealthPolicy, *, is_certain: bool
) -> Health:
    old = health.active
    fails = old.fails + 1
    active = msgspec.structs.replace(
        old,
        at_s=now_s,
        fails=fails,
        first_fail_s=old.first_fail_s if old.fails else now_s,
        failure=reason,
        is_down=old.is_down or is_certain or fails >= policy.down_after,
        stale_at_s=now_s + _stale_s(policy),
    )
    return msgspec.structs.replace(health, active=active)


def _stale_s(policy: HealthPolicy) -> float:
    return max(policy.stale_s, 3.0 * max(policy.interval_s, policy.retry_cap_s))


def take_trial(health: Health, now_s: float, policy: HealthPolicy) -> tuple[Health, int] | None:
    """Begin the trial that decides about an open breaker; None when there is nothing to try.

    The token goes with the request's `TrafficOk`, `TrafficFailed` or `TrialEnded`.
    """
    breaker = brk.begin_trial(health.passive.breaker, now_s, policy)
    if breaker is None:
        return None
    passive = msgspec.structs.replace(health.passive, breaker=breaker)
    return msgspec.structs.replace(health, passive=passive), breaker.trial


def takes_trial(health: Health, now_s: float) -> bool:
    """Whether the breaker is half open and waits for one request to decide."""
    return brk.is_half_open(health.passive.breaker, now_s)


def assess(health: Health, now_s: float) -> tuple[NodeState, Reason | None]:
    """Return the state word and its reason, worst first."""
    return _absent(health, now_s) or _withheld(health, now_s) or _present(health, now_s)


def state(health: Health, now_s: float) -> NodeState:
    """Return the state word."""
    return assess(health, now_s)[0]


def reason(health: Health, now_s: float) -> Reason | None:
    """Return why, as a whole phrase, cause first; None where the state says it all."""
    return assess(health, now_s)[1]


def _absent(health: Health, now_s: float) -> tuple[NodeState, Reason | None] | None:
    """Tell why probes do not vouch for it. Traffic alone never takes a node out of `unknown`."""
    active, passive = health.active, health.passive
    if active.at_s is None:
        return NodeState.UNKNOWN, _NOT_PROBED
    if now_s >= active.stale_at_s:
        return NodeState.UNKNOWN, Reason("stale", f"not probed for {span(now_s - active.at_s)}")
    if active.is_down:
        return NodeState.DOWN, _probe_reason(active)
    if active.ok_s is None:
        return NodeState.UNKNOWN, _probe_reason(active) or _warming(passive)
    if passive.refused is not None:
        return NodeState.DOWN, passive.refused
    return None


def _probe_reason(active: Active) -> Reason | None:
    failure = active.failure
    if failure is None or active.at_s is None or active.fails < 2:
        return failure
    tries = f"{active.fails} tries in {span(active.at_s - active.first_fail_s)}"
    return Reason(failure.code, f"{failure.text}, {tries}")


def _warming(passive: Passive) -> Reason:
    return Reason("warming", passive.warming_text)


def _withheld(health: Health, now_s: float) -> tuple[NodeState, Reason | None] | None:
    """Tell why a node that answers probes still gets no work."""
    passive = health.passive
    drain = _drain(health, now_s)
    if drain is not None:
        return NodeState.DRAINING, Reason("draining", drain.text)
    if passive.misconfigured is not None and now_s < passive.misconfigured_until_s:
        return NodeState.DOWN, passive.misconfigured
    breaker = passive.breaker
    if breaker.is_open and now_s < breaker.until_s:
        return NodeState.DOWN, Reason("ejected", breaker.text)
    return None


def _present(health: Health, now_s: float) -> tuple[NodeState, Reason | None]:
    """Tell how a node that takes work does."""
    active, passive = health.active, health.passive
    if passive.breaker.is_open:
        return NodeState.SLOW, _trial(passive.breaker.text)
    if passive.misconfigured is not None:
        return NodeState.SLOW, _trial(passive.misconfigured.text)
    slowness = _slowness(health)
    if slowness:
        return NodeState.SLOW, Reason("slow", slowness)
    if now_s < passive.busy_until_s:
        return NodeState.UP, Reason("busy", passive.busy_text)
    if now_s < passive.warming_until_s:
        return NodeState.UP, _warming(passive)
    return NodeState.UP, active.failure


def _trial(text: str) -> Reason:
    return Reason("trial", f"the next request decides: {text}")


def _slowness(health: Health) -> str:
    active, passive = health.active, health.passive
    return describe_slowness(
        active.pace, _PROBE_MARGIN_S, "answers probes in"
    ) or describe_slowness(passive.pace, _FIRST_MARGIN_S, "begins answers after")


def is_slow(health: Health) -> bool:
    """Whether it is far from its own usual speed."""
    return bool(_slowness(health))


def _drain(health: Health, now_s: float) -> Drain | None:
    drain = health.drain
    is_over = drain is not None and drain.until_s is not None and now_s >= drain.until_s
    return None if is_over else drain


def is_routable(health: Health, now_s: float) -> bool:
    """Whether a probe succeeded and nothing forbids new work; penalties are told apart."""
    return _absent(health, now_s) is None and _drain(health, now_s) is None


def is_ejected(health: Health, now_s: float) -> bool:
    """Whether a passing penalty leaves the node out; may be overruled when all nodes have one."""
    return penalty_until_s(health, now_s) > now_s


def penalty_until_s(health: Health, now_s: float) -> float:
    """Return when the last penalty ends; 0 when there is none."""
    passive = health.passive
    breaker_s = brk.penalty_until_s(passive.breaker, now_s)
    until_s = max(
        passive.busy_until_s, passive.warming_until_s, passive.misconfigured_until_s, breaker_s
    )
    return until_s if until_s > now_s else 0.0


def penalty_rank(health: Health, now_s: float) -> float:
    """Order penalised nodes, least bad first: busy, loading, failing, refusing us; by how often."""
    passive = health.passive
    remaining_s = penalty_until_s(health, now_s) - now_s
    if remaining_s <= 0:
        return 0.0
    if now_s < passive.misconfigured_until_s:
        base = 50.0 + min(passive.misconfigured_count, 20)
    elif passive.breaker.is_open:
        base = 20.0 + min(passive.breaker.count, 20)
    elif now_s < passive.warming_until_s:
        base = 10.0
    else:
        base = 1.0 + min(passive.busy_count, 8)
    return base + min(remaining_s, 300.0) / 1000.0


def next_change_s(health: Health, now_s: float) -> float:
    """Return when the derived state changes by itself; infinite when it does not."""
    passive, breaker = health.passive, health.passive.breaker
    times = (
        health.active.stale_at_s,
        passive.misconfigured_until_s,
        passive.busy_until_s,
        passive.warming_until_s,
        breaker.until_s,
        breaker.trial_until_s if breaker.trial else 0.0,
        inf if health.drain is None or health.drain.until_s is None else health.drain.until_s,
    )
    return min((time for time in times if time > now_s), default=inf)


def next_probe_in_s(health: Health, now_s: float, policy: HealthPolicy, dice: float) -> float:
    """Return the pause before the next probe; `dice` in [0, 1) spreads it."""
    active, passive = health.active, health.passive
    if active.fails:
        # A node that answers, if not as it should, costs little and may be mended at any moment.
        is_there = active.failure is not None and active.failure.code == "misconfigured"
        cap_s = min(policy.interval_s, policy.retry_cap_s) if is_there else policy.retry_cap_s
        pause_s = min(cap_s, policy.retry_s * 2.0 ** min(active.fails - 1, 16))
    elif passive.refused is not None:
        pause_s = policy.retry_s
    else:
        pause_s = policy.interval_s
    pause_s *= 1.0 + policy.jitter * (2.0 * dice - 1.0)
    ends_in_s = passive.breaker.until_s - now_s
    # A trial is worth more when a probe has just said that somebody is there.
    return min(pause_s, ends_in_s) if passive.breaker.is_open and ends_in_s > 0 else pause_s
