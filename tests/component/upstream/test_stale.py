"""A pooled connection the node gave up meanwhile: one silent second try, never two."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from sollold.errors import ConnectFailed, UpstreamDisconnected, UpstreamError, UpstreamTimeout
from sollold.upstream.pool import NodePool
from tests.component.upstream.support import (
    Recorder,
    address_of,
    begin,
    exchange,
    pool_to,
    post,
    state_of,
)
from tests.fakes.raw import OK, BlackHole, Conversation, RawServer, eventually, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sollold.upstream.connection import Exchange
    from sollold.upstream.wheel import TimerWheel

BODY = b"x" * 300_000


def stale_once(is_reset: bool, extra: bytes = b"") -> Callable[[Conversation], Awaitable[None]]:
    """Serve one request per connection; the second on the first one finds it gone."""

    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.read_head()
        await peer.send(extra, b"")
        if is_reset:
            peer.reset()
        else:
            peer.close()

    return script


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("body", [b"{}", BODY], ids=["small", "large"])
async def test_a_stale_connection_is_replaced_silently(
    wheel: TimerWheel, is_reset: bool, body: bytes
) -> None:
    async with RawServer(stale_once(is_reset)) as server, pool_to(server, wheel) as pool:
        await exchange(pool)
        pending, recorder = await begin(pool, post(body))
        assert state_of(pending)[0]
        await recorder.wait_end()
        assert state_of(pending) == (False, True)
        assert recorder.body == b"ok"
    assert len(server.conversations) == 2
    assert server.requests[-1].body == body


async def test_the_second_try_is_the_last(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        if peer.number == 0:
            await peer.read_request()
            await peer.send(OK)
        await peer.read_request()
        peer.reset()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        await exchange(pool)
        recorder = await exchange(pool)
        assert isinstance(recorder.error, UpstreamDisconnected)
    assert len(server.conversations) == 2


async def test_a_fresh_connection_is_not_tried_again(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        peer.reset()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        recorder = await exchange(pool)
        assert isinstance(recorder.error, UpstreamDisconnected)
        assert recorder.error.bytes_seen == 0
    assert len(server.conversations) == 1


async def test_one_byte_of_an_answer_forbids_the_second_try(wheel: TimerWheel) -> None:
    async with RawServer(stale_once(True, b"H")) as server, pool_to(server, wheel) as pool:
        await exchange(pool)
        recorder = await exchange(pool)
        assert isinstance(recorder.error, UpstreamDisconnected)
        assert recorder.error.bytes_seen == 1
    assert len(server.conversations) == 1


async def test_what_must_not_be_sent_twice_is_not(wheel: TimerWheel) -> None:
    async with RawServer(stale_once(True)) as server, pool_to(server, wheel) as pool:
        await exchange(pool)
        recorder = await exchange(pool, post(is_replayable=False))
        assert isinstance(recorder.error, UpstreamDisconnected)
    assert len(server.conversations) == 1


async def test_a_node_that_worked_on_it_for_long_had_the_request(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.read_request()
        await asyncio.sleep(0.1)
        peer.reset()

    async with RawServer(script) as server:
        pool = NodePool(address_of(server), wheel=wheel, stale_window_s=0.05)
        await exchange(pool)
        recorder = await exchange(pool)
        assert isinstance(recorder.error, UpstreamDisconnected)
        assert len(server.conversations) == 1
        pool.close()


@asynccontextmanager
async def nobody_left(wheel: TimerWheel) -> AsyncIterator[NodePool]:
    """Yield a pool whose one idle connection dies with the next request; nobody listens."""
    async with RawServer(stale_once(is_reset=True)) as server:
        async with pool_to(server, wheel, connect_timeout_s=0.3) as pool:
            await exchange(pool)
            server.stop_listening()
            await settle()
            yield pool


async def test_a_second_dial_that_is_refused_is_an_error(wheel: TimerWheel) -> None:
    async with nobody_left(wheel) as pool:
        recorder = await exchange(pool)
        assert isinstance(recorder.error, ConnectFailed)
        assert recorder.error.refused
        assert pool.in_use == 0


async def test_a_second_dial_that_hangs_is_an_error(wheel: TimerWheel) -> None:
    async with nobody_left(wheel) as pool:
        with BlackHole(pool.address.port):
            recorder = await exchange(pool)
        assert isinstance(recorder.error, UpstreamTimeout)
        assert recorder.error.phase == "connect"
        assert pool.in_use == 0


@asynccontextmanager
async def dialling_again(wheel: TimerWheel) -> AsyncIterator[tuple[Exchange, Recorder]]:
    """Yield an exchange that waits for its second connection."""
    async with nobody_left(wheel) as pool:
        with BlackHole(pool.address.port):
            pending, recorder = await begin(pool)
            await eventually(lambda: pool.open == 0)
            assert pool.in_use == 1
            yield pending, recorder
            await eventually(lambda: pool.in_use == 0)


async def test_aborting_while_dialling_again(wheel: TimerWheel) -> None:
    async with dialling_again(wheel) as (pending, recorder):
        pending.abort()
        assert pending.pool.in_use == 0
        assert not recorder.is_over


async def test_closing_the_pool_while_dialling_again(wheel: TimerWheel) -> None:
    async with dialling_again(wheel) as (pending, recorder):
        pending.pool.close()
        assert type(recorder.error) is UpstreamError
        assert pending.is_over


@pytest.mark.parametrize("phase", ["head", "idle"])
async def test_a_deadline_while_dialling_again(wheel: TimerWheel, phase: str) -> None:
    async with dialling_again(wheel) as (pending, recorder):
        if phase == "head":
            pending.limit_head(0.05)
        else:
            pending.limit_idle(0.05)
        await recorder.wait_over()
        assert pending.pool.in_use == 0, "the dialling stops with it"
        assert isinstance(recorder.error, UpstreamTimeout)
        assert recorder.error.phase == phase


async def test_a_pause_lasts_over_the_second_dial(wheel: TimerWheel) -> None:
    async with RawServer(stale_once(is_reset=True)) as server, pool_to(server, wheel) as pool:
        await exchange(pool)
        pending, recorder = await begin(pool)
        while pool.open:
            await asyncio.sleep(0)
        assert pool.in_use == 1
        pending.pause()
        await eventually(lambda: len(server.requests) == 2)
        for _ in range(5):
            await settle()
        assert recorder.heads == []
        pending.resume()
        await recorder.wait_end()
        assert recorder.body == b"ok"
