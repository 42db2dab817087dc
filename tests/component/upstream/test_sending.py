"""How a request goes out: large bodies, back-pressure, answers that come early."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from sollold.errors import UpstreamDisconnected, UpstreamError
from tests.component.upstream.support import Recorder, begin, exchange, pool_to, post, state_of
from tests.fakes.raw import OK, Conversation, RawServer, eventually, settle

if TYPE_CHECKING:
    from sollold.upstream.wheel import TimerWheel

LARGE = bytes(range(256)) * 80_000
"""20 MB: more than any socket buffer."""


class Spool:
    """A body in a file, as far as anybody can tell; notes how far it was read."""

    def __init__(self, data: bytes, *, claimed_bytes: int | None = None) -> None:
        self._data = data
        self.size_bytes = len(data) if claimed_bytes is None else claimed_bytes
        self.furthest = 0
        self.is_broken = False

    def read(self, offset: int, size: int, /) -> bytes:
        if self.is_broken:
            raise OSError("the disk is gone")
        self.furthest = max(self.furthest, offset + size)
        return self._data[offset : offset + size]


async def answer_ok(peer: Conversation) -> None:
    while True:
        await peer.read_request()
        await peer.send(OK)


async def test_head_and_body_arrive_as_given(wheel: TimerWheel) -> None:
    async with RawServer(answer_ok) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool, post(b'{"model":"m"}'))
        assert state_of(pending) == (False, True)
        await recorder.wait_end()
    (request,) = server.requests
    assert request.head == b"POST /api/chat HTTP/1.1\r\nHost: node\r\nContent-Length: 13\r\n\r\n"
    assert request.body == b'{"model":"m"}'


@pytest.mark.parametrize("is_spooled", [False, True])
async def test_a_body_larger_than_the_socket_buffer(wheel: TimerWheel, is_spooled: bool) -> None:
    may_read = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await may_read.wait()
        await answer_ok(peer)

    spool = Spool(LARGE)
    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool, post(spool if is_spooled else LARGE))
        for _ in range(50):
            await settle()
        assert state_of(pending) == (False, False)
        assert pending.bytes_seen == 0
        if is_spooled:
            assert spool.furthest < len(LARGE) * 0.7
        may_read.set()
        await recorder.wait_end()
        assert state_of(pending) == (False, True)
        assert (await exchange(pool)).body == b"ok"
    assert server.requests[0].body == LARGE
    assert len(server.conversations) == 1


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 131_072])
async def test_bodies_around_the_slice_size(wheel: TimerWheel, size: int) -> None:
    async with RawServer(answer_ok) as server, pool_to(server, wheel) as pool:
        assert (await exchange(pool, post(LARGE[:size]))).error is None
        assert (await exchange(pool, post(Spool(LARGE[:size])))).error is None
    assert [request.body for request in server.requests] == [LARGE[:size]] * 2


async def test_an_empty_spooled_body(wheel: TimerWheel) -> None:
    async with RawServer(answer_ok) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool, post(Spool(b"")))
        await recorder.wait_end()
        assert state_of(pending) == (False, True)
        assert (await exchange(pool)).body == b"ok"
    assert len(server.conversations) == 1


async def test_a_refusal_while_the_body_is_being_written(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\n", b"much")
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool, post(LARGE))
        await recorder.wait_end()
        assert state_of(pending) == (False, False)
        await eventually(lambda: pool.open == 0)
    assert (recorder.head.status, recorder.body) == (413, b"much")


async def test_a_refusal_stops_the_rest_of_the_body(wheel: TimerWheel) -> None:
    taken: list[int] = []

    async def script(peer: Conversation) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmu")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                while data := await peer.reader.read(65536):
                    taken.append(len(data))
        await peer.send(b"ch")
        await peer.wait_closed()

    spool = Spool(LARGE)
    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        recorder = await exchange(pool, post(spool))
        assert recorder.body == b"much"
        assert spool.furthest < len(LARGE) * 0.7
        assert sum(taken) < len(LARGE) * 0.7


async def test_a_refusal_followed_by_a_reset_is_still_heard(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno", b"")
        peer.close()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        recorder = await exchange(pool, post(LARGE))
        assert recorder.head.status == 401
        assert recorder.body == b"no"
        assert recorder.error is None


async def test_an_answer_that_overtakes_the_body_goes_on_beside_it(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        head = await peer.read_head()
        assert b"Content-Length: 20480000" in head
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        body = await peer.reader.readexactly(len(LARGE))
        await peer.send(b"1\r\nb\r\n0\r\n\r\n")
        assert body == LARGE
        await answer_ok(peer)

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool, post(LARGE))
        await recorder.wait_body(1)
        assert state_of(pending) == (False, False)
        await recorder.wait_end()
        assert state_of(pending) == (False, True)
        assert (await exchange(pool)).body == b"ok"
    assert recorder.body == b"ab"
    assert len(server.conversations) == 1


async def test_a_connection_whose_request_was_not_taken_is_not_reused(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_head()
        await peer.send(OK)
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        recorder = await exchange(pool, post(LARGE))
        assert recorder.body == b"ok"
        assert pool.idle == 0


async def test_a_node_that_dies_while_it_is_written_to(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_head()
        peer.reset()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        recorder = await exchange(pool, post(LARGE))
        assert isinstance(recorder.error, UpstreamDisconnected)
        assert recorder.error.bytes_seen == 0
        assert len(server.conversations) == 1


@pytest.mark.parametrize("is_broken", [False, True])
async def test_a_spooled_body_that_cannot_be_read_ends_the_exchange(
    wheel: TimerWheel, is_broken: bool
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.wait_closed()

    spool = Spool(b"short", claimed_bytes=100_000)
    spool.is_broken = is_broken
    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        recorder = Recorder()
        pending = await pool.send(post(spool), recorder)
        assert not recorder.is_over, "nothing is heard before send() returned"
        await recorder.wait_over()
        assert isinstance(recorder.error, UpstreamError)
        assert "spooled" in recorder.error.message
        assert state_of(pending) == (False, False)


async def test_aborting_while_the_body_is_being_written(wheel: TimerWheel) -> None:
    closed = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.wait_closed()
        closed.set()

    spool = Spool(LARGE)
    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        pending, recorder = await begin(pool, post(spool))
        pending.abort()
        read_to = spool.furthest
        await asyncio.wait_for(closed.wait(), 5)
        assert not recorder.is_over
        assert spool.furthest == read_to
