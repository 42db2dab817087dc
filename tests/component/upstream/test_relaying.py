"""The whole path from a raw node to a raw client: back-pressure, slow, stalled and gone clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.component.upstream.relay import Gateway, serving
from tests.component.upstream.support import pool_to
from tests.fakes.raw import OK, Conversation, CutError, RawClient, RawServer, eventually, settle

if TYPE_CHECKING:
    from sollold.upstream.wheel import TimerWheel

GET = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
OLD_GET = b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}"
MEBIBYTE = 1024 * 1024
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Flood:
    """A node that sends `total` bytes as fast as they are taken."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.sent = 0
        self.is_closed_by_peer = False

    def data(self) -> bytes:
        return bytes(range(256)) * (self.total // 256)

    async def __call__(self, peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(HEAD)
        data = self.data()
        try:
            while self.sent < self.total:
                piece = data[self.sent : self.sent + 64 * 1024]
                await peer.send(chunk(piece))
                self.sent += len(piece)
            await peer.send(b"0\r\n\r\n")
            await peer.wait_closed()
        finally:
            self.is_closed_by_peer = peer.reader.at_eof() or peer.writer.is_closing()


async def trickle(peer: Conversation) -> None:
    """Stream for as long as somebody listens."""
    await peer.read_request()
    await peer.send(HEAD)
    while not peer.reader.at_eof():
        await peer.send(chunk(b'{"done":false}\n'))
        await asyncio.sleep(0.005)


async def test_a_stream_passes_unchanged_and_the_connections_are_kept(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        for _ in range(3):
            await peer.read_request()
            await peer.send(HEAD, *(chunk(b"%d\n" % i) for i in range(20)), b"0\r\n\r\n")
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel)
        async with serving(gateway.handle) as port, await RawClient.open(port) as client:
            for _ in range(3):
                await client.send(GET)
                got = await client.response()
                assert got.body == b"".join(b"%d\n" % i for i in range(20))
                assert got.headers[b"content-type"] == b"application/x-ndjson"
    assert len(server.conversations) == 1


async def test_frames_arrive_one_by_one(wheel: TimerWheel) -> None:
    go_on = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(HEAD)
        for number in range(3):
            await peer.send(chunk(b"%d\n" % number))
            await go_on.wait()
            go_on.clear()
        await peer.send(b"0\r\n\r\n")
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel)
        async with serving(gateway.handle) as port, await RawClient.open(port) as client:
            await client.send(GET)
            for number in range(3):
                assert (await client.until(b"%d\n\r\n" % number)).endswith(
                    b"2\r\n%d\n\r\n" % number
                )
                go_on.set()
            assert await client.receive() == b"0\r\n\r\n"


async def test_a_client_that_never_reads_holds_the_node_in_bounded_memory(
    wheel: TimerWheel,
) -> None:
    flood = Flood(32 * MEBIBYTE)
    async with RawServer(flood) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel, spool_bytes=MEBIBYTE)
        async with (
            serving(gateway.handle) as port,
            await RawClient.open(port, receive_bytes=64 * 1024) as client,
        ):
            await client.send(GET)
            await eventually(lambda: bool(gateway.relays))
            relay = gateway.relays[0]
            await eventually(lambda: relay.exchange is not None and relay.exchange.is_paused)
            await eventually(lambda: gateway.unsent_bytes() > MEBIBYTE)
            relayed = relay.body_bytes
            for _ in range(10):
                await asyncio.sleep(0.02)
                assert gateway.unsent_bytes() < MEBIBYTE + 600 * 1024
            assert relay.body_bytes == relayed, "nothing more is taken from the node"
            assert flood.sent < 20 * MEBIBYTE
            # The same client wakes up and gets every byte.
            got = await client.response()
            assert got.body == flood.data()
            assert gateway.finished == 1
        assert pool.in_use == 0


