"""What may teach a rate, and what is believed without having been seen."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.core import pair as pairs
from sollold.core import rates as tables
from sollold.core.model import Digest, NodeId, TaskKind
from sollold.core.pair import PRIOR_RATES
from sollold.core.rates import RatesSnapshot, RateTable, Sample, bucket
from sollold.core.series import (
    MEAN_CLIP,
    MEAN_MEMORY,
    SAMPLE_LIFE_S,
    WINDOW,
    ChangeLog,
    FadingMean,
    Series,
)
from tests.unit.core.routing_values import A, B, patient, sample

N = NodeId("n")
O = NodeId("o")  # noqa: E741
DA = Digest(A)
DB = Digest(B)


def taught(*samples: Sample, now_s: float = 0.0) -> RateTable:
    table = RateTable()
    for one in samples:
        table.observe(N, DA, one, now_s)
    return table


def lone(one: Sample) -> pairs.PairRow:
    """What a single sample teaches."""
    return taught(one).snapshot(0.0).pairs[0]


# Series and means


@patient
@given(st.lists(st.floats(0.5, 2.0), min_size=3, max_size=20), st.floats(0.0, 1e9))
def test_one_outlier_cannot_leave_the_range_of_the_others(good: list[float], bad: float) -> None:
    series = Series()
    half = len(good) // 2
    for value in (*good[:half], bad, *good[half:]):
        series.add(value, 0.0)
    assert series.value is not None
    assert 0.5 <= series.value <= 2.0


def test_a_series_forgets_old_and_surplus_samples() -> None:
    series = Series()
    for _ in range(5):
        series.add(1.0, 0.0)
    for _ in range(3):
        series.add(9.0, SAMPLE_LIFE_S + 1.0)
    assert series.value == 9.0
    for _ in range(WINDOW):
        series.add(4.0, SAMPLE_LIFE_S + 1.0)
    assert series.value == 4.0
    assert len(series._samples) == len(series._ordered) == WINDOW


def test_a_few_old_samples_are_better_than_none() -> None:
    series = Series()
    series.add(1.0, 0.0)
    series.add(1.0, 0.0)
    series.add(7.0, 100 * SAMPLE_LIFE_S)
    assert series.value == 1.0
    series.add(3.0, 100 * SAMPLE_LIFE_S)
    assert series.value == 3.0


@patient
@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 2000)), min_size=1, max_size=40))
def test_a_series_is_the_median_of_what_it_keeps(steps: list[tuple[float, float]]) -> None:
    series, now_s = Series(), 0.0
    for value, gap_s in steps:
        now_s += gap_s
        series.add(value, now_s)
    kept = sorted(value for _, value in series._samples)
    assert kept == series._ordered
    assert kept[(len(kept) - 1) // 2] <= (series.value or 0.0) <= kept[len(kept) // 2]


def test_a_fading_mean_starts_at_its_prior_and_returns_to_it() -> None:
    mean = FadingMean(100.0, 2.0, 0.0)
    assert mean.expect(0.0) == 100.0
    for _ in range(98):
        mean.add(200.0, 0.0)
    assert mean.weight == MEAN_MEMORY
    assert mean.expect(0.0) == pytest.approx((200 * 64 + 100 * 2) / 66)
    assert mean.expect(1e9) == pytest.approx(100.0)


def test_a_fading_mean_is_not_moved_far_by_one_value() -> None:
    mean = FadingMean(100.0, 2.0, 0.0)
    for _ in range(10):
        mean.add(100.0, 0.0)
    mean.add(1e9, 0.0)
    assert mean.expect(0.0) < 100.0 * (1 + MEAN_CLIP / 10)


def test_a_change_log_tells_what_it_still_knows() -> None:
    log = ChangeLog(limit=2)
    assert log.since(0) == []
    log.add(N, DA)
    log.add(None, DB)
    assert log.since(0) == [(N, DA), (None, DB)]
    assert log.since(1) == [(None, DB)]
    log.add(N, None)
    assert log.since(0) is None
    assert log.since(3) == []


# What a sample may teach


def test_an_engine_that_reports_durations_teaches_everything() -> None:
    row = lone(sample(20.0, prefill_tps=500.0, overhead_s=0.3, load_s=4.0))
    assert row.decode == (20.0, None, None, None)
    assert row.prefill_tps == 500.0
    assert row.load_s == 4.0
    assert row.overhead_s == pytest.approx(0.3)
    assert (row.embed_tps, row.samples, row.age_s) == (None, 1, 0.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"prefill_is_known": False},
        {"prompt_tokens": pairs.MIN_PREFILL_TOKENS - 1},
        {"prompt_s": 0.0, "first_s": 0.2},
        {"prompt_s": 0.0, "first_s": 0.0},
    ],
    ids=["cached tokens are counted", "too short", "clocked and short", "not clocked"],
)
def test_what_does_not_teach_the_prefill_rate(fields: dict[str, float]) -> None:
    assert lone(sample(**fields)).prefill_tps is None


def test_the_clock_teaches_the_prefill_rate_of_long_prompts() -> None:
    clocked = {"prompt_s": 0.0, "first_s": 1.0, "prompt_tokens": 500.0}
    assert lone(sample(**clocked)).prefill_tps == 500.0
    assert lone(sample(**clocked, was_queued=True)).prefill_tps is None
    table = taught(sample(overhead_s=0.2), sample(**clocked))
    # The window holds 1000 (reported) and 500 / (1.0 - 0.2).
    assert table.lookup(N, DA, 0.0).prefill_tps == pytest.approx((1000 + 625) / 2)


def test_prompts_that_may_be_cached_cap_the_prefill_rate() -> None:
    guess = {"prefill_is_known": False}
    table = taught(sample(prefill_tps=90.0, **guess), sample(prefill_tps=5000.0, **guess))
    rates = table.lookup(N, DA, 0.0)
    assert (rates.prefill_tps, rates.is_prefill_measured) == (90.0, False)
    assert table.lookup(O, DA, 0.0).prefill_tps == PRIOR_RATES.prefill_tps
    table.observe(N, DA, sample(prefill_tps=10.0, occupancy=2, **guess), 0.0)
    assert table.lookup(N, DA, 0.0).prefill_tps == 90.0
    epoch = table.epoch
    table.observe(N, DA, sample(prefill_tps=30.0, **guess), 0.0)
    assert table.epoch > epoch
    table.observe(N, DA, sample(prefill_tps=60.0), 0.0)
    rates = table.lookup(N, DA, 0.0)
    assert (rates.prefill_tps, rates.is_prefill_measured) == (60.0, True)


def test_a_shared_node_teaches_the_prefill_rate_only_for_want_of_better() -> None:
    slow = sample(prefill_tps=10.0, occupancy=2)
    assert lone(slow).prefill_tps == 10.0
    assert taught(sample(), slow).lookup(N, DA, 0.0).prefill_tps == 1000.0


@pytest.mark.parametrize(
    ("fields", "load_s"),
    [
        ({"load_s": 3.0}, 3.0),
        ({"load_s": 3.0, "was_queued": True}, None),
        ({"load_s": 3.0, "is_load": False}, None),
        ({"load_s": 0.0, "is_load": True}, None),
    ],
    ids=["a load", "waited", "was loaded", "not reported"],
)
def test_only_a_load_without_waiting_teaches_the_load_time(
    fields: dict[str, float], load_s: float | None
) -> None:
    assert lone(sample(**fields)).load_s == load_s


def test_the_overhead_is_what_the_engine_does_not_account_for() -> None:
    assert lone(sample(overhead_s=0.4)).overhead_s == pytest.approx(0.4)
    assert lone(sample(overhead_s=0.4, was_queued=True)).overhead_s is None
    assert lone(sample(overhead_s=0.4, is_load=True)).overhead_s is None
    queued = sample(overhead_s=0.4, load_s=2.0, is_load=False, was_queued=True)
    assert lone(queued).overhead_s == pytest.approx(0.4)
    tiny = {"prompt_s": 0.0, "output_s": 0.0, "first_s": 0.2, "prompt_tokens": 5.0}
    assert lone(sample(**tiny)).overhead_s == 0.2
    assert lone(sample(**tiny, was_queued=True)).overhead_s is None
    assert lone(sample(**(tiny | {"prompt_tokens": 50.0}))).overhead_s is None


@pytest.mark.parametrize(
    ("fields", "tps"),
    [
        ({"output_tokens": 4.0}, None),
        ({"output_s": 0.0, "first_s": 1.0, "total_s": 6.0, "frames": 101}, 20.0),
        ({"output_s": 0.0, "first_s": 1.0, "total_s": 6.0, "frames": 3}, None),
        ({"output_s": 0.0, "first_s": 6.0, "total_s": 6.0, "frames": 101}, None),
        ({"output_s": 0.0, "total_s": 5.0}, 20.0),
        ({"output_s": 0.0, "total_s": 5.0, "was_queued": True}, None),
        ({"output_s": 0.0, "total_s": 5.0, "output_tokens": 20.0}, None),
        ({"output_s": 0.0, "total_s": 0.0}, None),
    ],
    ids=[
        "too short",
        "frames on our clock",
        "too few frames",
        "all at once",
        "whole answer",
        "whole answer, waited",
        "whole answer, short",
        "no time",
    ],
)
def test_what_teaches_the_decode_rate(fields: dict[str, float], tps: float | None) -> None:
    assert lone(sample(**fields)).decode[0] == tps


def test_decode_rates_are_kept_per_occupancy() -> None:
    assert [bucket(count) for count in (0, 1, 2, 3, 4, 5, 99)] == [0, 0, 1, 2, 2, 3, 3]
    table = taught(sample(20.0), sample(8.0, occupancy=4))
    rates = table.lookup(N, DA, 0.0)
    assert (rates.decode_tps(1), rates.decode_tps(3)) == (20.0, 8.0)
    assert rates.decode_tps(2) == pytest.approx(20.0 * 0.6)
    assert rates.decode_tps(9) == pytest.approx(8.0 * 0.25 / 0.4)


def test_an_occupancy_measured_alone_tells_the_lower_ones() -> None:
    rates = taught(sample(6.0, occupancy=2)).lookup(N, DA, 0.0)
    assert rates.decode == pytest.approx((10.0, 6.0, 4.0, 2.5))


def embedding(tokens: float, total_s: float, **fields: float) -> Sample:
    return Sample(kind=TaskKind.EMBED, prompt_tokens=tokens, total_s=total_s, **fields)  # type: ignore[arg-type]


def test_embeddings_teach_their_own_rate() -> None:
    row = lone(embedding(10.0, 0.02))
    assert (row.overhead_s, row.embed_tps) == (0.02, None)
    table = taught(embedding(10.0, 0.02), embedding(1000.0, 0.52))
    rates = table.lookup(N, DA, 0.0)
    assert rates.embed_tps == pytest.approx(2000.0)
    assert rates.is_measured
    assert rates.decode == PRIOR_RATES.decode


def test_a_long_embedding_bounds_an_unknown_overhead() -> None:
    rates = taught(embedding(200.0, 0.01)).lookup(N, DA, 0.0)
    assert rates.overhead_s + 200.0 / rates.embed_tps == pytest.approx(0.01)


@pytest.mark.parametrize(
    "fields",
    [{"was_queued": True}, {"is_load": True}, {"load_s": 9.0}],
    ids=["waited", "a load of unknown length", "nothing left"],
)
def test_embeddings_that_teach_nothing(fields: dict[str, float]) -> None:
    row = lone(embedding(100.0, 1.0, **fields))
    assert (row.overhead_s, row.embed_tps) == (None, None)


def test_an_embedding_that_loaded_teaches_both() -> None:
    row = lone(embedding(100.0, 2.0, load_s=1.0, is_load=True))
    assert row.load_s == 1.0
    assert row.embed_tps == pytest.approx(100.0 / 0.9)


# What is believed of a pair nobody measured


def test_nothing_known_means_the_prior() -> None:
    rates = RateTable().lookup(N, DA, 0.0)
    assert rates == PRIOR_RATES
    assert (rates.is_measured, rates.samples) == (False, 0)


def test_an_unmeasured_node_borrows_the_best_of_the_same_model_only() -> None:
    table = RateTable()
    table.observe(N, DA, sample(10.0, prefill_tps=900.0), 0.0)
    table.observe(O, DA, sample(50.0, prefill_tps=300.0, load_s=20.0), 0.0)
    borrowed = table.lookup(NodeId("p"), DA, 0.0)
    assert (borrowed.decode_tps(1), borrowed.prefill_tps) == (50.0, 900.0)
    assert borrowed.load_s == 20.0
    assert (borrowed.is_measured, borrowed.samples) == (False, 0)
    assert table.lookup(NodeId("p"), DB, 0.0) == PRIOR_RATES


def test_a_measured_node_borrows_only_what_it_lacks() -> None:
    table = RateTable()
    table.observe(N, DA, sample(10.0, prefill_is_known=False), 0.0)
    table.observe(O, DA, sample(50.0, load_s=3.0), 0.0)
    rates = table.lookup(N, DA, 0.0)
    assert (rates.decode_tps(1), rates.prefill_tps, rates.load_s) == (10.0, 1000.0, 3.0)
    assert (rates.is_measured, rates.samples) == (True, 1)


def test_a_pair_that_only_loaded_is_not_measured() -> None:
    rates = taught(sample(output_tokens=1.0, load_s=5.0)).lookup(N, DA, 0.0)
    assert (rates.load_s, rates.is_measured) == (5.0, False)


def test_a_stale_pair_drifts_towards_the_best_but_not_far() -> None:
    table = RateTable()
    table.observe(O, DA, sample(100.0, load_s=1.0), 0.0)
    table.observe(N, DA, sample(10.0, load_s=30.0), 0.0)
    fresh, stale = table.lookup(N, DA, 0.0), table.lookup(N, DA, 30 * 86400.0)
    assert (fresh.decode_tps(1), fresh.load_s) == (10.0, 30.0)
    assert stale.decode_tps(1) == pytest.approx(10.0 * pairs.STALE_GAIN)
    assert stale.load_s == pytest.approx(30.0 / pairs.STALE_GAIN)
    best = table.lookup(O, DA, 30 * 86400.0)
    assert (best.decode_tps(1), best.load_s) == (100.0, 1.0)


def test_the_best_follows_its_leader_down() -> None:
    table = RateTable()
    table.observe(N, DA, sample(100.0), 0.0)
    table.observe(O, DA, sample(30.0), 0.0)
    for _ in range(WINDOW):
        table.observe(N, DA, sample(20.0), 1.0)
    assert table.lookup(NodeId("p"), DA, 1.0).decode_tps(1) == 30.0


def test_small_moves_of_the_best_are_not_told() -> None:
    table = taught(sample(100.0))
    epoch = table.epoch
    table.observe(O, DA, sample(104.0), 0.0)
    assert table.changes.since(epoch) == [(O, A)]
    assert table.lookup(NodeId("p"), DA, 0.0).decode_tps(1) == 100.0
    table.observe(O, DA, sample(200.0), 0.0)
    assert (None, A) in (table.changes.since(epoch) or [])
    assert table.lookup(NodeId("p"), DA, 0.0).decode_tps(1) > 150.0


def test_caches_are_told_when_a_figure_moves() -> None:
    table = taught(*[sample(20.0)] * 5)
    epoch = table.epoch
    table.observe(N, DA, sample(20.0), 0.0)
    assert table.epoch == epoch
    for _ in range(WINDOW):
        table.observe(N, DA, sample(22.0), 0.0)
    assert (N, A) in (table.changes.since(epoch) or [])
    table.observe(N, DA, sample(22.0, occupancy=2), 0.0)
    epoch = table.epoch
    table.observe(N, DA, sample(22.0, occupancy=2, load_s=3.0), 0.0)
    assert table.epoch > epoch


# Lengths and widths


def test_expected_output_is_learned_per_model_and_task() -> None:
    table = taught(*[sample(output_tokens=1000.0, output_s=50.0)] * 50)
    assert table.expected_output(DA, TaskKind.CHAT, None, 0.0) == pytest.approx(970.0, rel=0.02)
    assert table.expected_output(DA, TaskKind.CHAT, -1, 0.0) > 900.0
    assert table.expected_output(DA, TaskKind.CHAT, 20, 0.0) == 20.0
    assert table.expected_output(DA, TaskKind.GENERATE, None, 0.0) == tables.PRIOR_OUTPUT_TOKENS
    assert table.expected_output(DB, TaskKind.CHAT, None, 0.0) == tables.PRIOR_OUTPUT_TOKENS
    assert table.expected_output(DA, TaskKind.EMBED, None, 0.0) == 0.0


def test_bytes_per_token_are_learned_per_model() -> None:
    table = taught(*[sample(text_bytes=250)] * 3)
    assert table.bytes_per_token(DA) == 2.5
    assert table.bytes_per_token(DB) == tables.PRIOR_BYTES_PER_TOKEN
    short = taught(sample(text_bytes=250, prompt_tokens=3.0), sample(text_bytes=0))
    assert short.bytes_per_token(DA) == tables.PRIOR_BYTES_PER_TOKEN


# Other people's load, failures


def test_a_late_first_token_is_other_peoples_load_and_fades() -> None:
    table = RateTable()
    assert table.foreign_s(N, 0.0) == 0.0
    table.observe_first(N, 1.0, 11.3, 0.0)
    assert table.foreign_s(N, 0.0) == pytest.approx(5.0)
    assert table.foreign_s(N, 60.0) == pytest.approx(2.5)
    assert table.foreign(0.0) == {"n": pytest.approx(5.0)}
    assert table.foreign_s(N, 3600.0) == 0.0
    assert table.foreign(3600.0) == {}


def test_tokens_on_time_take_the_suspicion_back() -> None:
    table = RateTable()
    table.observe_first(N, 1.0, 1.25, 0.0)
    assert table.foreign(0.0) == {}
    table.observe_first(N, 1.0, 11.3, 0.0)
    for _ in range(8):
        table.observe_first(N, 1.0, 0.9, 0.0)
    assert table.foreign(0.0) == {}


def test_failures_are_a_share_that_fades() -> None:
    table = RateTable()
    assert table.failure_share(N, 0.0) == 0.0
    table.observe_outcome(N, 0.0, is_success=False)
    assert table.failure_share(N, 0.0) == pytest.approx(1 / 5)
    table.observe_outcome(N, 0.0, is_success=True)
    assert table.failure_share(N, 0.0) == pytest.approx(1 / 6)
    assert table.failure_share(N, 3600.0) < 0.001
    assert table.changes.since(0) == [(N, None), (N, None)]


def test_a_node_that_never_failed_changes_nothing() -> None:
    table = RateTable()
    table.observe_outcome(N, 0.0, is_success=True)
    assert table.epoch == 0


# Bounds, forgetting, keeping


def test_the_table_is_bounded_by_use() -> None:
    table = RateTable(max_pairs=2)
    table.observe(N, DA, sample(10.0), 0.0)
    table.observe(O, DA, sample(50.0), 0.0)
    table.observe(N, DA, sample(10.0), 0.0)
    table.observe(N, DB, sample(30.0), 0.0)
    assert [(row.node, row.digest) for row in table.snapshot(0.0).pairs] == [(N, A), (N, B)]
    assert table.lookup(O, DA, 0.0).decode_tps(1) == 10.0


def test_nodes_models_and_lengths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_NODES", 3)
    monkeypatch.setattr(tables, "MAX_MODELS", 3)
    table = RateTable()
    for number in range(9):
        name = NodeId(f"n{number}")
        table.observe_first(name, 1.0, 9.0, 0.0)
        table.observe_outcome(name, 0.0, is_success=False)
        table.observe(name, Digest(f"d{number}"), sample(text_bytes=100), 0.0)
    assert set(table.foreign(0.0)) == {"n6", "n7", "n8"}
    assert [table.failure_share(NodeId(f"n{n}"), 0.0) > 0 for n in (5, 6)] == [False, True]
    assert len(table.snapshot(0.0).lengths) == len(table.snapshot(0.0).bytes_per_token) == 3


def test_forget_drops_all_of_a_node() -> None:
    table = taught(sample(10.0))
    table.observe(O, DA, sample(5.0), 0.0)
    table.observe_first(N, 1.0, 9.0, 0.0)
    table.observe_outcome(N, 0.0, is_success=False)
    epoch = table.epoch
    table.forget(N)
    assert table.epoch > epoch
    assert table.lookup(N, DA, 0.0).decode_tps(1) == 5.0
    assert (table.foreign_s(N, 0.0), table.failure_share(N, 0.0)) == (0.0, 0.0)
    table.forget(O)
    assert table.lookup(N, DA, 0.0) == PRIOR_RATES


def test_a_snapshot_restores_what_was_learned() -> None:
    table = taught(*[sample(12.0, load_s=5.0, text_bytes=300)] * 4, now_s=100.0)
    table.observe(O, DA, sample(6.0), 100.0)
    saved = table.snapshot(160.0)
    assert [row.age_s for row in saved.pairs] == [60.0, 60.0]
    fresh = RateTable()
    fresh.restore(saved, 1000.0)
    assert fresh.epoch > 0
    for name in (N, O, NodeId("p")):
        assert fresh.lookup(name, DA, 940.0) == table.lookup(name, DA, 100.0)
    assert fresh.bytes_per_token(DA) == 3.0
    old = table.expected_output(DA, TaskKind.CHAT, None, 160.0)
    new = fresh.expected_output(DA, TaskKind.CHAT, None, 1000.0)
    assert math.isclose(new, old, rel_tol=0.25)
    assert fresh.snapshot(1000.0).pairs == saved.pairs


def test_restoring_nothing_changes_no_figure() -> None:
    table = RateTable()
    table.restore(RatesSnapshot(), 0.0)
    assert table.lookup(N, DA, 0.0) == PRIOR_RATES
    length = tables.LengthRow(
        digest=DA, kind=TaskKind.CHAT, mean_tokens=9.0, samples=0.0, age_s=0.0
    )
    table.restore(RatesSnapshot(lengths=(length,)), 0.0)
    assert table.expected_output(DA, TaskKind.CHAT, None, 0.0) == tables.PRIOR_OUTPUT_TOKENS
