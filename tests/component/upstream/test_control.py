"""Stopping, pausing and limiting an exchange while it runs."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from sollold.errors import UpstreamDisconnected, UpstreamTimeout
from tests.component.upstream.support import Recorder, begin, exchange, pool_to, post
from tests.fakes.raw import OK, Conversation, RawServer, eventually, settle

if TYPE_CHECKING:
    from sollold.upstream.connection import Exchange, Head
    from sollold.upstream.wheel import TimerWheel

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MEBIBYTE = 1024 * 1024


class Stopper(Recorder):
    """Aborts its exchange from inside a call."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when
        self.exchange: Exchange | None = None

    def on_head(self, head: Head) -> None:
        super().on_head(head)
        self._stop("head")

    def on_body(self, data: bytes) -> None:
        super().on_body(data)
        self._stop("body")

    def _stop(self, when: str) -> None:
        if when == self.when:
            assert self.exchange is not None
            self.exchange.abort()
            self.is_over = True


@pytest.mark.parametrize("when", ["head", "body"])
async def test_aborting_from_inside_a_call(wheel: TimerWheel, when: str) -> None:
    closed = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.wait_closed()
        closed.set()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        stopper = Stopper(when)
        stopper.exchange = await pool.send(post(), stopper)
        await asyncio.wait_for(closed.wait(), 5)
        assert len(stopper.bodies) == (when == "body")
        assert pool.in_use == 0
        stopper.exchange.abort()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", CHUNKED, CHUNKED + b"1\r\na\r\n"])
async def test_aborting_reaches_the_node_at_once(wheel: TimerWheel, sent: bytes) -> None:
    closed_s: list[float] = []
    loop = asyncio.get_running_loop()

    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(sent)
        await peer.wait_closed()
        closed_s.append(loop.time())

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        await eventually(lambda: pending.bytes_seen == len(sent) and bool(server.requests))
        aborted_s = loop.time()
        pending.abort()
        assert pool.in_use == 0
        await eventually(lambda: bool(closed_s))
        assert closed_s[0] - aborted_s < 0.5
        assert not recorder.is_over
        assert pending.is_over


async def test_after_the_end_every_method_is_harmless(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        while True:
            await peer.read_request()
            await peer.send(OK)

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        old, recorder = await begin(pool)
        await recorder.wait_end()
        current, second = await begin(pool)
        assert current.is_reused
        old.pause()
        old.abort()
        old.resume()
        old.limit_idle(0.001)
        old.limit_head(0.001)
        await second.wait_end()
        assert second.body == b"ok"
        assert pool.open == 1
    await eventually(lambda: not wheel.is_turning)


async def test_a_paused_node_is_not_read(wheel: TimerWheel) -> None:
    sent_bytes = 0

    async def script(peer: Conversation) -> None:
        nonlocal sent_bytes
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MEBIBYTE))
        for _ in range(64):
            await peer.send(b"x" * MEBIBYTE)
            sent_bytes += MEBIBYTE
        await peer.read_request()
        await peer.send(OK)

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        recorder.on_next_body = pending.pause
        await recorder.wait_body(1)
        assert pending.is_paused
        for _ in range(50):
            await asyncio.sleep(0.002)
        assert len(recorder.bodies) == 1, "not a byte after pause"
        assert sent_bytes < 16 * MEBIBYTE, "the node's writes stall"
        recorder.on_next_body = None
        pending.resume()
        await recorder.wait_end()
        assert len(recorder.body) == 64 * MEBIBYTE
        assert (await exchange(pool)).body == b"ok"
    assert len(server.conversations) == 1


async def test_pausing_before_the_head(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        pending.pause()
        await eventually(lambda: bool(server.requests))
        await settle()
        assert recorder.heads == []
        pending.resume()
        await recorder.wait_end()


async def test_a_message_that_is_complete_when_paused_ends_and_frees_the_connection(
    wheel: TimerWheel,
) -> None:
    async def script(peer: Conversation) -> None:
        while True:
            await peer.read_request()
            await peer.send(OK)

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        recorder.on_next_body = pending.pause
        await recorder.wait_end()
        assert (await exchange(pool)).body == b"ok"
    assert len(server.conversations) == 1


async def test_a_head_deadline(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        began_s = wheel.loop.time()
        pending.limit_head(0.1)
        await recorder.wait_over()
        assert isinstance(recorder.error, UpstreamTimeout)
        assert recorder.error.phase == "head"
        assert 0.09 < wheel.loop.time() - began_s < 1.0
        await eventually(lambda: pool.open == 0)


async def test_a_head_in_time_lifts_its_deadline(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(CHUNKED)
        await asyncio.sleep(0.15)
        await peer.send(b"0\r\n\r\n")
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        pending.limit_head(0.05)
        await recorder.wait_end()
        pending.limit_head(0.05)


async def test_a_lifted_head_deadline_does_not_fire(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await asyncio.sleep(0.15)
        await peer.send(OK)
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        pending.limit_head(0.05)
        pending.limit_head(None)
        await recorder.wait_end()


async def test_an_idle_limit_counts_from_the_last_byte(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(CHUNKED)
        for _ in range(6):
            await asyncio.sleep(0.06)
            await peer.send(b"1\r\na\r\n")
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        pending.limit_idle(0.2)
        began_s = wheel.loop.time()
        await recorder.wait_over()
        assert isinstance(recorder.error, UpstreamTimeout)
        assert recorder.error.phase == "idle"
        assert recorder.body == b"aaaaaa"
        assert wheel.loop.time() - began_s > 0.36 + 0.15


async def test_an_idle_limit_can_be_changed_and_lifted_while_it_runs(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(CHUNKED)
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        pending.limit_idle(0.05)
        pending.limit_idle(None)
        await asyncio.sleep(0.15)
        assert not recorder.is_over
        pending.limit_idle(60.0)
        pending.limit_idle(0.05)
        await recorder.wait_over()
        assert isinstance(recorder.error, UpstreamTimeout)


async def test_time_spent_paused_is_not_the_nodes_silence(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(CHUNKED)
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        pending.limit_idle(0.2)
        pending.pause()
        # The limit's timer looks again just after this.
        await asyncio.sleep(0.38)
        assert not recorder.is_over
        pending.resume()
        began_s = wheel.loop.time()
        await recorder.wait_over()
        assert isinstance(recorder.error, UpstreamTimeout)
        assert wheel.loop.time() - began_s > 0.15


async def test_an_aborted_exchange_leaves_no_timer(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool)
        pending.limit_head(30.0)
        pending.limit_idle(30.0)
        pending.abort()
        await eventually(lambda: not wheel.is_turning)
        assert not recorder.is_over


async def test_a_receiver_that_fails_costs_only_its_own_exchange(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.wait_closed()

    def fail() -> None:
        raise ZeroDivisionError("a bug in a receiver")

    loop = asyncio.get_running_loop()
    reports: list[object] = []
    loop.set_exception_handler(lambda _, context: reports.append(context.get("exception")))
    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        _, recorder = await begin(pool)
        recorder.on_next_body = fail
        await recorder.wait_over()
        assert isinstance(recorder.error, UpstreamDisconnected)
        assert pool.in_use == 0
        assert (await exchange(pool)).body == b"ok"
    assert [type(report) for report in reports] == [ZeroDivisionError]


async def test_sockets_to_nodes_are_tuned(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, _ = await begin(pool)
        (connection,) = pool._connections
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        pending.abort()
