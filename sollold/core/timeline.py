"""A node's near future, as far as one pass over the queue needs it.

Owns what runs on a node, what this pass promised, and therefore when the node could take another
request. Must not price or choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.core.estimate import Offer, remainder, trusted_residents
from sollold.core.slots import allowance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sollold.core.estimate import Row
    from sollold.core.model import Digest, LoadOptions, NodeView, Running

SHORTEST_LOAD_S = 0.001
"""Keeps a load in progress visible when nobody said how long it takes."""


class _Lane:
    """One loaded, or loading, model of a node."""

    __slots__ = ("active", "ends", "is_here", "is_leaving", "options", "ready_s")

    def __init__(self, options: LoadOptions) -> None:
        self.options = options
        self.ends: list[float] = []
        self.active = 0
        self.ready_s = 0.0
        self.is_here = False
        """Loaded or loading now; false while only a promise."""
        self.is_leaving = False

    def serves(self, row: Row) -> bool:
        return self.options == row.runner.options or row.is_assumed

    def idle_s(self) -> float:
        return max(self.ends)

    def free_s(self, slots: int) -> float:
        if len(self.ends) < slots:
            return self.ready_s
        return max(self.ready_s, sorted(self.ends)[-slots])


class Timeline:
    """A node's near future in seconds from now: what runs there and what this pass promised."""

    __slots__ = ("_ends", "_idle", "_lanes", "_load_free_s", "_room", "_unsure", "active")

    def __init__(self, view: NodeView, running: Iterable[Running], now_s: float) -> None:
        self.active = 0
        self._room = max(1, view.resident_room)
        self._lanes: dict[Digest, _Lane] = {}
        self._ends: list[float] = []
        self._load_free_s = 0.0
        for one in running:
            self._add(one, now_s)
        self._idle = [
            resident.digest
            for resident in trusted_residents(view)
            if resident.digest not in self._lanes
        ]
        self._unsure = 0
        if len(self._idle) + len(self._lanes) > self._room:
            # The view is older than a load of ours, and the node chose what made room for it.
            self._unsure = max(0, self._room - len(self._lanes))
            self._idle = []

    def offer(self, row: Row) -> Offer:
        """Return when this node could take a request of the row's sort."""
        digest = row.runner.digest
        lane = self._lanes.get(digest)
        if lane is not None and not lane.is_leaving:
            return self._lane_offer(row, lane)
        if row.is_resident and (digest in self._idle or not row.load_s):
            return Offer(0.0, 0.0, 0.0, self.active + 1, True)
        return self._load_offer(row)

    def may_overlap(self, row: Row, service_s: float) -> bool:
        """Tell whether a request beyond the slots of a full runner keeps it from idling."""
        lane = self._lanes[row.runner.digest]
        return lane.is_here and lane.active < allowance(row.slots, service_s, row.round_trip_s)

    def take(self, row: Row, offer: Offer, service_s: float) -> None:
        """Promise the offer to a request."""
        if offer.swap_s > 0:
            self._evict(row.runner.digest)
        lane = self._lane_for(row)
        end = offer.wait_s + service_s
        lane.ends.append(end)
        self._ends.append(end)
        if offer.load_s > 0:
            lane.ready_s = self._load_free_s = offer.wait_s + offer.load_s
        if offer.starts_now:
            lane.is_here = True
            lane.active += 1
            self.active += 1

    def _add(self, one: Running, now_s: float) -> None:
        elapsed = now_s - one.started_s
        end = remainder(one.expected_s, elapsed)
        lane = self._lanes.get(one.runner.digest)
        if lane is None:
            lane = self._lanes[one.runner.digest] = _Lane(one.runner.options)
            lane.is_here = True
        lane.ends.append(end)
        lane.active += 1
        self._ends.append(end)
        self.active += 1
        if one.is_loading:
            ready = max(remainder(one.expected_load_s, elapsed), SHORTEST_LOAD_S)
            lane.ready_s = max(lane.ready_s, ready)
            self._load_free_s = max(self._load_free_s, ready)

    def _lane_offer(self, row: Row, lane: _Lane) -> Offer:
        if not lane.serves(row):
            start = max(self._load_free_s, lane.idle_s())
            occupancy = self._running_at(start + row.load_s) + 1
            return Offer(start, row.load_s, row.load_s, occupancy, False)
        wait = lane.free_s(row.slots)
        if lane.is_here and lane.active < row.slots:
            return Offer(wait, 0.0, 0.0, self.active + 1, True)
        return Offer(wait, 0.0, 0.0, self._running_at(wait) + 1, False)

    def _load_offer(self, row: Row) -> Offer:
        staying = [lane.idle_s() for lane in self._lanes.values() if not lane.is_leaving]
        is_clash = row.runner.digest in self._idle
        unused = len(self._idle) + self._unsure
        evicts = is_clash or unused + len(staying) >= self._room
        start = self._load_free_s
        if evicts and not unused:
            start = max(start, min(staying, default=0.0))
        swap = row.load_s if evicts else 0.0
        occupancy = self._running_at(start + row.load_s) + 1
        return Offer(start, row.load_s, swap, occupancy, start <= 0)

    def _running_at(self, at_s: float) -> int:
        return sum(end > at_s for end in self._ends)

    def _evict(self, digest: Digest) -> None:
        lane = self._lanes.get(digest)
        if lane is not None and not lane.is_leaving:
            lane.is_leaving = True
        elif digest in self._idle:
            self._idle.remove(digest)
        elif self._idle or self._unsure:
            # Which of them goes is the node's choice: none can be counted on.
            self._unsure += len(self._idle) - 1
            self._idle = []
        else:
            staying = [lane for lane in self._lanes.values() if not lane.is_leaving]
            for lane in sorted(staying, key=_Lane.idle_s)[:1]:
                lane.is_leaving = True

    def _lane_for(self, row: Row) -> _Lane:
        digest = row.runner.digest
        lane = self._lanes.get(digest)
        if lane is None or lane.is_leaving:
            lane = self._lanes[digest] = _Lane(row.runner.options)
            if digest in self._idle:
                self._idle.remove(digest)
        return lane
