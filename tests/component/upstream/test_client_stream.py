"""What a client gets to see, byte for byte, from `ClientStream` on aiohttp's transport."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING

import pytest

from sollold.web.client_stream import ClientStream
from tests.component.upstream.relay import NDJSON, serving
from tests.fakes.raw import CutError, RawClient, eventually, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web
    from aiohttp.typedefs import LooseHeaders

    from sollold.upstream.wheel import TimerWheel

    Act = Callable[[ClientStream], Awaitable[web.StreamResponse]]

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OLD_GET = b"GET / HTTP/1.0\r\n\r\n"


class Tap:
    """A source that notes what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @property
    def is_paused(self) -> bool:
        return self.calls[-1:] == ["pause"]

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")


def handler(
    wheel: TimerWheel, act: Act, *, stall_s: float = 30.0
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Make a handler out of what a test does with the stream."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await act(ClientStream(request, wheel=wheel, stall_s=stall_s))

    return handle


def sending(
    *pieces: bytes, status: int = 200, headers: LooseHeaders | None = None, before: int = 0
) -> Act:
    """Write these pieces, the first `before` of them ahead of the head."""

    async def act(stream: ClientStream) -> web.StreamResponse:
        for piece in pieces[:before]:
            stream.write(piece)
        await stream.start(status, headers or NDJSON, Tap())
        for piece in pieces[before:]:
            stream.write(piece)
        return await stream.finish()

    return act


def without_date(raw: bytes) -> bytes:
    return re.sub(rb"(Date|Server): [^\r]*\r\n", b"", raw)


async def test_the_exact_bytes_of_a_chunked_answer(wheel: TimerWheel) -> None:
    act = sending(b'{"a":1}\n', b"", b"x" * 300)
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw = without_date(await client.receive_all())
    assert raw == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b'8\r\n{"a":1}\n\r\n12c\r\n' + b"x" * 300 + b"\r\n0\r\n\r\n"
    )


@pytest.mark.parametrize("before", [0, 1, 3])
async def test_keep_alive_over_many_answers(wheel: TimerWheel, before: int) -> None:
    act = sending(b"one,", b"two,", b"three", before=before)
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        for _ in range(3):
            await client.send(GET)
            got = await client.response()
            assert (got.status, got.framing, got.body) == (200, "chunked", b"one,two,three")


async def test_what_was_written_before_leaves_with_the_head(wheel: TimerWheel) -> None:
    hold = asyncio.Event()

    async def act(stream: ClientStream) -> web.StreamResponse:
        stream.write(b"early")
        await stream.start(200, NDJSON, Tap())
        await hold.wait()
        return await stream.finish()

    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(GET)
        assert (await client.receive()).endswith(b"\r\n\r\n5\r\nearly\r\n")
        hold.set()
        assert await client.receive() == b"0\r\n\r\n"


async def test_a_head_without_a_body_yet_leaves_at_once(wheel: TimerWheel) -> None:
    hold = asyncio.Event()

    async def act(stream: ClientStream) -> web.StreamResponse:
        await stream.start(200, NDJSON, Tap())
        await hold.wait()
        return await stream.finish()

    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(GET)
        assert (await client.receive()).endswith(b"\r\n\r\n")
        hold.set()
        assert await client.receive() == b"0\r\n\r\n"


@pytest.mark.parametrize("size", [32 * 1024, 32 * 1024 + 1, 1024 * 1024])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("request_line", [GET, OLD_GET], ids=["1.1", "1.0"])
async def test_large_pieces_are_exact(
    wheel: TimerWheel, size: int, before: int, request_line: bytes
) -> None:
    data = (bytes(range(251)) * 5_000)[:size]
    act = sending(data, b"tail", before=before)
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(request_line)
        assert (await client.response()).body == data + b"tail"


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_a_declared_length_is_kept_to(wheel: TimerWheel, before: int) -> None:
    act = sending(b"hel", b"lo", headers={"Content-Length": "5"}, before=before)
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        for _ in range(2):
            await client.send(GET)
            got = await client.response()
            assert (got.framing, got.body) == ("length", b"hello")


@pytest.mark.parametrize(
    ("pieces", "before"),
    [
        ([b"hel"], 0),
        ([b"hel"], 1),
        ([b"hello!"], 0),
        ([b"hello!"], 1),
        ([b"hel", b"lo!"], 1),
        ([], 0),
    ],
)
async def test_another_length_than_declared_is_not_a_clean_end(
    wheel: TimerWheel, pieces: list[bytes], before: int
) -> None:
    act = sending(*pieces, headers={"Content-Length": "5"}, before=before)
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(GET)
        with pytest.raises(CutError):
            await client.response()


async def test_what_goes_beyond_the_declared_length_ends_the_connection(wheel: TimerWheel) -> None:
    act = sending(b"hel", b"lo", b"!", headers={"Content-Length": "5"})
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(GET + GET)
        assert (await client.response()).body == b"hello"
        with pytest.raises(CutError) as caught:
            await client.response()
        assert caught.value.received == b""


