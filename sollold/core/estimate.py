"""What a request would cost on a node, in seconds.

Owns the terms of the estimate and the picture of a node's near future. Must not choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import msgspec

from sollold.core.model import Candidate, NodeId, NodeKind, NodeView, RunnerKey
from sollold.core.pair import Rates, bucket
from sollold.core.slots import ROUND_TRIPS

if TYPE_CHECKING:
    from sollold.core.model import (
        LoadOptions,
        ModelView,
        ResidentView,
        WaitingRequest,
    )

REMAINDER_OF_EXPECTED = 0.25
REMAINDER_OF_ELAPSED = 0.5
STREAM_DECODE_PART = 0.5
"""A streamed answer is compared by the mean of first token and completion."""


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
    is_full: bool
    """One more model would evict one."""
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
    residents = trusted_residents(view)
    resident = next((one for one in residents if one.digest == model.digest), None)
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
        is_full=len(residents) >= max(1, view.resident_room),
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


def trusted_residents(view: NodeView) -> tuple[ResidentView, ...]:
    """Return the newest models in memory: more than have room were noted before a fresh list."""
    return view.residents[-max(1, view.resident_room) :]


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
    evicts = row.is_clash or row.is_full
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
