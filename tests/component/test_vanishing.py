"""Clients that leave at the awkward moments, and clients that do not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.component.lab import Lab
from tests.component.odd_node import NDJSON, odd_node, reply
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.raw import Conversation, RawRequest

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "x"}]}
BODY = json.dumps(CHAT | {"stream": True}).encode()
HEAD = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY)


def is_idle(node: FakeNode) -> bool:
    """Whether a node works on nothing."""
    return node.active == 0 and node.waiting == 0


@contextlib.contextmanager
def black_hole(port: int) -> Iterator[None]:
    """Hold a port so that connections to it are never completed."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield


async def test_leaving_while_the_daemon_connects() -> None:
    node = FakeNode()
    async with Lab([node], is_probing=False) as lab:
        await node.close()
        with black_hole(node.port):
            asking = asyncio.create_task(lab.chat())
            await lab.until(lambda: len(lab.built.dispatcher.admission.load) == 1)
            asking.cancel()
            await lab.until(lambda: not list(lab.built.dispatcher.runs))
            lab.assert_idle()
            assert lab.built.pools.open_connections == 0


async def test_a_connection_that_never_comes_about_is_given_up() -> None:
    nodes = [FakeNode(), FakeNode()]
    settings = {"weights": {"tier": 1000.0}}
    async with Lab(nodes, is_probing=False, health={"timeout_s": 0.3}, routing=settings) as lab:
        await nodes[0].close()
        with black_hole(nodes[0].port):
            for _ in range(2):
                answer = await lab.chat()
                assert answer.status == 200
                assert answer.headers["X-Sollold-Node"] == "n2"
        lab.assert_idle()


