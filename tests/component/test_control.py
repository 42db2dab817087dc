"""What the daemon says about itself: documents, the event stream, its listeners."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import msgspec
import pytest

from sollold.api_types import (
    EventLine,
    EventsDocument,
    NodeDocument,
    NodesDocument,
    RequestsDocument,
    StatusDocument,
    decode,
    encode,
)
from sollold.events.types import NodeLeft
from sollold.web.control import MAX_LISTENERS
from tests.component.lab import IN_ORDER, Lab
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode
from tests.unit.ctl import documents as golden

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sollold.api_types import Document

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
        assert found.not_configured == ("Redis",)
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
    known: list[Document] = [golden.DEGRADED, golden.NODES, golden.NODE_GPU_2, golden.REQUESTS]
    for found, example in zip(live, known, strict=True):
        expected = json.loads(encode(example))
        assert list(found) == list(expected)
        assert found["schema"] == expected["schema"]
        seen, drawn = shape(found), shape(expected)
        both = seen.keys() & drawn.keys()
        assert {key: seen[key] for key in both} == {key: drawn[key] for key in both}
        assert len(both) > 5


# Events as lines -----------------------------------------------------------------------------


async def test_the_last_events() -> None:
    async with Lab(2, routing=IN_ORDER) as lab:
        await lab.chat()
        failing = {"X-Request-Id": "failing-1"}
        lab.nodes[0].fault = Fault(kind=FaultKind.CUT_RESET)
        async with lab.session.post(
            "/api/chat", json={"model": "llama3.2", "messages": [], "stream": True}, headers=failing
        ) as answer:
            await answer.read()
        found = await fetch(lab, "/api/v1/events?n=10000", EventsDocument)
        everything = [json.loads(bytes(item)) for item in found.events]
        assert [item["seq"] for item in everything] == list(range(1, len(everything) + 1))
        for raw in found.events:
            line = decode(bytes(raw), EventLine)
            assert line.text
            assert line.kind

        async def kinds(query: str) -> list[str]:
            events = (await get(lab, f"/api/v1/events?{query}"))["events"]
            return [item["event_type"] for item in events]

        assert len(await kinds("n=3")) == 3
        assert await kinds("n=0") == []
        assert set(await kinds("kind=node")) == {"NODE_JOINED", "NODE_STATE"}
        assert await kinds("event_type=ROUTE_DECISION&n=1") == ["ROUTE_DECISION"]
        mine = await kinds("request=failing-1")
        assert "FALLBACK_TRIGGERED" in mine
        assert mine[-1] == "REQUEST_DONE"
        assert await kinds("request=failing") == []
        assert await kinds("node=n2&kind=failover") == []
        assert len(await kinds("node=n1&kind=failover")) == 1
        assert await kinds("model=nobody-has-it") == []
        assert len(await kinds("model=LLAMA3.2&type=ROUTE_DECISION")) == 3
        assert await kinds("since=1h") == [item["event_type"] for item in everything][-50:]
        assert await kinds("until=1h") == []
        for wrong in ("colour=red", "kind=nonsense", "n=-1", "since=yesterday", "follow=2"):
            error = (await get(lab, f"/api/v1/events?{wrong}", 400))["error"]
            assert error["code"] == "invalid_request"
            assert error["message"]


async def test_following_events() -> None:
    async with Lab() as lab:
        async with lab.session.get("/api/v1/events?follow=1&n=1&kind=request") as answer:
            assert answer.headers["Content-Type"] == "application/x-ndjson"
            assert answer.headers["X-Accel-Buffering"] == "no"
            assert answer.headers["Via"] == lab.built.edge.via
            started_s = time.monotonic()
            await (await lab.chat()).read()
            async with asyncio.timeout(5):
                line = json.loads(await answer.content.readline())
            assert time.monotonic() - started_s < SOON_S
            assert line["event_type"] == "REQUEST_DONE"
            await (await lab.chat(model="nobody-has-it")).read()
            await (await lab.chat()).read()
            async with asyncio.timeout(5):
                later = json.loads(await answer.content.readline())
            assert (later["event_type"], later["seq"] > line["seq"]) == ("REQUEST_DONE", True)
        await lab.until(lambda: lab.built.bus.subscriber_count == 0)


async def test_following_begins_with_the_last_ones() -> None:
    async with Lab() as lab:
        await (await lab.chat()).read()
        async with lab.session.get("/api/v1/events?follow=1&n=2") as answer:
            async with asyncio.timeout(5):
                lines = [json.loads(await answer.content.readline()) for _ in range(2)]
        types = [line["event_type"] for line in lines]
        assert types == ["TASK_COMPLETE", "REQUEST_DONE"]


async def test_a_slow_follower_is_told_what_it_missed() -> None:
    async with Lab() as lab:
        bus = lab.built.bus
        reader, writer = await slow_connection(lab.port)
        writer.write(b"GET /api/v1/events?follow=1&n=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await lab.until(lambda: bus.subscriber_count == 1)
        for _ in range(30):
            for _ in range(100):
                bus.publish(NodeLeft(node="far", reason="x" * 10_000))
            await asyncio.sleep(0)
        last = bus.published_total
        assert bus.dropped_total > 0
        lines: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            while not lines or lines[-1].get("seq") != last:
                data = await reader.readline()
                if data.startswith(b"{"):
                    lines.append(json.loads(data))
        writer.close()
        await writer.wait_closed()
        gaps = [line for line in lines if line["kind"] == "gap"]
        assert gaps
        assert sum(gap["dropped"] for gap in gaps) == bus.dropped_total
        number = lines[0]["seq"] - 1
        for line in lines:
            number += line["dropped"] if line["kind"] == "gap" else 1
            assert line.get("seq", number) == number
        await lab.until(lambda: bus.subscriber_count == 0)


async def slow_connection(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that takes next to nothing until it reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=sock, limit=65_536)


# Events over a WebSocket ---------------------------------------------------------------------


async def next_events(ws: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        found: list[dict[str, Any]] = await ws.receive_json()
    return found


async def test_a_listener_is_greeted_and_told_at_once() -> None:
    async with Lab() as lab:
        await (await lab.chat()).read()
        async with lab.session.ws_connect("/ws/routing_events") as ws:
            greeting = await next_events(ws)
            assert [item["seq"] for item in greeting] == list(
                range(1, lab.built.bus.published_total + 1)
            )
            started_s = time.monotonic()
            call = asyncio.create_task(lab.chat())
            seen = await next_events(ws)
            assert time.monotonic() - started_s < SOON_S
            assert seen[0]["event_type"] == "ROUTE_DECISION"
            await (await call).read()
            while seen[-1]["event_type"] != "REQUEST_DONE":
                seen += await next_events(ws)
            numbers = [item["seq"] for item in seen]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            await ws.send_str("whatever")
        await lab.until(lambda: lab.built.bus.subscriber_count == 0)


async def test_a_listener_hears_only_what_it_asked_for() -> None:
    async with Lab() as lab:
        async with lab.session.ws_connect(
            "/ws/routing_events?event-type=REQUEST_DONE&model=llama3.2"
        ) as ws:
            assert await next_events(ws) == []
            await (await lab.chat()).read()
            assert [item["event_type"] for item in await next_events(ws)] == ["REQUEST_DONE"]
        async with lab.session.get("/ws/routing_events?kind=nonsense") as answer:
            assert answer.status == 400


async def test_other_pages_may_not_listen() -> None:
    async with Lab() as lab:
        own = {"Origin": lab.url}
        async with lab.session.ws_connect("/ws/routing_events", headers=own) as ws:
            assert await next_events(ws)
        for origin in ("http://evil.example", "http://localhost:1", "null", "app://x"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await lab.session.ws_connect("/ws/routing_events", headers={"Origin": origin})
            assert refused.value.status == 403
        assert lab.built.bus.subscriber_count <= 1


async def test_listeners_are_bounded_and_make_room_when_they_leave() -> None:
    async with Lab() as lab:
        open_ones = [
            await lab.session.ws_connect("/ws/routing_events") for _ in range(MAX_LISTENERS - 1)
        ]
        follower = await lab.session.get("/api/v1/events?follow=1&n=0")
        assert follower.status == 200
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await lab.session.ws_connect("/ws/routing_events")
        assert refused.value.status == 503
        error = (await get(lab, "/api/v1/events?follow=1", 503))["error"]
        assert (error["code"], bool(error["hint"])) == ("unavailable", True)
        assert (await get(lab, "/api/v1/events"))["events"]
        await open_ones.pop().close()
        follower.close()
        await lab.until(lambda: lab.built.bus.subscriber_count == MAX_LISTENERS - 2)
        async with lab.session.ws_connect("/ws/routing_events") as ws:
            assert await next_events(ws)
        for ws in open_ones:
            await ws.close()
        await lab.until(lambda: lab.built.bus.subscriber_count == 0)


async def test_a_listener_that_talks_too_much_is_closed() -> None:
    async with Lab() as lab:
        async with lab.session.ws_connect("/ws/routing_events") as ws:
            await next_events(ws)
            await ws.send_str("x" * 10_000)
            async with asyncio.timeout(5):
                message = await ws.receive()
            assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        await lab.until(lambda: lab.built.bus.subscriber_count == 0)


async def test_at_the_end_listeners_are_told_goodbye() -> None:
    async with contextlib.AsyncExitStack() as stack:
        lab = Lab()
        await stack.enter_async_context(lab)
        session = await stack.enter_async_context(aiohttp.ClientSession(lab.url))
        ws = await session.ws_connect("/ws/routing_events")
        follower = await session.get("/api/v1/events?follow=1&n=0")
        await next_events(ws)
        closing = asyncio.create_task(lab.__aexit__(None, None, None))
        async with asyncio.timeout(5):
            message = await ws.receive()
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
            assert message.extra == "sollold is stopping"
            assert await follower.read() == b""
            await closing


async def test_a_listener_that_stopped_reading_delays_the_end_by_little() -> None:
    lab = Lab()
    await lab.__aenter__()
    _, writer = await slow_connection(lab.port)
    writer.write(
        b"GET /ws/routing_events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    bus = lab.built.bus
    await lab.until(lambda: bus.subscriber_count == 1)
    for _ in range(20):
        for _ in range(50):
            bus.publish(NodeLeft(node="far", reason="x" * 10_000))
        await asyncio.sleep(0.01)
    started_s = time.monotonic()
    async with asyncio.timeout(10):
        await lab.built.app.shutdown()
    assert time.monotonic() - started_s < 3.0
    # Its handler ends by itself; nobody has to wait for it or to cancel it.
    await lab.until(lambda: not lab.built.edge._tasks)
    await lab.__aexit__(None, None, None)
    writer.transport.abort()


def test_the_words_of_states_are_those_of_the_documents() -> None:
    states = {node.state for node in golden.NODES.nodes}
    assert states <= NODE_WORDS
    assert {golden.HEALTHY.state, golden.DEGRADED.state, golden.NOTHING_FOUND.state} <= DAEMON_WORDS