async def test_the_node_is_free_before_a_slow_client_has_read(wheel: TimerWheel) -> None:
    flood = Flood(3 * MEBIBYTE)
    async with RawServer(flood) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel)
        async with (
            serving(gateway.handle) as port,
            await RawClient.open(port, receive_bytes=4096) as client,
        ):
            await client.send(GET)
            await eventually(lambda: bool(gateway.relays) and gateway.relays[0].end.done())
            assert (pool.in_use, pool.idle) == (0, 1)
            assert gateway.finished == 0, "the client has most of it still to come"
            assert gateway.unsent_bytes() > 64 * 1024
            got = await client.response()
            assert got.body == flood.data()
            await eventually(lambda: gateway.finished == 1)


@pytest.mark.parametrize("request_line", [GET, OLD_GET], ids=["1.1", "1.0"])
async def test_a_slow_client_is_not_cut_and_gets_every_byte(
    wheel: TimerWheel, request_line: bytes
) -> None:
    flood = Flood(2 * MEBIBYTE)
    async with RawServer(flood) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel, stall_s=0.4, spool_bytes=256 * 1024, kernel_bytes=64 * 1024)
        async with (
            serving(gateway.handle) as port,
            await RawClient.open(port, receive_bytes=16 * 1024) as client,
        ):
            await client.send(request_line)
            received = b""
            # A burst now and then, with more than the limit of silence in all.
            for _ in range(8):
                received += await client.receive(32 * 1024)
                await asyncio.sleep(0.15)
                assert gateway.unsent_bytes() > 128 * 1024
            client._buffer = received
            got = await client.response()
            assert got.body == flood.data()
    assert gateway.stalled == 0
    assert gateway.finished == 1


@pytest.mark.parametrize("request_line", [GET, OLD_GET], ids=["1.1", "1.0"])
@pytest.mark.parametrize("size", [3 * MEBIBYTE, 64 * MEBIBYTE], ids=["ended", "held"])
async def test_a_client_that_takes_nothing_is_cut(
    wheel: TimerWheel, request_line: bytes, size: int
) -> None:
    flood = Flood(size)
    async with RawServer(flood) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel, stall_s=0.3, spool_bytes=MEBIBYTE * 4)
        async with (
            serving(gateway.handle) as port,
            await RawClient.open(port, receive_bytes=4096) as client,
        ):
            await client.send(request_line)
            await eventually(lambda: gateway.stalled == 1)
            # Sooner than the kernel would.
            await eventually(lambda: gateway.cancelled == 1, within_s=2)
            await eventually(lambda: pool.in_use == 0)
            with pytest.raises((CutError, ConnectionResetError)) as caught:
                await client.response()
            assert not isinstance(caught.value, CutError) or caught.value.is_reset
    assert gateway.finished == 0


async def test_a_stalled_client_of_an_aborted_stream_is_cut_too(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(HEAD + chunk(b"x" * 3 * MEBIBYTE))
        await eventually(lambda: gateway.unsent_bytes() > 256 * 1024)
        peer.reset()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel, stall_s=0.3)
        async with (
            serving(gateway.handle) as port,
            await RawClient.open(port, receive_bytes=4096) as client,
        ):
            await client.send(GET)
            await eventually(lambda: gateway.stalled == 1)
            with pytest.raises((CutError, ConnectionResetError)):
                await client.response()
    await eventually(lambda: not wheel.is_turning)


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("when", ["waiting", "streaming"])
async def test_a_client_that_leaves_stops_the_node_at_once(
    wheel: TimerWheel, is_reset: bool, when: str
) -> None:
    left_s: list[float] = []

    async def script(peer: Conversation) -> None:
        await peer.read_request()
        if when == "streaming":
            await peer.send(HEAD, chunk(b"x"))
        await peer.wait_closed()
        left_s.append(wheel.loop.time())

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel)
        async with serving(gateway.handle) as port:
            client = await RawClient.open(port)
            await client.send(GET)
            await eventually(lambda: bool(server.requests))
            if when == "streaming":
                await client.until(b"x\r\n")
            gone_s = wheel.loop.time()
            client.reset() if is_reset else client.close()
            await eventually(lambda: bool(left_s))
            assert left_s[0] - gone_s < 0.5
            await eventually(lambda: gateway.cancelled == 1)
            assert pool.in_use == 0
            assert gateway.requests[0].transport is None


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_client_that_leaves_while_the_node_is_held(
    wheel: TimerWheel, is_reset: bool
) -> None:
    flood = Flood(64 * MEBIBYTE)
    async with RawServer(flood) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel, spool_bytes=MEBIBYTE)
        async with serving(gateway.handle) as port:
            client = await RawClient.open(port, receive_bytes=4096)
            await client.send(GET)
            await eventually(lambda: bool(gateway.relays))
            relay = gateway.relays[0]
            await eventually(lambda: relay.exchange is not None and relay.exchange.is_paused)
            client.reset() if is_reset else client.close()
            await eventually(lambda: gateway.cancelled == 1)
            await eventually(lambda: flood.is_closed_by_peer)
            assert pool.in_use == 0


