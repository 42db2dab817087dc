"""Slots per runner: told, or learned one at a time."""

from __future__ import annotations

import pytest

from sollold.core.model import Digest, NodeId, NodeKind, RequestId, RunnerKey
from sollold.core.slots import (
    MAX_LEARNED,
    OPENAI_SLOTS,
    TRIAL_GROWTH,
    TRIAL_INTERVAL_MAX_S,
    TRIAL_INTERVAL_S,
    SlotTable,
    allowance,
)
from tests.unit.core.routing_values import A, B

N = NodeId("n")
RUNNER = RunnerKey(Digest(A), ())
OLLAMA = NodeKind.OLLAMA
PROBE = RequestId("r-probe")


class Trials:
    """A table with one runner, and what may happen to it."""

    def __init__(self, *, max_runners: int = 16) -> None:
        self.table = SlotTable(max_runners=max_runners)

    def slots(self) -> int:
        return self.table.slots(N, RUNNER, OLLAMA, None)

    def wait(self, now_s: float = 0.0) -> bool:
        return self.table.note_waiting(N, RUNNER, OLLAMA, None, now_s)

    def first(
        self,
        started_with: int,
        *,
        late: bool = False,
        first_with: int | None = None,
        now_s: float = 0.0,
        request: str = "r-other",
    ) -> None:
        self.table.note_first(
            RequestId(request),
            N,
            RUNNER,
            now_s,
            started_with=started_with,
            first_with=started_with if first_with is None else first_with,
            expected_s=1.0,
            seen_s=9.0 if late else 1.5,
        )

    def baseline(self, running: int = 1) -> None:
        for _ in range(3):
            self.first(running)

    def probe(self, running: int, *, late: bool, now_s: float = 0.0) -> None:
        self.table.note_started(PROBE, N, RUNNER, running)
        self.first(running, late=late, now_s=now_s, request=PROBE)
        self.table.note_ended(PROBE, N, RUNNER)

    def learn(self, upto: int) -> None:
        for count in range(2, upto + 1):
            self.baseline(count - 1)
            assert self.wait()
            for _ in range(3):
                self.probe(count, late=False)


@pytest.mark.parametrize(
    ("kind", "configured", "slots"),
    [
        (NodeKind.OLLAMA, 4, 4),
        (NodeKind.OLLAMA, 0, 1),
        (NodeKind.OLLAMA, None, 1),
        (NodeKind.LLAMA_SERVER, 2, 2),
        (NodeKind.LLAMA_SERVER, None, 1),
        (NodeKind.COORDINATOR, None, 1),
        (NodeKind.OPENAI, None, OPENAI_SLOTS),
        (NodeKind.OPENAI, 3, 3),
    ],
)
def test_told_slots_win(kind: NodeKind, configured: int | None, slots: int) -> None:
    assert SlotTable().slots(N, RUNNER, kind, configured) == slots


def test_nothing_is_tried_before_first_tokens_were_on_time() -> None:
    trials = Trials()
    assert not trials.wait()
    trials.first(1)
    trials.first(1)
    assert not trials.wait()
    trials.first(1, late=True)
    trials.first(1)
    trials.first(1)
    assert not trials.wait()
    trials.first(1)
    assert trials.wait()
    assert trials.slots() == 2
    assert trials.table.is_trial(N, RUNNER)


@pytest.mark.parametrize(("kind", "configured"), [(OLLAMA, 1), (NodeKind.LLAMA_SERVER, None)])
def test_told_slots_are_not_tried(kind: NodeKind, configured: int | None) -> None:
    trials = Trials()
    trials.baseline()
    assert not trials.table.note_waiting(N, RUNNER, kind, configured, 0.0)


def test_a_trial_lets_one_request_out_at_a_time() -> None:
    trials = Trials()
    trials.baseline()
    trials.wait()
    trials.table.note_started(PROBE, N, RUNNER, 1)
    assert trials.slots() == 2
    trials.table.note_started(PROBE, N, RUNNER, 2)
    assert trials.slots() == 1
    assert not trials.wait()
    trials.first(2, request=PROBE)
    assert trials.slots() == 2


