"""The daemon's log lines as they are read: the last ones, as lines that go on, over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest

from sollold import log
from sollold.api_types import LogLine, LogsDocument, decode
from sollold.logs.hub import LogHub
from sollold.web.push import MAX_LISTENERS
from tests.component.lab import Lab
from tests.component.test_event_stream import slow_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

logger = logging.getLogger("sollold.nodes.probe")
other = logging.getLogger("sollold.web.edge")


@contextlib.asynccontextmanager
async def logging_lab(hub: LogHub | None = None) -> AsyncIterator[Lab]:
    """A daemon whose log is the one that a started daemon has."""
    hub = hub or LogHub()
    logs = await asyncio.to_thread(log.setup, "info", "text", io.StringIO(), also=hub.take)
    try:
        async with Lab(1, logs=hub) as lab:
            yield lab
    finally:
        await asyncio.to_thread(logs.shutdown)


async def get(lab: Lab, path: str, status: int = 200) -> Any:
    async with lab.session.get(path) as answer:
        body = await answer.read()
        assert answer.status == status, body
        return json.loads(body)


async def messages(lab: Lab, query: str) -> list[str]:
    lines = (await get(lab, f"/api/v1/logs?{query}"))["lines"]
    return [line["message"] for line in lines]


async def next_lines(ws: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        found: list[dict[str, Any]] = await ws.receive_json()
    return found


async def test_the_last_lines() -> None:
    async with logging_lab() as lab:
        logger.warning("probe of %s failed", "gpu-1")
        other.info("a request came in")
        logger.error("second\nline")
        async with lab.session.get("/api/v1/logs") as answer:
            body = await answer.read()
            assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        found = decode(body, LogsDocument)
        assert msgspec.json.encode(found) == body
        assert [line.message for line in found.lines][-3:] == [
            "probe of gpu-1 failed",
            "a request came in",
            "second\\nline",
        ]
        assert await messages(lab, "level=warning&source=nodes.probe&n=1") == ["second\\nline"]
        assert await messages(lab, "source=web,nodes&level=info&n=2&since=1h") == [
            "a request came in",
            "second\\nline",
        ]
        assert await messages(lab, "n=0") == []
        assert await messages(lab, "grep=SECOND&n=1") == ["second\\nline"]
        assert await messages(lab, "grep=error sollold.nodes") == ["second\\nline"]
        for wrong in ("colour=red", "level=loud", "n=x", "since=then", "follow=2"):
            error = (await get(lab, f"/api/v1/logs?{wrong}", 400))["error"]
            assert error["code"] == "invalid_request"
        said = (await get(lab, "/api/v1/logs?colour=red", 400))["error"]["message"]
        assert said.endswith("there are: level, source, grep, n, since, follow")


async def test_following_begins_with_the_last_ones() -> None:
    async with logging_lab() as lab:
        logger.warning("before")
        async with lab.session.get("/api/v1/logs?follow=1&n=1&source=nodes") as answer:
            assert answer.headers["Content-Type"] == "application/x-ndjson"
            assert answer.headers["X-Accel-Buffering"] == "no"
            async with asyncio.timeout(5):
                first = json.loads(await answer.content.readline())
                other.warning("not asked for")
                logger.warning("after")
                second = json.loads(await answer.content.readline())
        assert [first["message"], second["message"]] == ["before", "after"]


async def test_a_line_knows_its_request() -> None:
    async with logging_lab() as lab:
        async with lab.session.ws_connect("/ws/logs?source=aside&n=0") as ws:
            assert await next_lines(ws) == []
            token = log.request_id.set("r-7f41")
            logging.getLogger("aside").warning("about it")
            log.request_id.reset(token)
            [line] = await next_lines(ws)
        assert (line["request"], line["level"], line["source"]) == ("r-7f41", "warning", "aside")
        assert decode(json.dumps(line), LogLine).message == "about it"


async def test_a_listener_is_greeted_and_told_from_any_thread() -> None:
    async with logging_lab() as lab:
        logger.warning("before")
        async with lab.session.ws_connect("/ws/logs?level=warning&n=1") as ws:
            assert [line["message"] for line in await next_lines(ws)] == ["before"]
            await asyncio.to_thread(logger.error, "from a thread")
            assert [line["message"] for line in await next_lines(ws)] == ["from a thread"]
            await ws.send_str("whatever")
        async with lab.session.get("/ws/logs?follow=1") as answer:
            assert answer.status == 400


async def test_sending_lines_makes_no_lines() -> None:
    """On the most talkative level, with a library that logs each thing that it sends."""
    hub = LogHub()
    async with logging_lab(hub) as lab:
        async with lab.session.ws_connect("/ws/logs?n=0") as ws:
            await next_lines(ws)
            with chatter():
                for number in range(3):
                    logger.warning("line %d", number)
                    found = await next_lines(ws)
                    assert [line["message"] for line in found] == [f"line {number}"]
        kept = await messages(lab, "source=chatter")
        assert kept.count("one more message sent") >= 3


@contextlib.contextmanager
def chatter() -> Any:
    """Have every message that goes over a WebSocket of the daemon be logged."""
    real = aiohttp.web.WebSocketResponse.send_str

    async def send_str(self: Any, *args: Any, **kwargs: Any) -> None:
        logging.getLogger("chatter").warning("one more message sent")
        await real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiohttp.web.WebSocketResponse, "send_str", send_str)
        yield


async def test_other_pages_may_not_listen() -> None:
    async with logging_lab() as lab:
        async with lab.session.ws_connect("/ws/logs", headers={"Origin": lab.url}) as ws:
            await next_lines(ws)
        for origin in ("http://evil.example", "http://localhost:1", "null"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await lab.session.ws_connect("/ws/logs", headers={"Origin": origin})
            assert refused.value.status == 403


async def test_readers_of_lines_and_of_events_share_their_limit() -> None:
    async with logging_lab() as lab:
        paths = ("/ws/logs", "/ws/routing_events")
        open_ones = [
            await lab.session.ws_connect(paths[number % 2]) for number in range(MAX_LISTENERS)
        ]
        for path in paths:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await lab.session.ws_connect(path)
            assert refused.value.status == 503
        await get(lab, "/api/v1/logs?follow=1", 503)
        assert (await get(lab, "/api/v1/logs"))["lines"] is not None
        for ws in open_ones:
            await ws.close()


async def test_a_slow_follower_is_told_what_it_missed() -> None:
    hub = LogHub()
    async with logging_lab(hub) as lab:
        reader, writer = await slow_connection(lab.port)
        writer.write(b"GET /api/v1/logs?follow=1&n=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await lab.until(lambda: hub.reader_count == 1)
        total = 12_000
        for number in range(total):
            logger.warning("%05d %s", number, "x" * 1000)
            if number % 100 == 0:
                await asyncio.sleep(0)
        got, dropped, is_end = 0, 0, False
        async with asyncio.timeout(20):
            while not is_end:
                data = await reader.readline()
                if data.startswith(b"{"):
                    line = json.loads(data)
                    dropped += line.get("dropped", 0)
                    got += "dropped" not in line
                    is_end = line["message"].startswith(f"{total - 1:05d}")
        writer.close()
        await writer.wait_closed()
        assert dropped > 0
        assert got + dropped == total
        await lab.until(lambda: hub.reader_count == 0)


async def test_at_the_end_listeners_are_told_goodbye() -> None:
    async with contextlib.AsyncExitStack() as stack:
        hub = LogHub()
        lab = Lab(1, logs=hub)
        await lab.__aenter__()
        session = await stack.enter_async_context(aiohttp.ClientSession(lab.url))
        ws = await session.ws_connect("/ws/logs")
        follower = await session.get("/api/v1/logs?follow=1&n=0")
        await next_lines(ws)
        closing = asyncio.create_task(lab.__aexit__(None, None, None))
        async with asyncio.timeout(5):
            message = await ws.receive()
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
            assert message.extra == "sollold is stopping"
            assert await follower.read() == b""
            await closing


async def test_a_listener_that_vanishes_is_forgotten() -> None:
    hub = LogHub()
    async with logging_lab(hub) as lab:
        ws = await lab.session.ws_connect("/ws/logs")
        await next_lines(ws)
        assert hub.reader_count == 1
        transport = ws._writer.transport
        assert transport is not None
        sock: socket.socket = transport.get_extra_info("socket")
        sock.shutdown(socket.SHUT_RDWR)
        await lab.until(lambda: hub.reader_count == 0)
