"""The terms of a cost, and when a node could start."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sollold.core.estimate import (
    Offer,
    Row,
    Tuning,
    Weights,
    candidate,
    facts,
    fits,
    idle_offer,
    linear,
    make_row,
    price,
    remainder,
    trusted_residents,
)
from sollold.core.model import Digest, ModelView, NodeKind, NodeView, RunnerKey
from sollold.core.pair import Rates
from sollold.core.timeline import Timeline
from tests.unit.core.routing_values import A, B, C, model, node, patient, request, resident, running

RATES = Rates(
    prefill_tps=100.0,
    decode=(10.0, 5.0, 4.0, 2.0),
    embed_tps=50.0,
    load_s=8.0,
    overhead_s=0.5,
    samples=3,
    is_measured=True,
)
CTX: Any = (("num_ctx", 8192),)


def row(view: NodeView | None = None, held: ModelView | None = None, **fields: Any) -> Row:
    values: dict[str, Any] = {
        "options": (),
        "is_embed": False,
        "slots": 1,
        "failure_share": 0.0,
        "tuning": Tuning(tier_step_s=0.1),
    }
    rates = fields.pop("rates", RATES)
    view = node("n", tier=1) if view is None else view
    return make_row(view, model() if held is None else held, rates, **(values | fields))


# Terms


@patient
@given(st.floats(0.01, 1e4), st.floats(0.0, 1e5))
def test_what_has_lasted_long_will_last_longer(expected_s: float, elapsed_s: float) -> None:
    left = remainder(expected_s, elapsed_s)
    assert left >= 0.25 * expected_s
    assert left >= 0.5 * elapsed_s
    assert left >= expected_s - elapsed_s
    assert left in {0.25 * expected_s, 0.5 * elapsed_s, expected_s - elapsed_s}


@pytest.mark.parametrize(
    ("loaded", "asked", "does_fit"),
    [
        (resident(options=CTX), CTX, True),
        (resident(options=CTX), (), False),
        (resident(options=()), CTX, False),
        (resident(options=None, context_length=8192), CTX, True),
        (resident(options=None, context_length=4096), CTX, False),
        (resident(options=None, context_length=None), CTX, False),
        (resident(options=None), (("num_gpu", 1),), True),
        (resident(options=None), (), True),
    ],
)
def test_a_runner_fits_by_its_options_or_its_context(
    loaded: Any, asked: Any, does_fit: bool
) -> None:
    assert fits(loaded, asked) is does_fit
    made = row(node("n", residents=[loaded]), options=asked)
    assert made.is_resident is does_fit
    assert made.is_clash is not does_fit
    assert made.is_assumed is (does_fit and loaded.options is None)


def test_terms_add_up() -> None:
    made = row(node("n", tier=3), failure_share=0.5)
    cost = price(made, Offer(4.0, 0.0, 0.0, 1, False), request(), 2.0, Weights())
    assert cost.service_s == pytest.approx(0.5 + 1.0 + 10.0)
    assert cost.first_s == pytest.approx(1.5)
    assert cost.total_s == pytest.approx(4.0 + 2.0 + 11.5 * 1.5 + 0.2)


def test_a_stream_is_compared_by_the_mean_of_first_token_and_completion() -> None:
    offer = Offer(0.0, 0.0, 0.0, 1, True)
    whole = price(row(), offer, request(), 0.0, Weights()).total_s
    streamed = price(row(), offer, request(is_stream=True), 0.0, Weights()).total_s
    assert (whole, streamed) == pytest.approx((11.5, (1.5 + 11.5) / 2))


def test_every_term_has_a_weight() -> None:
    made = row(node("n", tier=2), failure_share=0.5)
    offer = Offer(1.0, 2.0, 3.0, 1, True)
    shown = candidate(made, offer, request(), 4.0, 99.0)
    assert shown[2:10] == pytest.approx((1.0, 2.0, 3.0, 4.0, 1.5, 10.0, 6.75, 0.1))
    assert (shown.node, shown.cost_s, shown.is_measured, shown.excluded) == ("n", 99.0, True, "")
    nothing = Weights(wait=0, load=0, swap=0, foreign=0, prefill=0, decode=0, risk=0, tier=0)
    assert price(made, offer, request(), 4.0, nothing).total_s == 0.0
    for name, term_s in zip(Weights.__struct_fields__, shown[2:10], strict=True):
        weights = structs.replace(nothing, **{name: 10.0})
        total_s = price(made, offer, request(), 4.0, weights).total_s
        assert total_s == pytest.approx(10.0 * term_s)


def test_a_crowded_node_decodes_slower() -> None:
    costs = [
        price(row(), Offer(0.0, 0.0, 0.0, count, True), request(), 0.0, Weights()).service_s
        for count in (1, 2, 4, 9)
    ]
    assert costs == pytest.approx([11.5, 21.5, 26.5, 51.5])


def test_embeddings_have_a_rate_and_no_answer() -> None:
    made = row(is_embed=True)
    cost = price(made, idle_offer(made), request(), 0.0, Weights())
    assert cost.service_s == pytest.approx(0.5 + 2.0)


def test_a_warm_prefix_saves_its_prefill() -> None:
    warm = request(warm={"n": 60.0})
    assert price(row(), idle_offer(row()), warm, 0.0, Weights()).first_s == pytest.approx(0.9)
    hot = request(warm={"n": 1e6})
    assert candidate(row(), idle_offer(row()), hot, 0.0, 1.0).prefill_s == pytest.approx(0.5)


def test_an_unmeasured_node_is_cheaper_for_small_requests_only() -> None:
    tuning = Tuning(caution=0.5, curiosity_s=4.0)
    unmeasured = row(rates=structs.replace(RATES, is_measured=False), tuning=tuning)
    measured = row(tuning=tuning)
    small, large = request(output_tokens=5.0), request(output_tokens=100.0)
    offer = idle_offer(measured)
    for asked, is_cheaper in ((small, True), (large, False)):
        known = price(measured, offer, asked, 0.0, Weights()).total_s
        unknown = price(unmeasured, offer, asked, 0.0, Weights()).total_s
        assert (unknown < known) is is_cheaper


loads = st.sampled_from(
    [
        node("n", tier=2),
        node("n", residents=[]),
        node("n", residents=[resident(B)]),
        node("n", residents=[resident(B)], resident_room=2),
        node("n", residents=[resident(options=CTX)], resident_room=2),
        node("n", residents=[], kind=NodeKind.LLAMA_SERVER),
    ]
)
weights = st.builds(Weights, **{name: st.floats(0, 3) for name in Weights.__struct_fields__})


@patient
@given(
    loads, weights, st.booleans(), st.booleans(), st.booleans(), st.floats(0, 1), st.floats(0, 9000)
)
def test_the_line_of_a_row_is_its_price(
    view: NodeView,
    weighed: Weights,
    is_stream: bool,
    is_embed: bool,
    is_measured: bool,
    share: float,
    tokens: float,
) -> None:
    rates = structs.replace(RATES, is_measured=is_measured)
    made = row(view, failure_share=share, rates=rates, is_embed=is_embed)
    asked = request(is_stream=is_stream, prompt_tokens=tokens, output_tokens=tokens / 2)
    base, per_prompt, per_output = linear(made, weighed, is_stream=is_stream)
    total_s = base + per_prompt * tokens + per_output * tokens / 2
    priced = price(made, idle_offer(made), asked, 0.0, weighed)
    assert total_s == pytest.approx(priced.total_s, abs=1e-6)
    told, load, swap, fixed, per_token, per_answer, spread, less, tier, known = facts(made)
    shown = candidate(made, idle_offer(made), asked, 0.0, total_s)
    prefill, decode = fixed + per_token * tokens, per_answer * tokens / 2
    risk = spread * (load + prefill + decode) - less
    assert (told, known) == (shown.node, shown.is_measured)
    assert (load, swap, prefill, decode, tier) == pytest.approx(
        (shown.load_s, shown.swap_s, shown.prefill_s, shown.decode_s, shown.tier_s)
    )
    assert risk == pytest.approx(shown.risk_s, abs=1e-6)


# Idle nodes


@pytest.mark.parametrize(
    ("residents", "room", "load_s", "swap_s"),
    [
        ([resident()], 1, 0.0, 0.0),
        ([], 1, 8.0, 0.0),
        ([resident(B)], 1, 8.0, 8.0),
        ([resident(B)], 2, 8.0, 0.0),
        ([resident(options=CTX)], 3, 8.0, 8.0),
    ],
    ids=["loaded", "empty", "full", "room", "other options"],
)
def test_a_swap_costs_its_load_once_more(
    residents: Any, room: int, load_s: float, swap_s: float
) -> None:
    made = row(node("n", residents=residents, resident_room=room))
    assert idle_offer(made) == Offer(0.0, load_s, swap_s, 1, True)
    assert Timeline(made.view, (), 0.0).offer(made) == idle_offer(made)


@pytest.mark.parametrize("kind", [NodeKind.LLAMA_SERVER, NodeKind.OPENAI, NodeKind.COORDINATOR])
def test_only_ollama_loads_on_request(kind: NodeKind) -> None:
    made = row(node("n", residents=[], kind=kind), options=CTX)
    assert made.runner == RunnerKey(Digest(A), ())
    assert idle_offer(made) == Offer(0.0, 0.0, 0.0, 1, True)
    assert Timeline(made.view, (), 0.0).offer(made) == idle_offer(made)


def test_a_stub_has_nothing_to_load() -> None:
    made = row(node("n", residents=[]), model(is_remote=True))
    assert idle_offer(made).load_s == 0.0


# Busy nodes


def test_one_slot_waits_for_the_remainder() -> None:
    made = row()
    line = Timeline(made.view, [running(1, "n", expected_s=10.0)], 4.0)
    assert line.offer(made) == Offer(6.0, 0.0, 0.0, 1, False)
    line = Timeline(made.view, [running(1, "n", expected_s=10.0)], 100.0)
    assert line.offer(made).wait_s == 50.0


def test_a_second_slot_starts_now_and_shares() -> None:
    made = row(slots=2)
    line = Timeline(made.view, [running(1, "n")], 4.0)
    assert line.offer(made) == Offer(0.0, 0.0, 0.0, 2, True)
    line = Timeline(made.view, [running(1, "n"), running(2, "n", expected_s=30.0)], 4.0)
    assert line.offer(made) == Offer(6.0, 0.0, 0.0, 2, False)


def test_promises_queue_up_behind_what_runs() -> None:
    made = row(slots=2)
    line = Timeline(made.view, [running(1, "n"), running(2, "n", expected_s=30.0)], 4.0)
    for wait_s in (6.0, 11.0, 16.0, 21.0, 26.0, 26.0, 31.0):
        offer = line.offer(made)
        assert offer.wait_s == pytest.approx(wait_s)
        assert not offer.starts_now
        line.take(made, offer, 5.0)


def test_another_model_in_memory_runs_beside() -> None:
    view = node("n", residents=[resident(), resident(B)], resident_room=2)
    line = Timeline(view, [running(1, "n", digest=B)], 4.0)
    assert line.offer(row(view)) == Offer(0.0, 0.0, 0.0, 2, True)


def test_a_load_waits_until_something_may_be_evicted() -> None:
    view = node("n", residents=[resident(B)])
    line = Timeline(view, [running(1, "n", digest=B)], 4.0)
    assert line.offer(row(view)) == Offer(6.0, 8.0, 8.0, 1, False)
    view = node("n", residents=[resident(B), resident(C)], resident_room=2)
    line = Timeline(view, [running(1, "n", digest=B, expected_s=20.0)], 4.0)
    assert line.offer(row(view)) == Offer(0.0, 8.0, 8.0, 2, True)
    view = node("n", residents=[resident(B)], resident_room=2)
    line = Timeline(view, [running(1, "n", digest=B)], 4.0)
    assert line.offer(row(view)) == Offer(0.0, 8.0, 0.0, 1, True)


def test_other_options_wait_for_the_runner_they_replace() -> None:
    view = node("n", residents=[resident()], resident_room=3)
    made = row(view, options=CTX)
    line = Timeline(view, [running(1, "n")], 4.0)
    offer = line.offer(made)
    assert offer == Offer(6.0, 8.0, 8.0, 1, False)
    line.take(made, offer, 20.0)
    # The old runner leaves, so its requests would have to load it again.
    assert line.offer(row(view)) == Offer(26.0, 8.0, 8.0, 1, False)


def test_options_nobody_knows_count_as_the_same_runner() -> None:
    view = node("n", residents=[resident(options=None, context_length=8192)])
    line = Timeline(view, [running(1, "n")], 4.0)
    assert line.offer(row(view, options=CTX)) == Offer(6.0, 0.0, 0.0, 1, False)


def test_one_cold_load_at_a_time() -> None:
    view = node("n", residents=[], resident_room=3)
    loading = running(1, "n", digest=B, expected_s=12.0, expected_load_s=9.0, is_loading=True)
    line = Timeline(view, [loading], 4.0)
    assert line.offer(row(view)) == Offer(5.0, 8.0, 0.0, 1, False)


def test_joiners_share_a_load_in_progress() -> None:
    view = node("n", residents=[], resident_room=3)
    loading = running(1, "n", expected_s=12.0, expected_load_s=9.0, is_loading=True)
    line = Timeline(view, [loading], 4.0)
    assert line.offer(row(view, slots=2)) == Offer(5.0, 0.0, 0.0, 2, True)
    assert line.offer(row(view)) == Offer(8.0, 0.0, 0.0, 1, False)


def test_a_load_of_unknown_length_is_still_one() -> None:
    view = node("n", residents=[], resident_room=3)
    loading = running(1, "n", digest=B, is_loading=True)
    offer = Timeline(view, [loading], 0.0).offer(row(view))
    assert not offer.starts_now


def test_nobody_knows_what_a_load_has_evicted() -> None:
    view = node("n", residents=[resident(B), resident(A)], resident_room=2)
    loading = running(1, "n", digest=C, expected_load_s=9.0, is_loading=True)
    line = Timeline(view, [loading], 4.0)
    for digest in (A, B):
        offer = line.offer(row(view, model(digest=digest)))
        assert (offer.wait_s, offer.load_s, offer.swap_s) == (5.0, 8.0, 8.0)


def test_a_model_we_loaded_is_news_to_an_older_view() -> None:
    view = node("n", residents=[resident()])
    line = Timeline(view, [running(1, "n", digest=B)], 4.0)
    assert line.offer(row(view)) == Offer(6.0, 8.0, 8.0, 1, False)


def test_more_residents_than_room_are_an_old_list_and_a_new_note() -> None:
    view = node("n", residents=[resident(), resident(B)])
    assert trusted_residents(view) == (resident(B),)
    assert idle_offer(row(view)).swap_s == 8.0
    assert idle_offer(row(view, model(digest=B))) == Offer(0.0, 0.0, 0.0, 1, True)


def test_a_load_granted_in_this_pass_evicts_nobody_knows_what() -> None:
    view = node("n", residents=[resident(B), resident(C)], resident_room=2)
    line = Timeline(view, (), 0.0)
    line.take(row(view), line.offer(row(view)), 18.0)
    for digest in (B, C):
        offer = line.offer(row(view, model(digest=digest)))
        assert offer == Offer(8.0, 8.0, 8.0, 2, False)
    line.take(row(view, model(digest=B)), line.offer(row(view, model(digest=B))), 18.0)
    assert line.offer(row(view, model(digest=C))).wait_s == 18.0


def test_a_promised_load_is_not_there_yet() -> None:
    view = node("n", residents=[resident(B)])
    line = Timeline(view, [running(1, "n", digest=B)], 4.0)
    made = row(view, slots=4)
    line.take(made, line.offer(made), 20.0)
    joiner = line.offer(made)
    assert (joiner.wait_s, joiner.load_s, joiner.starts_now) == (14.0, 0.0, False)
    assert not line.may_overlap(made, 0.0)


def test_a_load_granted_in_this_pass_takes_the_place_of_another() -> None:
    view = node("n", residents=[resident(B)])
    line = Timeline(view, (), 0.0)
    made = row(view, slots=2)
    line.take(made, line.offer(made), 18.0)
    assert line.offer(made) == Offer(8.0, 0.0, 0.0, 2, True)
    assert line.offer(row(view, model(digest=B))) == Offer(18.0, 8.0, 8.0, 1, False)


def test_a_reload_of_an_idle_runner_replaces_it() -> None:
    view = node("n", residents=[resident(), resident(B)], resident_room=2)
    line = Timeline(view, (), 0.0)
    made = row(view, options=CTX)
    line.take(made, line.offer(made), 18.0)
    assert line.offer(row(view, model(digest=B))) == Offer(0.0, 0.0, 0.0, 2, True)
    assert line.offer(row(view)).load_s == 8.0


def test_a_resident_that_is_taken_into_use_is_no_longer_idle() -> None:
    view = node("n", residents=[resident(), resident(B)], resident_room=2)
    line = Timeline(view, (), 0.0)
    line.take(row(view), line.offer(row(view)), 10.0)
    assert line.offer(row(view)) == Offer(10.0, 0.0, 0.0, 1, False)
    assert line.active == 1


def test_loads_queue_up_for_the_room_of_those_who_leave() -> None:
    view = node("n", residents=[resident(B)])
    line = Timeline(view, [running(1, "n", digest=B)], 4.0)
    first = row(view)
    line.take(first, line.offer(first), 18.0)
    second = row(view, model(digest=C))
    offer = line.offer(second)
    assert offer == Offer(24.0, 8.0, 8.0, 1, False)
    line.take(second, offer, 18.0)
    assert line.offer(first).wait_s == 42.0


def test_short_service_may_overlap() -> None:
    view = node("n", probe_ms=20.0)
    line = Timeline(view, [running(1, "n")], 0.0)
    made = row(view)
    assert line.may_overlap(made, 0.19)
    assert not line.may_overlap(made, 0.2)
    line.take(made, line.offer(made)._replace(starts_now=True), 0.1)
    assert not line.may_overlap(made, 0.19)
