"""How a response is framed and where it ends, against a raw upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sollold.errors import UpstreamDisconnected, UpstreamProtocol
from sollold.upstream.connection import Head
from tests.component.upstream.support import Recorder, begin, exchange, pool_to, post
from tests.fakes.raw import OK, Conversation, RawServer, eventually

if TYPE_CHECKING:
    from sollold.upstream.wheel import TimerWheel


async def answer(wheel: TimerWheel, *pieces: bytes, is_closing: bool = False) -> Recorder:
    """Run one exchange with a node that sends these pieces, each in a read of its own."""

    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(*pieces)
        if not is_closing:
            await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        recorder = await exchange(pool)
        await eventually(lambda: pool.in_use == 0)
        return recorder


async def kept(wheel: TimerWheel, *pieces: bytes) -> bool:
    """Tell whether the connection that carried this response is used for the next one."""

    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(*pieces)
        await peer.read_request()
        await peer.send(OK)
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        first = await exchange(pool)
        assert first.error is None
        pending, second = await begin(pool)
        is_reused = pending.is_reused
        assert is_reused == (len(server.conversations) == 1)
        if is_reused:
            await second.wait_end()
            assert second.body == b"ok"
        else:
            pending.abort()
        return is_reused


async def test_a_body_by_length(wheel: TimerWheel) -> None:
    got = await answer(wheel, b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello")
    assert got.head == Head(200, [(b"X-A", b"1"), (b"Content-Length", b"5")])
    assert got.bodies == [b"hello"]
    assert got.error is None


async def test_a_chunked_body_arrives_unframed(wheel: TimerWheel) -> None:
    got = await answer(
        wheel,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"3\r\nabc\r\n",
        b"2\r\nde\r\n1\r\nf\r\n",
        b"0\r\n\r\n",
    )
    assert got.bodies == [b"abc", b"def"]
    assert got.error is None


async def test_chunks_that_came_in_one_read_are_delivered_as_one(wheel: TimerWheel) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    got = await answer(wheel, head + b"1\r\na\r\n" * 500 + b"0\r\n\r\n")
    assert got.bodies == [b"a" * 500]


async def test_a_response_split_at_every_byte(wheel: TimerWheel) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    got = await answer(wheel, *(whole[i : i + 1] for i in range(len(whole))))
    assert got.head == Head(200, [(b"Transfer-Encoding", b"chunked")])
    assert got.body == b"abc"
    assert got.error is None


@pytest.mark.parametrize("coding", [b"", b"Transfer-Encoding: gzip\r\n"])
async def test_a_body_until_the_connection_closes(wheel: TimerWheel, coding: bytes) -> None:
    got = await answer(wheel, b"HTTP/1.1 200 OK\r\n%b\r\n" % coding, b"ab", b"cd", is_closing=True)
    assert got.body == b"abcd"
    assert got.error is None


async def test_a_body_until_close_that_is_empty(wheel: TimerWheel) -> None:
    got = await answer(wheel, b"HTTP/1.0 200 OK\r\n\r\n", is_closing=True)
    assert got.head.status == 200
    assert got.body == b""
    assert got.error is None


async def test_a_reset_does_not_end_a_body_until_close(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\n", b"half")
        peer.reset()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        got = await exchange(pool)
    assert isinstance(got.error, UpstreamDisconnected)
    assert got.error.bytes_seen == len(b"HTTP/1.0 200 OK\r\n\r\nhalf")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_responses_without_a_body_end_with_their_head(wheel: TimerWheel, head: bytes) -> None:
    got = await answer(wheel, head)
    assert got.body == b""
    assert got.error is None
    assert await kept(wheel, head)


async def test_interim_responses_are_passed_over(wheel: TimerWheel) -> None:
    got = await answer(
        wheel,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    assert got.head == Head(200, [(b"Content-Length", b"2")])
    assert got.body == b"ok"


async def test_an_interim_response_in_the_same_read(wheel: TimerWheel) -> None:
    got = await answer(wheel, b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    assert got.body == b"ok"
    assert await kept(wheel, b"HTTP/1.1 100 Continue\r\n\r\n" + OK)


async def test_trailers_are_dropped_and_do_not_reach_the_next_head(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\n"
        )
        await peer.read_request()
        await peer.send(OK)
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        first, second = await exchange(pool), await exchange(pool)
    assert first.head.headers == [(b"Transfer-Encoding", b"chunked")]
    assert second.head.headers == [(b"Content-Length", b"2")]
    assert len(server.conversations) == 1


async def test_an_empty_header_value_keeps_its_name(wheel: TimerWheel) -> None:
    got = await answer(wheel, b"HTTP/1.1 200 OK\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n")
    assert got.head.headers == [(b"X-Empty", b""), (b"Content-Length", b"0")]


CUT = [
    pytest.param([b""], id="nothing"),
    pytest.param([b"HTTP/1.1 200"], id="status-line"),
    pytest.param([b"HTTP/1.1 200 OK\r\nContent-Le"], id="head"),
    pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n"], id="interim-only"),
    pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"hel"], id="length"),
    pytest.param([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], id="chunked"),
    pytest.param(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nab\r\n", b"0\r\n"],
        id="last-chunk",
    ),
    pytest.param(
        [b"HTTP/1.0 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n"],
        id="old-chunked",
    ),
]


@pytest.mark.parametrize("pieces", CUT)
async def test_an_end_inside_the_message_is_a_cut(wheel: TimerWheel, pieces: list[bytes]) -> None:
    got = await answer(wheel, *pieces, is_closing=True)
    assert isinstance(got.error, UpstreamDisconnected)
    assert got.error.bytes_seen == sum(map(len, pieces))
    assert "127.0.0.1" in got.error.message


@pytest.mark.parametrize("pieces", CUT)
async def test_a_reset_inside_the_message_is_a_cut(wheel: TimerWheel, pieces: list[bytes]) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(*pieces, b"")
        peer.reset()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        got = await exchange(pool)
    assert isinstance(got.error, UpstreamDisconnected)
    assert got.error.bytes_seen == sum(map(len, pieces))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "HTTP/"),
        (b"HTTP/1.1 1000 OK\r\n\r\n", "status"),
        (b"HTTP/1.1 099 OK\r\n\r\n", "status 99"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "101"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "101"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size"),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "CR"),
    ],
)
async def test_what_is_not_http_is_the_nodes_failure(
    wheel: TimerWheel, raw: bytes, says: str
) -> None:
    got = await answer(wheel, raw)
    assert isinstance(got.error, UpstreamProtocol)
    assert says in got.error.message


async def test_what_came_before_a_parse_error_is_delivered(wheel: TimerWheel) -> None:
    got = await answer(
        wheel, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n"
    )
    assert got.head.status == 200
    assert got.body == b"ab"
    assert isinstance(got.error, UpstreamProtocol)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000], id="one-read"),
        pytest.param([b"HTTP/1.1 200 OK\r\nX: ", *[b"a" * 8_000] * 10], id="many-reads"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n"],
            id="complete",
        ),
        pytest.param([b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 300], id="count"),
        pytest.param([b"HTTP/1.1 102 Processing\r\nX: a\r\n\r\n" * 2_000], id="interim"),
        pytest.param(
            [
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
                *[b"X: " + b"a" * 7_000 + b"\r\n"] * 12,
            ],
            id="trailers",
        ),
        pytest.param(
            [
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ",
                *[b"a" * 8_000] * 10,
            ],
            id="endless-trailer",
        ),
    ],
)
async def test_a_head_has_a_limit(wheel: TimerWheel, pieces: list[bytes]) -> None:
    got = await answer(wheel, *pieces)
    assert isinstance(got.error, UpstreamProtocol)
    assert "headers" in got.error.message


async def test_a_large_head_within_the_limit(wheel: TimerWheel) -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (i, b"v" * 200) for i in range(200))
    got = await answer(wheel, b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 2\r\n\r\nok")
    assert len(got.head.headers) == 201
    assert got.body == b"ok"


async def test_chunk_headers_that_come_alone_do_not_count_as_a_head(wheel: TimerWheel) -> None:
    size, chunk = b"1;padding=%b\r\n" % (b"x" * 2_000), b"a\r\n"
    pieces = [size, chunk] * 50
    got = await answer(
        wheel, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n"
    )
    assert got.body == b"a" * 50
    assert got.error is None


@pytest.mark.parametrize(
    ("raw", "is_kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n", True),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", True),
        (
            b"HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokgarbage", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTT", False),
        (OK + OK, False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nokmore", False),
    ],
)
async def test_which_connections_serve_again(wheel: TimerWheel, raw: bytes, is_kept: bool) -> None:
    assert await kept(wheel, raw) is is_kept


async def test_a_second_response_in_the_same_read_is_not_part_of_the_first(
    wheel: TimerWheel,
) -> None:
    got = await answer(wheel, OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
    assert got.body == b"ok"
    assert got.error is None


async def test_garbage_that_comes_while_idle_closes_the_connection(wheel: TimerWheel) -> None:
    async def script(peer: Conversation) -> None:
        await peer.read_request()
        await peer.send(OK, b"garbage")
        await peer.wait_closed()

    async with RawServer(script) as server, pool_to(server, wheel) as pool:
        assert (await exchange(pool)).body == b"ok"
        await eventually(lambda: pool.open == 0)
        assert pool.idle == 0
        assert pool.try_send(post(), Recorder()) is None


async def test_a_large_body_is_exact(wheel: TimerWheel) -> None:
    body = bytes(range(256)) * 40_000
    got = await answer(wheel, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert got.body == body
