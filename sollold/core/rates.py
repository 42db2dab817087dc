"""The table of what each node was measured to do with each model.

Owns rates per (node, digest), answer lengths per (digest, kind), other people's load and recent
failures per node. Reads no clock, and never applies one model's figures to another.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sollold.core.model import Digest, NodeId, TaskKind
from sollold.core.pair import (
    PRIOR_RATES,
    Figures,
    Pair,
    PairRow,
    Rates,
    Sample,
    best_of,
    bucket,
    rates_of,
)
from sollold.core.series import ChangeLog, FadingMean, Series, half, trim

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PairRow", "RateTable", "Rates", "RatesSnapshot", "Sample", "bucket"]

PRIOR_OUTPUT_TOKENS = 256.0
"""Length of an answer of a model that has not answered yet."""
PRIOR_OUTPUT_WEIGHT = 2.0
"""How many answers that prior counts for beside seen ones."""
PRIOR_BYTES_PER_TOKEN = 4.0
"""English text in the usual vocabularies."""
MIN_TEXT_TOKENS = 16.0
"""Shorter prompts are mostly template and say little about bytes per token."""
BORROW_STEP = 0.1
"""Relative change of a model's best figures from which those who borrow them are told."""
FOREIGN_HALF_LIFE_S = 60.0
FOREIGN_GAIN = 0.5
"""Part of a new residual that enters the foreign load at once."""
FOREIGN_SLACK = 0.25
"""Part of a prediction by which it may be missed before others are suspected."""
FOREIGN_FLOOR_S = 0.05
"""Less than this is noise and is dropped."""
OUTCOME_HALF_LIFE_S = 300.0
OUTCOME_PRIOR = 4.0
"""Successes every node is credited with."""
MAX_PAIRS = 4096
MAX_MODELS = 1024
MAX_NODES = 1024


class LengthRow(msgspec.Struct, frozen=True, kw_only=True):
    """How long a model's answers get."""

    digest: Digest
    kind: TaskKind
    mean_tokens: float
    samples: float
    age_s: float


class RatesSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything learned, for tables and for keeping across a restart."""

    pairs: tuple[PairRow, ...] = ()
    lengths: tuple[LengthRow, ...] = ()
    bytes_per_token: dict[Digest, float] = {}


class RateTable:
    """Learned figures; `changes` tells caches which of them moved."""

    def __init__(self, *, max_pairs: int = MAX_PAIRS) -> None:
        self.changes = ChangeLog()
        self._max_pairs = max_pairs
        self._pairs: OrderedDict[tuple[NodeId, Digest], Pair] = OrderedDict()
        self._holders: dict[Digest, dict[NodeId, Pair]] = {}
        self._best: dict[Digest, _Best] = {}
        self._lengths: OrderedDict[tuple[Digest, TaskKind], FadingMean] = OrderedDict()
        self._widths: OrderedDict[Digest, Series] = OrderedDict()
        self._foreign: OrderedDict[NodeId, tuple[float, float]] = OrderedDict()
        self._outcomes: OrderedDict[NodeId, tuple[float, float, float]] = OrderedDict()

    @property
    def epoch(self) -> int:
        """Rises with every change of a rate or a failure share."""
        return self.changes.epoch

    def observe(self, node: NodeId, digest: Digest, sample: Sample, now_s: float) -> None:
        """Learn from one finished request."""
        pair = self._pair(node, digest)
        before = pair.figures()
        pair.take(sample, now_s)
        self._pairs.move_to_end((node, digest))
        if pair.is_news():
            self.changes.add(node, digest)
        self._follow(digest, before, pair.figures())
        if sample.output_tokens > 0 and sample.kind is not TaskKind.EMBED:
            self._length(digest, sample.kind, now_s).add(sample.output_tokens, now_s)
        if sample.text_bytes > 0 and sample.prompt_tokens >= MIN_TEXT_TOKENS:
            self._width(digest).add(sample.text_bytes / sample.prompt_tokens, now_s)

    def lookup(self, node: NodeId, digest: Digest, now_s: float) -> Rates:
        """Return what to expect of a node with a model: measured, borrowed or prior."""
        best = self._best.get(digest)
        rates = PRIOR_RATES if best is None else best.rates
        pair = self._pairs.get((node, digest))
        return rates if pair is None else pair.rates(rates, now_s)

    def expected_output(
        self, digest: Digest, kind: TaskKind, num_predict: int | None, now_s: float
    ) -> float:
        """Return the expected answer length in tokens, capped by a `num_predict` from 0 up."""
        if kind is TaskKind.EMBED:
            return 0.0
        length = self._lengths.get((digest, kind))
        mean = PRIOR_OUTPUT_TOKENS if length is None else length.expect(now_s)
        return mean if num_predict is None or num_predict < 0 else min(mean, float(num_predict))

    def bytes_per_token(self, digest: Digest) -> float:
        """Return how many bytes of text make one token of this model."""
        series = self._widths.get(digest)
        value = None if series is None else series.value
        return PRIOR_BYTES_PER_TOKEN if value is None else value

    def observe_first(self, node: NodeId, predicted_s: float, seen_s: float, now_s: float) -> None:
        """Compare a first token with its prediction, in which foreign load has no part."""
        slack = FOREIGN_SLACK * predicted_s + FOREIGN_FLOOR_S
        residual = max(0.0, seen_s - predicted_s - slack)
        known = self.foreign_s(node, now_s)
        value = known + FOREIGN_GAIN * (residual - known)
        self._foreign.pop(node, None)
        if value >= FOREIGN_FLOOR_S:
            self._foreign[node] = (value, now_s)
            trim(self._foreign, MAX_NODES)

    def foreign_s(self, node: NodeId, now_s: float) -> float:
        """Return by how much other people's work delays a request on this node."""
        entry = self._foreign.get(node)
        if entry is None:
            return 0.0
        value = entry[0] * half(now_s - entry[1], FOREIGN_HALF_LIFE_S)
        return value if value >= FOREIGN_FLOOR_S else 0.0

    def foreign(self, now_s: float) -> dict[NodeId, float]:
        """Return every node that others are seen to use, with its delay in seconds."""
        if not self._foreign:
            return {}
        loads = {node: self.foreign_s(node, now_s) for node in self._foreign}
        return {node: value for node, value in loads.items() if value > 0}

    def observe_outcome(self, node: NodeId, now_s: float, *, is_success: bool) -> None:
        """Count a request that a node answered, or failed by its own fault."""
        failed, total, at_s = self._outcomes.pop(node, (0.0, 0.0, now_s))
        fade = half(now_s - at_s, OUTCOME_HALF_LIFE_S)
        failed = failed * fade + (0.0 if is_success else 1.0)
        self._outcomes[node] = (failed, total * fade + 1.0, now_s)
        trim(self._outcomes, MAX_NODES)
        if failed > 0.001:
            self.changes.add(node, None)

    def failure_share(self, node: NodeId, now_s: float) -> float:
        """Return recent failures as a part of all requests; it fades towards zero."""
        entry = self._outcomes.get(node)
        if entry is None:
            return 0.0
        fade = half(now_s - entry[2], OUTCOME_HALF_LIFE_S)
        return entry[0] * fade / (entry[1] * fade + OUTCOME_PRIOR)

    def forget(self, node: NodeId) -> None:
        """Drop all that is known about a node."""
        for key in [key for key in self._pairs if key[0] == node]:
            self._drop(key)
        self._foreign.pop(node, None)
        self._outcomes.pop(node, None)
        self.changes.add(node, None)

    def snapshot(self, now_s: float) -> RatesSnapshot:
        """Return all figures as values."""
        return RatesSnapshot(
            pairs=tuple(pair.row(*key, now_s) for key, pair in self._pairs.items()),
            lengths=tuple(
                LengthRow(
                    digest=digest,
                    kind=kind,
                    mean_tokens=length.expect(now_s),
                    samples=length.weight,
                    age_s=now_s - length.at_s,
                )
                for (digest, kind), length in self._lengths.items()
            ),
            bytes_per_token={digest: self.bytes_per_token(digest) for digest in self._widths},
        )

    def restore(self, saved: RatesSnapshot, now_s: float) -> None:
        """Take over an earlier snapshot; each rate counts as one sample of its age."""
        for row in saved.pairs:
            pair = self._pair(row.node, row.digest)
            before = pair.figures()
            pair.restore(row, now_s)
            self._follow(row.digest, before, pair.figures())
        for length in saved.lengths:
            mean = self._length(length.digest, length.kind, now_s)
            if length.samples > 0:
                mean.add(length.mean_tokens, now_s - length.age_s, length.samples)
        for digest, value in saved.bytes_per_token.items():
            self._width(digest).add(value, now_s)
        self.changes.add(None, None)

    def _pair(self, node: NodeId, digest: Digest) -> Pair:
        pair = self._pairs.get((node, digest))
        if pair is None:
            pair = self._pairs[node, digest] = Pair()
            self._holders.setdefault(digest, {})[node] = pair
            while len(self._pairs) > self._max_pairs:
                self._drop(next(iter(self._pairs)))
        return pair

    def _drop(self, key: tuple[NodeId, Digest]) -> None:
        node, digest = key
        del self._pairs[key]
        holders = self._holders[digest]
        del holders[node]
        if holders:
            self._publish(digest, holders.values())
        else:
            del self._holders[digest]
            self._best.pop(digest, None)
        self.changes.add(None, digest)

    def _follow(self, digest: Digest, before: Figures, after: Figures) -> None:
        """Refresh a model's best if this pair led it or leads it now."""
        if before == after:
            return
        best = self._best.get(digest)
        if best is None or any(map(_leads, before, after, best.figures)):
            self._publish(digest, self._holders[digest].values())

    def _publish(self, digest: Digest, pairs: Iterable[Pair]) -> None:
        figures = best_of(pairs)
        fresh = rates_of(figures)
        known = self._best.get(digest)
        if known is None or _differ(fresh, known.rates):
            self._best[digest] = _Best(figures, fresh)
            self.changes.add(None, digest)
        else:
            self._best[digest] = _Best(figures, known.rates)

    def _length(self, digest: Digest, kind: TaskKind, now_s: float) -> FadingMean:
        length = self._lengths.pop((digest, kind), None)
        if length is None:
            length = FadingMean(PRIOR_OUTPUT_TOKENS, PRIOR_OUTPUT_WEIGHT, now_s)
        self._lengths[digest, kind] = length
        trim(self._lengths, MAX_MODELS)
        return length

    def _width(self, digest: Digest) -> Series:
        series = self._widths.setdefault(digest, Series())
        self._widths.move_to_end(digest)
        trim(self._widths, MAX_MODELS)
        return series


class _Best(NamedTuple):
    """A model's best figures, and the rates last told to those who borrow them."""

    figures: Figures
    rates: Rates


def _leads(before: float | None, after: float | None, best: float | None) -> bool:
    """Whether a figure was the best or becomes it."""
    if after is None:
        return False
    return best is None or after > best or before == best


def _differ(fresh: Rates, known: Rates) -> bool:
    return any(
        abs(new - old) > BORROW_STEP * abs(old)
        for new, old in (
            (fresh.prefill_tps, known.prefill_tps),
            *zip(fresh.decode, known.decode, strict=True),
            (fresh.embed_tps, known.embed_tps),
            (fresh.load_s, known.load_s),
            (fresh.overhead_s, known.overhead_s),
        )
    )