async def test_pipelined_requests_do_not_interleave(wheel: TimerWheel) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        stream = ClientStream(request, wheel=wheel, stall_s=30.0)
        name = request.path[1:].encode()
        await stream.start(200, NDJSON, Tap())
        for _ in range(3):
            stream.write(name)
            await asyncio.sleep(0.01)
        return await stream.finish()

    async with serving(handle) as port, await RawClient.open(port) as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(5)))
        for number in range(5):
            assert (await client.response()).body == b"%d" % number * 3


@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"])
async def test_an_old_client_gets_an_unframed_body_and_the_end(
    wheel: TimerWheel, connection: bytes
) -> None:
    act = sending(b"one,", b"two", before=1)
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(b"GET / HTTP/1.0\r\n%b\r\n" % connection)
        got = await client.response()
        assert (got.version, got.framing, got.body) == (b"HTTP/1.0", "close", b"one,two")
        assert got.headers.get(b"connection", b"close") == b"close"


async def test_an_old_client_keeps_its_connection_when_the_length_is_known(
    wheel: TimerWheel,
) -> None:
    act = sending(b"hello", headers={"Content-Length": "5"})
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        for _ in range(2):
            await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            got = await client.response()
            assert (got.framing, got.body) == ("length", b"hello")
            assert got.headers[b"connection"] == b"keep-alive"


async def test_an_old_client_gets_every_byte_of_a_large_answer(wheel: TimerWheel) -> None:
    data = bytes(range(256)) * 20_000
    act = sending(*[data] * 2)
    async with (
        serving(handler(wheel, act)) as port,
        await RawClient.open(port, receive_bytes=64 * 1024) as client,
    ):
        await client.send(OLD_GET)
        assert (await client.response()).body == data * 2


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("headers", [{}, {"Content-Length": "11"}])
async def test_head_has_no_body(wheel: TimerWheel, version: bytes, headers: dict[str, str]) -> None:
    act = sending(b"never", b"shown!", headers=headers, before=1)
    request = b"HEAD / HTTP/%b\r\nHost: x\r\nConnection: keep-alive\r\n\r\n" % version
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        for _ in range(2):
            await client.send(request)
            got = await client.response("HEAD")
            assert got.status == 200
            assert got.headers.get(b"content-length") == (b"11" if headers else None)


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(wheel: TimerWheel, status: int) -> None:
    act = sending(b"never", status=status, before=1)
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        for _ in range(2):
            await client.send(GET)
            assert (await client.response()).status == status


