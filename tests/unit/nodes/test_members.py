"""Identity: what is one node, what is none, and what a reload changes."""

from __future__ import annotations

from typing import Any

import pytest

from sollold.core import health as h
from sollold.core.model import NodeId, NodeKind, NodeState
from sollold.nodes.candidates import Candidate
from sollold.nodes.offer import Offer
from sollold.nodes.own import OwnAddresses
from sollold.nodes.tls import Trust
from tests.unit.nodes.support import OWN, Bench, model

OK = h.ProbeOk(0.004)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def configured(*urls: str, **fields: Any) -> list[Candidate]:
    return [Candidate(url=url, source="config", **fields) for url in urls]


def test_ids(bench: Bench) -> None:
    assert bench.add("10.0.0.1", name="gpu") == "gpu"
    assert bench.add("http://Box:8000") == "ollama:Box:8000"
    assert bench.add("http://[fd00::9]:11434") == "ollama:[fd00::9]:11434"
    assert bench.add("https://lan.example/ollama") == "ollama:lan.example:443/ollama"


def test_one_place_found_twice_is_one_node_with_both_ways(bench: Bench) -> None:
    bench.add("10.0.0.1", "OLLAMA_HOST")
    node = bench.add("http://10.0.0.1:11434", "hosts file", tier=2)
    (view,) = bench.registry.fleet().nodes
    assert view.id == node
    assert view.found_by == ("hosts file", "OLLAMA_HOST")
    assert view.tier == 2
    calls = bench.calls
    bench.add("10.0.0.1", "OLLAMA_HOST")
    assert bench.calls == calls


def test_a_stronger_source_gives_the_name_and_evidence_stays(bench: Bench) -> None:
    found = bench.add("10.0.0.1", "hosts file")
    bench.registry.observe(found, OK)
    bench.take()
    assert bench.add("10.0.0.1", name="gpu") == "gpu"
    assert bench.ids() == ["gpu"]
    assert bench.state("gpu") is NodeState.UP
    assert bench.kinds() == ["NODE_LEFT", "NODE_JOINED"]


def test_our_own_listener_is_no_node(bench: Bench) -> None:
    assert bench.registry.add(Candidate(url="127.0.0.1:11434", source="config")) is None
    assert bench.registry.add(Candidate(url="[::ffff:127.0.0.1]:11434", source="config")) is None
    # Another socket of this machine is another matter.
    assert bench.add("192.168.1.2:11434")
    assert bench.add("127.0.0.1:11500")


