"""Who starts where, who waits, and why."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace

from sollold.core import nodetable
from sollold.core.assign import (
    AssignPolicy,
    expected_wait_s,
    explain_rejection,
    recall_due_s,
    recall_target,
)
from sollold.core.compare import SHOWN_CANDIDATES, Comparison, Scene
from sollold.core.estimate import Tuning, Weights
from sollold.core.model import (
    Candidate,
    Digest,
    NodeId,
    NodeKind,
    NodeState,
    Reason,
    RequestId,
    RunnerKey,
    TaskKind,
)
from sollold.core.slots import OPENAI_SLOTS
from tests.unit.core.routing_values import (
    A,
    B,
    House,
    granted,
    model,
    node,
    patient,
    request,
    reserved,
    resident,
    running,
    sample,
)

CTX: Any = (("num_ctx", 8192),)
PLAIN = AssignPolicy(tuning=Tuning(tier_step_s=0.0, caution=0.0))


def fast_and_slow() -> House:
    """Fast needs 1.2 s of service for the usual request, slow 20.2 s."""
    house = House(node("fast"), node("slow"))
    house.teach("fast", 100.0)
    house.teach("slow", 5.0)
    return house


def reason_of(house: House, *queue: Any, **fields: Any) -> str:
    return str(house.assign(*queue, **fields).grants[-1].decision.reason)


def candidates_of(house: House, **fields: Any) -> dict[str, Candidate]:
    (grant,) = house.assign(request(), **fields).grants
    return {one.node: one for one in grant.decision.candidates}


# Binding late


def test_nothing_waits_means_nothing_to_do() -> None:
    assert fast_and_slow().assign() == ((), (), None)


def test_the_fastest_free_node_gets_the_request() -> None:
    house = fast_and_slow()
    result = house.assign(request())
    (grant,) = result.grants
    assert (grant.node, grant.runner) == ("fast", RunnerKey(Digest(A), ()))
    assert grant.expected_first_s == pytest.approx(0.2)
    assert grant.expected_s == pytest.approx(1.2)
    assert (grant.is_load, grant.expected_load_s) == (False, 0.0)
    assert (result.reservations, result.next_wakeup_s) == ((), None)


def test_waiting_for_a_fast_node_beats_using_a_slow_one() -> None:
    house = fast_and_slow()
    house.run(running(9, "fast", expected_s=5.0))
    result = house.assign(request())
    assert granted(result) == {}
    (one,) = result.reservations
    assert one == ("r-1", "fast", 5.0, RunnerKey(Digest(A), ()))


def test_a_slow_node_is_used_when_it_is_sooner() -> None:
    house = fast_and_slow()
    house.run(running(9, "fast", expected_s=30.0))
    result = house.assign(request())
    assert granted(result) == {"r-1": "slow"}
    assert result.grants[0].decision.reason == "sooner than waiting"


def test_those_ahead_count_as_load_for_those_behind() -> None:
    house = fast_and_slow()
    house.run(running(9, "fast", expected_s=16.0))
    exact = structs.replace(PLAIN, margin=0.0, margin_s=0.0)
    result = house.assign(*[request(number) for number in range(1, 7)], policy=exact)
    # 17.2 and so on up to the one for whom 20.2 on the slow node is sooner.
    assert granted(result) == {"r-4": "slow"}
    assert reserved(result) == {"r-1": "fast", "r-2": "fast", "r-3": "fast", "r-5": "fast",
                                "r-6": "fast"}  # fmt: skip
    starts = [one.expected_start_s for one in result.reservations]
    assert starts == pytest.approx([16.0, 17.2, 18.4, 19.6, 20.8])


def test_two_requests_do_not_get_one_slot() -> None:
    house = House(node("n"))
    house.teach("n", 10.0)
    result = house.assign(request(1), request(2))
    assert granted(result) == {"r-1": "n"}
    assert result.reservations[0].expected_start_s == pytest.approx(10.2)


def test_grants_behind_the_look_of_others_fill_all_slots() -> None:
    house = House(node("n", slots=3))
    result = house.assign(*[request(number) for number in range(1, 6)])
    assert list(granted(result)) == ["r-1", "r-2", "r-3"]
    assert list(reserved(result)) == ["r-4", "r-5"]


def test_without_a_free_node_few_reservations_are_worked_out() -> None:
    house = House(node("n"))
    house.run(running(99, "n"))
    queue = [request(number) for number in range(20)]
    assert len(house.assign(*queue, policy=AssignPolicy(depth=3)).reservations) == 3
    barred = [request(number, excluded=frozenset({NodeId("o")})) for number in range(20)]
    assert len(house.assign(*barred, policy=AssignPolicy(depth=3)).reservations) == 20


def test_another_sort_of_request_is_not_held_up() -> None:
    house = House(node("n"), node("o", models=[model("k", B)], residents=[resident(B)]))
    house.run(running(99, "n"))
    other = request(9, model="k")
    result = house.assign(*[request(number) for number in range(5)], other)
    assert granted(result) == {"r-9": "o"}


# Ruling 2: the bounds of waiting


def test_a_request_that_has_waited_its_time_takes_the_slow_node() -> None:
    house = fast_and_slow()
    house.run(running(9, "fast", expected_s=5.0))
    waiting = request(arrival_s=0.0)
    result = house.assign(waiting, now_s=0.5)
    assert reserved(result) == {"r-1": "fast"}
    late = house.assign(waiting, now_s=20.3)
    assert granted(late) == {"r-1": "slow"}
    assert late.grants[0].decision.reason == "waited its time"


def test_the_time_beside_an_idle_node_counts_not_the_time_it_was_busy() -> None:
    house = fast_and_slow()
    house.run(
        running(8, "slow", started_s=-99.0), running(9, "fast", started_s=10.0, expected_s=9.0)
    )
    house.load.remove(RequestId("r-8"), 10.0)
    waiting = request(arrival_s=-99.0)
    result = house.assign(waiting, now_s=11.0)
    assert reserved(result) == {"r-1": "fast"}
    assert result.next_wakeup_s is not None
    assert result.next_wakeup_s <= 10.0 + 20.2
    assert reason_of(house, waiting, now_s=10.0 + 20.3) == "waited its time"


def test_a_slot_beside_other_work_counts_from_arrival() -> None:
    house = House(
        node("fast"),
        node("slow", residents=[resident(), resident(B)], resident_room=2),
    )
    house.teach("fast", 100.0)
    house.teach("slow", 5.0)
    house.run(running(8, "slow", digest=B), running(9, "fast", started_s=99.0, expected_s=9.0))
    assert reason_of(house, request(arrival_s=0.0), now_s=100.0) == "waited its time"


def test_no_memory_is_turned_over_for_a_request_that_can_wait() -> None:
    busy = node("busy", residents=[resident(B), resident("c" * 64)], resident_room=2)
    house = House(node("fast"), busy)
    house.teach("fast", 100.0)
    house.teach("busy", 100.0)
    house.run(running(8, "busy", digest=B), running(9, "fast", started_s=99.0, expected_s=9.0))
    result = house.assign(request(arrival_s=0.0), now_s=100.0)
    assert reserved(result) == {"r-1": "fast"}
    house.load.remove(RequestId("r-8"), 50.0)
    assert reason_of(house, request(arrival_s=0.0), now_s=100.0) == "waited its time"


def test_the_alarm_is_set_for_the_earliest_change() -> None:
    house = fast_and_slow()
    house.run(running(9, "fast", expected_s=5.0))
    waiting = request()
    result = house.assign(waiting, now_s=0.0, policy=PLAIN)
    # 6.2 s on fast, 20.2 s on slow; the wait grows by half a second per second at most.
    assert result.next_wakeup_s == pytest.approx(20.2)
    house.load.get(RequestId("r-9")).expected_s = 18.0  # type: ignore[union-attr]
    result = house.assign(waiting, now_s=0.0, policy=PLAIN)
    assert result.next_wakeup_s == pytest.approx(2.0)
    no_wait = AssignPolicy(weights=Weights(wait=0.0))
    assert house.assign(waiting, now_s=0.0, policy=no_wait).next_wakeup_s == pytest.approx(20.2)


def test_without_a_free_node_there_is_no_alarm() -> None:
    house = House(node("n"))
    house.run(running(9, "n"))
    assert house.assign(request()).next_wakeup_s is None


def test_alarms_are_never_in_the_past_or_at_once() -> None:
    house = fast_and_slow()
    house.run(running(9, "fast", expected_s=18.8))
    policy = AssignPolicy(margin=0.0, margin_s=0.0, tuning=PLAIN.tuning)
    result = house.assign(request(arrival_s=7.0), now_s=7.0, policy=policy)
    assert result.next_wakeup_s is not None
    assert result.next_wakeup_s >= 7.05


# Ruling 3


def test_short_service_keeps_one_more_under_way() -> None:
    embed: dict[str, Any] = {"kind": TaskKind.EMBED, "output_tokens": 0.0, "prompt_tokens": 10.0}
    house = House(node("far", probe_ms=40.0), node("near", probe_ms=1.0))
    for name in ("far", "near"):
        for _ in range(4):
            house.rates.observe(
                NodeId(name),
                Digest(A),
                sample(total_s=0.1, **(embed | {"prompt_s": 0.0, "output_s": 0.0})),
                0.0,
            )
    queue = [request(number, **embed) for number in range(6)]
    counts = [list(granted(house.assign(*queue)).values()).count(n) for n in ("far", "near")]
    assert counts == [2, 1]


# Eligible or not


@pytest.mark.parametrize(
    ("view", "asked", "code"),
    [
        (node("x", models=[]), {}, "no_model"),
        (node("x", models=[model(digest=B)]), {"digest": A}, "other_digest"),
        (node("x", state=NodeState.DOWN), {}, "down"),
        (node("x", state=NodeState.UNKNOWN), {}, "down"),
        (node("x", is_routable=False), {}, "down"),
        (node("x", state=NodeState.DRAINING), {}, "draining"),
        (node("x", is_ejected=True), {}, "ejected"),
        (node("x", is_ejected=True, is_routable=False), {}, "ejected"),
        (node("x", is_ejected=True, state=NodeState.DOWN), {}, "down"),
        (node("x"), {"excluded": frozenset({NodeId("x")})}, "excluded"),
        (node("x"), {"pinned": NodeId("y")}, "pinned_elsewhere"),
        (node("x", models=[model(is_remote=True)]), {}, "remote_stub"),
    ],
)
def test_every_exclusion_has_its_reason(view: Any, asked: Any, code: str) -> None:
    house = House(view, node("y"))
    asked = {key: Digest(A) if key == "digest" else value for key, value in asked.items()}
    result = house.assign(request(**asked))
    assert granted(result) == {"r-1": "y"}
    listed = {one.node: one for one in result.grants[0].decision.candidates}
    assert listed[NodeId("x")].excluded == code
    assert listed[NodeId("x")].cost_s == math.inf
    assert listed[NodeId("y")].excluded == ""
    told = explain_rejection(request(**asked), house.table)
    assert told[NodeId("x")].code == code
    assert told[NodeId("x")].text.startswith("x ")
    assert told[NodeId("y")].code == "busy"


def test_nobody_holds_the_model() -> None:
    house = House(node("n", models=[]), node("d", state=NodeState.DOWN))
    assert house.assign(request(), request(2)) == ((), (), None)
    codes = {name: why.code for name, why in explain_rejection(request(), house.table).items()}
    assert codes == {"n": "no_model", "d": "down"}


def test_a_node_that_is_not_there_says_why_where_that_is_known() -> None:
    lost = node("a", state=NodeState.DOWN)
    refused = replace(lost, id=NodeId("b"), reason=Reason("x", "connection refused on 11434"))
    told = explain_rejection(request(), House(lost, refused).table)
    assert [why.text for why in told.values()] == [
        "a is not available",
        "b is down: connection refused on 11434",
    ]


def test_a_digest_restricts_a_name_does_not() -> None:
    house = House(node("n", models=[model(digest=B)], residents=[resident(B)]), node("o"))
    house.run(running(9, "o"))
    assert granted(house.assign(request())) == {"r-1": "n"}
    assert granted(house.assign(request(digest=Digest(A)))) == {}


def test_a_stub_is_used_when_nobody_holds_the_weights() -> None:
    stub = node("stub", models=[model(is_remote=True)], residents=[])
    house = House(stub)
    result = house.assign(*[request(number) for number in range(3)])
    assert set(granted(result).values()) == {"stub"}
    assert len(result.grants) == min(3, OPENAI_SLOTS)
    assert not result.grants[0].is_load
    house.update(stub, node("down", state=NodeState.DOWN))
    assert granted(house.assign(request())) == {}
    told = explain_rejection(request(), house.table)
    assert [why.code for why in told.values()] == ["remote_stub", "down"]
    house.update(stub, node("other", models=[model(digest=B)], state=NodeState.DOWN))
    assert granted(house.assign(request(digest=Digest(A)))) == {"r-1": "stub"}


def test_a_pin_is_obeyed() -> None:
    house = fast_and_slow()
    result = house.assign(request(pinned=NodeId("slow")))
    assert granted(result) == {"r-1": "slow"}
    assert result.grants[0].decision.reason == "pinned"
    assert granted(house.assign(request(pinned=NodeId("none")))) == {}


def test_a_pinned_request_waits_for_its_node() -> None:
    house = fast_and_slow()
    house.run(running(9, "slow"))
    waiting = request(pinned=NodeId("slow"))
    result = house.assign(waiting, now_s=999.0)
    assert reserved(result) == {"r-1": "slow"}
    assert result.next_wakeup_s is None


def test_when_all_are_ejected_the_least_bad_is_tried() -> None:
    house = House(
        node("bad", is_ejected=True, penalty_rank=3.0, penalty_until_s=50.0),
        node("less", is_ejected=True, penalty_rank=1.0, penalty_until_s=70.0),
        node("none", models=[]),
    )
    result = house.assign(request())
    assert granted(result) == {"r-1": "less"}
    assert result.grants[0].decision.reason == "least bad of the ejected"
    tried = request(excluded=frozenset({NodeId("less")}))
    assert granted(house.assign(tried)) == {"r-1": "bad"}
    assert granted(house.assign(request(pinned=NodeId("bad")))) == {"r-1": "bad"}
    both = request(excluded=frozenset({NodeId("less"), NodeId("bad")}))
    assert house.assign(both).grants == ()


def test_an_ejected_node_is_left_out_until_its_time() -> None:
    house = House(node("out", is_ejected=True, penalty_until_s=50.0), node("n"))
    house.run(running(9, "n"))
    result = house.assign(request(), now_s=1.0)
    assert reserved(result) == {"r-1": "n"}
    assert result.next_wakeup_s == 50.0
    assert house.assign(request(), now_s=60.0).next_wakeup_s is None


def test_a_client_runs_only_so_many() -> None:
    house = House(node("n", slots=8))
    house.run(running(9, "n", client="x"))
    queue = [request(number, client="x") for number in range(3)]
    result = house.assign(*queue, request(8, client="y"), policy=AssignPolicy(client_cap=2))
    assert granted(result) == {"r-0": "n", "r-8": "n"}
    assert result.reservations == ()


# Loads and swaps


def test_a_loaded_node_beats_a_faster_one_that_would_load() -> None:
    house = House(node("cold", residents=[]), node("warm"))
    house.teach("cold", 100.0)
    house.teach("warm", 20.0)
    assert granted(house.assign(request())) == {"r-1": "warm"}
    long = request(output_tokens=2000.0)
    assert granted(house.assign(long)) == {"r-1": "cold"}


def test_swaps_are_avoided_beyond_their_own_time() -> None:
    house = House(node("full", residents=[resident(B)]), node("warm"))
    house.teach("full", 100.0)
    house.teach("warm", 8.0)
    # full: 8 + 1.2 s, once more 8 s for the swap; warm: 12.7 s.
    assert granted(house.assign(request())) == {"r-1": "warm"}
    greedy = AssignPolicy(weights=Weights(swap=0.0))
    (grant,) = house.assign(request(), policy=greedy).grants
    assert (grant.node, grant.is_load) == ("full", True)
    assert grant.expected_load_s == 8.0
    assert grant.expected_first_s == pytest.approx(8.2)


def test_requests_join_a_load() -> None:
    house = House(node("n", residents=[], slots=2))
    result = house.assign(request(1), request(2))
    first, second = result.grants
    assert (first.is_load, second.is_load) == (True, False)
    assert second.expected_first_s >= first.expected_load_s > 0


def test_a_runner_loaded_by_us_is_known_before_the_node_says_so() -> None:
    house = House(node("n", residents=[], slots=2))
    house.run(running(9, "n", has_first_byte=True))
    (grant,) = house.assign(request()).grants
    assert not grant.is_load


def test_plain_and_full_pictures_of_a_busy_node_agree() -> None:
    house = House(node("n"), node("o"))
    for view in house.table.fleet.nodes:
        house.run(running(len(house.load), view.id, expected_s=7.0))
    plain = house.assign(request(), now_s=1.0).reservations
    house.update(*[structs.replace(view, probe_ms=99.0) for view in house.table.fleet.nodes])
    assert house.assign(request(), now_s=1.0).reservations == plain


# Reasons, candidates


@pytest.mark.parametrize(
    ("nodes", "taught", "reason"),
    [
        ([node("n")], ["n"], "only holder"),
        ([node("n", residents=[]), node("o", residents=[])], ["n", "o"], "fastest to load"),
        ([node("n"), node("o", residents=[])], ["n", "o"], "resident, free"),
        ([node("n"), node("o")], ["n", "o"], "fastest free"),
        ([node("n"), node("o")], [], "not measured yet"),
    ],
)
def test_the_reason_fits_a_header(nodes: Any, taught: list[str], reason: str) -> None:
    house = House(*nodes)
    for name in taught:
        house.teach(name, 20.0)
    assert reason_of(house, request()) == reason


def test_a_decision_shows_every_term() -> None:
    house = House(node("n", tier=2), node("busy"), node("cold", residents=[resident(B)]))
    for name in ("n", "busy", "cold"):
        house.teach(name, 10.0)
    house.rates.observe_first(NodeId("cold"), 0.0, 8.05, 0.0)
    house.run(running(9, "busy", expected_s=60.0))
    for _ in range(2):
        shown = candidates_of(house)
        cold, n = shown["cold"], shown["n"]
        assert (cold.load_s, cold.swap_s, cold.prefill_s) == pytest.approx((8.0, 8.0, 0.2))
        assert cold.decode_s == pytest.approx(10.0)
        assert (n.wait_s, n.tier_s, shown["busy"].wait_s) == (0.0, 0.05, 60.0)
        for one in shown.values():
            assert one.cost_s == pytest.approx(sum(one[2:10]))
            assert one.is_measured
        house.rates.forget(NodeId("other"))
        foreign = house.rates.foreign(0.0)
        assert cold.foreign_s == pytest.approx(foreign.get(NodeId("cold"), 0.0))
        for _ in range(9):
            house.rates.observe_first(NodeId("cold"), 1.0, 0.5, 0.0)


def test_terms_add_up_beside_other_models_and_warm_prefixes() -> None:
    house = House(node("n", residents=[resident(), resident(B)], resident_room=2), node("o"))
    house.teach("n", 50.0)
    house.teach("o", 1.0)
    house.run(running(9, "n", digest=B))
    shown = candidates_of(house)
    assert shown["n"].decode_s > shown["o"].decode_s * 0.02
    assert shown["n"].cost_s == pytest.approx(sum(shown["n"][2:10]))
    (grant,) = house.assign(request(warm={NodeId("o"): 50.0, NodeId("none"): 9.0})).grants
    warm = {one.node: one for one in grant.decision.candidates}
    assert warm[NodeId("o")].prefill_s == pytest.approx(shown["o"].prefill_s - 0.05)
    for one in warm.values():
        assert one.cost_s == pytest.approx(sum(one[2:10]))


def test_a_warm_prefix_decides_between_equals() -> None:
    house = House(node("n"), node("o"))
    house.teach("n", 50.0)
    house.teach("o", 50.0)
    for name in ("n", "o"):
        asked = request(warm={NodeId(name): 2900.0}, prompt_tokens=3000.0)
        assert {*granted(house.assign(asked, dice=0.1)).values()} == {name}


def test_large_fleets_show_the_cheapest_candidates() -> None:
    house = House(*[node(f"n{number}", tier=number + 1) for number in range(40)])
    shown = candidates_of(house)
    assert list(shown) == [f"n{number}" for number in range(SHOWN_CANDIDATES)]
    bad = House(node("n"), *[node(f"x{number}", models=[]) for number in range(99)])
    assert len(candidates_of(bad)) == 1 + nodetable.SHOWN_EXCLUDED


# Exploring


def test_equals_share_by_dice() -> None:
    house = House(*[node(name) for name in "nop"])
    for name in "nop":
        house.teach(name, 20.0)
    picks = [granted(house.assign(request(), dice=dice / 50))["r-1"] for dice in range(50)]
    assert min(picks.count(name) for name in "nop") >= 8


def picks_over_all_dice(house: House, **fields: Any) -> set[str]:
    return {granted(house.assign(request(**fields), dice=dice / 200))["r-1"] for dice in range(200)}


def test_a_share_of_large_requests_tries_who_was_never_measured() -> None:
    house = House(node("n"), node("o"))
    house.teach("n", 20.0)
    counts = [
        granted(house.assign(request(output_tokens=400.0), dice=dice / 200))["r-1"]
        for dice in range(200)
    ].count("o")
    assert 10 <= counts <= 40


def test_who_was_measured_is_not_explored() -> None:
    house = House(node("n"), node("o"))
    house.teach("n", 20.0)
    house.teach("o", 10.0)
    assert picks_over_all_dice(house, output_tokens=400.0) == {"n"}


def test_exploring_has_its_price_limit_and_its_switch() -> None:
    far = House(node("n"), node("o", residents=()))
    far.teach("n", 200.0, load_s=60.0)
    assert picks_over_all_dice(far) == {"n"}
    house = House(node("n"), node("o"))
    house.teach("n", 20.0)
    never = AssignPolicy(explore=0.0)
    picks = {
        granted(house.assign(request(output_tokens=400.0), dice=dice / 50, policy=never))["r-1"]
        for dice in range(50)
    }
    assert picks == {"n"}


def test_about_equals_go_to_the_less_measured() -> None:
    house = House(node("n"), node("o"))
    house.teach("n", 20.0)
    house.rates.observe(NodeId("o"), Digest(A), sample(20.0), 0.0)
    picks = {granted(house.assign(request(), dice=dice / 20))["r-1"] for dice in range(20)}
    assert picks == {"o"}


def test_a_free_node_beats_an_equal_one_that_is_about_to_be() -> None:
    house = House(node("n"), node("o"))
    house.teach("n", 20.0)
    house.teach("o", 20.0)
    house.run(running(9, "n", started_s=0.0, expected_s=0.01))
    picks = {granted(house.assign(request(), dice=dice / 20)).get("r-1") for dice in range(20)}
    assert picks == {"o"}


def test_small_requests_measure_an_unknown_node() -> None:
    house = House(node("known"), node("new"))
    house.teach("known", 20.0)
    small, large = request(output_tokens=5.0), request(output_tokens=2000.0)
    assert granted(house.assign(small)) == {"r-1": "new"}
    assert granted(house.assign(large)) == {"r-1": "known"}


def test_a_share_of_requests_measures_a_node_that_never_gets_busy() -> None:
    house = House(node("known"), node("new"), node("cold", residents=[]))
    house.teach("known", 20.0)
    large = request(output_tokens=2000.0)
    picks = [granted(house.assign(large, dice=dice / 500))["r-1"] for dice in range(500)]
    assert set(picks) == {"known", "new"}
    assert 0.05 <= picks.count("new") / 500 <= 0.15
    never = AssignPolicy(explore=0.0)
    assert granted(house.assign(large, dice=0.0, policy=never)) == {"r-1": "known"}
    always = AssignPolicy(explore=1.0)
    assert granted(house.assign(large, dice=0.7, policy=always)) == {"r-1": "new"}
    house.update(node("known"), node("cold", residents=[]))
    assert granted(house.assign(request(), policy=always)) == {"r-1": "known"}


def test_a_grant_says_whether_its_first_token_was_predicted_from_a_measurement() -> None:
    house = House(node("n"))
    assert not house.assign(request()).grants[0].is_first_measured
    house.teach("n", 20.0)
    assert house.assign(request()).grants[0].is_first_measured


# What caches must notice


def test_every_change_is_noticed() -> None:
    house = fast_and_slow()
    assert granted(house.assign(request())) == {"r-1": "fast"}
    for _ in range(9):
        house.rates.observe(NodeId("fast"), Digest(A), sample(1.0), 0.0)
    assert granted(house.assign(request())) == {"r-1": "slow"}
    views = [node("fast"), node("slow", state=NodeState.DOWN)]
    house.update(*views)
    assert granted(house.assign(request())) == {"r-1": "fast"}
    house.update(node("new"), *views)
    assert granted(house.assign(request())) == {"r-1": "new"}
    house.update(node("newer"), *views)
    assert granted(house.assign(request())) == {"r-1": "newer"}
    house.update(node("newer", models=[]), *views)
    assert granted(house.assign(request())) == {"r-1": "fast"}
    house.update(node("newer", models=[model(digest=B)]), *views)
    assert granted(house.assign(request(digest=Digest(B)))) == {"r-1": "newer"}


def test_a_stub_that_becomes_the_real_thing_is_noticed() -> None:
    stub, real = node("x", models=[model(is_remote=True)]), node("x")
    other = node("y", models=[model(is_remote=True)])
    house = House(stub, other)
    assert {granted(house.assign(request(), dice=n / 9))["r-1"] for n in range(9)} == {"x", "y"}
    house.update(real, other)
    assert {granted(house.assign(request(), dice=n / 9))["r-1"] for n in range(9)} == {"x"}
    house.update(stub)
    assert reason_of(house, request()) == "only holder"
    house.update(real)
    house.rates.observe(NodeId("x"), Digest(A), sample(), 0.0)
    house.run(running(9, "x"))
    assert house.assign(request(), request(2)).grants == ()


def test_a_learned_slot_is_noticed() -> None:
    house = House(node("n"))
    house.teach("n", 20.0)
    runner = RunnerKey(Digest(A), ())
    house.run(running(9, "n"))
    assert house.assign(request()).grants == ()
    for _ in range(3):
        house.slots.note_first(
            RequestId("r-9"), NodeId("n"), runner, 0.0,
            started_with=1, first_with=1, expected_s=1.0, seen_s=1.0,
        )  # fmt: skip
    assert house.slots.note_waiting(NodeId("n"), runner, NodeKind.OLLAMA, None, 0.0)
    assert granted(house.assign(request())) == {"r-1": "n"}


def test_failures_raise_the_price_and_fade() -> None:
    house = House(node("n"), node("o"))
    house.teach("n", 22.0)
    house.teach("o", 20.0)
    assert granted(house.assign(request())) == {"r-1": "n"}
    for _ in range(4):
        house.rates.observe_outcome(NodeId("n"), 0.0, is_success=False)
    assert granted(house.assign(request())) == {"r-1": "o"}
    assert granted(house.assign(request(), now_s=3600.0)) == {"r-1": "n"}


def test_a_flood_of_changes_rebuilds_everything() -> None:
    house = fast_and_slow()
    house.assign(request())
    for _ in range(300):
        house.rates.observe(NodeId("slow"), Digest(A), sample(1000.0), 0.0)
        house.rates.observe_outcome(NodeId("none"), 0.0, is_success=False)
    assert granted(house.assign(request())) == {"r-1": "slow"}


def test_other_models_rates_do_not_touch_the_rows() -> None:
    house = fast_and_slow()
    house.assign(request())
    field = house.table.field(request(), 0.0, Weights(), Tuning())
    before = field.rows[:]
    again = house.table.field(request(), 0.0, Weights(), Tuning())
    house.rates.observe(NodeId("else"), Digest(B), sample(), 0.0)
    policy = AssignPolicy()
    house.assign(request(), policy=policy)
    kept = house.table.field(request(), 0.0, policy.weights, policy.tuning)
    house.rates.observe(NodeId("else"), Digest(B), sample(99.0), 0.0)
    assert house.table.field(request(), 0.0, policy.weights, policy.tuning) is kept
    assert [one.node for one in again.rows] == [one.node for one in before]


def test_the_cache_is_bounded() -> None:
    house = House(node("n"))
    for number in range(nodetable.MAX_FIELDS + 9):
        house.assign(request(options=(("num_ctx", number),)))
    assert len(house.table._sheets) == nodetable.MAX_FIELDS


# Questions beside the queue


def test_expected_wait() -> None:
    house = fast_and_slow()
    waiting = request()
    assert expected_wait_s(waiting, house.table, house.load, 0.0) == 0.0
    house.run(running(9, "fast", expected_s=5.0), running(8, "slow", expected_s=50.0))
    assert expected_wait_s(waiting, house.table, house.load, 0.0) == pytest.approx(5.0)
    ahead = [request(number) for number in range(20, 24)]
    waits_s = expected_wait_s(waiting, house.table, house.load, 0.0, ahead=ahead)
    assert waits_s == pytest.approx(5.0 + 4 * 1.2)
    nobody = request(model="none")
    assert expected_wait_s(nobody, house.table, house.load, 0.0, ahead=ahead) is None


def test_an_overdue_request_is_recalled_to_a_sooner_node() -> None:
    house = fast_and_slow()
    stuck = running(1, "slow", expected_s=20.2, expected_first_s=0.2)
    house.run(stuck)
    asked = request()

    def target(now_s: float, **changes: Any) -> str | None:
        for name, value in changes.items():
            setattr(stuck, name, value)
        return recall_target(stuck, asked, house.table, house.load, now_s)

    assert recall_due_s(stuck) == pytest.approx(0.6)
    assert target(0.5) is None
    assert target(0.7) == "fast"
    assert target(0.7, expected_first_s=0.0) is None
    assert target(61.0) == "fast"
    assert target(61.0, is_loading=True) is None
    assert target(61.0, is_loading=False, has_first_byte=True) is None
    assert recall_due_s(stuck) is None


def test_no_recall_to_a_node_that_is_not_sooner_or_not_free() -> None:
    house = fast_and_slow()
    stuck = running(1, "fast", expected_s=1.2, expected_first_s=0.2)
    house.run(stuck)
    args = (stuck, request(), house.table, house.load)
    assert recall_target(*args, 10.0) is None
    assert recall_target(*args, 60.0) == "slow"
    house.run(running(2, "slow"))
    assert recall_target(*args, 60.0) is None
    house.update(node("fast"))
    assert recall_target(*args, 60.0) is None


def test_no_recall_while_the_node_loads_for_us() -> None:
    house = fast_and_slow()
    stuck = running(1, "slow", expected_s=20.2, expected_first_s=0.2)
    house.run(stuck, running(2, "slow", digest=B, is_loading=True, expected_load_s=9.0))
    assert recall_target(stuck, request(), house.table, house.load, 5.0) is None


def test_other_peoples_load_makes_a_recall_less_likely() -> None:
    house = fast_and_slow()
    stuck = running(1, "slow", expected_s=20.2, expected_first_s=0.2)
    house.run(stuck)
    house.rates.observe_first(NodeId("fast"), 0.0, 60.0, 0.0)
    house.rates.observe_first(NodeId("none"), 0.0, 60.0, 0.0)
    assert recall_target(stuck, request(), house.table, house.load, 5.0) is None


# Properties

names = ["n0", "n1", "n2", "n3"]
views = st.builds(
    lambda name, residents, room, slots, state, is_ejected, tier, probe_ms: node(
        name,
        residents=[resident(one) for one in residents],
        resident_room=room,
        slots=slots,
        state=state,
        is_ejected=is_ejected,
        tier=tier,
        probe_ms=probe_ms,
        models=[model("m", A), model("k", B)],
    ),
    st.just("n"),
    st.lists(st.sampled_from([A, B]), max_size=2, unique=True),
    st.integers(1, 2),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([NodeState.UP] * 4 + [NodeState.DRAINING, NodeState.DOWN]),
    st.sampled_from([False, False, False, True]),
    st.integers(1, 9),
    st.sampled_from([None, 5.0]),
)
requests = st.lists(
    st.builds(
        lambda name, arrival_s, tokens, is_stream, excluded, pinned: {
            "model": name,
            "arrival_s": arrival_s,
            "output_tokens": tokens,
            "is_stream": is_stream,
            "excluded": frozenset(NodeId(one) for one in excluded),
            "pinned": pinned,
        },
        st.sampled_from(["m", "m", "k"]),
        st.floats(0.0, 50.0),
        st.floats(1.0, 2000.0),
        st.booleans(),
        st.sets(st.sampled_from(names), max_size=2),
        st.sampled_from([None, None, None, "n0"]),
    ),
    min_size=1,
    max_size=12,
)
work = st.lists(
    st.tuples(st.sampled_from(names), st.sampled_from([A, B]), st.floats(0.0, 50.0)), max_size=6
)


def build(fleet: list[Any], rates: list[float], busy: list[tuple[str, str, float]]) -> House:
    house = House(*[structs.replace(view, id=NodeId(f"n{i}")) for i, view in enumerate(fleet)])
    for name, tps in zip(names, rates, strict=False):
        if tps > 1.0:
            house.teach(name, tps)
    for number, (name, digest, started_s) in enumerate(busy):
        house.run(running(100 + number, name, digest=digest, started_s=started_s))
    return house


rates = st.lists(st.floats(0.0, 200.0), min_size=4, max_size=4)


@settings(patient, max_examples=200)
@given(st.lists(views, min_size=1, max_size=4), rates, work, requests, st.floats(0, 1))
def test_grants_respect_slots_and_exclusions(
    fleet: list[Any], speeds: list[float], busy: list[Any], asked: list[Any], dice: float
) -> None:
    house = build(fleet, speeds, busy)
    queue = [request(number, **fields) for number, fields in enumerate(asked)]
    result = house.assign(*queue, now_s=60.0, dice=dice)
    by_id = {one.id: one for one in queue}
    nodes = {view.id: view for view in house.table.fleet.nodes}
    handled = [grant.request for grant in result.grants]
    handled += [one.request for one in result.reservations]
    assert len(set(handled)) == len(handled)
    for name in [grant.node for grant in result.grants]:
        assert nodes[name].state is NodeState.UP
    for grant in result.grants:
        one = by_id[grant.request]
        assert grant.node not in one.excluded
        assert one.pinned in {None, grant.node}
        if nodes[grant.node].is_ejected:
            assert all(
                view.is_ejected or view.state is not NodeState.UP or view.id in one.excluded
                or one.pinned not in {None, view.id}
                for view in nodes.values()
            )  # fmt: skip
        assert 0.0 <= grant.expected_load_s <= grant.expected_first_s <= grant.expected_s
        runner = [r for r in result.grants if (r.node, r.runner) == (grant.node, grant.runner)]
        on_runner = len(house.load.on_runner(grant.node, grant.runner)) + len(runner)
        spare = 1 if nodes[grant.node].probe_ms else 0
        assert on_runner <= (nodes[grant.node].slots or 1) + spare
        loads = [r for r in result.grants if r.node == grant.node and r.is_load]
        assert len(loads) <= 1
    assert result.next_wakeup_s is None or result.next_wakeup_s > 60.0
    for entry in result.reservations:
        assert entry.expected_start_s > 0


@settings(patient, max_examples=200)
@given(st.lists(views, min_size=1, max_size=4), rates, work, requests)
def test_short_cuts_agree_with_the_full_picture(
    fleet: list[Any], speeds: list[float], busy: list[Any], asked: list[Any]
) -> None:
    house = build(fleet, speeds, busy)
    policy = AssignPolicy()
    for number, fields in enumerate(asked):
        one = request(number, **fields)
        field = house.table.field(one, 60.0, policy.weights, policy.tuning)
        short, full = (Scene(house.load, house.rates, 60.0, policy.weights) for _ in range(2))
        for row in field.rows:
            if row.node in house.load.busy:
                full.timeline(row)
        quick, slow = Comparison(field, one, short), Comparison(field, one, full)
        assert quick.costs == pytest.approx(slow.costs)
        for place in range(len(field.rows)):
            assert quick.starts_now(place) == slow.starts_now(place)
            assert quick.offer(place) == slow.offer(place)


@patient
@given(st.lists(views, min_size=1, max_size=4), rates, work, requests, st.floats(0, 1))
def test_equal_inputs_give_equal_answers(
    fleet: list[Any], speeds: list[float], busy: list[Any], asked: list[Any], dice: float
) -> None:
    house, twin = build(fleet, speeds, busy), build(fleet, speeds, busy)
    queue = [request(number, **fields) for number, fields in enumerate(asked)]
    first = house.assign(*queue, now_s=60.0, dice=dice)
    assert house.assign(*queue, now_s=60.0, dice=dice) == first
    assert twin.assign(*queue, now_s=60.0, dice=dice) == first


@patient
@given(
    st.lists(st.floats(2.0, 200.0), min_size=4, max_size=4),
    st.sets(st.sampled_from(names)),
    st.floats(1.0, 2000.0),
    st.floats(1.01, 10.0),
    st.floats(0, 1),
)
def test_a_node_that_gets_faster_keeps_the_pick(
    speeds: list[float], cold: set[str], tokens: float, gain: float, dice: float
) -> None:
    fleet = [node(name, residents=[] if name in cold else None) for name in names]
    asked = request(output_tokens=tokens)
    (before,) = build(fleet, speeds, []).assign(asked, dice=dice).grants
    better = [
        speed * gain if name == before.node else speed
        for name, speed in zip(names, speeds, strict=True)
    ]
    (after,) = build(fleet, better, []).assign(asked, dice=dice).grants
    assert after.node == before.node
