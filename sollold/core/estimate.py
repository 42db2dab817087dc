"""What a request would cost on a node, in seconds.

Owns the terms of the estimate and the picture of a node's near future. Must not choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import msgspec

from sollold.core.model import Candidate, NodeId, NodeKind, NodeView, RunnerKey
from sollold.core.pair import Rates, bucket
from sollold.core.slots import ROUND_TRIPS, allowance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sollold.core.model import (
        Digest,
        LoadOptions,
        ModelView,
        ResidentView,
        Running,
        WaitingRequest,
    )

REMAINDER_OF_EXPECTED = 0.25
REMAINDER_OF_ELAPSED = 0.5
STREAM_DECODE_PART = 0.5
"""A streamed answer is compared by the mean of first token and completion."""
SHORTEST_LOAD_S = 0.001
"""Keeps a load in progress visible when nobody said how long it takes."""


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Multipliers of the terms of a cost."""

    wait: float = 1.0
    load: float = 1.0
    swap: float = 1.0
    foreign: float = 1.0
    prefill: float = 1.0
    decode: float = 1.0
    risk: float = 1.0
    tier: float = 1.0


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of the estimate that are not multipliers."""

    tier_step_s: float = 0.05
    """Price of each tier below the best."""
    caution: float = 0.25
    """Part of the service time beyond `curiosity_s` that an unmeasured node is charged."""
    curiosity_s: float = 2.0
    """Service shorter than this is cheaper on an unmeasured node: small requests measure it."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one node offers one sort of request while nothing of ours runs there."""

    node: NodeId
    view: NodeView
    runner: RunnerKey
    rates: Rates
    slots: int
    is_resident: bool
    """The view lists a runner that fits."""
    is_assumed: bool
    """It fits as far as anybody can tell: somebody else loaded it."""
    is_clash: bool
    """The view lists the model, loaded with other options."""
    load_s: float
    """What loading would take; zero for kinds that do not load on request."""
    room: int
    round_trip_s: float
    overhead_s: float
    prompt_token_s: float
    output_token_s: tuple[float, float, float, float]
    """Per occupancy, as in `Rates.decode`."""
    failure_share: float
    caution: float
    curiosity_s: float
    tier_s: float
    is_plain: bool
    """Loaded, one slot, and service is long beside a round trip: busy means waiting, no more."""
    salt: float
    """Fixed for the node, 0 to 1; orders equals together with the dice."""


Facts = tuple[NodeId, float, float, float, float, float, float, float, float, bool]
"""Node; load, swap; overhead, per prompt token, per output token; risk per second of service and
what is taken off it; tier; whether it is measured."""


class Offer(NamedTuple):
    """When a node could take a request and what it would have to do first."""

    wait_s: float
    load_s: float
    swap_s: float
    occupancy: int
    starts_now: bool


class Cost(NamedTuple):
    """An offer priced for one request."""

    total_s: float
    first_s: float
    """To the first token, own loading included, waiting and other people's load not."""
    service_s: float
    """Loading, prefill and decode."""


def remainder(expected_s: float, elapsed_s: float) -> float:
    """Return what a running request will still need: what has lasted long will last longer."""
    return max(
        expected_s - elapsed_s,
        REMAINDER_OF_EXPECTED * expected_s,
        REMAINDER_OF_ELAPSED * elapsed_s,
    )


def fits(resident: ResidentView, options: LoadOptions) -> bool:
    """Tell whether a loaded model serves requests with these options without a reload."""
    if resident.options is not None:
        return resident.options == options
    asked = dict(options).get("num_ctx")
    return asked is None or asked == resident.context_length


def make_row(
    view: NodeView,
    model: ModelView,
    rates: Rates,
    *,
    options: LoadOptions,
    is_embed: bool,
    slots: int,
    failure_share: float,
    tuning: Tuning,
) -> Row:
    """Gather what depends neither on load nor on size."""
    loads = is_self_loading(view, model)
    resident = next((one for one in view.residents if one.digest == model.digest), None)
    is_resident = not loads or (resident is not None and fits(resident, options))
    decode = rates.decode
    round_trip_s = (view.probe_ms or 0.0) / 1000.0
    return Row(
        node=view.id,
        view=view,
        runner=runner_of(view, model, options),
        rates=rates,
        slots=slots,
        is_resident=is_resident,
        is_assumed=is_resident and resident is not None and resident.options is None,
        is_clash=resident is not None and not is_resident,
        load_s=rates.load_s if loads else 0.0,
        room=max(1, view.resident_room),
        round_trip_s=round_trip_s,
        overhead_s=rates.overhead_s,
        prompt_token_s=1.0 / (rates.embed_tps if is_embed else rates.prefill_tps),
        output_token_s=(0.0, 0.0, 0.0, 0.0)
        if is_embed
        else (1.0 / decode[0], 1.0 / decode[1], 1.0 / decode[2], 1.0 / decode[3]),
        failure_share=failure_share,
        caution=0.0 if rates.is_measured else tuning.caution,
        curiosity_s=tuning.curiosity_s,
        tier_s=(view.tier - 1) * tuning.tier_step_s,
        is_plain=is_resident and slots == 1 and rates.overhead_s >= ROUND_TRIPS * round_trip_s,
        salt=crc32(view.id.encode()) / 2**32,
    )


def is_self_loading(view: NodeView, model: ModelView) -> bool:
    """Tell whether the node loads and evicts this model on request."""
    return view.kind is NodeKind.OLLAMA and not model.is_remote


