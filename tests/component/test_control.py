"""What the daemon says about itself: documents, the event stream, its listeners."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sollold.api_types import (
    NodeDocument,
    NodesDocument,
    RequestsDocument,
    StatusDocument,
    decode,
    encode,
)
from tests.component.lab import IN_ORDER, Lab
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode
from tests.unit.ctl import documents as golden

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


T = TypeVar("T", bound=msgspec.Struct)

QUICK = {"interval_s": 0.1, "timeout_s": 0.2, "backoff_max_s": 0.2}
SOON_S = 1.0
DAEMON_WORDS = {"serving", "degraded", "cannot_serve", "starting", "stopping"}
NODE_WORDS = {"up", "slow", "draining", "down", "unknown"}


async def get(lab: Lab, path: str, status: int = 200) -> Any:
    async with lab.session.get(path) as answer:
        body = await answer.read()
        assert answer.status == status, body
        return json.loads(body)


async def fetch(lab: Lab, path: str, kind: type[T]) -> T:
    """A document, which has every field of its type and no other."""
    async with lab.session.get(path) as answer:
        body = await answer.read()
        assert answer.status == 200, body
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    found = decode(body, kind)
    assert msgspec.json.encode(found) == body
    return found


@contextlib.asynccontextmanager
async def busy(lab: Lab, count: int) -> AsyncIterator[None]:
    """So many streams that last, on one node: the first is running, the others wait."""
    async with await lab.chat(stream=True) as first:
        await first.content.readline()
        calls = [asyncio.create_task(lab.chat(stream=True)) for _ in range(count - 1)]
        await lab.until(lambda: len(list(lab.built.dispatcher.runs)) == count)
        yield
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    await lab.until(lambda: not list(lab.built.dispatcher.runs))
    lab.assert_idle()


def slow_node(**fields: Any) -> FakeNode:
    return FakeNode(rate=20.0, answer_tokens=2000, **fields)


# Documents -----------------------------------------------------------------------------------


async def test_status_while_all_is_well() -> None:
    async with Lab([FakeNode(), FakeNode(())]) as lab:
        assert (await lab.chat()).status == 200
        async with busy(lab, 1):
            found = await fetch(lab, "/api/v1/status", StatusDocument)
        assert (found.state, found.reason, found.problems) == ("serving", None, ())
        assert (found.nodes.total, found.nodes.up) == (2, 2)
        assert (found.models.known, found.models.loaded_nodes) == (1, 1)
        assert (found.requests.running, found.requests.queued) == (1, 0)
        assert found.recent is not None
        assert (found.recent.ok, found.recent.failed, found.recent.failed_over) == (1, 0, 0)
        assert found.addresses.api == (lab.url,)
        assert found.not_configured == ()
        assert found.looked_at is None
        assert found.history is not None
        assert 0 < found.history.events < len(lab.built.bus.ring)
        assert found.loop in ("asyncio", "uvloop")
        assert found.pid > 0
        assert 0 < found.uptime_ms < 60_000


async def test_status_counts_what_waits_and_for_how_long() -> None:
    async with Lab([slow_node()]) as lab, busy(lab, 4):
        await asyncio.sleep(0.05)
        found = await fetch(lab, "/api/v1/status", StatusDocument)
        assert (found.requests.running, found.requests.queued) == (1, 3)
        assert found.requests.oldest_ms is not None
        assert 50 <= found.requests.oldest_ms < 30_000


async def test_status_with_nodes_in_trouble() -> None:
    gone, silent = FakeNode(), FakeNode()
    silent.set_faults(Fault(kind=FaultKind.HANG))
    async with Lab([FakeNode(), gone, silent], health=QUICK) as lab:
        await gone.stop()
        await lab.until(lambda: lab.fleet["n2"].state == "down")
        found = await fetch(lab, "/api/v1/status", StatusDocument)
        assert found.state == "degraded"
        assert (found.nodes.total, found.nodes.up) == (3, 1)
        assert found.nodes.down + found.nodes.unknown == 2
        subjects = {problem.subject: problem for problem in found.problems}
        assert set(subjects) == {"n2", "n3"}
        assert found.problems[0].state == "down"
        assert "refused" in subjects["n2"].reason.text
        assert subjects["n2"].since_ms is not None
        assert subjects["n3"].reason.text
        health = await get(lab, "/api/health")
        assert health["status"] == "degraded"
        assert {host["name"]: host["healthy"] for host in health["hosts"]} == {
            "n1": True,
            "n2": False,
            "n3": False,
        }


async def test_status_when_nothing_can_be_served() -> None:
    async with Lab(0, discovery={"enabled": True, "local": False, "ollama_host": ""}) as lab:
        found = await fetch(lab, "/api/v1/status", StatusDocument)
        assert (found.state, found.nodes.total) == ("cannot_serve", 0)
        assert found.reason is not None
        assert found.reason.code == "no_nodes"
        assert found.looked_at is not None
        assert [item.source for item in found.looked_at] == ["config"]
        assert (await get(lab, "/api/health", 503))["status"] == "unhealthy"
    async with Lab(1, health=QUICK) as lab:
        await lab.nodes[0].stop()
        await lab.until(lambda: lab.fleet["n1"].state == "down")
        found = await fetch(lab, "/api/v1/status", StatusDocument)
        assert found.state == "cannot_serve"
        assert found.reason is not None
        assert found.reason.code == "all_down"
        assert (await get(lab, "/api/health", 503))["hosts"][0]["state"] == "down"


async def test_status_before_anybody_answered_and_at_the_end() -> None:
    silent = FakeNode()
    silent.set_faults(Fault(kind=FaultKind.HANG))
    async with Lab([silent], health={"timeout_s": 0.2}) as lab:
        found = await fetch(lab, "/api/v1/status", StatusDocument)
        if lab.fleet["n1"].state == "unknown":
            assert found.state == "starting"
        assert found.models.known == 0
        lab.built.facts.is_stopping = True
        assert (await fetch(lab, "/api/v1/status", StatusDocument)).state == "stopping"


async def test_nodes_worst_first_and_nothing_guessed() -> None:
    gone, silent = FakeNode(), FakeNode()
    silent.set_faults(Fault(kind=FaultKind.HANG))
    nodes = [slow_node(version="0.12.3"), gone, silent]
    async with Lab(nodes, health=QUICK) as lab:
        await gone.stop()
        await lab.until(lambda: lab.fleet["n2"].state == "down")
        async with busy(lab, 3):
            await lab.until(lambda: any(r.context_length for r in lab.fleet["n1"].residents))
            found = await fetch(lab, "/api/v1/nodes", NodesDocument)
    assert {node.state for node in found.nodes} <= NODE_WORDS
    assert found.nodes[0].state == "down"
    assert found.nodes[-1].state == "up"
    by_name = {node.name: node for node in found.nodes}
    up, down, unseen = by_name["n1"], by_name["n2"], by_name["n3"]
    assert (up.id, up.kind, up.url, up.version) == ("n1", "ollama", nodes[0].url, "0.12.3")
    assert (up.running, up.queued, up.tier, up.models) == (1, 2, 5, 1)
    assert up.found_by == ("config",)
    assert up.loaded is not None
    assert (up.loaded[0].name, up.loaded[0].context_length) == ("llama3.2:latest", 4096)
    assert up.vram_bytes == up.loaded[0].size_vram_bytes
    assert up.seen_ms is not None
    assert down.reason is not None
    assert (down.reason.code, down.queued) == ("refused", None)
    assert down.seen_ms is not None
    # Of a node that never answered, nothing is known.
    assert (unseen.version, unseen.models, unseen.loaded, unseen.seen_ms) == (None,) * 4
    assert (unseen.ok_rate, unseen.last_hour, unseen.first_token_ms) == (None, None, None)


async def test_one_node_with_what_it_does_and_what_became_of_it() -> None:
    async with Lab([slow_node()], health=QUICK) as lab:
        await lab.nodes[0].stop()
        await lab.until(lambda: lab.fleet["n1"].state == "down")
        await lab.nodes[0].start()
        await lab.until(lambda: lab.fleet["n1"].state == "up")
        async with busy(lab, 3):
            await lab.until(lambda: bool(lab.fleet["n1"].residents))
            found = await fetch(lab, "/api/v1/nodes/n1", NodeDocument)
        assert found.running is not None
        assert found.waiting is not None
        assert [item.phase for item in found.running] == ["generating"]
        assert [item.phase for item in found.waiting] == ["waiting", "waiting"]
        assert [item.ahead for item in found.waiting] == [0, 1]
        assert {item.reason for item in found.waiting} == {"n1 is full"}
        assert found.changes is not None
        words = [change.text for change in found.changes]
        assert words == [
            "loaded llama3.2:latest",
            "became up",
            "became down",
            "became up",
            "joined",
        ]
        times = [change.at for change in found.changes]
        assert times == sorted(times, reverse=True)
        await get(lab, "/api/v1/nodes/n9", 404)


async def test_a_request_waits_for_the_node_it_will_get() -> None:
    nodes = [slow_node(), slow_node(models=[FakeModel(name="other")])]
    async with Lab(nodes) as lab, busy(lab, 3):
        one = await fetch(lab, "/api/v1/nodes/n1", NodeDocument)
        other = await fetch(lab, "/api/v1/nodes/n2", NodeDocument)
        assert len(one.waiting or ()) == 2
        assert other.waiting == ()
        assert (one.node.queued, other.node.queued) == (2, 0)


async def test_requests_in_the_order_of_the_queue() -> None:
    async with Lab([slow_node()]) as lab, busy(lab, 3):
        urgent = asyncio.create_task(
            lab.session.post(
                "/v1/chat/completions?priority=9",
                json={"model": "llama3.2", "messages": [{"role": "user", "content": "x"}]},
                headers={"X-Request-Id": "urgent-1"},
            )
        )
        await lab.until(lambda: len(list(lab.built.dispatcher.runs)) == 4)
        found = await fetch(lab, "/api/v1/requests", RequestsDocument)
        urgent.cancel()
        await asyncio.gather(urgent, return_exceptions=True)
        assert [item.node for item in found.running] == ["n1"]
        running = found.running[0]
        assert (running.phase, running.attempt, running.is_stream) == ("generating", 1, True)
        assert running.reason == "only holder"
        assert [item.ahead for item in found.waiting] == [0, 1, 2]
        first = found.waiting[0]
        assert (first.id, first.priority, first.node) == ("urgent-1", 9, None)
        assert first.is_stream is False
        assert first.attempt is None
        assert all(item.age_ms == item.queue_ms for item in found.waiting)
        assert {item.client for item in found.waiting} == {"127.0.0.1"}


async def test_running_streams_show_how_far_they_are() -> None:
    node = FakeNode(rate=50.0, answer_tokens=2000)
    async with Lab([node]) as lab, await lab.chat(stream=True) as answer:
        lines = 0
        async for _ in answer.content:
            lines += 1
            if lines == 20:
                break
        found = await fetch(lab, "/api/v1/requests", RequestsDocument)
        (running,) = found.running
        assert running.tokens is not None
        assert running.tokens_per_s is not None
        # The daemon may be ahead of this client by what came while it was asked.
        assert 20 <= running.tokens <= 40
        assert 10 < running.tokens_per_s < 75
        whole = asyncio.create_task(lab.chat())
        await lab.until(lambda: len(list(lab.built.dispatcher.runs)) == 2)
        found = await fetch(lab, "/api/v1/requests", RequestsDocument)
        assert [item.tokens for item in found.waiting] == [None]
        whole.cancel()
        await asyncio.gather(whole, return_exceptions=True)


async def test_figures_come_from_what_was_measured() -> None:
    async with Lab([FakeNode(prefill_s=0.05)]) as lab:
        before = (await fetch(lab, "/api/v1/status", StatusDocument)).speed
        assert (before.first_token_p50_ms, before.tokens_per_s) == (None, None)
        for _ in range(3):
            async with await lab.chat(stream=True) as answer:
                await answer.read()
        after = (await fetch(lab, "/api/v1/status", StatusDocument)).speed
        assert after.first_token_p50_ms is not None
        assert 50 <= after.first_token_p50_ms < 5000
        assert after.tokens_per_s is not None
        node = (await fetch(lab, "/api/v1/nodes", NodesDocument)).nodes[0]
        assert node.ok_rate == 1.0
        assert node.last_hour is not None
        assert node.last_hour.ok == 3
        assert node.first_token_ms is not None


def shape(value: Any, path: str = "$") -> dict[str, set[str]]:
    """The JSON types seen at each place, null left out."""
    found: dict[str, set[str]] = {}
    if isinstance(value, dict):
        parts = [(f"{path}.{key}", item) for key, item in value.items()]
    elif isinstance(value, list):
        parts = [(f"{path}[]", item) for item in value]
    else:
        kind = "number" if type(value) in (int, float) else type(value).__name__
        return {} if value is None else {path: {kind}}
    found[path] = {type(value).__name__}
    for place, item in parts:
        for key, kinds in shape(item, place).items():
            found.setdefault(key, set()).update(kinds)
    return found


async def test_live_documents_look_like_those_sollolctl_is_tested_with() -> None:
    async with Lab([slow_node(), FakeNode()], health=QUICK, routing=IN_ORDER) as lab:
        await lab.nodes[1].stop()
        await lab.until(lambda: lab.fleet["n2"].state == "down")
        async with busy(lab, 2):
            await lab.until(lambda: any(r.context_length for r in lab.fleet["n1"].residents))
            live = [
                await get(lab, path)
                for path in ("/api/v1/status", "/api/v1/nodes", "/api/v1/nodes/n1")
            ]
            live.append(await get(lab, "/api/v1/requests"))
    known: list[msgspec.Struct] = [
        golden.DEGRADED,
        golden.NODES,
        golden.NODE_GPU_2,
        golden.REQUESTS,
    ]
    for found, example in zip(live, known, strict=True):
        expected = json.loads(encode(example))
        assert list(found) == list(expected)
        assert found["schema"] == expected["schema"]
        seen, drawn = shape(found), shape(expected)
        both = seen.keys() & drawn.keys()
        assert {key: seen[key] for key in both} == {key: drawn[key] for key in both}
        assert len(both) > 5


def test_the_words_of_states_are_those_of_the_documents() -> None:
    states = {node.state for node in golden.NODES.nodes}
    assert states <= NODE_WORDS
    assert {golden.HEALTHY.state, golden.DEGRADED.state, golden.NOTHING_FOUND.state} <= DAEMON_WORDS
