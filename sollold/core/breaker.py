"""The circuit breaker around one node, as data: failed requests, ejection, trial.

Sees traffic only. While open it is deaf, except to the one trial that decides about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from sollold.core.observation import HealthPolicy, TrafficFailed

_MAX_STRIKES = 64


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """Failed requests and what they led to."""

    run: float = 0.0
    """Weight of failures in a row."""
    strikes: tuple[tuple[float, float], ...] = ()
    """Time and weight of recent failures."""
    is_open: bool = False
    until_s: float = 0.0
    """End of the last ejection; an open breaker past it is half open."""
    count: int = 0
    text: str = ""
    trial: int = 0
    """Token of the trial under way; 0: none."""
    trial_until_s: float = 0.0
    tokens: int = 0


def has_trial(breaker: Breaker, now_s: float) -> bool:
    """Whether a trial request is under way."""
    return breaker.trial != 0 and now_s < breaker.trial_until_s


def _is_verdict(breaker: Breaker, trial: int | None, now_s: float) -> bool:
    """Whether this result may move an open breaker: the trial's own, or any when none runs.

    Requests sent before the ejection end during it; they say nothing new. A trial that took too
    long may have been superseded; its late result must not decide for the newer one.
    """
    if trial is not None:
        return trial == breaker.trial
    return breaker.until_s <= now_s and not has_trial(breaker, now_s)


def spared(breaker: Breaker, trial: int | None, now_s: float) -> Breaker:
    """Return the breaker after a request that succeeded; the same object when nothing changes."""
    if breaker.is_open:
        if not _is_verdict(breaker, trial, now_s):
            return breaker
        return msgspec.structs.replace(breaker, is_open=False, trial=0)
    if breaker.run and trial is None:
        return msgspec.structs.replace(breaker, run=0.0)
    return breaker


def struck(breaker: Breaker, seen: TrafficFailed, now_s: float, policy: HealthPolicy) -> Breaker:
    """Return the breaker after a request that failed; the same object when nothing changes."""
    if breaker.is_open:
        if not _is_verdict(breaker, seen.trial, now_s):
            return breaker
        return _ejected(breaker, f"{seen.text}, again on trial", now_s, policy)
    if seen.trial is not None:
        return breaker
    recent = [strike for strike in breaker.strikes if strike[0] > now_s - policy.window_s]
    strikes = (*recent, (now_s, seen.weight))[-_MAX_STRIKES:]
    run = breaker.run + seen.weight
    if run >= policy.eject_after or sum(weight for _, weight in strikes) >= policy.window_failures:
        return _ejected(breaker, f"{seen.text}, {len(strikes)} failed requests", now_s, policy)
    return msgspec.structs.replace(breaker, run=run, strikes=strikes)


def _ejected(breaker: Breaker, text: str, now_s: float, policy: HealthPolicy) -> Breaker:
    forgiven = int((now_s - breaker.until_s) / policy.forgive_s) if breaker.count else 0
    count = max(0, breaker.count - max(0, forgiven)) + 1
    for_s = min(policy.eject_cap_s, policy.eject_s * count)
    return msgspec.structs.replace(
        breaker,
        run=0.0,
        strikes=(),
        is_open=True,
        until_s=now_s + for_s,
        count=count,
        text=f"{text}, left out for {span(for_s)}",
        trial=0,
    )


def begin_trial(breaker: Breaker, now_s: float, policy: HealthPolicy) -> Breaker | None:
    """Return the breaker with a new trial; None when it is closed or a trial is under way."""
    if not breaker.is_open or has_trial(breaker, now_s):
        return None
    token = breaker.tokens + 1
    return msgspec.structs.replace(
        breaker, tokens=token, trial=token, trial_until_s=now_s + policy.trial_s
    )


def is_half_open(breaker: Breaker, now_s: float) -> bool:
    """Whether the ejection is over and one request is wanted to decide."""
    return breaker.is_open and breaker.until_s <= now_s and not has_trial(breaker, now_s)


def penalty_until_s(breaker: Breaker, now_s: float) -> float:
    """Return until when requests should stay away; 0 when they need not."""
    if not breaker.is_open:
        return 0.0
    if has_trial(breaker, now_s):
        return max(breaker.until_s, breaker.trial_until_s)
    return breaker.until_s


def span(seconds: float) -> str:
    """Write a duration as people say it: `30 s`, `12 min`, `3 h`."""
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{round(seconds / 3600)} h"
