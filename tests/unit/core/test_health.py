"""The health state machine: every transition, and what must hold for any history."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.core import health as h
from sollold.core.breaker import span
from sollold.core.model import NodeState

POLICY = h.HealthPolicy()
OK = h.ProbeOk(0.002)
REFUSED = h.ProbeFailed("refused", "connection refused on 11434", is_refused=True)
SILENT = h.ProbeFailed("timeout", "no answer in 2 s")
FAILED = h.TrafficFailed("disconnected", "connection lost")


def after(*events: tuple[float, h.Observation], start: h.Health | None = None) -> h.Health:
    health = start or h.Health()
    for at_s, seen in events:
        health = h.observe(health, seen, at_s, POLICY)
    return health


def up() -> h.Health:
    return after((0.0, OK))


def text(health: h.Health, now_s: float) -> str:
    reason = h.reason(health, now_s)
    return "" if reason is None else f"{reason.code}: {reason.text}"


def test_nobody_looked() -> None:
    health = h.Health()
    assert h.state(health, 0.0) is NodeState.UNKNOWN
    assert text(health, 0.0) == "not_probed: not probed yet"
    assert not h.is_routable(health, 0.0)
    assert h.next_change_s(health, 0.0) == inf


def test_a_probe_makes_it_up() -> None:
    health = up()
    assert h.assess(health, 1.0) == (NodeState.UP, None)
    assert h.is_routable(health, 1.0)
    assert not h.is_ejected(health, 1.0)
    assert h.penalty_until_s(health, 1.0) == 0.0
    assert h.penalty_rank(health, 1.0) == 0.0


def test_refused_probe_is_down_at_once_and_counts_tries() -> None:
    health = after((0.0, OK), (100.0, REFUSED))
    assert text(health, 100.0) == "refused: connection refused on 11434"
    health = after((110.0, REFUSED), (130.0, REFUSED), start=health)
    assert h.state(health, 130.0) is NodeState.DOWN
    assert text(health, 130.0) == "refused: connection refused on 11434, 3 tries in 30 s"
    assert not h.is_routable(health, 130.0)
    assert h.state(after((131.0, OK), start=health), 131.0) is NodeState.UP


def test_one_silent_probe_is_a_remark_two_are_down() -> None:
    once = after((0.0, OK), (5.0, SILENT))
    assert h.state(once, 5.0) is NodeState.UP
    assert text(once, 5.0) == "timeout: no answer in 2 s"
    assert h.is_routable(once, 5.0)
    twice = after((7.0, SILENT), start=once)
    assert h.state(twice, 7.0) is NodeState.DOWN
    assert text(twice, 7.0) == "timeout: no answer in 2 s, 2 tries in 2 s"


def test_a_node_that_never_answered_is_unknown_then_down() -> None:
    once = after((0.0, SILENT))
    assert h.state(once, 0.0) is NodeState.UNKNOWN
    assert text(once, 0.0) == "timeout: no answer in 2 s"
    assert h.state(after((1.0, SILENT), start=once), 1.0) is NodeState.DOWN
    assert h.state(after((0.0, REFUSED)), 0.0) is NodeState.DOWN


def test_evidence_ages() -> None:
    health = up()
    assert h.next_change_s(health, 1.0) == 90.0
    assert h.state(health, 89.9) is NodeState.UP
    assert h.state(health, 90.0) is NodeState.UNKNOWN
    assert text(health, 90.0) == "stale: not probed for 90 s"
    assert not h.is_routable(health, 90.0)


def test_evidence_outlives_a_long_probe_pause() -> None:
    policy = h.HealthPolicy(retry_cap_s=100.0)
    health = h.observe(h.Health(), REFUSED, 0.0, policy)
    assert h.state(health, 299.0) is NodeState.DOWN
    assert h.state(health, 300.0) is NodeState.UNKNOWN


def test_traffic_refused_is_down_until_a_probe_succeeds() -> None:
    health = after((1.0, h.Refused("connection refused on 11434")), start=up())
    assert h.state(health, 1.0) is NodeState.DOWN
    assert text(health, 1.0) == "refused: connection refused on 11434"
    still = after((2.0, h.TrafficOk()), (3.0, SILENT), start=health)
    assert h.state(still, 3.0) is NodeState.DOWN
    assert h.state(after((4.0, OK), start=still), 4.0) is NodeState.UP


def test_frozen_is_down_at_once() -> None:
    health = after((1.0, h.Frozen("two probes unanswered while requests wait")), start=up())
    assert h.state(health, 1.0) is NodeState.DOWN
    assert text(health, 1.0) == "frozen: two probes unanswered while requests wait"


def test_misconfigured_by_probe_lasts_until_a_probe_succeeds() -> None:
    health = after((1.0, h.Misconfigured("wants a key (401)")), start=up())
    assert h.state(health, 80.0) is NodeState.DOWN
    assert text(health, 80.0) == "misconfigured: wants a key (401)"
    assert h.state(after((81.0, OK), start=health), 81.0) is NodeState.UP


TURNED_AWAY = h.Misconfigured("wants a key (401)", is_probe=False)


def test_misconfigured_by_traffic_survives_probes_and_is_soon_tried_again() -> None:
    health = after((1.0, TURNED_AWAY), (1.1, OK), start=up())
    assert h.state(health, 1.9) is NodeState.DOWN
    assert text(health, 1.9) == "misconfigured: wants a key (401)"
    assert h.is_ejected(health, 1.9)
    assert h.next_change_s(health, 1.1) == 2.0
    assert h.state(health, 2.0) is NodeState.SLOW
    assert text(health, 2.0) == "trial: the next request decides: wants a key (401)"
    assert not h.is_ejected(health, 2.0)
    well = after((2.1, h.TrafficOk()), start=health)
    assert h.assess(well, 2.1) == (NodeState.UP, None)
    assert well.passive.misconfigured_count == 0


def test_a_node_that_goes_on_turning_us_away_is_tried_less_and_less() -> None:
    health, now_s, pauses = up(), 1.0, []
    for _ in range(7):
        health = after((now_s, TURNED_AWAY), (now_s, TURNED_AWAY), (now_s, OK), start=health)
        pauses.append(h.penalty_until_s(health, now_s) - now_s)
        now_s = h.penalty_until_s(health, now_s)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_misconfigured_by_traffic_may_be_tried_when_nobody_else_is_left() -> None:
    health = after((1.0, TURNED_AWAY), start=up())
    assert h.is_routable(health, 1.0)
    assert h.penalty_rank(health, 1.0) > h.penalty_rank(ejected(1.0), 1.0)
    assert not health.passive.breaker.is_open


def test_misconfigured_by_traffic_is_over_when_the_probes_say_so() -> None:
    health = after((1.0, TURNED_AWAY), (1.1, h.Misconfigured("wants a key (401)")), start=up())
    assert not h.is_routable(health, 30.0)
    assert h.assess(after((30.0, OK), start=health), 30.0) == (NodeState.UP, None)
    again = after((1.2, OK), (1.3, TURNED_AWAY), start=health)
    assert h.penalty_until_s(again, 1.3) == 2.3


def test_drain_resume_and_limit() -> None:
    health = after((1.0, h.Drain(is_on=True)), start=up())
    assert h.state(health, 1.0) is NodeState.DRAINING
    assert text(health, 1.0) == "draining: draining on request"
    assert not h.is_routable(health, 1.0)
    assert h.next_change_s(health, 1.0) == 90.0
    assert h.state(after((2.0, h.Drain(is_on=False)), start=health), 2.0) is NodeState.UP
    limited = after((1.0, h.Drain(is_on=True, until_s=10.0)), start=up())
    assert h.next_change_s(limited, 1.0) == 10.0
    assert h.state(limited, 9.9) is NodeState.DRAINING
    assert h.state(limited, 10.0) is NodeState.UP
    assert h.is_routable(limited, 10.0)


def test_a_draining_node_that_dies_is_down() -> None:
    health = after((1.0, h.Drain(is_on=True)), (2.0, REFUSED), start=up())
    assert h.state(health, 2.0) is NodeState.DOWN
    assert h.state(after((3.0, OK), start=health), 3.0) is NodeState.DRAINING


def test_three_failures_in_a_row_eject() -> None:
    health = after((1.0, FAILED), (2.0, FAILED), start=up())
    assert h.state(health, 2.0) is NodeState.UP
    health = after((3.0, FAILED), start=health)
    assert h.state(health, 3.0) is NodeState.DOWN
    assert text(health, 3.0) == "ejected: connection lost, 3 failed requests, left out for 5 s"
    assert h.is_routable(health, 3.0)
    assert h.is_ejected(health, 7.9)
    assert h.penalty_until_s(health, 3.0) == 8.0
    assert h.next_change_s(health, 3.0) == 8.0


def test_a_success_between_failures_resets_the_run_but_not_the_window() -> None:
    health = up()
    for at_s in range(4):
        health = after((at_s, FAILED), (at_s + 0.5, h.TrafficOk()), start=health)
    assert not h.is_ejected(health, 4.0)
    assert h.is_ejected(after((4.0, FAILED), start=health), 4.0)
    assert not h.is_ejected(after((60.0, FAILED), start=health), 60.0)


def test_weight_counts() -> None:
    heavy = h.TrafficFailed("timeout", "no first byte", weight=3.0)
    assert h.is_ejected(after((1.0, heavy), start=up()), 1.0)


def ejected(at_s: float = 3.0) -> h.Health:
    return after((at_s, FAILED), (at_s, FAILED), (at_s, FAILED), start=after((at_s, OK)))


def test_during_an_ejection_results_of_earlier_requests_say_nothing() -> None:
    health = ejected()
    assert after((4.0, FAILED), start=health) is health
    assert h.penalty_until_s(after((4.0, h.TrafficOk()), start=health), 4.0) == 8.0


def test_half_open_lets_one_request_decide() -> None:
    health = ejected()
    assert not h.takes_trial(health, 7.9)
    assert h.takes_trial(health, 8.0)
    assert not h.is_ejected(health, 8.0)
    assert h.state(health, 8.0) is NodeState.SLOW
    assert text(health, 8.0).startswith("trial: the next request decides: connection lost")
    taken = h.take_trial(health, 8.0, POLICY)
    assert taken is not None
    health, token = taken
    assert not h.takes_trial(health, 8.0)
    assert h.take_trial(health, 8.0, POLICY) is None
    assert h.is_ejected(health, 8.0)
    assert h.penalty_until_s(health, 8.0) == 38.0
    assert h.next_change_s(health, 8.0) == 38.0
    # Others' results do not decide while the trial runs.
    assert after((9.0, FAILED), start=health) is health
    assert after((9.0, h.TrafficOk()), start=health) is health
    good = after((9.0, h.TrafficOk(trial=token)), start=health)
    assert h.assess(good, 9.0) == (NodeState.UP, None)
    bad = after((9.0, h.TrafficFailed("eof", "cut", trial=token)), start=health)
    assert text(bad, 9.0) == "ejected: cut, again on trial, left out for 10 s"
    assert h.penalty_until_s(bad, 9.0) == 19.0


def test_a_superseded_trial_cannot_flip_the_breaker() -> None:
    first = h.take_trial(ejected(), 8.0, POLICY)
    assert first is not None
    assert h.takes_trial(first[0], 38.0)
    second = h.take_trial(first[0], 38.0, POLICY)
    assert second is not None
    health, token = second
    assert token != first[1]
    for late in (
        h.TrafficOk(trial=first[1]),
        h.TrafficFailed("late", "late", trial=first[1]),
        h.TrialEnded(first[1]),
    ):
        assert after((39.0, late), start=health) is health
    closed = after((40.0, h.TrafficOk(trial=token)), start=health)
    assert h.state(closed, 40.0) is NodeState.UP
    # Nor may it count against the closed breaker, nor for it.
    late_fail = h.TrafficFailed("late", "late", weight=99.0, trial=first[1])
    assert after((41.0, late_fail), start=closed) is closed
    run = after((41.0, FAILED), start=closed)
    assert after((42.0, h.TrafficOk(trial=first[1])), start=run) is run


def test_a_slow_trial_that_nobody_superseded_still_decides() -> None:
    taken = h.take_trial(ejected(), 8.0, POLICY)
    assert taken is not None
    assert not h.takes_trial(after((50.0, h.TrafficOk(trial=taken[1])), start=taken[0]), 50.0)


def test_a_trial_without_verdict_lets_the_next_one_try() -> None:
    taken = h.take_trial(ejected(), 8.0, POLICY)
    assert taken is not None
    health = after((9.0, h.TrialEnded(taken[1])), start=taken[0])
    assert h.takes_trial(health, 9.0)
    assert h.take_trial(health, 9.0, POLICY) is not None


def test_without_a_trial_any_fresh_result_decides() -> None:
    health = ejected()
    assert h.state(after((9.0, h.TrafficOk()), start=health), 9.0) is NodeState.UP
    assert h.is_ejected(after((9.0, FAILED), start=health), 9.0)


def test_a_trial_may_run_while_ejected_when_all_nodes_are() -> None:
    taken = h.take_trial(ejected(), 4.0, POLICY)
    assert taken is not None
    health, token = taken
    assert h.state(after((5.0, h.TrafficOk(trial=token)), start=health), 5.0) is NodeState.UP
    assert (
        h.penalty_until_s(after((5.0, h.TrafficFailed("x", "x", trial=token)), start=health), 5.0)
        == 15.0
    )


def test_a_closed_breaker_takes_no_trial() -> None:
    assert h.take_trial(up(), 1.0, POLICY) is None
    assert not h.takes_trial(up(), 1.0)


def test_ejections_grow_to_a_cap_and_are_forgiven() -> None:
    health, now_s, lengths = ejected(0.0), 0.0, [5.0]
    for _ in range(13):
        now_s = h.penalty_until_s(health, now_s)
        health = after((now_s, FAILED), start=health)
        lengths.append(h.penalty_until_s(health, now_s) - now_s)
    assert lengths == [5.0 * n for n in range(1, 13)] + [60.0, 60.0]
    end_s = h.penalty_until_s(health, now_s)
    health = after((end_s, h.TrafficOk()), start=health)
    later_s = end_s + 12 * 60.0
    health = after((later_s, FAILED), (later_s, FAILED), (later_s, FAILED), start=health)
    assert h.penalty_until_s(health, later_s) - later_s == 15.0
    much_later_s = later_s + 99_999.0
    health = after((much_later_s, h.TrafficOk()), *[(much_later_s, FAILED)] * 3, start=health)
    assert h.penalty_until_s(health, much_later_s) - much_later_s == 5.0


def test_coming_back_from_down_forgets_strikes() -> None:
    health = after((1.0, FAILED), (2.0, FAILED), (3.0, REFUSED), (4.0, OK), start=up())
    health = after((5.0, FAILED), (6.0, FAILED), start=health)
    assert not h.is_ejected(health, 6.0)
    by_traffic = after((1.0, FAILED), (2.0, FAILED), (3.0, h.Refused("no")), (4.0, OK), start=up())
    assert not h.is_ejected(after((5.0, FAILED), start=by_traffic), 5.0)


def test_busy_doubles_only_after_the_pause_has_passed() -> None:
    health = after(*[(1.0, h.Saturated())] * 10, start=up())
    assert h.penalty_until_s(health, 1.0) == 2.0
    assert h.assess(health, 1.0)[0] is NodeState.UP
    assert text(health, 1.0) == "busy: said it is busy, left alone for 1 s"
    assert h.is_routable(health, 1.0)
    assert h.is_ejected(health, 1.0)
    assert h.next_change_s(health, 1.0) == 2.0
    health = after((2.0, h.Saturated()), start=health)
    assert h.penalty_until_s(health, 2.0) == 4.0
    now_s = 0.0
    for _ in range(20):
        now_s = h.penalty_until_s(health, 0.0)
        health = after((now_s, h.Saturated()), start=health)
    assert h.penalty_until_s(health, now_s) - now_s == 60.0
    calm = after((now_s, h.TrafficOk()), (now_s, h.Saturated()), start=health)
    assert h.penalty_until_s(calm, now_s) - now_s == 1.0


def test_busy_honours_retry_after_within_reason() -> None:
    assert h.penalty_until_s(after((1.0, h.Saturated(7.0)), start=up()), 1.0) == 8.0
    assert h.penalty_until_s(after((1.0, h.Saturated(9e9)), start=up()), 1.0) == 301.0
    assert h.penalty_until_s(after((1.0, h.Saturated(-5.0)), start=up()), 1.0) == 0.0
    longer = after((1.0, h.Saturated()), (1.5, h.Saturated(10.0)), start=up())
    assert h.penalty_until_s(longer, 1.5) == 11.5
    shorter = after((1.0, h.Saturated(10.0)), (1.5, h.Saturated(1.0)), start=up())
    assert h.penalty_until_s(shorter, 1.5) == 11.0


def test_busy_is_no_failure() -> None:
    health = up()
    for at_s in range(100):
        health = after((at_s * 100.0, OK), (at_s * 100.0, h.Saturated()), start=health)
    assert h.state(health, 9900.0) is NodeState.UP
    assert not h.takes_trial(health, 9990.0)


def test_warming() -> None:
    new = after((0.0, h.Warming()))
    assert h.state(new, 0.0) is NodeState.UNKNOWN
    assert text(new, 0.0) == "warming: still loading its model"
    assert not h.is_routable(new, 0.0)
    restarted = after((1.0, REFUSED), (2.0, h.Warming()), start=up())
    assert h.state(restarted, 2.0) is NodeState.UP
    assert text(restarted, 2.0) == "warming: still loading its model"
    assert h.penalty_until_s(restarted, 2.0) == 12.0
    assert not h.is_ejected(after((3.0, OK), start=restarted), 3.0)
    by_traffic = after((1.0, h.Warming(is_probe=False)), start=up())
    assert h.is_ejected(by_traffic, 1.0)
    assert not h.is_ejected(after((2.0, h.TrafficOk()), start=by_traffic), 2.0)
    unknown = after((1.0, h.Warming(is_probe=False)))
    assert text(unknown, 1.0) == "not_probed: not probed yet"


def test_who_loads_is_asked_again_soon() -> None:
    health = after((1.0, h.Warming()), start=up())
    assert h.next_probe_in_s(health, 1.0, POLICY, 0.5) == 1.0
    assert h.next_probe_in_s(after((2.0, OK), start=health), 2.0, POLICY, 0.5) == 5.0


def test_silence_while_it_works_is_no_failure() -> None:
    health = up()
    for at_s in range(10, 200, 10):
        health = after((float(at_s), h.Silent()), start=health)
        assert h.state(health, at_s) is NodeState.UP
        assert text(health, at_s) == "busy: answers no probes while it works"
    assert h.is_routable(health, 190.0)
    assert h.penalty_until_s(health, 190.0) == h.next_change_s(health, 190.0) == 205.0
    assert h.penalty_rank(health, 190.0) > 0
    assert h.penalty_until_s(after((191.0, OK), start=health), 191.0) == 0.0
    failed = after((191.0, SILENT), start=health)
    assert h.penalty_until_s(failed, 191.0) == 0.0
    assert h.state(failed, 191.0) is NodeState.UP
    assert h.state(after((192.0, SILENT), start=failed), 192.0) is NodeState.DOWN


def test_silence_says_nothing_for_who_is_down_or_was_never_seen() -> None:
    assert h.state(after((1.0, REFUSED), (2.0, h.Silent()), start=up()), 2.0) is NodeState.DOWN
    new = after((1.0, h.Silent()))
    assert h.state(new, 1.0) is NodeState.UNKNOWN
    assert not h.is_routable(new, 1.0)


def test_a_probe_that_is_put_off_was_answered() -> None:
    health = after((5.0, SILENT), (6.0, h.Saturated(60.0, is_probe=True)), start=up())
    assert h.state(health, 6.0) is NodeState.UP
    assert text(health, 6.0) == "busy: said it is busy, left alone for 60 s"
    assert h.is_routable(health, 6.0)
    assert h.is_ejected(health, 6.0)
    new = after((1.0, h.Saturated(is_probe=True)))
    assert h.state(new, 1.0) is NodeState.UNKNOWN
    assert text(new, 1.0) == "busy: said it is busy, left alone for 1 s"


def test_slow_against_its_own_usual() -> None:
    health = after(*[(float(n), h.ProbeOk(0.004)) for n in range(20)])
    assert h.state(health, 20.0) is NodeState.UP
    # Ten times its usual and still quick: nobody would call it slow.
    quick = after(*[(20.0 + n, h.ProbeOk(0.04)) for n in range(5)], start=health)
    assert h.state(quick, 25.0) is NodeState.UP
    slow = after(*[(20.0 + n, h.ProbeOk(0.82)) for n in range(3)], start=health)
    assert h.state(slow, 23.0) is NodeState.SLOW
    assert text(slow, 23.0) == "slow: answers probes in 820 ms, usually 4 ms"
    assert h.is_routable(slow, 23.0)
    assert h.is_slow(slow)
    assert not h.is_slow(quick)
    calm = after(*[(23.0 + n, h.ProbeOk(0.004)) for n in range(3)], start=slow)
    assert h.state(calm, 26.0) is NodeState.UP


def test_slow_by_first_tokens() -> None:
    health = after(*[(0.0, h.TrafficOk(0.5))] * 20, *[(0.0, h.TrafficOk(4.0))] * 3, start=up())
    assert text(health, 1.0) == "slow: begins answers after 4.0 s, usually 500 ms"


def test_few_samples_are_no_usual() -> None:
    health = after(*[(0.0, h.ProbeOk(0.004))] * 9, *[(0.0, h.ProbeOk(1.0))] * 5)
    assert h.state(health, 1.0) is NodeState.UP


def test_a_plain_success_changes_nothing() -> None:
    health = up()
    assert after((1.0, h.TrafficOk()), start=health) is health


def test_penalties_are_ranked() -> None:
    busy = after((3.0, h.Saturated()), start=up())
    warming = after((3.0, h.Warming(is_probe=False)), start=up())
    once = ejected()
    twice = after((8.0, FAILED), start=once)
    ranks = [h.penalty_rank(x, 3.0) for x in (up(), busy, warming, once, twice)]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)
    longer = after((3.0, h.Saturated(9.0)), start=up())
    assert h.penalty_rank(longer, 3.0) > h.penalty_rank(busy, 3.0)


def test_probe_pauses() -> None:
    health = up()
    assert h.next_probe_in_s(health, 0.0, POLICY, 0.5) == 5.0
    assert h.next_probe_in_s(health, 0.0, POLICY, 0.0) == pytest.approx(4.0)
    assert h.next_probe_in_s(health, 0.0, POLICY, 0.999) < 6.0
    pauses = []
    for at_s in range(9):
        health = after((float(at_s), SILENT), start=health)
        pauses.append(h.next_probe_in_s(health, float(at_s), POLICY, 0.5))
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    for _ in range(9):
        health = after((9.0, h.Misconfigured("wants a key (401)")), start=health)
    assert h.next_probe_in_s(health, 9.0, POLICY, 0.5) == 5.0
    refused = after((1.0, h.Refused("no")), start=up())
    assert h.next_probe_in_s(refused, 1.0, POLICY, 0.5) == 0.5


def test_a_probe_precedes_the_trial() -> None:
    health = after((6.0, OK), start=ejected(3.0))
    assert h.next_probe_in_s(health, 6.0, POLICY, 0.5) == 2.0
    assert h.next_probe_in_s(health, 8.0, POLICY, 0.5) == 5.0


def test_span() -> None:
    assert [span(s) for s in (0.0, 1.4, 119.0, 120.0, 7199.0, 7200.0)] == [
        "1 s", "1 s", "119 s", "2 min", "120 min", "2 h",
    ]  # fmt: skip


_seconds = st.floats(0.0, 400.0, allow_nan=False)
_tokens = st.none() | st.integers(1, 4)
_probes = st.one_of(
    st.builds(h.ProbeOk, st.floats(0.0, 3.0)),
    st.builds(h.ProbeFailed, st.just("timeout"), st.just("silent"), st.booleans()),
    st.just(h.Frozen("frozen")),
    st.just(h.Misconfigured("401")),
    st.just(h.Warming()),
    st.just(h.Silent()),
    st.just(h.Saturated(None, is_probe=True)),
)
_traffic = st.one_of(
    st.just(h.Refused("refused")),
    st.builds(h.TrafficOk, st.none() | st.floats(0.0, 30.0), _tokens),
    st.builds(h.TrafficFailed, st.just("eof"), st.just("eof"), st.floats(0.5, 3.0), _tokens),
    st.builds(h.Saturated, st.none() | st.floats(-1.0, 1e6)),
    st.just(h.Misconfigured("401", is_probe=False)),
    st.just(h.Warming(is_probe=False)),
    st.builds(h.TrialEnded, st.integers(1, 4)),
    st.builds(h.Drain, st.booleans(), st.none() | _seconds),
)
_histories = st.lists(st.tuples(st.floats(0.0, 40.0), st.none() | _probes | _traffic), max_size=40)


@given(_histories)
def test_whatever_happens(history: list[tuple[float, h.Observation | None]]) -> None:
    """Derived values agree with each other after any history; None takes a trial."""
    health, now_s = h.Health(), 0.0
    for pause_s, seen in history:
        now_s += pause_s
        before = h.state(health, now_s)
        if seen is None:
            taken = h.take_trial(health, now_s, POLICY)
            if taken is not None:
                assert h.take_trial(taken[0], now_s, POLICY) is None
                assert not h.takes_trial(taken[0], now_s)
                health = taken[0]
        else:
            health = h.observe(health, seen, now_s, POLICY)
        word, reason = h.assess(health, now_s)
        if before is NodeState.UNKNOWN and word is not NodeState.UNKNOWN:
            assert isinstance(
                seen,
                h.ProbeOk
                | h.ProbeFailed
                | h.Frozen
                | h.Misconfigured
                | h.Warming
                | h.Saturated
                | h.Silent,
            )
        if h.is_routable(health, now_s):
            assert health.active.ok_s is not None
            assert word not in {NodeState.UNKNOWN, NodeState.DRAINING}
        if word in {NodeState.DOWN, NodeState.UNKNOWN, NodeState.DRAINING, NodeState.SLOW}:
            assert reason is not None
            assert reason.text
        until_s = h.penalty_until_s(health, now_s)
        assert (
            (until_s > now_s) == h.is_ejected(health, now_s) == (h.penalty_rank(health, now_s) > 0)
        )
        assert len(health.passive.breaker.strikes) <= 64
        assert 0.0 <= h.next_probe_in_s(health, now_s, POLICY, 0.7) <= 36.0


@given(_histories, st.floats(0.0, 1.0))
def test_nothing_changes_before_it_was_announced(
    history: list[tuple[float, h.Observation | None]], part: float
) -> None:
    health, now_s = h.Health(), 0.0
    for pause_s, seen in history:
        now_s += pause_s
        if seen is not None:
            health = h.observe(health, seen, now_s, POLICY)
    change_s = h.next_change_s(health, now_s)
    assert change_s > now_s
    probe_s = now_s + part * (min(change_s, now_s + 1000.0) - now_s)
    if probe_s < change_s:
        assert h.state(health, probe_s) is h.state(health, now_s)
        assert h.is_routable(health, probe_s) == h.is_routable(health, now_s)
        assert h.is_ejected(health, probe_s) == h.is_ejected(health, now_s)
        assert h.takes_trial(health, probe_s) == h.takes_trial(health, now_s)


def test_every_state_is_reached() -> None:
    seen = {
        h.state(health, 8.0)
        for health in (
            h.Health(), up(), ejected(), after((1.0, REFUSED)),
            after((1.0, OK), (2.0, h.Drain(is_on=True))),
        )
    }  # fmt: skip
    assert seen == set(NodeState)
