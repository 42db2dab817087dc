"""Small estimators and the log of what changed in them.

Owns the arithmetic of windows, medians and fading. Knows nothing of nodes or models beyond their
ids.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections import OrderedDict

    from sollold.core.model import Digest, NodeId

WINDOW = 9
"""Samples an estimate is the median of: four outliers cannot move it past their neighbours."""
SAMPLE_LIFE_S = 3600.0
"""Older samples make room for newer ones even while the window is not full ..."""
MIN_WINDOW = 3
"""... as long as so many are left."""
MEAN_MEMORY = 64.0
"""Values a fading mean remembers."""
MEAN_CLIP = 6.0
"""One value counts for at most so many means."""
MEAN_HALF_LIFE_S = 7 * 86400.0

K = TypeVar("K")
V = TypeVar("V")


def half(age_s: float, half_life_s: float) -> float:
    """Return what is left of 1 after `age_s`."""
    return float(0.5 ** (max(0.0, age_s) / half_life_s))


def trim(table: OrderedDict[K, V], limit: int) -> None:
    """Drop the oldest entries beyond `limit`."""
    while len(table) > limit:
        table.popitem(last=False)


class Series:
    """A window of samples and their median."""

    __slots__ = ("_ordered", "_samples", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self._samples: deque[tuple[float, float]] = deque()
        self._ordered: list[float] = []

    @property
    def lowest(self) -> float | None:
        """The smallest sample of the window."""
        return self._ordered[0] if self._ordered else None

    def add(self, value: float, now_s: float) -> None:
        """Take one sample."""
        samples, ordered = self._samples, self._ordered
        samples.append((now_s, value))
        insort(ordered, value)
        oldest_s = now_s - SAMPLE_LIFE_S
        while len(samples) > WINDOW or (len(samples) > MIN_WINDOW and samples[0][0] < oldest_s):
            del ordered[bisect_left(ordered, samples.popleft()[1])]
        middle = len(ordered) // 2
        if len(ordered) % 2:
            self.value = ordered[middle]
        else:
            self.value = (ordered[middle - 1] + ordered[middle]) / 2


class FadingMean:
    """A mean that starts at a prior, forgets slowly and gives no single value much weight."""

    __slots__ = ("_mean", "_prior", "_prior_weight", "at_s", "weight")

    def __init__(self, prior: float, prior_weight: float, now_s: float) -> None:
        self._prior = prior
        self._prior_weight = prior_weight
        self._mean = prior
        self.weight = 0.0
        self.at_s = now_s

    def add(self, value: float, now_s: float, weight: float = 1.0) -> None:
        """Take one value."""
        weight = min(weight, MEAN_MEMORY)
        clipped = min(value, MEAN_CLIP * self.expect(now_s))
        faded = self.weight * half(now_s - self.at_s, MEAN_HALF_LIFE_S)
        self.weight = min(faded + weight, MEAN_MEMORY)
        self._mean += (clipped - self._mean) * weight / self.weight
        self.at_s = now_s

    def expect(self, now_s: float) -> float:
        """Return the mean now; old knowledge yields to the prior."""
        weight = self.weight * half(now_s - self.at_s, MEAN_HALF_LIFE_S)
        total = weight + self._prior_weight
        return (self._mean * weight + self._prior * self._prior_weight) / total


class ChangeLog:
    """Which (node, digest) pairs changed since when; a reader that comes too late starts over."""

    __slots__ = ("_entries", "epoch")

    def __init__(self, limit: int = 256) -> None:
        self.epoch = 0
        self._entries: deque[tuple[NodeId | None, Digest | None]] = deque(maxlen=limit)

    def add(self, node: NodeId | None, digest: Digest | None) -> None:
        """Note a change; None stands for all."""
        self.epoch += 1
        self._entries.append((node, digest))

    def since(self, epoch: int) -> list[tuple[NodeId | None, Digest | None]] | None:
        """Return changes after `epoch`, oldest first; None when they are no longer known."""
        missing = self.epoch - epoch
        if missing > len(self._entries):
            return None
        return list(islice(self._entries, len(self._entries) - missing, None))