def runner_of(view: NodeView, model: ModelView, options: LoadOptions) -> RunnerKey:
    """Return the runner that would serve a request; only Ollama loads by the request's options."""
    return RunnerKey(model.digest, options if is_self_loading(view, model) else ())


_READY = Offer(0.0, 0.0, 0.0, 1, True)


def idle_offer(row: Row) -> Offer:
    """Return the offer of a node on which nothing of ours runs."""
    if row.is_resident:
        return _READY
    evicts = row.is_clash or len(row.view.residents) >= row.room
    return Offer(0.0, row.load_s, row.load_s if evicts else 0.0, 1, True)


def price(
    row: Row, offer: Offer, request: WaitingRequest, foreign_s: float, weights: Weights
) -> Cost:
    """Turn an offer into seconds."""
    prefill = row.overhead_s + _cold_tokens(row, request) * row.prompt_token_s
    decode = request.output_tokens * row.output_token_s[bucket(offer.occupancy)]
    service = offer.load_s + prefill + decode
    total = (
        weights.wait * offer.wait_s
        + weights.load * offer.load_s
        + weights.swap * offer.swap_s
        + weights.foreign * foreign_s
        + weights.prefill * prefill
        + weights.decode * decode * (STREAM_DECODE_PART if request.is_stream else 1.0)
        + weights.risk * (row.failure_share * service + row.caution * (service - row.curiosity_s))
        + weights.tier * row.tier_s
    )
    return Cost(total, offer.load_s + prefill, service)


def linear(row: Row, weights: Weights, *, is_stream: bool) -> tuple[float, float, float]:
    """Return the price of the idle offer as constant, per prompt token and per output token.

    Equals `price` with the idle offer and no foreign load; a fleet is priced in one comprehension.
    """
    offer = idle_offer(row)
    spread = weights.risk * (row.failure_share + row.caution)
    stream = STREAM_DECODE_PART if is_stream else 1.0
    return (
        weights.load * offer.load_s
        + weights.swap * offer.swap_s
        + weights.prefill * row.overhead_s
        + spread * (offer.load_s + row.overhead_s)
        - weights.risk * row.caution * row.curiosity_s
        + weights.tier * row.tier_s,
        (weights.prefill + spread) * row.prompt_token_s,
        (weights.decode * stream + spread) * row.output_token_s[0],
    )


def facts(row: Row) -> Facts:
    """Return what the candidate of an idle node is made of, in the order of `Facts`."""
    offer = idle_offer(row)
    return (
        row.node,
        offer.load_s,
        offer.swap_s,
        row.overhead_s,
        row.prompt_token_s,
        row.output_token_s[0],
        row.failure_share + row.caution,
        row.caution * row.curiosity_s,
        row.tier_s,
        row.rates.is_measured,
    )


def candidate(
    row: Row, offer: Offer, request: WaitingRequest, foreign_s: float, total_s: float
) -> Candidate:
    """Return the terms of a known total as the value that every surface shows."""
    prefill = row.overhead_s + _cold_tokens(row, request) * row.prompt_token_s
    decode = request.output_tokens * row.output_token_s[bucket(offer.occupancy)]
    wait, load, swap, _, _ = offer
    service = load + prefill + decode
    risk = row.failure_share * service + row.caution * (service - row.curiosity_s)
    # The plain constructor of a named tuple costs three times as much, once per node.
    return tuple.__new__(
        Candidate,
        (row.node, total_s, wait, load, swap, foreign_s, prefill, decode, risk, row.tier_s,
         row.rates.is_measured, ""),
    )  # fmt: skip


def _cold_tokens(row: Row, request: WaitingRequest) -> float:
    if not request.warm:
        return request.prompt_tokens
    return max(0.0, request.prompt_tokens - request.warm.get(row.node, 0.0))


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

    __slots__ = ("_ends", "_idle", "_lanes", "_load_free_s", "_room", "active")

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
            for resident in sorted(view.residents, key=_expiry)
            if resident.digest not in self._lanes
        ]
        if self._load_free_s > 0:
            # The view is older than the load; what expires first made room for it.
            excess = len(self._idle) + len(self._lanes) - self._room
            del self._idle[: max(0, excess)]

    def offer(self, row: Row) -> Offer:
        """Return when this node could take a request of the row's sort."""
        digest = row.runner.digest
        lane = self._lanes.get(digest)
        if lane is not None and not lane.is_leaving:
            return self._lane_offer(row, lane)
        if row.is_resident and (digest in self._idle or not row.load_s):
            return Offer(0.0, 0.0, 0.0, self.active + 1, True)
        return self._load_offer(row)

    def neighbours(self, row: Row) -> list[float]:
        """Return when the work of the node's other models ends."""
        return [
            end
            for digest, lane in self._lanes.items()
            if digest != row.runner.digest and lane.active
            for end in lane.ends
        ]

    def may_overlap(self, row: Row, service_s: float) -> bool:
        """Tell whether a request beyond the slots of a full runner keeps it from idling."""
        lane = self._lanes[row.runner.digest]
        return lane.is_here and lane.active < allowance(row.slots, service_s, row.round_trip_s)

    def take(self, row: Row, offer: Offer, service_s: float) -> None:
        """Promise the offer to a request."""
        if offer.load_s > 0 and offer.swap_s > 0:
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
        evicts = is_clash or len(self._idle) + len(staying) >= self._room
        start = self._load_free_s
        if evicts and not self._idle:
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
        elif self._idle:
            del self._idle[0]
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


def _expiry(resident: ResidentView) -> str:
    return resident.expires_at
