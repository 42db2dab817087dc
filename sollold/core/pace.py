"""Is something far from its own usual speed? A small window against a slow average.

Judges a node by nothing but its own past.
"""

from __future__ import annotations

import msgspec

_WINDOW = 5
_ENOUGH = 10
_SLOWEST_LEARNING = 0.02
_FACTOR = 3.0


class Pace(msgspec.Struct, frozen=True):
    """Recent samples in seconds, and the average of those before them."""

    recent: tuple[float, ...] = ()
    usual_s: float = 0.0
    count: int = 0
    """Samples in the average."""


def add_sample(pace: Pace, value_s: float) -> Pace:
    """Return the pace with one more sample; the one it pushes out joins the average."""
    if len(pace.recent) < _WINDOW:
        return msgspec.structs.replace(pace, recent=(*pace.recent, value_s))
    oldest, *rest = pace.recent
    count = min(pace.count + 1, 1_000_000)
    share = max(1.0 / count, _SLOWEST_LEARNING)
    usual_s = pace.usual_s + share * (oldest - pace.usual_s)
    return Pace((*rest, value_s), usual_s, count)


def describe_slowness(pace: Pace, margin_s: float, verb: str) -> str:
    """Return a phrase when the recent median is far above the usual, else an empty string."""
    if pace.count < _ENOUGH:
        return ""
    median_s = sorted(pace.recent)[_WINDOW // 2]
    if median_s <= max(_FACTOR * pace.usual_s, pace.usual_s + margin_s):
        return ""
    return f"{verb} {_show(median_s)}, usually {_show(pace.usual_s)}"


def _show(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
