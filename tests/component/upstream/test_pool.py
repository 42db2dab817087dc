"""Which connections are kept, for how long, and that every one is accounted for."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest

from sollold.errors import ConnectFailed, UpstreamError, UpstreamTimeout
from sollold.upstream.pool import Address, NodePool
from tests.component.upstream.support import (
    Recorder,
    address_of,
    begin,
    exchange,
    pool_to,
    post,
)
from tests.fakes.raw import OK, BlackHole, Conversation, RawServer, eventually

if TYPE_CHECKING:
    from sollold.upstream.wheel import TimerWheel


async def answer_ok(peer: Conversation) -> None:
    while True:
        await peer.read_request()
        await peer.send(OK)


async def hang(peer: Conversation) -> None:
    await peer.read_request()
    await peer.wait_closed()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_counters_over_one_exchange(wheel: TimerWheel) -> None:
    async with RawServer(answer_ok) as server, pool_to(server, wheel) as pool:
        assert (pool.open, pool.idle, pool.in_use) == (0, 0, 0)
        assert pool.try_send(post(), Recorder()) is None
        pending, recorder = await begin(pool)
        assert not pending.is_reused
        assert (pool.open, pool.idle, pool.in_use) == (1, 0, 1)
        await recorder.wait_end()
        assert (pool.open, pool.idle, pool.in_use) == (1, 1, 0)
        assert pending.is_over


async def test_an_idle_connection_serves_without_an_await(wheel: TimerWheel) -> None:
    async with RawServer(answer_ok) as server, pool_to(server, wheel) as pool:
        await exchange(pool)
        recorder = Recorder()
        pending = pool.try_send(post(target="/second"), recorder)
        assert pending is not None
        assert pending.is_reused
        assert pending.is_sent
        await recorder.wait_end()
    assert [request.target for request in server.requests] == ["/api/chat", "/second"]
    assert len(server.conversations) == 1


async def test_the_connection_is_free_when_the_end_is_told(wheel: TimerWheel) -> None:
    async with RawServer(answer_ok) as server, pool_to(server, wheel) as pool:
        second = Recorder()
        _, first = await begin(pool)
        first.after_end = lambda: started.append(pool.try_send(post(), second))
        started: list[object] = []
        await first.wait_end()
        assert started
        assert started[0] is not None
        await second.wait_end()
    assert len(server.conversations) == 1


async def test_the_freshest_idle_connection_is_taken(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        while True:
            await peer.read_request()
            await eventually(lambda: len(peer.server.conversations) == 3)
            body = b"%d" % peer.number
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body)

    ended: list[Recorder] = []
    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        for _ in range(3):
            recorder = Recorder()
            recorder.after_end = partial(ended.append, recorder)
            await pool.send(post(), recorder)
        await eventually(lambda: len(ended) == 3)
        assert {recorder.body for recorder in ended} == {b"0", b"1", b"2"}
        for _ in range(3):
            assert (await exchange(pool)).body == ended[2].body


async def test_the_idle_list_is_bounded(wheel: TimerWheel) -> None:
    async with RawServer(answer_ok) as server, pool_to(server, wheel, max_idle=2) as pool:
        begun = [await begin(pool) for _ in range(5)]
        for _, recorder in begun:
            await recorder.wait_end()
        assert pool.idle == 2
        await eventually(lambda: pool.open == 2)
        assert (await exchange(pool)).body == b"ok"


async def test_a_full_idle_list_gives_up_its_oldest(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        while True:
            await peer.read_request()
            await eventually(lambda: len(peer.server.conversations) == 2)
            body = b"%d" % peer.number
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body)

    ended: list[Recorder] = []
    async with RawServer(script) as server, pool_to(server, wheel, max_idle=1) as pool:
        for _ in range(2):
            recorder = Recorder()
            recorder.after_end = partial(ended.append, recorder)
            await pool.send(post(), recorder)
        await eventually(lambda: len(ended) == 2)
        assert (await exchange(pool)).body == ended[1].body
    assert len(server.conversations) == 2


async def test_no_idle_connection_is_kept_when_none_may_be(wheel: TimerWheel) -> None:
    async with RawServer(answer_ok) as server, pool_to(server, wheel, max_idle=0) as pool:
        assert (await exchange(pool)).body == b"ok"
        assert pool.idle == 0
        assert (await exchange(pool)).body == b"ok"
    assert len(server.conversations) == 2


async def test_idle_connections_expire_oldest_first(wheel: TimerWheel) -> None:
    loop = asyncio.get_running_loop()
    async with RawServer(answer_ok) as server, pool_to(server, wheel, keepalive_s=0.2) as pool:
        (_, one), (_, two) = await begin(pool), await begin(pool)
        await one.wait_end()
        await two.wait_end()
        began_s = loop.time()
        while loop.time() - began_s < 0.3:
            assert (await exchange(pool)).error is None
            await asyncio.sleep(0.02)
        assert pool.open == 1, "the one that is used stays, the other goes"
        await eventually(lambda: pool.open == 0)
        assert pool.idle == 0
    await eventually(lambda: not wheel.is_turning)


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_connection_the_node_closes_while_idle_is_dropped(
    wheel: TimerWheel, is_reset: bool
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(OK, b"")
        if is_reset:
            peer.reset()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        await exchange(pool)
        await eventually(lambda: pool.open == 0)
        assert pool.idle == 0
        pending, recorder = await begin(pool)
        assert not pending.is_reused
        await recorder.wait_end()


async def test_many_exchanges_at_once(wheel: TimerWheel) -> None:
    async with RawServer(answer_ok) as server, pool_to(server, wheel) as pool:
        for _ in range(3):
            recorders = await asyncio.gather(*(exchange(pool) for _ in range(50)))
            assert all(recorder.body == b"ok" for recorder in recorders)
        assert pool.open == pool.idle == 50


async def test_a_refused_connection(wheel: TimerWheel) -> None:
    pool = NodePool(Address("127.0.0.1", free_port()), wheel=wheel)
    with pytest.raises(ConnectFailed) as caught:
        await pool.send(post(), Recorder())
    assert caught.value.refused
    assert (pool.open, pool.in_use) == (0, 0)


async def test_a_refused_connection_by_name(wheel: TimerWheel) -> None:
    pool = NodePool(Address("localhost", free_port()), wheel=wheel)
    with pytest.raises(ConnectFailed):
        await pool.send(post(), Recorder())


@pytest.mark.parametrize("host", ["", "a" * 70, "no\0name"])
async def test_an_impossible_address(wheel: TimerWheel, host: str) -> None:
    pool = NodePool(Address(host, free_port()), wheel=wheel)
    with pytest.raises(ConnectFailed):
        await pool.send(post(), Recorder())
    assert (pool.open, pool.in_use) == (0, 0)


async def test_a_connection_that_neither_succeeds_nor_fails(wheel: TimerWheel) -> None:
    with BlackHole() as hole:
        pool = NodePool(Address("127.0.0.1", hole.port), wheel=wheel, connect_timeout_s=0.1)
        with pytest.raises(UpstreamTimeout) as caught:
            await pool.send(post(), Recorder())
    assert caught.value.phase == "connect"
    assert str(hole.port) in caught.value.message
    assert (pool.open, pool.in_use) == (0, 0)


async def test_cancelling_while_connecting(wheel: TimerWheel) -> None:
    with BlackHole() as hole:
        pool = NodePool(Address("127.0.0.1", hole.port), wheel=wheel)
        task = asyncio.create_task(pool.send(post(), Recorder()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (pool.open, pool.in_use) == (0, 0)


@pytest.mark.parametrize("turns", range(12))
async def test_cancelling_at_every_turn_of_the_loop(wheel: TimerWheel, turns: int) -> None:
    async with RawServer(hang) as server, pool_to(server, wheel) as pool:
        recorder = Recorder()
        task = asyncio.create_task(pool.send(post(), recorder))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(outcome, asyncio.CancelledError):
            await eventually(lambda: (pool.open, pool.in_use) == (0, 0))
        else:
            assert not isinstance(outcome, BaseException)
            outcome.abort()
            await eventually(lambda: (pool.open, pool.in_use) == (0, 0))
        assert not recorder.is_over


async def test_closing_ends_what_is_under_way_and_what_is_idle(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        if peer.number == 0:
            await answer_ok(peer)
        await hang(peer)

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        await exchange(pool)
        _, busy = await begin(pool)
        await busy.wait_end()
        _, waiting = await begin(pool, post(target="/a"))
        held, never = await begin(pool, post(target="/b"))
        await waiting.wait_end()
        pool.close()
        assert isinstance(never.error, UpstreamError)
        assert held.is_over
        await eventually(lambda: (pool.open, pool.idle, pool.in_use) == (0, 0, 0))
        with pytest.raises(ConnectFailed):
            await pool.send(post(), Recorder())
        pool.close()


async def test_closing_while_connecting(wheel: TimerWheel) -> None:
    async with RawServer(hang) as server:
        pool = NodePool(address_of(server), wheel=wheel)
        task = asyncio.create_task(pool.send(post(), Recorder()))
        await asyncio.sleep(0)
        pool.close()
        with pytest.raises(ConnectFailed):
            await task
        await eventually(lambda: pool.open == 0)


async def test_a_node_that_speaks_first_is_not_used(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.send(b"220 mail.example ESMTP\r\n")
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        recorder = Recorder()
        try:
            await pool.send(post(), recorder)
        except ConnectFailed:
            return
        await recorder.wait_over()
        assert recorder.error is not None


def test_addresses_are_shown_as_urls_show_them() -> None:
    assert str(Address("10.0.0.5", 11434)) == "10.0.0.5:11434"
    assert str(Address("fe80::1", 11434)) == "[fe80::1]:11434"
