"""The same exchange over TLS and IPv6."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from sollold.errors import ConnectFailed, UpstreamDisconnected, UpstreamTimeout
from sollold.upstream.pool import Address, NodePool
from tests.component.upstream.support import Recorder, exchange, pool_to, post
from tests.fakes.raw import OK, Conversation, RawServer, eventually, settle

if TYPE_CHECKING:
    from sollold.upstream.wheel import TimerWheel

BODY = bytes(range(256)) * 20_000


async def answer_ok(peer: Conversation) -> None:
    while True:
        await peer.read_request()
        await peer.send(OK)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def serving(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("node.test", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("name", [None, "node.test"])
async def test_an_exchange_over_tls_and_its_reuse(
    wheel: TimerWheel, serving: ssl.SSLContext, trusting: ssl.SSLContext, name: str | None
) -> None:
    async with RawServer(answer_ok, tls=serving) as server:
        pool = NodePool(Address(server.host, server.port, trusting, name), wheel=wheel)
        for _ in range(2):
            assert (await exchange(pool, post(BODY))).body == b"ok"
        pool.close()
        await eventually(lambda: pool.open == 0)
    assert len(server.conversations) == 1
    assert [request.body for request in server.requests] == [BODY, BODY]


async def test_a_certificate_for_another_name(
    wheel: TimerWheel, serving: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with RawServer(answer_ok, tls=serving) as server:
        pool = NodePool(Address(server.host, server.port, trusting, "other.test"), wheel=wheel)
        with pytest.raises(ConnectFailed) as caught:
            await pool.send(post(), Recorder())
        assert not caught.value.refused
        assert "other.test" in caught.value.message
        await eventually(lambda: pool.open == 0)


async def test_a_server_without_tls(wheel: TimerWheel, trusting: ssl.SSLContext) -> None:
    async def script(peer: Conversation) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with RawServer(script) as server:
        pool = NodePool(Address(server.host, server.port, trusting), wheel=wheel)
        with pytest.raises(ConnectFailed):
            await pool.send(post(), Recorder())
        await eventually(lambda: pool.open == 0)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_handshake_that_never_ends(
    wheel: TimerWheel, trusting: ssl.SSLContext, is_cancelled: bool
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.wait_closed()

    async with RawServer(script) as server:
        address = Address(server.host, server.port, trusting)
        pool = NodePool(address, wheel=wheel, connect_timeout_s=0.1)
        task = asyncio.create_task(pool.send(post(), Recorder()))
        await eventually(lambda: len(server.conversations) == 1)
        if is_cancelled:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(UpstreamTimeout) as caught:
                await task
            assert caught.value.phase == "connect"
        assert (pool.open, pool.in_use) == (0, 0)


async def test_until_close_and_cut_over_tls(
    wheel: TimerWheel, serving: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async def script(peer: Conversation) -> None:
        request = await peer.read_request()
        if request.target == "/whole":
            await peer.send(b"HTTP/1.0 200 OK\r\n\r\n", b"all of it")
            peer.writer.close()
            await peer.writer.wait_closed()
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
            peer.reset()

    async with RawServer(script, tls=serving) as server:
        pool = NodePool(Address(server.host, server.port, trusting), wheel=wheel)
        whole = await exchange(pool, post(target="/whole"))
        assert whole.error is None
        assert whole.body == b"all of it"
        part = await exchange(pool, post(target="/part"))
        assert isinstance(part.error, UpstreamDisconnected)
        pool.close()
        await eventually(lambda: pool.open == 0)


async def test_aborting_over_tls(
    wheel: TimerWheel, serving: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    closed = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.wait_closed()
        closed.set()

    async with RawServer(script, tls=serving) as server:
        pool = NodePool(Address(server.host, server.port, trusting), wheel=wheel)
        pending = await pool.send(post(), Recorder())
        await eventually(lambda: len(server.requests) == 1)
        pending.abort()
        await asyncio.wait_for(closed.wait(), 2)
        await eventually(lambda: (pool.open, pool.in_use) == (0, 0))


async def test_pausing_over_tls(
    wheel: TimerWheel, serving: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    sent_bytes = 0

    async def script(peer: Conversation) -> None:
        nonlocal sent_bytes
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 << 20))
        for _ in range(32):
            await peer.send(b"x" * (1 << 20))
            sent_bytes += 1 << 20
        await peer.wait_closed()

    async with RawServer(script, tls=serving) as server:
        pool = NodePool(Address(server.host, server.port, trusting), wheel=wheel)
        recorder = Recorder()
        pending = await pool.send(post(), recorder)
        recorder.on_next_body = pending.pause
        await recorder.wait_body(1)
        heard = 0
        for _ in range(25):
            await asyncio.sleep(0.004)
            heard = len(recorder.bodies)
        assert sent_bytes < 20 << 20
        await settle()
        assert len(recorder.bodies) == heard
        recorder.on_next_body = None
        pending.resume()
        await recorder.wait_end()
        assert len(recorder.body) == 32 << 20
        pool.close()
        await eventually(lambda: pool.open == 0)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this host has no IPv6 loopback")
async def test_an_exchange_over_ipv6(wheel: TimerWheel) -> None:
    async with RawServer(answer_ok, host="::1") as server, pool_to(server, wheel) as pool:
        for _ in range(2):
            assert (await exchange(pool)).body == b"ok"
        assert str(pool.address) == f"[::1]:{server.port}"
    assert len(server.conversations) == 1