async def test_a_client_that_leaves_while_the_rest_is_drained(wheel: TimerWheel) -> None:
    flood = Flood(3 * MEBIBYTE)
    async with RawServer(flood) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel)
        async with serving(gateway.handle) as port:
            client = await RawClient.open(port, receive_bytes=4096)
            await client.send(GET)
            await eventually(lambda: bool(gateway.relays) and gateway.relays[0].end.done())
            client.reset()
            await eventually(lambda: gateway.cancelled == 1)
            assert gateway.finished == 0
            assert pool.idle == 1, "the node did its part"


@pytest.mark.parametrize("request_line", [GET, OLD_GET], ids=["1.1", "1.0"])
async def test_a_node_that_dies_in_mid_stream_is_told_and_seen(
    wheel: TimerWheel, request_line: bytes
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(HEAD, chunk(b"half\n"))
        await settle()
        peer.reset()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel)
        async with serving(gateway.handle) as port, await RawClient.open(port) as client:
            await client.send(request_line)
            await client.until(b"half\n")
            await client.until(b'{"error":"the node died"}\n')
            with pytest.raises((CutError, ConnectionResetError)):
                await client.until(b"0\r\n\r\n")
    assert gateway.finished == 0


async def test_many_streams_at_once_with_some_leaving(wheel: TimerWheel) -> None:
    async with RawServer(trickle) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel)
        async with serving(gateway.handle) as port:
            clients = [await RawClient.open(port) for _ in range(20)]
            for client in clients:
                await client.send(GET)
            for client in clients:
                await client.until(b"false}\n")
            assert pool.in_use == 20
            for client in clients[:10]:
                client.close()
            await eventually(lambda: pool.in_use == 10)
            for client in clients[10:]:
                await client.until(b"false}\n")
                client.reset()
            await eventually(lambda: (pool.in_use, pool.open) == (0, 0))
            assert gateway.cancelled == 20


async def test_a_pipelining_client_gets_its_answers_in_order(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        while True:
            request = await peer.read_request()
            name = request.target.encode()
            await peer.send(HEAD, chunk(name), chunk(name), b"0\r\n\r\n")

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel)
        async with serving(gateway.handle) as port, await RawClient.open(port) as client:
            await client.send(b"".join(GET.replace(b" / ", b" /%d " % i) for i in range(5)))
            for number in range(5):
                assert (await client.response()).body == b"/%d/%d" % (number, number)


async def test_a_length_framed_answer_keeps_its_length(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        while True:
            await peer.read_request()
            await peer.send(OK)

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        gateway = Gateway(pool, wheel)
        async with serving(gateway.handle) as port, await RawClient.open(port) as client:
            for _ in range(2):
                await client.send(GET)
                got = await client.response()
                assert (got.framing, got.body) == ("length", b"ok")