def test_a_trial_that_stays_flat_keeps_the_slot() -> None:
    trials = Trials()
    trials.learn(2)
    assert trials.slots() == 2
    assert not trials.table.is_trial(N, RUNNER)


def test_a_late_first_token_ends_the_trial_and_the_next_one_is_further_away() -> None:
    trials = Trials()
    interval_s = TRIAL_INTERVAL_S
    now_s = 0.0
    for _ in range(8):
        trials.baseline()
        assert trials.wait(now_s)
        trials.probe(2, late=True, now_s=now_s)
        assert trials.slots() == 1
        trials.baseline()
        assert not trials.wait(now_s + interval_s - 1.0)
        now_s += interval_s
        interval_s = min(interval_s * TRIAL_GROWTH, TRIAL_INTERVAL_MAX_S)
    assert interval_s == TRIAL_INTERVAL_MAX_S
    assert trials.wait(now_s)


def test_others_do_not_judge_a_trial() -> None:
    trials = Trials()
    trials.baseline()
    trials.wait()
    trials.first(1, late=True)
    trials.first(1)
    assert trials.slots() == 2
    trials.first(2, first_with=1)
    trials.first(2, first_with=1)
    trials.first(2, first_with=1)
    assert trials.table.is_trial(N, RUNNER)


def test_a_probe_that_ends_without_a_first_token_proves_nothing() -> None:
    trials = Trials()
    trials.baseline()
    trials.wait()
    trials.table.note_started(PROBE, N, RUNNER, 2)
    trials.table.note_ended(RequestId("r-else"), N, RUNNER)
    assert trials.slots() == 1
    trials.table.note_ended(PROBE, N, RUNNER)
    assert trials.slots() == 2
    assert trials.table.is_trial(N, RUNNER)


def test_a_learned_slot_is_taken_back_after_two_late_tokens() -> None:
    trials = Trials()
    trials.learn(3)
    trials.first(3, late=True)
    trials.first(3)
    trials.first(3, late=True)
    assert trials.slots() == 3
    trials.first(3, late=True)
    assert trials.slots() == 2
    trials.baseline(1)
    assert not trials.wait(1.0)


def test_late_tokens_below_full_use_reset_the_base_line_only() -> None:
    trials = Trials()
    trials.learn(2)
    trials.first(1, late=True)
    trials.first(1, late=True)
    assert trials.slots() == 2
    assert not trials.wait()


def test_learning_stops_at_the_limit() -> None:
    trials = Trials()
    trials.learn(MAX_LEARNED)
    trials.baseline(MAX_LEARNED)
    assert not trials.wait()
    assert trials.slots() == MAX_LEARNED


def test_changes_are_told() -> None:
    trials = Trials()
    trials.baseline()
    before = trials.table.changes.epoch
    trials.wait()
    trials.probe(2, late=True)
    assert trials.table.changes.since(before) == [(N, A)] * 2


def test_the_table_is_bounded_and_forgets_nodes() -> None:
    trials = Trials(max_runners=1)
    trials.learn(2)
    other = RunnerKey(Digest(B), ())
    trials.table.note_first(
        PROBE, NodeId("o"), other, 0.0, started_with=1, first_with=1, expected_s=1.0, seen_s=1.0
    )
    assert trials.slots() == 1
    trials.learn(2)
    trials.table.forget(NodeId("o"))
    assert trials.slots() == 2
    trials.table.forget(N)
    assert trials.slots() == 1
    assert not trials.table.is_trial(N, RUNNER)
    trials.table.note_ended(PROBE, N, RUNNER)
    trials.table.note_started(PROBE, N, RUNNER, 5)


def test_short_service_is_overlapped() -> None:
    assert allowance(1, 0.05, 0.01) == 2
    assert allowance(1, 0.1, 0.01) == 1
    assert allowance(4, 0.1, 0.0) == 4
