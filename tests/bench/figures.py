"""What was measured: values per peer and round, their spread, and the budget beside them."""

from __future__ import annotations

import statistics
from typing import NamedTuple

import msgspec

DIRECT, NGINX, BARE, SOLLOLD = "direct", "nginx", "bare aiohttp", "sollold"
PEERS = (DIRECT, NGINX, BARE, SOLLOLD)


class Spread(NamedTuple):
    """Median and quartiles over rounds."""

    median: float
    low: float
    high: float


class Figure(msgspec.Struct, kw_only=True):
    """One line of the table."""

    key: str
    what: str
    unit: str
    budget: float | None = None
    """As `docs/benchmarks.md` states it; None: there is none."""
    is_more_better: bool = False
    rounds: dict[str, list[float]] = {}
    notes: list[str] = []

    def add(self, peer: str, value: float) -> None:
        """One round's value."""
        self.rounds.setdefault(peer, []).append(value)

    def spread(self, peer: str) -> Spread | None:
        """Median and quartiles of a peer; None when it was not measured."""
        values = self.rounds.get(peer)
        return spread_of(values) if values else None

    def ratio(self, peer: str) -> float | None:
        """The daemon's median against this peer's."""
        own, other = self.spread(SOLLOLD), self.spread(peer)
        if own is None or other is None or other.median <= 0:
            return None
        return own.median / other.median

    def is_within(self) -> bool | None:
        """Whether the daemon's median keeps the budget; None when nothing can be said."""
        own = self.spread(SOLLOLD)
        if self.budget is None or own is None:
            return None
        return own.median >= self.budget if self.is_more_better else own.median <= self.budget


def spread_of(values: list[float]) -> Spread:
    """Median and quartiles of some values."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
