"""The registry: snapshots, announcements, facts."""

from __future__ import annotations

import logging

import msgspec
import pytest

from sollold.core import health as h
from sollold.core.model import NodeId, NodeState
from sollold.errors import NodeNotFound
from sollold.events.types import EVENT_TYPES
from sollold.nodes.candidates import Candidate
from tests.unit.nodes.support import Bench, model, resident

OK = h.ProbeOk(0.004)
REFUSED = h.ProbeFailed("refused", "connection refused on 11434", is_refused=True)
GONE = NodeId("nobody")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_configured_node_is_shown_before_it_was_probed(bench: Bench) -> None:
    node = bench.add("gpu-1", name="gpu", tier=2, slots=3)
    (view,) = bench.registry.fleet().nodes
    assert (view.id, view.url, view.tier, view.slots) == (node, "http://gpu-1:11434", 2, 3)
    assert view.state is NodeState.UNKNOWN
    assert view.reason is not None
    assert view.reason.code == "not_probed"
    assert not view.is_routable
    assert view.found_by == ("config",)
    assert view.addresses == ()
    assert view.since_s == 100.0


def test_the_snapshot_is_the_same_object_until_something_changes(bench: Bench) -> None:
    one, two = bench.add("10.0.0.1"), bench.add("10.0.0.2")
    first = bench.registry.fleet()
    assert bench.registry.fleet() is first
    bench.registry.observe(one, OK)
    second = bench.registry.fleet()
    assert second.generation > first.generation
    assert second.nodes[0] is not first.nodes[0]
    assert second.nodes[1] is first.nodes[1]
    assert two == second.nodes[1].id


