"""The order of names as people read them."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"(\d+)")


def natural(name: str) -> tuple[str, ...]:
    """Return a sort key that puts `gpu-2` before `gpu-10`."""
    parts = _DIGITS.split(name.casefold())
    return tuple(part.zfill(20) if part.isdecimal() else part for part in parts)
