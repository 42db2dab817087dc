from __future__ import annotations

from sollold.core.model import NodeState
from sollold.words.states import WORST_FIRST, badness


def test_every_state_has_its_place() -> None:
    assert set(WORST_FIRST) == {state.value for state in NodeState}
    assert sorted(["up", "down", "slow"], key=badness) == ["down", "slow", "up"]
    assert badness("a-new-word") == badness("unknown")
