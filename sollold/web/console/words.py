"""Numbers, ages and states as the page shows them; the words are those of `sollolctl`."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from markupsafe import Markup

from sollold.wire.visible import visible
from sollold.words import figures

if TYPE_CHECKING:
    from collections.abc import Callable

DASH = Markup(
    '<span class="none"><span aria-hidden="true">—</span><span class="vh">not known</span></span>'
)


def shown(value: object) -> object:
    """Return what a template puts out in place of a value: text with nothing hidden in it."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def element_id(prefix: str, name: str) -> str:
    """Return an id that any name can have."""
    digest = hashlib.blake2s(name.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    return f"{prefix}-{digest}"


def clock(at_s: float, now_s: float | None = None) -> str:
    """Return a time where the daemon is, with the day unless that is the day of `now_s`."""
    at = datetime.fromtimestamp(at_s, UTC).astimezone()
    now = None if now_s is None else datetime.fromtimestamp(now_s, UTC).astimezone()
    if now is not None and at.date() == now.date():
        return f"{at:%H:%M:%S}"
    year = "" if now is not None and at.year == now.year else f" {at.year}"
    return f"{at.day} {at:%b}{year} {at:%H:%M:%S}"


def left(ms: float) -> str:
    """Return how long a model stays in memory."""
    return f"{figures.lasting(ms)} left" if ms > 0 else "unloading"


def count(number: int | None) -> str | Markup:
    """Return a number with its thousands apart."""
    return DASH if number is None else f"{number:,}"


def share(value: str, known: object) -> str | Markup:
    """Return the value, or a dash where it is not known."""
    return DASH if known is None else value


FILTERS: dict[str, Callable[..., object]] = {
    "age": figures.lasting,
    "clock": clock,
    "count": count,
    "left": left,
    "duration": lambda ms: share(figures.duration(ms), ms),
    "rate": lambda value: DASH if value is None else f"{value:,.1f}",
    "gb": lambda size: share(figures.gigabytes(size), size),
    "kind": figures.software,
    "plural": figures.plural,
    "element_id": lambda name, prefix: element_id(prefix, name),
}
