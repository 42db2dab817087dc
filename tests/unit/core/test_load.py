"""Running requests: counted once, freed once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.core.load import Load
from sollold.core.model import Digest, NodeId, RequestId, RunnerKey
from tests.unit.core.routing_values import A, B, House, node, patient, request, running

RUNNER = RunnerKey(Digest(A), ())


def test_counts_by_node_runner_and_client() -> None:
    load = Load()
    load.add(running(1, "n", client="x"))
    load.add(running(2, "n", digest=B, client="x"))
    load.add(running(3, "o", client="y"))
    assert [one.request for one in load.on_node(NodeId("n"))] == ["r-1", "r-2"]
    assert [one.request for one in load.on_runner(NodeId("n"), RUNNER)] == ["r-1"]
    assert (load.count(NodeId("n")), load.count(NodeId("none"))) == (2, 0)
    assert (load.of_client("x"), load.of_client("z")) == (2, 0)
    assert load.clients() == {"x": 2, "y": 1}
    assert set(load.busy) == {"n", "o"}
    assert len(load) == 3
    assert [one.request for one in load] == ["r-1", "r-2", "r-3"]


def test_loads_in_progress_are_known_per_node() -> None:
    load = Load()
    load.add(running(1, "n", is_loading=True))
    load.add(running(2, "n", is_loading=True))
    load.add(running(3, "o", is_loading=True))
    load.add(running(4, "p"))
    assert [load.is_loading(NodeId(name)) for name in "nop"] == [True, True, False]
    load.note_first(RequestId("r-1"))
    load.note_first(RequestId("r-1"))
    assert load.is_loading(NodeId("n"))
    load.remove(RequestId("r-2"), 1.0)
    load.note_first(RequestId("r-4"))
    load.remove(RequestId("r-1"), 1.0)
    assert [load.is_loading(NodeId(name)) for name in "nop"] == [False, True, False]


def test_a_request_is_added_and_removed_once() -> None:
    load = Load()
    load.add(running(1, "n"))
    with pytest.raises(ValueError, match="r-1 holds a slot already"):
        load.add(running(1, "o"))
    assert load.remove(RequestId("r-1"), 1.0).node == "n"
    with pytest.raises(ValueError, match="r-1 holds no slot"):
        load.remove(RequestId("r-1"), 2.0)
    assert RequestId("r-1") not in load
    assert load.get(RequestId("r-1")) is None


def test_idle_since_is_the_end_of_the_last_request() -> None:
    load = Load()
    assert load.idle_since(NodeId("n")) == -math.inf
    load.add(running(1, "n"))
    load.add(running(2, "n"))
    load.remove(RequestId("r-1"), 3.0)
    assert load.idle_since(NodeId("n")) == -math.inf
    load.remove(RequestId("r-2"), 5.0)
    assert load.idle_since(NodeId("n")) == 5.0
    load.forget(NodeId("n"))
    assert load.idle_since(NodeId("n")) == -math.inf


def test_start_keeps_what_the_grant_promised() -> None:
    house = House(node("n", residents=[]))
    (grant,) = house.assign(request()).grants
    started = house.load.start(grant, "me", 7.0)
    assert house.load.get(grant.request) is started
    assert (started.node, started.client, started.started_s) == ("n", "me", 7.0)
    assert (started.is_loading, started.has_first_byte) == (True, False)
    assert started.expected_load_s == grant.expected_load_s > 0
    assert started.expected_s > started.expected_first_s > started.expected_load_s
    house.load.note_first(grant.request)
    assert (started.is_loading, started.has_first_byte) == (False, True)


@patient
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("nop"), st.sampled_from("xy"))))
def test_any_interleaving_returns_to_zero(steps: list[tuple[int, str, str]]) -> None:
    load = Load()
    held: dict[int, tuple[str, str]] = {}
    for number, on, client in steps:
        if number in held:
            load.remove(RequestId(f"r-{number}"), 1.0)
            del held[number]
        else:
            load.add(running(number, on, client=client))
            held[number] = on, client
        assert len(load) == len(held)
        for name in "nop":
            assert load.count(NodeId(name)) == sum(on == name for on, _ in held.values())
            assert len(load.on_runner(NodeId(name), RUNNER)) == load.count(NodeId(name))
            assert load.count_on_runner(NodeId(name), RUNNER) == load.count(NodeId(name))
        for name in "xy":
            assert load.of_client(name) == sum(client == name for _, client in held.values())
    for number in list(held):
        load.remove(RequestId(f"r-{number}"), 2.0)
    assert (len(load), dict(load.busy), load.clients()) == (0, {}, {})
