"""Moments on the wall clock for things known by their age, steady from one look to the next."""

from __future__ import annotations

_STEADY_MS = 900
_MAX_KEPT = 4096


class Anchors:
    """Remembers where an age began, so that reading the clock anew does not change a panel."""

    def __init__(self) -> None:
        self._kept: dict[str, int] = {}

    def of(self, key: str, age_ms: float | None, now_ms: float) -> int | None:
        """Return when it began, in milliseconds of the wall clock; None when nobody knows.

        No await.
        """
        if age_ms is None:
            return None
        found = round(now_ms - age_ms)
        kept = self._kept.pop(key, None)
        if kept is not None and abs(kept - found) < _STEADY_MS:
            found = kept
        self._kept[key] = found
        if len(self._kept) > _MAX_KEPT:
            self._kept.pop(next(iter(self._kept)))
        return found
