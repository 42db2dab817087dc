"""Nodes that come, go, freeze and lie, seen through the prober."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from aiohttp import web

from sollold.core import health as h
from sollold.core.health import HealthPolicy
from sollold.core.model import NodeId, NodeState
from sollold.nodes.candidates import Candidate
from sollold.nodes.own import OwnAddresses
from sollold.nodes.sources import StaticSources
from sollold.nodes.tools import ProbeSettings
from tests.component.nodes.support import (
    LIMITS,
    QUICK,
    Bench,
    black_hole,
    count,
    kill,
    web_server,
)
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from pathlib import Path

FROZEN = ProbeSettings(limit_s=5.0, frozen_limit_s=0.3, frozen_stagger_s=0.1, least_gap_s=0.01)
LAZY = HealthPolicy(interval_s=3600.0, stale_s=7200.0)


def refused(port: int) -> str:
    return f"connection refused on {port}"


async def test_one_round_fills_a_node_in() -> None:
    llama = FakeModel(name="llama3.2", capabilities=("completion", "vision"))
    async with FakeNode([llama, "qwen3:8b"], version="0.12.3") as node, Bench() as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        view = bench.view()
        assert (view.state, view.version, view.addresses) == (
            NodeState.UP,
            "0.12.3",
            ("127.0.0.1",),
        )
        assert view.is_routable
        assert view.seen_s is not None
        assert view.probe_ms is not None
        names = {model.name: model.capabilities for model in view.models.values()}
        assert names == {
            "llama3.2:latest": frozenset({"completion", "vision"}),
            "qwen3:8b": frozenset({"completion"}),
        }
        assert bench.prober.first_round.is_set()


async def test_unknown_up_down_and_back() -> None:
    async with FakeNode() as node, Bench() as bench:
        bench.add(node.url)
        assert bench.view().state is NodeState.UNKNOWN
        async with bench.running():
            await bench.until_state(NodeState.UP)
            await kill(node)
            await bench.until_state(NodeState.DOWN)
            await bench.until(lambda: refused(node.port) in bench.told())
            await node.start()
            await bench.until_state(NodeState.UP)
    states = [f["to_state"] for kind, f in bench.events if kind == "NODE_STATE"]
    assert states == ["up", "down", "up"]


async def test_a_killed_node_is_down_within_the_interval() -> None:
    policy = HealthPolicy(interval_s=0.5)
    async with FakeNode() as node, Bench(policy=policy) as bench:
        bench.add(node.url)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            await kill(node)
            began_s = time.monotonic()
            await bench.until_state(NodeState.DOWN)
            assert time.monotonic() - began_s < 2.0


async def test_frozen_is_seen_in_seconds_by_all_who_ask() -> None:
    async with FakeNode() as node, Bench(policy=LAZY, settings=FROZEN) as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        before = count(node, "/api/version")
        node.fault = Fault(kind=FaultKind.HANG)
        began_s = time.monotonic()
        answers = await asyncio.gather(*(bench.prober.is_frozen(NodeId("node")) for _ in range(20)))
        assert time.monotonic() - began_s < 3.0
        assert answers == [True] * 20
        assert count(node, "/api/version") - before == 2
        assert bench.told() == "down frozen: two probes unanswered while requests wait"
        node.fault = None
        await bench.prober.probe_once()
        assert bench.view().state is NodeState.UP


async def test_a_frozen_node_that_thaws_is_found_again() -> None:
    settings = msgspec.structs.replace(FROZEN, limit_s=0.2)
    async with FakeNode() as node, Bench(policy=LAZY, settings=settings) as bench:
        bench.add(node.url)
        async with bench.running():
            await bench.prober.first_round.wait()
            node.fault = Fault(kind=FaultKind.HANG)
            assert await bench.prober.is_frozen(NodeId("node"))
            node.fault = None
            await bench.until_state(NodeState.UP)


async def test_the_default_limits_find_a_frozen_node_in_two_seconds() -> None:
    settings = ProbeSettings()
    assert settings.frozen_stagger_s + settings.frozen_limit_s < 2.0


async def test_a_node_that_answers_is_not_frozen() -> None:
    async with FakeNode() as node, Bench(policy=LAZY, settings=FROZEN) as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        node.fault = Fault(kind=FaultKind.HANG_HEAD)
        assert not await bench.prober.is_frozen(NodeId("node"))
        assert bench.view().state is NodeState.UP


async def test_one_lost_answer_is_not_frozen() -> None:
    async with FakeNode() as node, Bench(policy=LAZY, settings=FROZEN) as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        node.fault = Fault(kind=FaultKind.HANG, count=1)
        assert not await bench.prober.is_frozen(NodeId("node"))
        assert bench.view().state is NodeState.UP


async def test_a_refusal_is_down_at_once_for_who_asks() -> None:
    async with FakeNode() as node, Bench(policy=LAZY, settings=FROZEN) as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        await kill(node)
        assert await bench.prober.is_frozen(NodeId("node"))
        assert bench.told() == f"down refused: {refused(node.port)}"


async def test_a_node_that_turns_callers_away_is_not_frozen_but_down() -> None:
    async with FakeNode() as node, Bench(policy=LAZY, settings=FROZEN) as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        node.fault = Fault(kind=FaultKind.UNAUTHORIZED)
        assert not await bench.prober.is_frozen(NodeId("node"))
        assert bench.told() == "down misconfigured: wants a key (answers 401)"


async def test_who_has_no_address_or_name_is_not_frozen() -> None:
    async with Bench(settings=FROZEN) as bench:
        bench.add("nowhere.lan")
        assert not await bench.prober.is_frozen(NodeId("node"))
        assert not await bench.prober.is_frozen(NodeId("nobody"))


async def test_a_caller_that_leaves_does_not_end_the_check_of_others() -> None:
    async with FakeNode() as node, Bench(policy=LAZY, settings=FROZEN) as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        node.fault = Fault(kind=FaultKind.HANG)
        first = asyncio.create_task(bench.prober.is_frozen(NodeId("node")))
        second = asyncio.create_task(bench.prober.is_frozen(NodeId("node")))
        await node.until(lambda: count(node, "/api/version") > 1)
        first.cancel()
        assert await second
        await asyncio.gather(first, return_exceptions=True)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (FaultKind.GARBAGE, "down misconfigured: answers on PORT, but not in HTTP"),
        (FaultKind.UNAUTHORIZED, "down misconfigured: wants a key (answers 401)"),
        (
            FaultKind.DROP_ACCEPT,
            "unknown disconnected: closes connections on PORT without an answer",
        ),
    ],
)
async def test_a_node_that_never_was_well_says_why(kind: FaultKind, told: str) -> None:
    async with FakeNode() as node, Bench() as bench:
        node.fault = Fault(kind=kind)
        bench.add(node.url)
        await bench.prober.probe_once()
        assert bench.told() == told.replace("PORT", str(node.port))
        assert not bench.view().is_routable
        node.fault = None
        await bench.prober.probe_once()
        assert bench.view().state is NodeState.UP


async def test_the_nodes_key_is_sent() -> None:
    def answer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer s3cret":
            return web.Response(status=401)
        return web.json_response({"version": "1", "models": []})

    async with web_server(answer) as url, Bench(secrets={"GPU_KEY": "s3cret"}) as bench:
        bench.add(url, "without")
        bench.add(f"{url}/path", "with", key_env="GPU_KEY")
        await bench.prober.probe_once()
        assert bench.view("without").state is NodeState.DOWN
        assert bench.view("with").state is NodeState.UP


async def test_a_sollold_on_the_port_is_a_peer_until_it_is_an_ollama() -> None:
    is_daemon = True

    def answer(request: web.Request) -> web.Response:
        headers = {"Via": "1.1 sollold"} if is_daemon else {}
        if request.path == "/api/v1/status":
            return web.Response(status=404)
        if request.path == "/api/ps":
            return web.json_response({"models": []}, headers=headers)
        models = [{"name": "m", "digest": "ab" * 32}]
        return web.json_response({"version": "0.33.0", "models": models}, headers=headers)

    async with web_server(answer) as url, Bench(settings=ProbeSettings(peer_s=0.02)) as bench:
        bench.add(url)
        is_daemon = False
        await bench.prober.probe_once()
        assert len(bench.view().models) == 1
        is_daemon = True
        await bench.prober.probe_once()
        async with bench.running():
            await bench.prober.first_round.wait()
            assert bench.registry.fleet().nodes == ()
            assert bench.registry.peers()[0].url == url
            is_daemon = False
            await bench.until(lambda: bench.registry.peers() == ())
            await bench.until_state(NodeState.UP)
            await bench.until(lambda: len(bench.view().models) == 1)


async def test_a_sollold_without_via_is_found_out_before_it_gets_work() -> None:
    def answer(request: web.Request) -> web.Response:
        if request.path == "/api/v1/status":
            return web.json_response({"schema": "sollold.status/1", "version": "0.1.0"})
        return web.json_response({"version": "0.33.0", "models": []})

    async with web_server(answer) as url, Bench() as bench:
        bench.add(url)
        await bench.prober.probe_once()
        assert bench.registry.fleet().nodes == ()
        assert bench.registry.peers()[0].version == "0.1.0"
        assert all(fields.get("to_state") != "up" for _, fields in bench.events)


async def test_a_changed_catalogue_is_seen() -> None:
    settings = msgspec.structs.replace(LIMITS, catalogue_s=0.05)
    async with FakeNode(["a"]) as node, Bench(settings=settings) as bench:
        bench.add(node.url)
        async with bench.running():
            await bench.until(lambda: len(bench.view().models) == 1)
            node.ollama.add(FakeModel(name="b"))
            await bench.until(lambda: len(bench.view().models) == 2)


async def test_an_unchanged_catalogue_is_kept_as_it_is() -> None:
    async with FakeNode(["a"]) as node, Bench() as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        models = bench.view().models
        await bench.prober.probe_once()
        assert bench.view().models is models
        assert count(node, "/api/tags") == 2


async def test_the_catalogue_is_not_asked_for_each_time_but_after_a_restart() -> None:
    async with FakeNode(["a"]) as node, Bench() as bench:
        bench.add(node.url)
        async with bench.running():
            await node.until(lambda: count(node, "/api/ps") >= 5)
            assert count(node, "/api/tags") == 1
            await kill(node)
            await bench.until_state(NodeState.DOWN)
            await node.start()
            await node.until(lambda: count(node, "/api/tags") == 2)


async def test_residents_come_and_go_and_lists_follow() -> None:
    async with FakeNode(["a"], load_s=0.0) as node, Bench() as bench:
        bench.add(node.url)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            async with bench._session.post(
                f"{node.url}/api/generate", json={"model": "a", "options": {"num_ctx": 2048}}
            ) as reply:
                assert reply.status == 200
            await bench.until(lambda: len(bench.view().residents) == 1)
            (seen,) = bench.view().residents
            assert (seen.digest, seen.context_length) == (FakeModel(name="a").id, 2048)
            await node.until(lambda: count(node, "/api/tags") == 2)
            async with bench._session.post(
                f"{node.url}/api/generate", json={"model": "a", "keep_alive": 0}
            ) as reply:
                assert reply.status == 200
            await bench.until(lambda: bench.view().residents == ())
    kinds = [kind for kind, _ in bench.events]
    assert kinds.count("MODEL_LOADED") == kinds.count("MODEL_UNLOADED") == 1


async def test_a_load_of_ours_is_looked_at_soon() -> None:
    async with FakeNode(["a"]) as node, Bench(policy=LAZY) as bench:
        bench.add(node.url)
        async with bench.running():
            await bench.prober.first_round.wait()
            (model,) = bench.view().models.values()
            bench.registry.note_resident(NodeId("node"), model.key, model.digest, ())
            assert len(bench.view().residents) == 1
            # The node knows nothing of it.
            await bench.until(lambda: bench.view().residents == ())


async def test_traffic_that_was_refused_has_the_node_probed_soon() -> None:
    async with FakeNode() as node, Bench(policy=LAZY) as bench:
        bench.add(node.url)
        async with bench.running():
            await bench.prober.first_round.wait()
            bench.registry.observe(NodeId("node"), h.Refused(refused(node.port)))
            assert bench.view().state is NodeState.DOWN
            await bench.until_state(NodeState.UP)


async def test_a_kick_lists_the_models_anew() -> None:
    async with FakeNode(["a", "b"]) as node, Bench(policy=LAZY) as bench:
        bench.add(node.url)
        async with bench.running():
            await bench.until(lambda: len(bench.view().models) == 2)
            node.ollama.remove("b")
            bench.prober.kick(NodeId("node"))
            await bench.until(lambda: len(bench.view().models) == 1)


async def test_a_kick_probes_soon_and_kicks_do_not_pile_up() -> None:
    settings = msgspec.structs.replace(LIMITS, least_gap_s=0.05)
    async with FakeNode() as node, Bench(policy=LAZY, settings=settings) as bench:
        bench.add(node.url)
        async with bench.running():
            await bench.prober.first_round.wait()
            for _ in range(1000):
                bench.prober.kick(NodeId("node"))
                bench.prober.kick(NodeId("nobody"))
            await node.until(lambda: count(node, "/api/ps") == 2)
            # What was asked for by then is done with; one more shows that nothing is left of it.
            await kill(node)
            bench.prober.kick(NodeId("node"))
            await bench.until_state(NodeState.DOWN)
            assert count(node, "/api/ps") == 2


async def test_refreshes_are_shared() -> None:
    settings = msgspec.structs.replace(LIMITS, refresh_gap_s=0.0)
    async with FakeNode(["a"]) as one, FakeNode(["b"]) as two, Bench(settings=settings) as bench:
        bench.add(one.url, "one")
        bench.add(two.url, "two")
        await bench.prober.probe_once()
        one.ollama.add(FakeModel(name="c"))
        await asyncio.gather(*(bench.prober.refresh() for _ in range(50)))
        assert [count(node, "/api/tags") for node in (one, two)] == [2, 2]
        assert len(bench.view("one").models) == 2
        await bench.prober.refresh()
        assert [count(node, "/api/tags") for node in (one, two)] == [3, 3]


async def test_refreshes_keep_a_distance() -> None:
    settings = msgspec.structs.replace(LIMITS, refresh_gap_s=0.2)
    async with FakeNode(["a"]) as node, Bench(settings=settings) as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        began_s = time.monotonic()
        for _ in range(3):
            await bench.prober.refresh()
        assert time.monotonic() - began_s >= 0.4


async def test_a_refresh_waits_for_no_silent_node_and_asks_no_dead_one() -> None:
    async with FakeNode(["a"]) as silent, FakeNode(["b"]) as well, FakeNode() as dead:
        async with Bench(policy=LAZY) as bench:
            for name, node in (("silent", silent), ("well", well), ("dead", dead)):
                bench.add(node.url, name)
            await bench.prober.probe_once()
            await kill(dead)
            bench.registry.observe(NodeId("dead"), h.Refused("x"))
            silent.fault = Fault(kind=FaultKind.HANG)
            well.ollama.add(FakeModel(name="c"))
            began_s = time.monotonic()
            await bench.prober.refresh(0.3)
            assert time.monotonic() - began_s < 2.0
            assert len(bench.view("well").models) == 2
            # The silent one is still being asked; the next refresh reaches the other all the same.
            well.ollama.add(FakeModel(name="d"))
            await bench.prober.refresh(0.6)
            assert len(bench.view("well").models) == 3


async def test_a_silent_node_delays_nobody() -> None:
    settings = ProbeSettings(limit_s=3600.0)
    async with FakeNode() as silent, FakeNode() as well, Bench(settings=settings) as bench:
        silent.fault = Fault(kind=FaultKind.HANG)
        bench.add(silent.url, "silent")
        bench.add(well.url, "well")
        async with bench.running():
            await well.until(lambda: count(well, "/api/ps") >= 5)
            assert bench.view("well").state is NodeState.UP
            assert bench.view("silent").state is NodeState.UNKNOWN
            assert not bench.prober.first_round.is_set()


async def test_the_first_round_counts_failures_and_nodes_that_leave() -> None:
    async with FakeNode() as dead, FakeNode() as silent, Bench() as bench:
        await kill(dead)
        silent.fault = Fault(kind=FaultKind.HANG)
        bench.add(dead.url, "dead")
        gone = bench.add(silent.url, "silent")
        async with bench.running():
            await bench.until_state(NodeState.DOWN, "dead")
            bench.registry.remove(gone)
            async with asyncio.timeout(5):
                await bench.prober.first_round.wait()


async def test_with_no_node_there_is_nothing_to_wait_for() -> None:
    async with Bench() as bench, bench.running():
        async with asyncio.timeout(5):
            await bench.prober.first_round.wait()


async def test_nodes_are_watched_from_when_they_join_until_they_leave() -> None:
    async with FakeNode() as node, Bench() as bench, bench.running():
        await bench.prober.first_round.wait()
        name = bench.add(node.url)
        await bench.until_state(NodeState.UP)
        bench.registry.remove(name)
        assert bench.registry.fleet().nodes == ()
        await bench.prober.probe_once()
        seen = len(node.requests)
        await asyncio.gather(*(bench.prober.refresh() for _ in range(3)))
        assert len(node.requests) == seen


async def test_a_name_with_a_refusing_address_is_reached_by_the_other() -> None:
    names = {"box.lan": ["127.0.0.2", "127.0.0.1"]}
    async with FakeNode() as node, Bench(names=names) as bench:
        bench.add(f"box.lan:{node.port}")
        await bench.prober.probe_once()
        view = bench.view()
        assert view.state is NodeState.UP
        assert view.addresses == ("127.0.0.1", "127.0.0.2")


async def test_a_name_with_a_black_hole_among_its_addresses_costs_little() -> None:
    async with FakeNode() as node, Bench(settings=ProbeSettings(limit_s=30.0)) as bench:
        bench.names["box.lan"] = ["127.0.0.2", "127.0.0.1"]
        bench.add(f"box.lan:{node.port}")
        with black_hole("127.0.0.2", node.port):
            began_s = time.monotonic()
            await bench.prober.probe_once()
            assert time.monotonic() - began_s < 5.0
        assert bench.view().state is NodeState.UP
        assert bench.view().addresses == ("127.0.0.1", "127.0.0.2")


async def test_a_name_is_down_only_when_all_its_addresses_are() -> None:
    async with FakeNode() as node, Bench(names={"box.lan": ["127.0.0.2", "127.0.0.1"]}) as bench:
        bench.add(f"box.lan:{node.port}")
        await kill(node)
        await bench.prober.probe_once()
        assert bench.told() == f"down refused: {refused(node.port)}"


async def test_names_are_looked_up_rarely_but_again_after_a_failure() -> None:
    async with FakeNode() as node, Bench(names={"box.lan": ["127.0.0.1"]}) as bench:
        bench.add(f"box.lan:{node.port}")
        for _ in range(3):
            await bench.prober.probe_once()
        assert bench.lookups == ["box.lan"]
        bench.names["box.lan"] = ["127.0.0.3"]
        await kill(node)
        await bench.prober.probe_once()
        await bench.prober.probe_once()
        assert bench.lookups == ["box.lan"] * 2
        await bench.until(lambda: bench.view().addresses == ("127.0.0.3",))


async def test_a_name_that_does_not_resolve_says_so() -> None:
    async with FakeNode() as node, Bench() as bench:
        bench.add(f"box.lan:{node.port}")
        await bench.prober.probe_once()
        assert bench.told() == "unknown unresolved: the name box.lan does not resolve"
        bench.names["box.lan"] = ["127.0.0.1"]
        await bench.prober.probe_once()
        assert bench.view().state is NodeState.UP


async def test_a_name_server_that_hangs_blocks_no_probe_of_known_addresses() -> None:
    settings = ProbeSettings(limit_s=0.2, resolve_s=0.0)
    async with (
        FakeNode() as node,
        Bench(names={"box.lan": ["127.0.0.1"]}, settings=settings) as bench,
    ):
        bench.add(f"box.lan:{node.port}")
        await bench.prober.probe_once()
        stuck = asyncio.Event()

        async def hang(host: str, port: int) -> list[str]:
            await stuck.wait()
            return []

        bench.prober._resolve = hang
        for _ in range(3):
            await bench.prober.probe_once()
        assert bench.view().state is NodeState.UP
        bench.add(f"other.lan:{node.port}", "other")
        await bench.prober.probe_once()
        assert bench.told("other") == (
            "unknown unresolved: the name other.lan is still being looked up"
        )


async def test_an_ipv6_node() -> None:
    async with FakeNode(host="::1") as node, Bench() as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        assert bench.view().state is NodeState.UP
        assert bench.view().addresses == ("::1",)


async def test_localhost_that_never_answered_is_not_shown() -> None:
    async with FakeNode() as node, Bench(names={"localhost": ["127.0.0.1"]}) as bench:
        await kill(node)
        url = f"http://localhost:{node.port}"
        bench.add(url, None, source="localhost", is_silent=True)
        await bench.prober.probe_once()
        assert bench.registry.fleet().nodes == ()
        assert bench.events == []
        await node.start()
        await bench.prober.probe_once()
        (view,) = bench.registry.fleet().nodes
        assert view.id == f"ollama:localhost:{node.port}"
        await kill(node)
        await bench.prober.probe_once()
        assert bench.registry.fleet().nodes[0].state is NodeState.DOWN


async def test_localhost_that_is_ourselves_is_never_asked() -> None:
    async with FakeNode() as node:
        own = OwnAddresses(frozenset({("127.0.0.1", node.port)}), frozenset({"127.0.0.1"}))
        async with Bench(own=own, names={"localhost": ["127.0.0.1"]}) as bench:
            bench.add(f"http://localhost:{node.port}", None, source="localhost", is_silent=True)
            await bench.prober.probe_once()
            assert node.requests == []
            assert bench.registry.ids() == set()


async def test_capabilities_are_asked_once_for_all_nodes() -> None:
    names = [f"m{number}" for number in range(30)]
    async with FakeNode(names) as one, FakeNode(names) as two, Bench() as bench:
        bench.add(one.url, "one")
        bench.add(two.url, "two")
        await bench.prober.probe_once()
        await bench.prober.probe_once()
        assert count(one, "/api/show") + count(two, "/api/show") == 30


async def test_shows_word_outweighs_the_listing_on_every_node() -> None:
    digest = "ab" * 32

    def answer(request: web.Request) -> web.Response:
        entry = {"name": "m", "digest": digest, "size": 1, "capabilities": ["completion"]}
        body = {"version": "1", "models": [entry], "capabilities": ["completion", "tools"]}
        if request.path == "/api/ps":
            body["models"] = []
        return web.json_response(body, status=404 if "status" in request.path else 200)

    async with web_server(answer) as one, web_server(answer) as two, Bench() as bench:
        bench.add(one, "one")
        bench.add(two, "two")
        await bench.prober.probe_once()
        for name in ("one", "two"):
            (model,) = bench.view(name).models.values()
            assert model.capabilities == frozenset({"completion", "tools"})


async def test_a_capability_counts_as_soon_as_it_is_known() -> None:
    held = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/api/show":
            body = await request.json()
            if body["model"] == "second":
                await held.wait()
            return web.json_response({"capabilities": ["embedding"]})
        models = [
            {"name": name, "digest": digit * 64, "capabilities": ["completion"]}
            for name, digit in (("first", "a"), ("second", "b"))
        ]
        body = {"version": "1", "models": [] if request.path == "/api/ps" else models}
        return web.json_response(body, status=404 if "status" in request.path else 200)

    async with web_server(answer) as url, Bench() as bench:
        bench.add(url)
        async with bench.running():
            await bench.prober.first_round.wait()

            def known() -> dict[str, frozenset[str] | None]:
                return {m.name: m.capabilities for m in bench.view().models.values()}

            await bench.until(lambda: known()["first"] == frozenset({"embedding"}))
            assert known()["second"] == frozenset({"completion"})
            held.set()
            await bench.until(lambda: known()["second"] == frozenset({"embedding"}))


async def test_what_an_older_version_could_do_is_forgotten_with_it() -> None:
    versions = {"a": "1", "b": "2"}
    abilities = {"1": ["completion", "tools"], "2": ["completion"]}

    def answer(request: web.Request) -> web.Response:
        version = versions[request.path[1]]
        models = [{"name": "m", "digest": "ab" * 32, "capabilities": ["completion"]}]
        if request.path.endswith("/ps"):
            models = []
        body: dict[str, object] = {"models": models}
        if not request.path.endswith("/tags"):
            body |= {"version": version, "capabilities": abilities[version]}
        return web.json_response(body, status=404 if "status" in request.path else 200)

    async with web_server(answer) as url, Bench() as bench:
        for name in ("a", "b"):
            bench.add(f"{url}/{name}", name)
        await bench.prober.probe_once()

        def known(name: str) -> frozenset[str] | None:
            (model,) = bench.view(name).models.values()
            return model.capabilities

        assert known("a") == frozenset({"completion", "tools"})
        assert known("b") == frozenset({"completion"})
        versions["a"] = "2"
        await bench.prober.probe_once()
        assert known("a") == frozenset({"completion"})


async def test_a_node_that_struggles_with_show_is_left_alone_for_now() -> None:
    async with FakeNode(["a", "b", "c"]) as node, Bench() as bench:
        settings = msgspec.structs.replace(LIMITS, show_limit_s=0.05)
        bench.prober.settings = settings
        node.fault = Fault(kind=FaultKind.HANG, scope="/api/show")
        bench.add(node.url)
        for tries in (1, 2, 3):
            await bench.prober.probe_once()
            assert count(node, "/api/show") == tries
        assert bench.view().state is NodeState.UP
        node.fault = None
        await bench.prober.probe_once()
        # The first model had its three tries; the others get their answers.
        assert count(node, "/api/show") == 5


async def test_a_list_that_cannot_be_read_is_told_once_and_keeps_the_old(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeNode(["a"]) as node, Bench() as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        node.fault = Fault(kind=FaultKind.STATUS, status=500, scope="/api/tags")
        for _ in range(3):
            await bench.prober.probe_once()
        assert len(bench.view().models) == 1
        assert bench.view().state is NodeState.UP
        lines = [r.getMessage() for r in caplog.records if "list of models" in r.getMessage()]
        assert len(lines) == 1


async def test_a_known_node_is_asked_one_question_a_round_and_its_name_now_and_then() -> None:
    settings = msgspec.structs.replace(LIMITS, version_s=0.6)
    async with FakeNode() as node, Bench(settings=settings) as bench:
        bench.add(node.url)
        async with bench.running():
            await node.until(lambda: count(node, "/api/ps") >= 4)
            assert count(node, "/api/version") <= 2
            shows = count(node, "/api/show")
            node.ollama.version = "0.99.0"
            await bench.until(lambda: bench.view().version == "0.99.0")
            # Another version may read other capabilities out of the same file.
            await node.until(lambda: count(node, "/api/show") == shows + 1)


async def test_a_node_without_ps_is_watched_all_the_same() -> None:
    seen: list[str] = []

    def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        if request.path in {"/api/version", "/api/tags"}:
            return web.json_response({"version": "0.1.0", "models": []})
        return web.Response(status=404)

    async with web_server(answer) as url, Bench() as bench:
        bench.add(url)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            async with asyncio.timeout(5):
                while seen.count("/api/version") < 3:
                    bench.prober.kick(NodeId("node"))
                    await asyncio.sleep(0.01)
            assert bench.view().state is NodeState.UP


async def test_a_sollold_that_takes_a_nodes_place_is_noticed_by_what_it_says() -> None:
    is_daemon = False

    def answer(request: web.Request) -> web.Response:
        headers = {"Via": "1.1 sollold"} if is_daemon else {}
        if request.path == "/api/v1/status":
            return web.Response(status=404)
        return web.json_response({"version": "0.33.0", "models": []}, headers=headers)

    async with web_server(answer) as url, Bench() as bench:
        bench.add(url)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            is_daemon = True
            await bench.until(lambda: len(bench.registry.peers()) == 1)
            assert bench.registry.fleet().nodes == ()


async def test_a_name_whose_good_address_dies_moves_to_the_other_in_the_same_round() -> None:
    async with FakeNode(host="127.0.0.2") as first:
        async with FakeNode(port=first.port) as second:
            names = {"box.lan": ["127.0.0.2", "127.0.0.1"]}
            async with Bench(names=names) as bench:
                bench.add(f"box.lan:{first.port}")
                async with bench.running():
                    await bench.until_state(NodeState.UP)
                    assert bench.view().addresses[0] == "127.0.0.2"
                    await kill(first)
                    await bench.until(lambda: bench.view().addresses[0] == "127.0.0.1")
                    assert second.requests
        states = [f["to_state"] for kind, f in bench.events if kind == "NODE_STATE"]
        assert states == ["up"]


async def test_a_node_whose_ps_hangs_is_not_well() -> None:
    async with FakeNode() as node, Bench(settings=ProbeSettings(limit_s=0.1)) as bench:
        bench.add(node.url)
        await bench.prober.probe_once()
        node.fault = Fault(kind=FaultKind.HANG, scope="/api/ps")
        await bench.prober.probe_once()
        assert bench.told() == "up timeout: no answer to /api/ps in 0.1 s"
        await bench.prober.probe_once()
        assert bench.view().state is NodeState.DOWN


async def test_a_fault_of_ours_is_told_and_probing_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeNode() as node, Bench() as bench:
        bench.add(node.url)
        whole = bench.client.version

        async def broken(*_: object) -> h.ProbeFailed:
            raise RuntimeError("boom")

        bench.client.version = broken  # type: ignore[assignment,method-assign]
        async with bench.running():
            await bench.until(lambda: "internal" in bench.told())
            bench.client.version = whole  # type: ignore[method-assign]
            await bench.until_state(NodeState.UP)
        assert "failed here, not there" in caplog.text


async def test_an_ejection_ends_without_anybody_looking() -> None:
    policy = msgspec.structs.replace(QUICK, eject_s=0.2)
    async with FakeNode() as node, Bench(policy=policy) as bench:
        name = bench.add(node.url)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            for _ in range(3):
                bench.registry.observe(name, h.TrafficFailed("eof", "connection lost"))
            assert bench.view().is_ejected
            await bench.until(lambda: bench.view().takes_trial)


async def test_the_sources_are_read_and_the_hosts_file_again_when_it_changes(
    tmp_path: Path,
) -> None:
    async with FakeNode() as one, FakeNode() as two:
        path = tmp_path / "hosts"
        path.write_text(f"127.0.0.1:{one.port}\n")
        sources = StaticSources(hosts_file=path, has_localhost=False)
        async with Bench(sources=sources) as bench, bench.running():
            await bench.prober.first_round.wait()
            first = f"ollama:127.0.0.1:{one.port}"
            assert [view.id for view in bench.registry.fleet().nodes] == [first]
            assert bench.view(first).state is NodeState.UP
            path.write_text(f"127.0.0.1:{two.port}  # moved\n")
            os.utime(path, ns=(1, 1))
            second = f"ollama:127.0.0.1:{two.port}"
            await bench.until(lambda: [v.id for v in bench.registry.fleet().nodes] == [second])
            await bench.until_state(NodeState.UP, second)


async def test_two_names_of_one_server_become_one_node_while_probing() -> None:
    names = {"a.lan": ["127.0.0.1"], "b.lan": ["127.0.0.1"]}
    async with FakeNode() as node, Bench(names=names) as bench:
        for name, source in (("a", "config"), ("b", "OLLAMA_HOST")):
            candidate = Candidate(url=f"{name}.lan:{node.port}", source=source, name=name)
            bench.registry.reconcile(source, [candidate])
        async with bench.running():
            await bench.until(lambda: len(bench.registry.fleet().nodes) == 1)
            await bench.until_state(NodeState.UP, "a")
            async with asyncio.timeout(5):
                await bench.prober.first_round.wait()


async def test_nothing_is_left_when_probing_ends() -> None:
    async with FakeNode() as node, Bench() as bench:
        bench.add(node.url)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            node.fault = Fault(kind=FaultKind.HANG)
            frozen = asyncio.create_task(bench.prober.is_frozen(NodeId("node")))
            await node.until(lambda: node.open_connections >= 2)
        async with asyncio.timeout(5):
            assert not await frozen
        assert not bench.prober._tasks
        left = {task.get_name() for task in asyncio.all_tasks()} - {
            task.get_name() for task in (asyncio.current_task(),) if task is not None
        }
        assert not {name for name in left if name.startswith(("probe", "list", "frozen", "health"))}
