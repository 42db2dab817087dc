"""How a key of the configuration is described: its text, its bounds, and what tools must know."""

from __future__ import annotations

import msgspec


def key(
    text: str,
    *,
    live: bool = False,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    path: bool = False,
    example: str = "",
) -> msgspec.Meta:
    """Describe one key; `live` keys can change without a restart.

    `example` is TOML for a key whose default is absent or empty.
    """
    extra = {"live": live, "path": path, "example": example}
    if gt is not None:
        return msgspec.Meta(description=text, gt=gt, extra=extra)
    return msgspec.Meta(description=text, ge=ge, le=le, extra=extra)
