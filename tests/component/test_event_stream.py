"""Events as they are read: the last ones, as lines that go on, over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import msgspec
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sollold.api_types import EventLine, EventsDocument, decode
from sollold.core.model import RequestId
from sollold.events.bus import EventBus
from sollold.events.types import NodeLeft
from sollold.web.context import CONTEXT, Context
from sollold.web.events import EventApi
from sollold.web.push import MAX_LISTENERS, Audience
from tests.component.lab import IN_ORDER, Lab
from tests.fakes.faults import Fault, FaultKind

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

T = TypeVar("T", bound=msgspec.Struct)

SOON_S = 1.0


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


async def deaf_listener(lab: Lab) -> asyncio.StreamWriter:
    """A listener that takes none of what it is told, and for which much of it waits."""
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
    return writer


def is_connected(writer: asyncio.StreamWriter) -> bool:
    """Whether the daemon's end of a client's connection is open."""
    ends = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    return ends in [(sock.laddr, sock.raddr) for sock in psutil.Process().net_connections("tcp")]


async def test_a_listener_that_does_not_hear_the_goodbye_is_cut() -> None:
    async with Lab() as lab:
        writer = await deaf_listener(lab)
        assert is_connected(writer)
        await lab.built.app.shutdown()
        await lab.until(lambda: not is_connected(writer))
        writer.transport.abort()


async def test_a_listener_that_stopped_reading_delays_the_end_by_little() -> None:
    lab = Lab()
    await lab.__aenter__()
    writer = await deaf_listener(lab)
    started_s = time.monotonic()
    async with asyncio.timeout(10):
        await lab.built.app.shutdown()
    assert time.monotonic() - started_s < 3.0
    # Its handler ends by itself; nobody has to wait for it or to cancel it.
    await lab.until(lambda: not lab.built.edge._tasks)
    await lab.__aexit__(None, None, None)
    writer.transport.abort()


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /api/v1/events?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        (
            b"GET /ws/routing_events HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ),
    ],
    ids=["lines", "websocket"],
)
async def test_a_listener_that_vanishes_at_once_is_no_error(
    request_head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with Lab(1) as lab:
        for _ in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", lab.port)
            writer.write(request_head)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        async with lab.session.get("/") as answer:
            assert answer.status == 200
        await lab.until(lambda: not lab.built.edge._tasks)
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def fill(lab: Lab, count: int, text: str = "x" * 2000) -> None:
    """Publish events that are long, as decisions among many nodes are."""
    for number in range(count):
        lab.built.bus.publish(NodeLeft(reason=f"{number} {text}", node=f"n{number % 10}"))


async def everything(lab: Lab, path: str) -> bytes:
    async with lab.session.get(path) as answer:
        return await answer.read()


@pytest.mark.parametrize("more", ["", "&grep=9%20X", "&node!=n1"])
async def test_everything_that_is_kept_arrives_in_order(more: str) -> None:
    async with Lab(0) as lab:
        fill(lab, 10_000)
        body = await everything(lab, f"/api/v1/events?n=10000{more}")
        found = json.loads(body)["events"]

        assert [event["seq"] for event in found] == sorted(event["seq"] for event in found)
        assert len(found) == {"": 10_000, "&grep=9%20X": 1000, "&node!=n1": 9000}[more]


async def test_what_was_read_is_not_kept_a_second_time() -> None:
    async with Lab(0) as lab:
        fill(lab, 2000)
        await everything(lab, "/api/v1/events?n=1")
        tracemalloc.start()
        try:
            before_bytes, _ = tracemalloc.get_traced_memory()
            body = await everything(lab, "/api/v1/events?n=10000")
            size_bytes = len(body)
            del body
            gc.collect()
            after_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert size_bytes > 4e6
        assert after_bytes - before_bytes < size_bytes / 4


async def test_a_follower_is_told_the_last_that_have_a_text() -> None:
    async with Lab(0) as lab:
        fill(lab, 500, "past")
        async with lab.session.get("/api/v1/events?follow=1&n=2&grep=7 PAST") as answer:
            first = [json.loads(await answer.content.readline()) for _ in range(2)]
            fill(lab, 8, "PaST")
            later = json.loads(await answer.content.readline())

        assert [event["reason"] for event in first] == ["487 past", "497 past"]
        assert later["reason"] == "7 PaST"


async def test_followers_that_stopped_reading_make_room() -> None:
    bus = EventBus("i", "h", 1, time.time)
    audience = Audience(bus.close, limit=1, send_limit_s=0.2)
    rows = EventApi(bus, audience).routes()

    @web.middleware
    async def context(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[CONTEXT] = Context(RequestId("r-1"), [], request.path)
        return await handler(request)

    app = web.Application(middlewares=[context])
    app.router.add_routes([row.definition() for row in rows])
    async with TestServer(app) as server:
        assert server.port is not None
        _, writer = await slow_connection(server.port)
        writer.write(b"GET /api/v1/events?follow=1 HTTP/1.1\r\nHost: here\r\n\r\n")
        async with asyncio.timeout(20):
            while bus.subscriber_count == 0:
                await asyncio.sleep(0)
            while bus.subscriber_count:
                bus.publish(NodeLeft(reason="x" * 100_000))
                await asyncio.sleep(0.01)
        async with aiohttp.ClientSession() as session:
            async with session.get(server.make_url("/api/v1/events?follow=1&n=0")) as answer:
                assert answer.status == 200
        writer.close()
