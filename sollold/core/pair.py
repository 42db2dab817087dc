"""What one node does with one model: samples in, rates out.

Owns the rules by which a finished request may teach a rate. Must not know other models or other
nodes beyond the best figures it is handed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sollold.core.model import Digest, NodeId, TaskKind
from sollold.core.series import Series, half

if TYPE_CHECKING:
    from collections.abc import Iterable

PRIOR_PREFILL_TPS = 400.0
"""Prompt tokens per second before anything is known: a small GPU with an 8B model."""
PRIOR_DECODE_TPS = 20.0
"""Answer tokens per second before anything is known: the same small GPU."""
PRIOR_EMBED_TPS = 1000.0
"""Embedded tokens per second before anything is known."""
PRIOR_LOAD_S = 8.0
"""A few gigabytes from a solid-state disk into memory."""
PRIOR_OVERHEAD_S = 0.1
"""Time to first token of the smallest request: template, tokenizer, network."""
OCCUPANCY_SHARE = (1.0, 0.6, 0.4, 0.25)
"""Decode rate of one of 1, 2, 3-4, 5 or more parallel requests, as a part of running alone."""
STALE_HALF_LIFE_S = 6 * 3600.0
"""An unused pair drifts towards its model's best, half of the way in this time ..."""
STALE_GAIN = 2.0
"""... but at most by this factor: a box seen to be hopeless is not tried again every day."""
MIN_PREFILL_TOKENS = 16.0
"""Shorter prompts measure the overhead, not the prefill rate."""
MIN_CLOCKED_PREFILL_TOKENS = 256.0
"""The same when only our own clock tells, which has the overhead in it."""
MIN_DECODE_TOKENS = 8.0
"""Shorter answers measure the clock, not the decode rate."""
MIN_CLOCKED_DECODE_TOKENS = 32.0
"""The same for an answer whose parts nobody timed."""
FRESH_SAMPLES = 3
"""So many samples are news in themselves ..."""
NEWS_STEP = 0.03
"""... later ones when a figure moved by this part."""
MIN_EMBED_TOKENS = 64.0
"""Shorter texts measure the overhead, not the embedding rate."""

Decode = tuple[float, float, float, float]
Figures = tuple[float | None, ...]
"""Prefill, four decode rates, embedding, load, overhead; the last two negative: more is better."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one finished request showed. Zero means "not reported" in every duration."""

    kind: TaskKind
    prompt_tokens: float = 0.0
    """As the engine counted them, tokens reused from its cache included."""
    prompt_s: float = 0.0
    output_tokens: float = 0.0
    output_s: float = 0.0
    load_s: float = 0.0
    """As the engine reported it: the time until a runner was granted, waiting included."""
    first_s: float = 0.0
    """From sending the request to its first content, on our clock; zero when not streamed."""
    total_s: float = 0.0
    """From sending the request to the end of the answer, on our clock."""
    occupancy: int = 1
    """Requests that ran on the node while it ran, itself included."""
    prefill_is_known: bool = False
    """No token of the prompt came from the engine's cache."""
    is_load: bool = False
    """The runner was not in memory when the request was sent."""
    was_queued: bool = False
    """It may have waited inside the node."""
    frames: int = 0
    """Content frames of a stream that reports no durations."""
    text_bytes: int = 0
    """Length of the prompt when it was text only, else zero."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What to expect of one node with one model."""

    prefill_tps: float
    decode: Decode
    """Tokens per second of one request among 1, 2, 3-4, 5 or more."""
    embed_tps: float
    load_s: float
    overhead_s: float
    samples: int = 0
    """Finished requests behind these figures; zero when they are borrowed or prior."""
    is_measured: bool = False
    is_prefill_measured: bool = False

    def decode_tps(self, occupancy: int) -> float:
        """Return tokens per second of one of `occupancy` parallel requests."""
        return self.decode[bucket(occupancy)]


class PairRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table of rates; None where nothing was measured."""

    node: NodeId
    digest: Digest
    prefill_tps: float | None
    decode: tuple[float | None, float | None, float | None, float | None]
    embed_tps: float | None
    load_s: float | None
    overhead_s: float | None
    samples: int
    age_s: float
    """Since the last sample."""


NOTHING: Figures = (None,) * 8
PRIOR_RATES = Rates(
    prefill_tps=PRIOR_PREFILL_TPS,
    decode=(
        PRIOR_DECODE_TPS * OCCUPANCY_SHARE[0],
        PRIOR_DECODE_TPS * OCCUPANCY_SHARE[1],
        PRIOR_DECODE_TPS * OCCUPANCY_SHARE[2],
        PRIOR_DECODE_TPS * OCCUPANCY_SHARE[3],
    ),
    embed_tps=PRIOR_EMBED_TPS,
    load_s=PRIOR_LOAD_S,
    overhead_s=PRIOR_OVERHEAD_S,
)


def bucket(occupancy: int) -> int:
    """Return the index of an occupancy in `Rates.decode`."""
    if occupancy <= 1:
        return 0
    if occupancy == 2:
        return 1
    return 2 if occupancy <= 4 else 3


class Pair:
    """The windows of one node with one model."""

    __slots__ = (
        "_decode",
        "_embed",
        "_figures",
        "_load",
        "_overhead",
        "_prefill",
        "_prefill_caps",
        "at_s",
        "samples",
        "told",
        "told_cap",
    )

    def __init__(self) -> None:
        self.samples = 0
        self.at_s = 0.0
        self._prefill = Series()
        self._prefill_caps = Series()
        self._decode = (Series(), Series(), Series(), Series())
        self._embed = Series()
        self._load = Series()
        self._overhead = Series()
        self._figures: Figures | None = None
        self.told: Figures = NOTHING
        """The figures that caches were last told of."""
        self.told_cap: float | None = None

    def take(self, sample: Sample, now_s: float) -> None:
        """Learn what the sample may teach."""
        self.samples += 1
        self.at_s = now_s
        self._figures = None
        if sample.is_load and not sample.was_queued and sample.load_s > 0:
            self._load.add(sample.load_s, now_s)
        if sample.kind is TaskKind.EMBED:
            self._take_embed(sample, now_s)
            return
        self._take_overhead(sample, now_s)
        self._take_prefill(sample, now_s)
        self._take_decode(sample, now_s)

    def rates(self, best: Rates, now_s: float) -> Rates:
        """Return own figures where there are any, else the model's best."""
        gain = STALE_GAIN ** (1.0 - half(now_s - self.at_s, STALE_HALF_LIFE_S))
        prefill, one, two, four, many, embed, load, overhead = self.figures()
        cap = self._prefill_caps.lowest
        return Rates(
            prefill_tps=min(best.prefill_tps, _known(cap, best.prefill_tps))
            if prefill is None
            else _rise(prefill, best.prefill_tps, gain),
            decode=(
                _rise(one, best.decode[0], gain),
                _rise(two, best.decode[1], gain),
                _rise(four, best.decode[2], gain),
                _rise(many, best.decode[3], gain),
            ),
            embed_tps=_rise(embed, best.embed_tps, gain),
            load_s=best.load_s if load is None else max(-load / gain, min(-load, best.load_s)),
            overhead_s=best.overhead_s if overhead is None else -overhead,
            samples=self.samples,
            is_measured=one is not None or embed is not None,
            is_prefill_measured=prefill is not None,
        )

    def figures(self) -> Figures:
        """Return everything measured."""
        if self._figures is None:
            load, overhead = self._load.value, self._overhead.value
            self._figures = (
                self._prefill.value,
                *_fill([series.value for series in self._decode]),
                self._embed.value,
                None if load is None else -load,
                None if overhead is None else -overhead,
            )
        return self._figures

    def is_news(self) -> bool:
        """Tell whether the figures moved enough to be told; they then count as told."""
        figures, cap = self.figures(), self._prefill_caps.lowest
        has_moved = _moved(cap, self.told_cap) or any(map(_moved, figures, self.told))
        if self.samples > FRESH_SAMPLES and not has_moved:
            return False
        self.told, self.told_cap = figures, cap
        return True

    def row(self, node: NodeId, digest: Digest, now_s: float) -> PairRow:
        """Return the measured figures as a value."""
        one, two, four, many = self._decode
        return PairRow(
            node=node,
            digest=digest,
            prefill_tps=self._prefill.value,
            decode=(one.value, two.value, four.value, many.value),
            embed_tps=self._embed.value,
            load_s=self._load.value,
            overhead_s=self._overhead.value,
            samples=self.samples,
            age_s=now_s - self.at_s,
        )

    def restore(self, row: PairRow, now_s: float) -> None:
        """Take an earlier row's figures as one sample each."""
        self.samples += row.samples
        self.at_s = now_s - row.age_s
        self._figures = None
        series = (self._prefill, *self._decode, self._embed, self._load, self._overhead)
        figures = (row.prefill_tps, *row.decode, row.embed_tps, row.load_s, row.overhead_s)
        for one, value in zip(series, figures, strict=True):
            if value is not None:
                one.add(value, self.at_s)

    def _take_embed(self, sample: Sample, now_s: float) -> None:
        seconds = sample.total_s - sample.load_s
        if seconds <= 0 or sample.was_queued or (sample.is_load and not sample.load_s):
            return
        if sample.prompt_tokens < MIN_EMBED_TOKENS:
            self._overhead.add(seconds, now_s)
            return
        # One equation for two unknowns: what long texts need at least bounds the overhead.
        overhead = min(_known(self._overhead.value, PRIOR_OVERHEAD_S), seconds / 2)
        self._overhead.add(overhead, now_s)
        self._embed.add(sample.prompt_tokens / (seconds - overhead), now_s)

    def _take_overhead(self, sample: Sample, now_s: float) -> None:
        if sample.prompt_s > 0 and sample.output_s > 0 and sample.total_s > 0:
            engine_s = sample.load_s + sample.prompt_s + sample.output_s
            if sample.load_s > 0 or not (sample.is_load or sample.was_queued):
                self._overhead.add(max(0.0, sample.total_s - engine_s), now_s)
        elif self._is_clocked(sample) and sample.prompt_tokens < MIN_PREFILL_TOKENS:
            self._overhead.add(sample.first_s, now_s)

    def _take_prefill(self, sample: Sample, now_s: float) -> None:
        if sample.prompt_tokens < MIN_PREFILL_TOKENS:
            return
        if not sample.prefill_is_known:
            if sample.prompt_s > 0 and sample.occupancy == 1:
                # Reuse can only flatter the rate, so the true one is no higher.
                self._prefill_caps.add(sample.prompt_tokens / sample.prompt_s, now_s)
            return
        if sample.occupancy > 1 and self._prefill.value is not None:
            return
        seconds = sample.prompt_s
        if not seconds and self._is_clocked(sample):
            if sample.prompt_tokens < MIN_CLOCKED_PREFILL_TOKENS:
                return
            overhead = _known(self._overhead.value, 0.0)
            seconds = max(sample.first_s - overhead, sample.first_s / 2)
        if seconds > 0:
            self._prefill.add(sample.prompt_tokens / seconds, now_s)

    def _take_decode(self, sample: Sample, now_s: float) -> None:
        series = self._decode[bucket(sample.occupancy)]
        streamed_s = sample.total_s - sample.first_s
        if sample.output_s > 0:
            if sample.output_tokens >= MIN_DECODE_TOKENS:
                series.add(sample.output_tokens / sample.output_s, now_s)
        elif sample.first_s > 0:
            if sample.frames >= MIN_DECODE_TOKENS and streamed_s > 0:
                series.add((sample.frames - 1) / streamed_s, now_s)
        elif (
            sample.output_tokens >= MIN_CLOCKED_DECODE_TOKENS
            and sample.total_s > 0
            and not (sample.is_load or sample.was_queued)
        ):
            series.add(sample.output_tokens / sample.total_s, now_s)

    @staticmethod
    def _is_clocked(sample: Sample) -> bool:
        return sample.first_s > 0 and not (sample.is_load or sample.was_queued)


