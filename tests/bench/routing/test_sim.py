"""The routing budgets on one small simulated day each; the full table is printed by `sim`."""

from __future__ import annotations

import pytest

from tests.bench.routing.sim import median, simulate, table

SEEDS = (1, 2, 3)
NUMBER = 200


def p95(fleet: str, policy: str) -> float:
    days = [simulate(fleet, 0.6, policy, seed, NUMBER) for seed in SEEDS]
    return median(days).p95_s


@pytest.mark.parametrize(("fleet", "part"), [("mixed", 0.5), ("one_fast", 0.5), ("tight", 0.5)])
def test_learning_from_nothing_beats_least_connections(fleet: str, part: float) -> None:
    late = p95(fleet, "late")
    assert late <= part * p95(fleet, "least_connections")
    assert late <= 1.5 * p95(fleet, "knowing")


def test_a_day_is_the_same_every_time() -> None:
    assert simulate("shared", 0.6, "late", 1, 60) == simulate("shared", 0.6, "late", 1, 60)


def test_the_table_names_every_policy() -> None:
    text = table("equal", 0.3, 1, 20, ["late", "knowing", "least_connections"])
    assert [line.split()[0] for line in text.splitlines()[2:]] == [
        "late",
        "knowing",
        "least_connections",
    ]
