"""Points in time as Ollama writes them."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Final

_NS: Final = 1_000_000_000


def created_at(wall_ns: int) -> str:
    """Write nanoseconds since 1970 as RFC 3339 in UTC, without trailing zeros."""
    seconds, rest_ns = divmod(wall_ns, _NS)
    fraction = f".{rest_ns:09}".rstrip("0") if rest_ns else ""
    return f"{_second(seconds)}{fraction}Z"


@functools.lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    """Write a whole second; every line of every stream within it begins with the same text."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