def best_of(pairs: Iterable[Pair]) -> Figures:
    """Return the best figure of each sort; None where nobody was measured."""
    columns = zip(*(pair.figures() for pair in pairs), strict=True)
    return tuple(
        max((value for value in column if value is not None), default=None) for column in columns
    )


def rates_of(figures: Figures) -> Rates:
    """Turn figures into rates to borrow, with the prior where nobody was measured."""
    prefill, one, two, four, many, embed, load, overhead = figures
    prior = PRIOR_RATES
    return Rates(
        prefill_tps=_known(prefill, prior.prefill_tps),
        decode=(
            _known(one, prior.decode[0]),
            _known(two, prior.decode[1]),
            _known(four, prior.decode[2]),
            _known(many, prior.decode[3]),
        ),
        embed_tps=_known(embed, prior.embed_tps),
        load_s=-_known(load, -prior.load_s),
        overhead_s=-_known(overhead, -prior.overhead_s),
    )


def _known(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _rise(value: float | None, best: float, gain: float) -> float:
    """Lift a measured figure towards the best as it grows stale."""
    return best if value is None else min(value * gain, max(value, best))


def _fill(values: list[float | None]) -> list[float | None]:
    """Fill gaps between occupancies from the nearest measured one, the lower of two."""
    for index in range(1, 4):
        if values[index] is None:
            values[index] = _scaled(values[index - 1], index - 1, index)
    for index in range(2, -1, -1):
        if values[index] is None:
            values[index] = _scaled(values[index + 1], index + 1, index)
    return values


def _scaled(value: float | None, near: int, index: int) -> float | None:
    return None if value is None else value * OCCUPANCY_SHARE[index] / OCCUPANCY_SHARE[near]


def _moved(new: float | None, old: float | None) -> bool:
    if new is None or old is None:
        return new is not old
    return abs(new - old) > NEWS_STEP * abs(old)