def test_a_probe_that_only_repeats_is_no_change_but_shows_in_time(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    bench.registry.observe(node, OK)
    before, calls = bench.registry.fleet(), bench.calls
    bench.now_s += 1.0
    bench.registry.observe(node, OK)
    assert bench.registry.fleet() is before
    assert bench.calls == calls
    fresh = bench.registry.get(node)
    assert fresh is not None
    assert fresh.seen_s == 101.0
    assert fresh.probe_ms == pytest.approx(4.0)
    bench.now_s += 5.0
    after = bench.registry.fleet()
    assert after.generation == before.generation + 1
    assert after.nodes[0].seen_s == 101.0


def test_catalogues_are_shared_between_snapshots(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    llama = model("llama3.2")
    bench.registry.set_catalogue(node, {llama.key: llama})
    held = bench.registry.fleet().nodes[0].models
    calls = bench.calls
    bench.registry.set_catalogue(node, {llama.key: model("llama3.2")})
    assert bench.calls == calls
    bench.registry.observe(node, OK)
    assert bench.registry.fleet().nodes[0].models is held
    bench.registry.set_catalogue(node, {})
    assert bench.registry.fleet().nodes[0].models == {}
    assert held


def test_state_changes_are_announced_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    node = bench.add("10.0.0.1", name="gpu")
    bench.take()
    caplog.clear()
    for _ in range(3):
        bench.registry.observe(node, OK)
    for _ in range(3):
        bench.now_s += 15.0
        bench.registry.observe(node, REFUSED)
    assert [fields for _, fields in bench.events] == [
        {"node": "gpu", "backend": "ollama", "from_state": "unknown", "to_state": "up",
         "reason": None, "reason_code": None},
        {"node": "gpu", "backend": "ollama", "from_state": "up", "to_state": "down",
         "reason": "connection refused on 11434", "reason_code": "refused"},
    ]  # fmt: skip
    assert [record.getMessage() for record in caplog.records] == [
        "node gpu is up, was unknown",
        "node gpu is down, was up: connection refused on 11434",
    ]
    view = bench.registry.get(node)
    assert view is not None
    assert view.since_s == 115.0
    assert view.reason is not None
    assert view.reason.text == "connection refused on 11434, 3 tries in 30 s"


def test_every_event_fits_its_type(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    bench.registry.observe(node, OK)
    bench.registry.set_residents(node, [resident("m")], asked_s=100.0)
    bench.registry.set_residents(node, [], asked_s=100.0)
    bench.registry.remove(node)
    assert bench.kinds() == [
        "NODE_JOINED", "NODE_STATE", "MODEL_LOADED", "MODEL_UNLOADED", "NODE_LEFT",
    ]  # fmt: skip
    for kind, fields in bench.events:
        assert msgspec.convert(fields, EVENT_TYPES[kind]).sentence()


def test_observations_of_unknown_nodes_are_ignored(bench: Bench) -> None:
    registry = bench.registry
    registry.observe(GONE, OK)
    registry.set_version(GONE, "1")
    registry.set_catalogue(GONE, {})
    registry.set_residents(GONE, [], asked_s=0.0)
    registry.note_resident(GONE, model("m").key, model("m").digest, ())
    registry.set_addresses(GONE, ["10.0.0.1"])
    registry.prefer_address(GONE, "10.0.0.1")
    registry.mark_peer(GONE, None)
    registry.unmark_peer(GONE)
    assert registry.take_trial(GONE) is None
    assert registry.get(GONE) is None
    assert registry.target(GONE) is None
    assert registry.next_probe_in_s(GONE, 0.5) == 0.0
    assert bench.calls == 0
    assert bench.events == []


def test_operators_are_told_of_unknown_nodes(bench: Bench) -> None:
    for action in (bench.registry.drain, bench.registry.resume, bench.registry.remove):
        with pytest.raises(NodeNotFound, match="nobody"):
            action(GONE)


def test_drain_and_resume(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    bench.registry.observe(node, OK)
    bench.registry.drain(node, until_s=130.0, text="for a new disk")
    view = bench.registry.get(node)
    assert view is not None
    assert view.reason is not None
    assert (view.state, view.reason.text) == (NodeState.DRAINING, "for a new disk")
    assert not view.is_routable
    bench.registry.resume(node)
    assert bench.state(node) is NodeState.UP


def test_time_alone_changes_the_view_and_tick_tells(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    bench.registry.observe(node, OK)
    bench.registry.drain(node, until_s=130.0)
    calls = bench.calls
    assert bench.registry.next_change_s == 130.0
    bench.now_s = 129.9
    bench.registry.tick()
    assert bench.calls == calls
    bench.now_s = 130.0
    assert bench.registry.fleet().nodes[0].state is NodeState.UP
    assert bench.calls == calls
    bench.registry.tick()
    assert bench.calls == calls + 1
    assert bench.kinds()[-1] == "NODE_STATE"


def test_tick_tells_though_nobody_read_a_snapshot(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    bench.registry.observe(node, OK)
    bench.registry.drain(node, until_s=130.0)
    calls = bench.calls
    bench.now_s = 130.0
    bench.registry.tick()
    assert bench.calls == calls + 1
    bench.registry.tick()
    assert bench.calls == calls + 1


def test_an_ejected_node_stays_routable_in_need_and_takes_one_trial(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    bench.registry.observe(node, OK)
    for _ in range(3):
        bench.registry.observe(node, h.TrafficFailed("eof", "connection lost"))
    (view,) = bench.registry.fleet().nodes
    assert (view.state, view.is_routable, view.is_ejected) == (NodeState.DOWN, True, True)
    assert view.penalty_until_s == 105.0
    assert view.penalty_rank > 0
    bench.now_s = 105.0
    (view,) = bench.registry.fleet().nodes
    assert (view.is_ejected, view.takes_trial) == (False, True)
    token = bench.registry.take_trial(node)
    assert token is not None
    assert bench.registry.take_trial(node) is None
    (view,) = bench.registry.fleet().nodes
    assert (view.is_ejected, view.takes_trial) == (True, False)
    bench.registry.observe(node, h.TrafficOk(trial=token))
    (view,) = bench.registry.fleet().nodes
    assert (view.state, view.is_ejected, view.takes_trial) == (NodeState.UP, False, False)


def test_usual_traffic_is_silent(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    bench.registry.observe(node, OK)
    snapshot, calls = bench.registry.fleet(), bench.calls
    for _ in range(20):
        bench.registry.observe(node, h.TrafficOk(0.2))
    assert bench.registry.fleet() is snapshot
    assert bench.calls == calls
    for _ in range(3):
        bench.registry.observe(node, h.TrafficOk(9.0))
    assert bench.state(node) is NodeState.SLOW
    assert bench.calls == calls + 1


def test_doubt_is_passed_on(bench: Bench) -> None:
    doubted: list[str] = []
    bench.registry.when_in_doubt(doubted.append)
    node = bench.add("10.0.0.1")
    bench.registry.observe(node, OK)
    assert doubted == []
    bench.registry.observe(node, h.TrafficFailed("eof", "connection lost"))
    bench.registry.observe(node, h.Refused("connection refused on 11434"))
    assert doubted == [node, node]


def test_a_change_made_by_a_subscriber_is_told_after_its_round(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    seen: list[str] = []

    def drain_once() -> None:
        view = bench.registry.get(node)
        assert view is not None
        seen.append(view.state.value)
        if view.state is NodeState.UP:
            bench.registry.drain(node)
            seen.append("drained")

    end = bench.registry.subscribe(drain_once)
    bench.registry.observe(node, OK)
    assert seen == ["up", "drained", "draining"]
    end()
    bench.registry.resume(node)
    assert len(seen) == 3


def test_a_subscriber_that_fails_or_never_ends_harms_nobody(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    node = bench.add("10.0.0.1")
    turns = 0

    def endless() -> None:
        nonlocal turns
        turns += 1
        (bench.registry.drain if turns % 2 else bench.registry.resume)(node)
        raise RuntimeError("boom")

    bench.registry.subscribe(endless)
    before = bench.calls
    bench.registry.observe(node, OK)
    assert 1 < turns < 100
    assert bench.calls - before == turns
    assert "a listener failed" in caplog.text


def test_residents_come_and_go(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    llama = model("llama3.2")
    bench.registry.set_catalogue(node, {llama.key: llama})
    bench.take()
    bench.registry.set_residents(node, [resident("llama3.2"), resident("x")], asked_s=100.0)
    view = bench.registry.fleet().nodes[0]
    assert view.resident_room == 2
    assert [r.options for r in view.residents] == [None, None]
    loaded = {fields["model"]: fields for _, fields in bench.take()}
    assert set(loaded) == {"llama3.2", resident("x").key}
    assert loaded["llama3.2"]["size_vram_bytes"] == 500
    bench.now_s += 60.0
    bench.registry.set_residents(node, [resident("x")], asked_s=160.0)
    assert bench.take() == [
        ("MODEL_UNLOADED", {"node": node, "backend": "ollama", "model": "llama3.2",
                            "resident_ms": 60_000.0}),
    ]  # fmt: skip
    assert bench.registry.fleet().nodes[0].resident_room == 2


def test_a_longer_stay_is_no_change(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    bench.registry.set_residents(node, [resident("m")], asked_s=100.0)
    snapshot, calls = bench.registry.fleet(), bench.calls
    bench.registry.set_residents(node, [resident("m", expires_at="later")], asked_s=105.0)
    assert (bench.registry.fleet(), bench.calls) == (snapshot, calls)
    fresh = bench.registry.get(node)
    assert fresh is not None
    assert fresh.residents[0].expires_at == "later"


def test_our_own_load_is_believed_until_the_node_says_otherwise(bench: Bench) -> None:
    node, m = bench.add("10.0.0.1"), resident("m")
    options = (("num_ctx", 8192),)
    doubted: list[str] = []
    bench.registry.when_in_doubt(doubted.append)
    bench.registry.note_resident(node, m.key, m.digest, options)
    (seen,) = bench.registry.fleet().nodes[0].residents
    assert (seen.options, seen.context_length, seen.size_bytes) == (options, None, 0)
    assert doubted == [node]
    # Again the same load: nothing new.
    calls = bench.calls
    bench.registry.note_resident(node, m.key, m.digest, options)
    assert (bench.calls, doubted) == (calls, [node])
    # A list asked for before the load was done says nothing against it.
    bench.registry.set_residents(node, [], asked_s=99.0)
    assert bench.registry.fleet().nodes[0].residents == (seen,)
    # Confirmed, with facts.
    bench.now_s = 105.0
    bench.registry.set_residents(node, [resident("m", context=8192)], asked_s=105.0)
    (seen,) = bench.registry.fleet().nodes[0].residents
    assert (seen.options, seen.context_length, seen.size_bytes) == (options, 8192, 1000)
    # Somebody else loaded it anew with another context.
    bench.registry.set_residents(node, [resident("m", context=2048)], asked_s=110.0)
    (seen,) = bench.registry.fleet().nodes[0].residents
    assert (seen.options, seen.context_length) == (None, 2048)
    # And it does not become ours again by the number alone.
    bench.registry.set_residents(node, [resident("m", context=8192)], asked_s=115.0)
    assert bench.registry.fleet().nodes[0].residents[0].options is None


def test_our_own_load_ends_when_the_next_list_lacks_it(bench: Bench) -> None:
    node, m = bench.add("10.0.0.1"), resident("m")
    bench.registry.note_resident(node, m.key, m.digest, ())
    bench.registry.set_residents(node, [], asked_s=100.5)
    assert bench.registry.fleet().nodes[0].residents == ()
    bench.registry.set_residents(node, [resident("m")], asked_s=105.0)
    assert bench.registry.fleet().nodes[0].residents[0].options is None


def test_a_reload_of_ours_outweighs_an_older_list(bench: Bench) -> None:
    node, m = bench.add("10.0.0.1"), resident("m")
    bench.registry.set_residents(node, [resident("m", context=4096)], asked_s=100.0)
    options = (("num_ctx", 8192),)
    bench.registry.note_resident(node, m.key, m.digest, options, 8192)
    bench.registry.set_residents(node, [resident("m", context=4096)], asked_s=99.0)
    (seen,) = bench.registry.fleet().nodes[0].residents
    assert (seen.options, seen.context_length) == (options, 8192)
    assert bench.kinds().count("MODEL_LOADED") == 1


def test_versions(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    bench.registry.set_version(node, "0.33.0")
    calls = bench.calls
    bench.registry.set_version(node, "0.33.0")
    assert bench.calls == calls
    assert bench.registry.fleet().nodes[0].version == "0.33.0"


def test_the_address_that_answers_comes_first(bench: Bench) -> None:
    node = bench.add("box")
    bench.registry.set_addresses(node, ["10.0.0.1", "10.0.0.2"])
    bench.registry.prefer_address(node, "10.0.0.2")
    assert bench.registry.fleet().nodes[0].addresses == ("10.0.0.2", "10.0.0.1")
    calls = bench.calls
    bench.registry.prefer_address(node, "10.0.0.2")
    bench.registry.prefer_address(node, "10.9.9.9")
    # The name server's changing order is no reason to change ours.
    bench.registry.set_addresses(node, ["10.0.0.1", "10.0.0.2"])
    assert bench.calls == calls
    bench.registry.set_addresses(node, ["10.0.0.3", "10.0.0.2"])
    assert bench.registry.fleet().nodes[0].addresses == ("10.0.0.2", "10.0.0.3")


def test_another_daemon_is_a_peer_and_never_a_node(bench: Bench) -> None:
    node = bench.add("10.0.0.1", name="other")
    bench.registry.observe(node, OK)
    bench.take()
    bench.registry.mark_peer(node, "0.1.0")
    assert bench.ids() == []
    assert bench.registry.get(node) is None
    assert bench.kinds() == ["NODE_LEFT"]
    (peer,) = bench.registry.peers()
    assert (peer.url, peer.version, peer.found_by) == (
        "http://10.0.0.1:11434",
        "0.1.0",
        ("config",),
    )
    assert node in bench.registry.ids()
    target = bench.registry.target(node)
    assert target is not None
    assert target.is_peer
    bench.registry.mark_peer(node, None)
    assert bench.registry.peers()[0].version is None
    assert bench.kinds() == ["NODE_LEFT"]
    # Adding it again does not make it a node.
    bench.add("10.0.0.1", name="other", tier=1)
    assert bench.ids() == []
    bench.registry.unmark_peer(node)
    assert bench.ids() == ["other"]
    assert bench.state("other") is NodeState.UNKNOWN
    assert bench.registry.peers() == ()


def test_a_peer_that_leaves_was_never_there(bench: Bench) -> None:
    node = bench.add("10.0.0.1")
    bench.registry.mark_peer(node, None)
    bench.take()
    bench.registry.remove(node)
    assert bench.take() == []
    assert bench.registry.ids() == set()


def test_a_silent_candidate_is_shown_when_it_answers(bench: Bench) -> None:
    node = bench.add("localhost:11500", source="localhost", is_silent=True)
    bench.registry.observe(node, REFUSED)
    assert bench.ids() == []
    assert bench.events == []
    bench.registry.observe(node, OK)
    assert bench.ids() == [node]
    assert bench.kinds() == ["NODE_JOINED", "NODE_STATE"]
    bench.registry.observe(node, REFUSED)
    assert bench.ids() == [node]


def test_there_is_a_limit() -> None:
    bench = Bench(max_nodes=2)
    bench.add("10.0.0.1")
    bench.add("10.0.0.2")
    assert bench.registry.add(Candidate(url="10.0.0.3", source="config")) is None
    assert len(bench.ids()) == 2


def test_a_bad_url_is_told(bench: Bench) -> None:
    with pytest.raises(ValueError, match="scheme"):
        bench.registry.add(Candidate(url="ftp://x", source="config"))