def test_our_own_listener_on_ipv6_loopback_is_no_node(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(OwnAddresses(frozenset({("::1", 11434)}), frozenset({"::1", "127.0.0.1"})))
    for url in ("[::1]:11434", "http://[0:0:0:0:0:0:0:1]:11434"):
        assert bench.registry.add(Candidate(url=url, source="config")) is None
    node = bench.add("localhost:11434")
    bench.registry.set_addresses(node, ["::1"])
    assert bench.ids() == []
    assert "is this daemon itself" in caplog.text
    # Another server may listen beside it.
    assert bench.add("[::1]:11500")
    assert bench.add("127.0.0.1:11434")


def test_a_wildcard_listener_covers_all_own_addresses() -> None:
    bench = Bench(OwnAddresses(frozenset({("0.0.0.0", 11434)}), OWN.interfaces))
    for url in ("192.168.1.2", "127.0.0.1", "127.0.0.9", "0.0.0.0", "[::1]"):
        assert bench.registry.add(Candidate(url=url, source="config")) is None
    assert bench.add("192.168.1.3")


def test_a_name_that_leads_back_to_us_is_dropped(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    node = bench.add("localhost:11434")
    assert bench.ids() == [node]
    bench.registry.set_addresses(node, ["127.0.0.1"])
    assert bench.ids() == []
    assert "is this daemon itself" in caplog.text
    assert bench.kinds() == ["NODE_JOINED", "NODE_LEFT"]


def test_only_the_addresses_that_are_not_ours_stay(bench: Bench) -> None:
    node = bench.add("myhost:11434")
    bench.registry.set_addresses(node, ["127.0.0.1", "192.168.1.2"])
    assert bench.registry.fleet().nodes[0].addresses == ("192.168.1.2",)


def test_names_that_lead_to_one_server_are_merged(bench: Bench) -> None:
    one = bench.add("10.0.0.1", "hosts file")
    bench.registry.observe(one, OK)
    llama = model("llama3.2")
    bench.registry.set_catalogue(one, {llama.key: llama})
    two = bench.add("gpu.lan", name="gpu")
    bench.take()
    bench.registry.set_addresses(two, ["fd00::7", "10.0.0.1"])
    (view,) = bench.registry.fleet().nodes
    assert view.id == "gpu"
    assert view.found_by == ("config", "hosts file")
    assert view.state is NodeState.UP
    assert list(view.models) == [llama.key]
    assert view.addresses == ("fd00::7", "10.0.0.1")
    assert [(kind, fields["node"]) for kind, fields in bench.events] == [("NODE_LEFT", one)]
    # Both ways lead to it from now on.
    assert bench.add("10.0.0.1", "hosts file") == "gpu"
    assert bench.add("gpu.lan", name="gpu") == "gpu"


def test_another_port_or_path_is_another_node(bench: Bench) -> None:
    bench.add("10.0.0.1:11434")
    bench.add("10.0.0.1:11500")
    bench.add("10.0.0.1:11434/second")
    assert len(bench.ids()) == 3


def test_addresses_of_this_machine_are_one(bench: Bench) -> None:
    first = bench.add("127.0.0.1:11500")
    assert bench.add("192.168.1.2:11500", "hosts file") == first
    local = bench.add("localhost:11500", "localhost", is_silent=True)
    bench.registry.set_addresses(local, ["::1"])
    (view,) = bench.registry.fleet().nodes
    assert view.id == first
    assert view.addresses == ("127.0.0.1", "::1")


def test_further_loopback_addresses_are_servers_of_their_own(bench: Bench) -> None:
    bench.add("127.0.0.1:11500")
    bench.add("127.0.0.2:11500")
    assert len(bench.ids()) == 2


def test_configured_names_for_one_address_stay_apart(bench: Bench) -> None:
    vhosts = [
        Candidate(url="https://alpha.example", source="config", name="alpha"),
        Candidate(url="https://beta.example", source="config", name="beta"),
        Candidate(url="https://Beta.example.", source="hosts file"),
    ]
    bench.registry.reconcile("config", vhosts[:2])
    bench.registry.reconcile("hosts file", vhosts[2:])
    for node in bench.ids():
        bench.registry.set_addresses(NodeId(node), ["10.0.0.1"])
    assert bench.ids() == ["alpha", "beta"]
    assert bench.registry.fleet().nodes[1].found_by == ("config", "hosts file")
    # What was found there belongs to the first, and to the next once that is gone.
    assert bench.add("https://10.0.0.1", "OLLAMA_HOST") == "alpha"
    bench.registry.reconcile("OLLAMA_HOST", [])
    bench.registry.reconcile("config", vhosts[1:2])
    assert bench.ids() == ["beta"]
    assert bench.add("https://10.0.0.1:443", "localhost") == "beta"


APART: list[dict[str, Any]] = [
    {"key_env": "K"},
    {"kind": NodeKind.OPENAI},
    {"offer": Offer(names=(("m", "M"),))},
    {"trust": Trust(pin=b"x" * 32)},
    {"tier": 1},
    {"slots": 3},
]


@pytest.mark.parametrize("fields", APART, ids=lambda fields: next(iter(fields)))
@pytest.mark.parametrize("first", ["127.0.0.1:11500", "localhost:11500"])
@pytest.mark.parametrize("is_first", [True, False])
def test_other_settings_keep_spellings_of_one_server_apart(
    bench: Bench, fields: dict[str, Any], first: str, *, is_first: bool
) -> None:
    urls = {"127.0.0.1:11500", "localhost:11500"}
    (second,) = urls - {first}

    def configure(one: dict[str, Any], other: dict[str, Any]) -> None:
        nodes = [*configured(first, name="a", **one), *configured(second, name="b", **other)]
        bench.registry.reconcile("config", nodes)
        for view in bench.registry.fleet().nodes:
            bench.registry.set_addresses(view.id, ["127.0.0.1"])

    differing = (fields, {}) if is_first else ({}, fields)
    configure(*differing)
    assert bench.ids() == ["a", "b"]
    # A reload may make them alike, and differ again.
    configure({}, {})
    assert bench.ids() == ["a"]
    configure(*differing)
    assert sorted(bench.ids()) == ["a", "b"]
    bench.registry.reconcile("config", configured(second, name="b", **differing[1]))
    assert bench.ids() == ["b"]


def test_one_configured_server_spelled_twice_is_one_and_told(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.add("localhost:11500", name="a")
    bench.registry.set_addresses(NodeId("a"), ["127.0.0.1"])
    bench.add("127.0.0.1:11500", "localhost", is_silent=True)
    assert not caplog.records
    bench.add("127.0.0.1:11600", name="b")
    bench.add("localhost:11600", name="c")
    bench.registry.set_addresses(NodeId("c"), ["127.0.0.1"])
    assert bench.ids() == ["a", "b"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == "b and c are the same server, used as b"


def test_a_line_of_the_hosts_file_says_nothing_of_tier_and_slots(bench: Bench) -> None:
    bench.add("10.0.0.1", "hosts file")
    bench.add("gpu.lan", name="gpu", tier=1, slots=3)
    bench.registry.set_addresses(NodeId("gpu"), ["10.0.0.1"])
    assert bench.ids() == ["gpu"]


def test_a_host_of_the_hosts_file_is_taken_from_configuration(bench: Bench) -> None:
    bench.add("https://gpu.lan:8443", name="gpu", kind=NodeKind.OPENAI, key_env="K")
    line = bench.add("GPU.lan:8443", "hosts file")
    for node in ("gpu", line):
        bench.registry.set_addresses(NodeId(node), ["10.0.0.1"])
    assert bench.ids() == ["gpu"]


def test_reconcile_adds_keeps_and_removes(bench: Bench) -> None:
    bench.registry.reconcile("config", configured("10.0.0.1", "10.0.0.2"))
    bench.registry.observe(NodeId("ollama:10.0.0.2:11434"), OK)
    bench.take()
    bench.registry.reconcile("config", configured("10.0.0.2", "10.0.0.3", tier=1))
    assert bench.ids() == ["ollama:10.0.0.2:11434", "ollama:10.0.0.3:11434"]
    assert bench.state("ollama:10.0.0.2:11434") is NodeState.UP
    assert bench.registry.fleet().nodes[0].tier == 1
    assert bench.kinds() == ["NODE_LEFT", "NODE_JOINED"]
    assert bench.events[0][1]["reason"] == "it is no longer in config"


def test_a_node_stays_while_another_source_knows_it(bench: Bench) -> None:
    bench.registry.reconcile("config", [Candidate(url="10.0.0.1", source="config", name="gpu")])
    bench.add("10.0.0.1", "hosts file")
    bench.registry.reconcile("config", [])
    assert bench.ids() == ["ollama:10.0.0.1:11434"]
    assert bench.registry.fleet().nodes[0].found_by == ("hosts file",)


def test_a_name_may_move_to_another_address(bench: Bench) -> None:
    bench.registry.reconcile("config", [Candidate(url="10.0.0.1", source="config", name="gpu")])
    bench.registry.reconcile("config", [Candidate(url="10.0.0.2", source="config", name="gpu")])
    assert bench.ids() == ["gpu"]
    assert bench.registry.fleet().nodes[0].url == "http://10.0.0.2:11434"


def test_a_name_may_change(bench: Bench) -> None:
    bench.registry.reconcile("config", [Candidate(url="10.0.0.1", source="config", name="old")])
    bench.registry.observe(NodeId("old"), OK)
    bench.registry.reconcile("config", [Candidate(url="10.0.0.1", source="config", name="new")])
    assert bench.ids() == ["new"]
    assert bench.state("new") is NodeState.UP


def test_twice_in_one_source_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    twice = [
        Candidate(url="10.0.0.1", source="config", name="a"),
        Candidate(url="http://10.0.0.1:11434", source="config", name="b"),
    ]
    bench.registry.reconcile("config", twice)
    assert bench.ids() == ["a"]
    assert "a and b are the same node, named twice in config" in caplog.text
    # What is left of the pair keeps the node.
    bench.registry.reconcile("config", twice[1:])
    assert bench.ids() == ["b"]


def test_one_name_for_two_places(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert bench.add("10.0.0.1", name="gpu") == "gpu"
    assert bench.add("10.0.0.2", name="gpu") == "ollama:10.0.0.2:11434"
    assert "two nodes are called gpu" in caplog.text
    assert bench.add("10.0.0.3", name="ollama:10.0.0.4:11434") == "ollama:10.0.0.4:11434"
    assert bench.add("10.0.0.4") == "ollama:10.0.0.4:11434#2"


def test_new_own_addresses_are_applied_to_known_nodes(bench: Bench) -> None:
    kept = bench.add("192.168.1.3:11434")
    bench.add("192.168.1.2:11434")
    named = bench.add("box:11434")
    bench.registry.set_addresses(named, ["192.168.1.4"])
    wildcard = OwnAddresses(frozenset({("0.0.0.0", 11434)}), OWN.interfaces)
    bench.registry.set_own(wildcard)
    assert bench.ids() == [kept, named]
    bench.registry.set_own(
        OwnAddresses(frozenset({("0.0.0.0", 11434)}), frozenset({"192.168.1.3", "192.168.1.4"}))
    )
    assert bench.ids() == []


def test_nodes_that_turn_out_to_be_on_this_machine_are_merged(bench: Bench) -> None:
    bench.add("127.0.0.1:11500", name="a")
    bench.add("192.168.7.7:11500", name="b")
    assert len(bench.ids()) == 2
    bench.registry.set_own(OwnAddresses(OWN.listeners, frozenset({"192.168.7.7"})))
    assert bench.ids() == ["a"]
    assert bench.registry.fleet().nodes[0].addresses == ("127.0.0.1", "192.168.7.7")