@pytest.mark.parametrize("pieces", [[], [b"hel", b"lo"]])
async def test_a_whole_answer_in_one_packet(wheel: TimerWheel, pieces: list[bytes]) -> None:
    async def act(stream: ClientStream) -> web.StreamResponse:
        for piece in pieces:
            stream.write(piece)
        return stream.reply(201, {"Content-Type": "text/x"})

    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(GET)
        raw = without_date(await client.receive())
        body = b"".join(pieces)
        assert raw == (
            b"HTTP/1.1 201 Created\r\nContent-Type: text/x\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.response("HEAD")).status == 201
        await client.send(GET)
        assert (await client.response()).body == body


async def test_starting_or_replying_twice_is_a_bug(wheel: TimerWheel) -> None:
    async def act(stream: ClientStream) -> web.StreamResponse:
        with pytest.raises(RuntimeError):
            await stream.finish()
        await stream.start(200, NDJSON, Tap())
        with pytest.raises(RuntimeError):
            stream.reply(200, NDJSON)
        return await stream.finish()

    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(GET)
        assert (await client.response()).body == b""


async def test_the_source_is_held_until_the_head_is_out(wheel: TimerWheel) -> None:
    tap = Tap()

    async def act(stream: ClientStream) -> web.StreamResponse:
        prepared.append(stream)
        await stream.start(200, NDJSON, tap)
        assert tap.calls == ["pause", "resume"]
        return await stream.finish()

    async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
        assert tap.is_paused
        prepared[0].write(b"while it is prepared")
        await asyncio.sleep(0.01)
        assert tap.calls == ["pause"]

    prepared: list[ClientStream] = []
    async with (
        serving(handler(wheel, act), on_prepare=on_prepare) as port,
        await RawClient.open(port) as client,
    ):
        await client.send(GET)
        assert (await client.response()).body == b"while it is prepared"
    assert tap.calls == ["pause", "resume"]


# Ends that are none.


ERROR = b'{"error":"the node died"}\n'


async def aborting(stream: ClientStream) -> web.StreamResponse:
    await stream.start(200, NDJSON, Tap())
    stream.write(b"half\n")
    stream.write(ERROR)
    response = stream.abort()
    stream.write(b"too late")
    assert await stream.finish() is response
    return response


async def raising(stream: ClientStream) -> web.StreamResponse:
    await stream.start(200, NDJSON, Tap())
    stream.write(b"half\n")
    stream.write(ERROR)
    raise ConnectionResetError("a handler that forgets its stream")


async def cancelling(stream: ClientStream) -> web.StreamResponse:
    await stream.start(200, NDJSON, Tap())
    stream.write(b"half\n")
    stream.write(ERROR)
    raise asyncio.CancelledError


@pytest.mark.parametrize("act", [aborting, raising, cancelling])
@pytest.mark.parametrize("request_line", [GET, OLD_GET], ids=["1.1", "1.0"])
async def test_an_abort_shows_the_error_and_never_looks_complete(
    wheel: TimerWheel, act: Act, request_line: bytes
) -> None:
    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(request_line)
        received = b""
        with pytest.raises((CutError, ConnectionResetError)) as caught:
            await client.until(b'died"}\n')
            received = b"seen"
            await client.response() if request_line is GET else await client.receive_all()
        assert received == b"seen", caught.value
        if request_line is OLD_GET:
            assert isinstance(caught.value, ConnectionResetError)


async def test_an_abort_before_the_head(wheel: TimerWheel) -> None:
    async def act(stream: ClientStream) -> web.StreamResponse:
        stream.write(b"lost")
        return stream.abort()

    async with serving(handler(wheel, act)) as port, await RawClient.open(port) as client:
        await client.send(GET)
        with pytest.raises(CutError) as caught:
            await client.response()
        assert caught.value.received == b""


async def test_a_server_that_stops_does_not_end_streams_cleanly(wheel: TimerWheel) -> None:
    began = asyncio.Event()

    async def act(stream: ClientStream) -> web.StreamResponse:
        await stream.start(200, NDJSON, Tap())
        stream.write(b"half")
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(handler(wheel, act)) as port:
        new, old = await RawClient.open(port), await RawClient.open(port)
        await new.send(GET)
        await old.send(OLD_GET)
        await began.wait()
        await eventually(lambda: began.is_set())
        await settle()
    with pytest.raises(CutError):
        await new.response()
    with pytest.raises((CutError, ConnectionResetError)):
        await old.response()
    new.close()
    old.close()


async def test_a_client_that_is_gone_before_the_head(wheel: TimerWheel) -> None:
    seen: list[bool] = []
    tap = Tap()

    async def act(stream: ClientStream) -> web.StreamResponse:
        assert not stream.is_gone
        client.reset()
        try:
            await eventually(lambda: stream.is_gone)
        except asyncio.CancelledError:
            await stream.start(200, NDJSON, tap)
            stream.write(b"dropped")
            await stream.finish()
            seen.append(stream.is_gone)
            raise
        raise AssertionError("the handler is cancelled when the client goes")

    async with serving(handler(wheel, act)) as port:
        client = await RawClient.open(port)
        await client.send(GET)
        await eventually(lambda: bool(seen))
    assert seen == [True]
    assert tap.calls == ["pause", "resume"]


@pytest.mark.parametrize("stall_s", [0.5, 45.0])
async def test_client_sockets_are_tuned(wheel: TimerWheel, stall_s: float) -> None:
    seen: list[tuple[int, ...]] = []

    async def act(stream: ClientStream) -> web.StreamResponse:
        await stream.start(200, NDJSON, Tap())
        transport = stream._request.transport
        assert transport is not None
        sock = transport.get_extra_info("socket")
        seen.append(
            (
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            )
        )
        return await stream.finish()

    async with serving(handler(wheel, act, stall_s=stall_s)) as port:
        async with await RawClient.open(port) as client:
            await client.send(GET)
            await client.response()
    assert seen == [(1, 15, int(stall_s * 1000) + 5_000)]


def shrink_send_buffer(stream: ClientStream) -> None:
    """Make the kernel take little, so that what is unsent stays in the transport."""
    transport = stream._request.transport
    assert transport is not None
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


@pytest.mark.parametrize("how", ["finish", "abort"])
async def test_little_that_is_never_taken_is_cut_too(wheel: TimerWheel, how: str) -> None:
    """Less than makes the wheel look while it streams."""
    stalled = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        stream = ClientStream(request, wheel=wheel, stall_s=0.2, on_stalled=stalled.set)
        await stream.start(200, NDJSON, Tap())
        shrink_send_buffer(stream)
        stream.write(b"x" * 50_000)
        transport = request.transport
        assert transport is not None
        assert 16 * 1024 < transport.get_write_buffer_size() < 64 * 1024
        assert stream._watch is None
        if how == "abort":
            return stream.abort()
        # aiohttp waits for the client only above its high-water mark.
        transport.set_write_buffer_limits(high=1024)
        return await stream.finish()

    async with (
        serving(handle) as port,
        await RawClient.open(port, receive_bytes=4096) as client,
    ):
        await client.send(GET)
        await asyncio.wait_for(stalled.wait(), 3)
        with pytest.raises((CutError, ConnectionResetError)):
            await client.response()
    await eventually(lambda: not wheel.is_turning)
