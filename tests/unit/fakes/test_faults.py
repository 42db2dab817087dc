"""Each fault of the fake node is what its name says, on the wire."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.fakes.faults import Fault, FaultBook, FaultKind
from tests.fakes.look import Answer, Client, End, ask
from tests.fakes.node import FakeNode

_CHAT = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "options": {"num_predict": 6},
}


async def _ask(
    node: FakeNode, path: str = "/api/chat", limit_s: float = 5.0, **more: Any
) -> Answer:
    method, body = ("POST", _CHAT | more) if path != "/api/version" else ("GET", None)
    return await asyncio.to_thread(ask, node.url, method, path, body, (), limit_s)


def _lines(answer: Answer) -> int:
    return answer.body.count(b"\n")


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        (FaultKind.STATUS, 500, "something went wrong"),
        (FaultKind.CRASH, 500, "model runner has unexpectedly stopped"),
        (FaultKind.QUEUE_FULL, 503, "maximum pending requests exceeded"),
        (FaultKind.LOADING, 503, "Loading model"),
        (FaultKind.RATE_LIMITED, 429, "rate limit"),
        (FaultKind.UNAUTHORIZED, 401, "unauthorized"),
        (FaultKind.MISSING, 404, "model 'm' not found"),
        (FaultKind.EARLY_REPLY, 413, "too large"),
        (FaultKind.ENGINE_ERROR, 500, "an error was encountered"),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_status_instead_of_an_answer(
    kind: FaultKind, status: int, text: str, path: str
) -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=kind, count=1)
        refused = await _ask(node, path)
        mended = await _ask(node, path)

    assert refused.status == status
    assert text in refused.body.decode()
    assert mended.status == 200
    assert ("retry-after" in refused.headers) is (kind is FaultKind.RATE_LIMITED)


async def test_an_own_status_text_and_wait() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.STATUS, status=502, text="bad <gate>", retry_after_s=7)
        answer = await _ask(node)

    assert answer.status == 502
    assert answer.body == b'{"error":"bad \\u003cgate\\u003e"}'
    assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("kind", "end", "lines"),
    [
        (FaultKind.CUT_RESET, End.RESET, 2),
        (FaultKind.CUT_CLOSE, End.CUT, 2),
        (FaultKind.CUT_CLEAN, End.CLEAN, 2),
        (FaultKind.GARBAGE_BODY, End.GARBAGE, 2),
        (FaultKind.GARBAGE_LINE, End.CLEAN, 3),
        (FaultKind.ENGINE_ERROR, End.CLEAN, 3),
    ],
)
async def test_a_stream_breaks_after_its_frames(kind: FaultKind, end: End, lines: int) -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=kind, after_frames=2)
        answer = await _ask(node)

    assert answer.status == 200
    assert answer.end is end
    assert _lines(answer) == lines
    assert b'"done":true' not in answer.body
    # After garbage the node waits, and it is the client who ends it.
    assert kind is FaultKind.GARBAGE_BODY or not node.disconnects


@pytest.mark.parametrize("kind", [FaultKind.CUT_RESET, FaultKind.CUT_CLOSE])
async def test_a_cut_before_any_byte(kind: FaultKind) -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=kind)
        answer = await _ask(node)

    assert answer.raw == b""
    assert answer.end is (End.RESET if kind is FaultKind.CUT_RESET else End.CUT)


async def test_a_cut_right_after_the_head() -> None:
    async with FakeNode(["m"]) as node:
        node.set_faults(Fault(kind=FaultKind.EARLY_HEAD), Fault(kind=FaultKind.CUT_CLOSE))
        answer = await _ask(node)

    assert (answer.status, answer.body, answer.end) == (200, b"", End.CUT)


async def test_a_whole_answer_is_cut_in_half() -> None:
    async with FakeNode(["m"]) as node:
        whole = await _ask(node, stream=False)
        node.fault = Fault(kind=FaultKind.CUT_CLOSE, after_frames=1)
        answer = await _ask(node, stream=False)

    assert answer.end is End.CUT
    assert 0 < len(answer.body) < len(whole.body)


async def test_a_clean_end_without_the_terminator_when_not_streamed() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.CUT_CLEAN, after_frames=2)
        body: Any = (await _ask(node, stream=False)).json()

    assert body["done"] is False
    assert body["message"]["content"] == "tok0 tok1"


async def test_an_openai_stream_loses_the_error_text_and_its_end() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.ENGINE_ERROR, after_frames=2)
        answer = await _ask(node, "/v1/chat/completions", stream=True)

    assert answer.end is End.CLEAN
    assert b"error" not in answer.body
    assert b"[DONE]" not in answer.body
    assert answer.chunks is not None
    assert b'"model":""' in answer.chunks[-1]


@pytest.mark.parametrize(
    ("kind", "probe_hangs"), [(FaultKind.HANG, True), (FaultKind.HANG_HEAD, False)]
)
async def test_silence_instead_of_an_answer(kind: FaultKind, probe_hangs: bool) -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=kind)
        with pytest.raises(TimeoutError):
            await _ask(node, limit_s=0.2)
        if probe_hangs:
            with pytest.raises(TimeoutError):
                await _ask(node, "/api/version", limit_s=0.2)
        else:
            assert (await _ask(node, "/api/version")).status == 200
        await node.until(lambda: len(node.disconnects) == len(node.requests) - (not probe_hangs))


async def test_silence_in_the_middle() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.HANG_STREAM, after_frames=2)

        def read() -> bytes:
            seen = b""
            with Client(node.url, 0.3) as client:
                client.send("POST", "/api/chat", _CHAT)
                try:
                    for piece in client.pieces():
                        seen += piece
                except TimeoutError:
                    return seen
            raise AssertionError("the stream ended")

        seen = await asyncio.to_thread(read)
        await node.until(lambda: len(node.disconnects) == 1)
        await node.until(lambda: node.active == 0)

    assert seen.count(b'"done":false') == 2


async def test_nothing_listens() -> None:
    async with FakeNode(["m"], rate=20.0) as node:
        streaming = asyncio.create_task(_ask(node))
        await node.until(lambda: node.active == 1)
        node.fault = Fault(kind=FaultKind.REFUSE)
        with pytest.raises(ConnectionRefusedError):
            await _ask(node, "/api/version")
        assert (await streaming).end is End.RESET

        node.fault = None
        assert (await _ask(node, "/api/version")).status == 200


async def test_accepted_and_dropped() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.DROP_ACCEPT, count=2)
        ends = [(await _ask(node, "/api/version")).end for _ in range(3)]

    assert ends[2] is End.CLEAN
    assert all(end in {End.CUT, End.RESET} for end in ends[:2])


async def test_bytes_that_are_no_http() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.GARBAGE)
        assert (await _ask(node, "/api/version")).end is End.GARBAGE


async def test_slow_probes_and_slow_heads_hit_only_their_own() -> None:
    async with FakeNode(["m"]) as node:
        for kind, slow, quick in (
            (FaultKind.SLOW_PROBE, "/api/version", "/api/chat"),
            (FaultKind.SLOW_HEAD, "/api/chat", "/api/version"),
        ):
            node.fault = Fault(kind=kind, delay_s=0.3)
            started_s = time.monotonic()
            assert (await _ask(node, quick)).status == 200
            between_s = time.monotonic()
            assert (await _ask(node, slow)).status == 200
            assert between_s - started_s < 0.3 <= time.monotonic() - between_s


async def test_the_head_can_come_before_the_work() -> None:
    async with FakeNode(["m"], prefill_s=0.3) as node:
        node.fault = Fault(kind=FaultKind.EARLY_HEAD)

        def first() -> bytes:
            with Client(node.url) as client:
                client.send("POST", "/api/chat", _CHAT)
                return next(client.pieces())

        head = await asyncio.to_thread(first)

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.endswith(b"\r\n\r\n")


async def test_interim_answers_come_first() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.INFORMATIONAL)
        answer = await _ask(node)

    assert answer.interim == (100, 103)
    assert answer.status == 200
    assert _lines(answer) == 7


async def test_an_old_connection_closes_on_its_next_request() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.STALE_KEEPALIVE)

        def twice() -> list[Answer]:
            with Client(node.url) as client:
                answers = []
                for _ in range(2):
                    client.send("POST", "/api/chat", _CHAT)
                    answers.append(client.receive())
                return answers

        fresh, stale = await asyncio.to_thread(twice)

    assert fresh.end is End.CLEAN
    assert (stale.status, stale.raw) == (0, b"")


async def test_a_whole_answer_and_an_unannounced_close() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.CLOSE_AFTER)

        def read() -> tuple[Answer, bytes]:
            with Client(node.url) as client:
                client.send("GET", "/api/version")
                return client.receive(), b"".join(client.pieces())

        answer, rest = await asyncio.to_thread(read)

    assert answer.end is End.CLEAN
    assert "connection" not in answer.headers
    assert rest == b""


async def test_an_answer_before_the_body_was_read() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.EARLY_REPLY)
        reader, writer = await asyncio.open_connection(node.host, node.port)
        writer.write(b"POST /api/chat HTTP/1.1\r\nHost: x.local\r\nContent-Length: 1000\r\n\r\n{")
        told = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert told.startswith(b"HTTP/1.1 413 ")


async def test_http_1_0_ends_by_closing() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.HTTP10)
        answer = await _ask(node)

    assert answer.raw.startswith(b"HTTP/1.0 200 ")
    assert not {"content-length", "transfer-encoding"} & answer.headers.keys()
    assert _lines(answer) == 7


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_length_that_is_too_long_ends_short(is_stream: bool) -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.LENGTH_LONG)
        answer = await _ask(node, stream=is_stream)

    assert answer.end is End.CUT
    assert b'"done":true' in answer.body


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_length_that_is_too_short_leaves_bytes_behind(is_stream: bool) -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.LENGTH_SHORT)

        def read() -> tuple[Answer, Answer]:
            with Client(node.url) as client:
                client.send("POST", "/api/chat", _CHAT | {"stream": is_stream})
                first = client.receive()
                client.send("GET", "/api/version")
                return first, client.receive()

        first, second = await asyncio.to_thread(read)

    assert first.end is End.CLEAN
    assert not first.body.endswith(b"\n")
    assert second.end is End.GARBAGE


async def test_one_huge_line() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.HUGE_LINE, after_frames=1, size_bytes=300_000)
        answer = await _ask(node)

    sizes = [len(line) for line in answer.body.splitlines()]
    assert sizes[1] > 300_000
    assert max(sizes[:1] + sizes[2:]) < 1000


async def test_a_first_line_without_text() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.EMPTY_FIRST)
        lines: list[Any] = (await _ask(node)).lines()

    assert lines[0]["message"]["content"] == ""
    assert lines[0]["done"] is False
    assert lines[1]["message"]["content"] == "tok0"
    assert lines[-1]["eval_count"] == 6


async def test_bytes_one_by_one_still_make_the_answer() -> None:
    async with FakeNode(["m"]) as node:
        node.fault = Fault(kind=FaultKind.DRIBBLE)
        answer = await _ask(node)

    assert answer.end is End.CLEAN
    assert _lines(answer) == 7


async def test_a_fault_can_pick_a_model_and_a_path() -> None:
    async with FakeNode(["m", "n"]) as node:
        node.set_faults(
            Fault(kind=FaultKind.CRASH, model="n"),
            Fault(kind=FaultKind.UNAUTHORIZED, scope="/api/tags"),
        )
        statuses = [(await _ask(node, model=model)).status for model in ("m", "n")]
        listed = await asyncio.to_thread(ask, node.url, "GET", "/api/tags")

    assert statuses == [200, 500]
    assert listed.status == 401


def test_a_counted_fault_wears_out() -> None:
    book = FaultBook()
    book.put(Fault(kind=FaultKind.CRASH, count=2))

    hits = [bool(book.strike("/api/chat", "m").faults) for _ in range(3)]

    assert hits == [True, True, False]
    assert not book.active
    assert not book.strike("/api/version", "").faults