async def test_leaving_during_the_upload() -> None:
    async with Lab(1) as lab:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
        writer.write(
            b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n{"
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        del reader
        assert (await lab.chat()).status == 200
        await lab.until(lambda: lab.built.bodies.in_memory_bytes == 0)
        lab.assert_idle()


async def test_leaving_while_a_second_node_is_asked() -> None:
    nodes = [FakeNode(), FakeNode()]
    async with Lab(nodes, failover={"overdue_s": 0.2}) as lab:
        for node in nodes:
            node.fault = Fault(kind=FaultKind.HANG)
        asking = asyncio.create_task(lab.chat())
        await lab.until(lambda: len(lab.built.dispatcher.admission.load) == 2, timeout_s=8)
        asking.cancel()
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        for node in nodes:
            node.fault = None


async def test_the_slot_is_free_when_the_node_is_done_and_not_when_the_client_has_read() -> None:
    node = FakeNode(rate=0.0, answer_tokens=3000)
    async with Lab([node]) as lab:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.port, limit=1024)
        transport = writer.transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(HEAD + BODY)
        await node.until(lambda: len(node.inference) == 1)
        answer = await lab.chat()
        assert answer.status == 200
        assert len(lab.built.dispatcher.admission.load) == 0
        transport.resume_reading()  # type: ignore[attr-defined]
        data = await read_all(reader)
        assert data.endswith(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        lab.assert_idle()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Read until the end of a chunked answer."""
    data = b""
    async with asyncio.timeout(10):
        while not data.endswith(b"0\r\n\r\n"):
            piece = await reader.read(65536)
            if not piece:
                break
            data += piece
    return data


def failed(lab: Lab) -> list[dict[str, Any]]:
    """What was told of requests that failed."""
    events = [json.loads(record.json()) for record in lab.built.bus.last(1000)]
    return [event for event in events if event["event_type"] == "REQUEST_FAILED"]


def told_outcomes(lab: Lab) -> dict[str, int]:
    """How requests ended, for the metrics."""
    return {key[2]: number for key, number in lab.built.metrics._requests.items()}


async def deaf_client(lab: Lab, body: bytes) -> asyncio.StreamWriter:
    """A client that asks and takes nothing of the answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", lab.port, limit=1024)
    sock = writer.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    return writer


async def test_a_client_that_takes_nothing_of_a_slow_stream_is_given_up_by_the_system() -> None:
    """Nothing waits here: all of it fits into what the system keeps for the connection."""
    node = FakeNode(rate=200.0, answer_tokens=3000)
    async with Lab([node], limits={"client_stall_s": 0.1}) as lab:
        writer = await deaf_client(lab, BODY)
        await lab.until(lambda: len(list(lab.built.dispatcher.runs)) == 1)
        await lab.until(lambda: not list(lab.built.dispatcher.runs), timeout_s=15)
        writer.transport.abort()
        assert told_outcomes(lab) == {"stalled": 1}
        lab.assert_idle()


async def test_a_client_that_takes_nothing_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    node = FakeNode(rate=0.0, answer_tokens=30_000)
    limits = {"client_stall_s": 0.5, "client_spool_bytes": 65536}
    async with Lab([node], limits=limits) as lab:
        writer = await deaf_client(lab, BODY)
        await lab.until(lambda: len(list(lab.built.dispatcher.runs)) == 1)
        await lab.until(lambda: not list(lab.built.dispatcher.runs), timeout_s=10)
        await node.until(lambda: node.active == 0)
        lab.assert_idle()
        writer.transport.abort()
        assert told_outcomes(lab) == {"stalled": 1}
        (event,) = failed(lab)
        assert (event["outcome"], event["status"]) == ("stalled", 200)
        assert "took nothing" in event["reason"]
    assert "outcome=stalled" in caplog.text


@pytest.mark.parametrize("is_noted", [False, True])
async def test_a_client_that_takes_nothing_of_a_whole_answer_is_cut(is_noted: bool) -> None:
    whole = {"model": "llama3.2", "message": {"role": "assistant", "content": "x" * (12 << 20)}}

    async def answer(connection: Conversation, request: RawRequest) -> bool:
        await connection.send(reply(json.dumps(whole | {"done": True}).encode()))
        return False

    limits = {"client_stall_s": 0.5}
    replies = {"routing": "body" if is_noted else "headers"}
    async with odd_node(answer) as server:
        nodes_config = [{"url": f"http://127.0.0.1:{server.port}", "name": "odd"}]
        async with Lab(0, nodes_config=nodes_config, limits=limits, replies=replies) as lab:
            writer = await deaf_client(lab, json.dumps(CHAT | {"stream": False}).encode())
            await lab.until(lambda: len(list(lab.built.dispatcher.runs)) == 1)
            await lab.until(lambda: not lab.built.edge._tasks, timeout_s=10)
            writer.transport.abort()
            assert told_outcomes(lab) == {"stalled": 1}
            assert lab.fleet["odd"].state == "up"
            lab.assert_idle()
            # One that reads gets all of it, with its length.
            answered = await lab.chat()
            document = await answered.json()
            assert (answered.status, len(document["message"]["content"])) == (200, 12 << 20)
            assert ("_sollol_routing" in document) is is_noted
            assert ("Content-Length" in answered.headers) is not is_noted
            assert told_outcomes(lab) == {"stalled": 1, "ok": 1}


async def test_hundreds_that_vanish_at_random_leave_nothing() -> None:
    nodes = [FakeNode(rate=200.0, answer_tokens=20, load_s=0.05) for _ in range(3)]
    async with Lab(nodes) as lab:

        async def come_and_go(number: int) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.002 * (number % 97)):
                    answer = await lab.chat(stream=number % 2 == 0)
                    await answer.read()

        await asyncio.gather(*(come_and_go(number) for number in range(300)))
        await lab.until(lambda: not list(lab.built.dispatcher.runs), timeout_s=10)
        await lab.until(lambda: lab.built.dispatcher.detached_count == 0, timeout_s=10)
        lab.assert_idle()
        for node in nodes:
            await node.until(partial(is_idle, node))
        assert (await lab.chat()).status == 200


async def test_a_load_left_alone_does_not_go_on_to_answer_nobody() -> None:
    node = FakeNode(load_s=0.4, rate=10.0, answer_tokens=1000)
    async with Lab([node], health={"interval_s": 0.2}) as lab:
        asking = asyncio.create_task(lab.chat())
        await node.until(lambda: node.waiting == 1)
        asking.cancel()
        await lab.until(lambda: lab.built.dispatcher.detached_count == 1)
        await node.until(lambda: node.active == 1)
        await node.until(lambda: node.active == 0)
        assert len(node.residents) == 1
        await lab.until(lambda: lab.built.dispatcher.detached_count == 0)
        lab.assert_idle()


async def test_a_stream_that_said_its_last_word_is_not_declared_cut_by_the_end() -> None:
    async def answer(connection: Conversation, _request: RawRequest) -> bool:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
        await connection.send(head % NDJSON)
        for is_done in (False, True):
            message = {"role": "assistant", "content": "x"}
            line = json.dumps({"model": "m", "message": message, "done": is_done}).encode() + b"\n"
            await connection.send(b"%x\r\n%b\r\n" % (len(line), line))
        await connection.wait_closed()
        return True

    async with odd_node(answer) as server:
        nodes_config = [{"url": f"http://127.0.0.1:{server.port}", "name": "odd"}]
        async with (
            Lab(0, nodes_config=nodes_config) as lab,
            await lab.chat(stream=True) as answered,
        ):
            lines = [json.loads(await answered.content.readline()) for _ in range(2)]
            assert lines[-1]["done"] is True
            assert len(list(lab.built.dispatcher.runs)) == 1
            lab.built.dispatcher.cut()
            lab.built.edge.cut()
            assert await answered.content.read() == b""
            await lab.until(lambda: not list(lab.built.dispatcher.runs))
            assert told_outcomes(lab) == {"ok": 1}
            lab.assert_idle()
