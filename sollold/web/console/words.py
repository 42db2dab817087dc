"""Numbers, ages and states as the page shows them; the words are those of `sollolctl`."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from markupsafe import Markup

from sollold.ctl import words
from sollold.wire.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable

DASH = Markup(
    '<span class="none"><span aria-hidden="true">—</span><span class="vh">not known</span></span>'
)

STATE_WORDS = {
    "serving": "Serving",
    "degraded": "Serving, degraded",
    "cannot_serve": "Cannot serve",
    "starting": "Starting",
    "stopping": "Stopping",
}
STATES = ("up", "slow", "draining", "down", "unknown")


def shown(value: object) -> object:
    """Return what a template puts out in place of a value: text with nothing hidden in it."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def element_id(prefix: str, name: str) -> str:
    """Return an id that any name can have."""
    digest = hashlib.blake2s(name.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    return f"{prefix}-{digest}"


def age(ms: float | None) -> str:
    """Return how long something has lasted: `31 s`, `4 min`, `3h 12m`, `4d`."""
    if ms is None:
        return ""
    seconds = max(0, int(ms / 1000))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}h {minutes:02d}m" if hours < 48 else f"{hours // 24}d"


def clock(at_s: float) -> str:
    """Return a time of day where the daemon is."""
    return f"{datetime.fromtimestamp(at_s, UTC).astimezone():%H:%M:%S}"


def count(number: int | None) -> str | Markup:
    """Return a number with its thousands apart."""
    return DASH if number is None else f"{number:,}"


def share(value: str, known: object) -> str | Markup:
    """Return the value, or a dash where it is not known."""
    return DASH if known is None else value


FILTERS: dict[str, Callable[..., object]] = {
    "age": age,
    "clock": clock,
    "count": count,
    "duration": lambda ms: share(words.duration(ms), ms),
    "rate": lambda value: DASH if value is None else f"{value:,.1f}",
    "gb": lambda size: share(words.gigabytes(size), size),
    "kind": words.software,
    "plural": words.plural,
    "element_id": lambda name, prefix: element_id(prefix, name),
}
