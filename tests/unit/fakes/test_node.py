"""The fake node as its clients see it: framing, completeness, and what it remembers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.fakes.look import Answer, Client, End, ask
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode
from tests.fakes.ollama import expected_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HI = [{"role": "user", "content": "hi"}]
_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    models = [
        FakeModel(name="plain"),
        FakeModel(name="thinker", capabilities=("completion", "thinking"), thinks=2),
        FakeModel(name="caller", capabilities=("completion", "tools"), calls_tools=True),
        FakeModel(name="embedder", capabilities=("embedding",), embedding_length=8),
    ]
    async with FakeNode(models) as started:
        yield started


async def _post(node: FakeNode, path: str, **body: Any) -> Answer:
    return await asyncio.to_thread(ask, node.url, "POST", path, body)


def _content(answer: Answer) -> str:
    lines: list[Any] = answer.lines()
    return "".join(line["message"]["content"] for line in lines)


def _events(answer: Answer) -> list[Any]:
    *events, done = [part.removeprefix(b"data: ") for part in answer.body.split(b"\n\n")[:-1]]
    assert done == b"[DONE]"
    return [json.loads(event) for event in events]


async def test_every_line_is_a_chunk_and_no_token_is_lost(node: FakeNode) -> None:
    answer = await _post(node, "/api/chat", model="plain", messages=_HI, options={"num_predict": 5})

    assert answer.end is End.CLEAN
    assert answer.chunks is not None
    assert [chunk.count(b"\n") for chunk in answer.chunks] == [1] * 6
    assert _content(answer) == expected_text(5) == "tok0 tok1 tok2 tok3 tok4"
    final: Any = answer.lines()[-1]
    assert final["done"] is True
    assert final["done_reason"] == "length"
    assert final["eval_count"] == 5
    assert final["total_duration"] >= final["eval_duration"]


async def test_an_answer_that_nobody_limits_has_the_length_of_the_settings(node: FakeNode) -> None:
    node.settings.answer_tokens = 3

    whole: Any = (
        await _post(node, "/api/generate", model="plain", prompt="a", stream=False)
    ).json()

    assert whole["response"] == expected_text(3)
    assert whole["done_reason"] == "stop"
    assert node.generated_tokens == 3


async def test_both_dialects_tell_the_same(node: FakeNode) -> None:
    body = {"model": "plain", "messages": _HI, "max_tokens": 4}
    whole: Any = (await _post(node, "/v1/chat/completions", **body)).json()
    events = _events(await _post(node, "/v1/chat/completions", **body, stream=True))

    assert whole["choices"][0]["message"]["content"] == expected_text(4)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("content", "") for delta in deltas) == expected_text(4)
    assert deltas[0]["role"] == "assistant"
    assert deltas[-1] == {}
    assert events[-1]["choices"][0]["finish_reason"] == "length"


async def test_thinking_comes_first_and_can_be_turned_off(node: FakeNode) -> None:
    node.settings.answer_tokens = 1
    body = {"model": "thinker", "messages": _HI, "stream": False}

    thought: Any = (await _post(node, "/api/chat", **body)).json()
    plain: Any = (await _post(node, "/api/chat", **body, think=False)).json()

    assert thought["message"]["thinking"] == "think0 think1 "
    assert thought["message"]["content"] == "tok0"
    assert "thinking" not in plain["message"]


async def test_a_tool_call_is_whole_in_each_dialect(node: FakeNode) -> None:
    body = {"model": "caller", "messages": _HI, "tools": _TOOLS, "stream": True}
    lines: list[Any] = (await _post(node, "/api/chat", **body)).lines()
    events = _events(await _post(node, "/v1/chat/completions", **body))

    (call,) = lines[0]["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert list(call["function"]["arguments"]) == ["zeta", "alpha"]
    assert lines[-1]["done_reason"] == "stop"
    (delta,) = events[0]["choices"][0]["delta"]["tool_calls"]
    assert json.loads(delta["function"]["arguments"]) == call["function"]["arguments"]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_vectors_are_of_unit_length_and_depend_on_the_text(node: FakeNode) -> None:
    answer: Any = (await _post(node, "/api/embed", model="embedder", input=["a", "b"])).json()
    older: Any = (await _post(node, "/api/embeddings", model="embedder", prompt="a")).json()

    first, second = answer["embeddings"]
    assert first != second
    assert older["embedding"] == first
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-6)


async def test_nothing_is_on_the_wire_before_a_requests_turn() -> None:
    async with FakeNode(["m"], rate=20.0) as node, aiohttp.ClientSession() as session:
        body = {"model": "m", "prompt": "a", "options": {"num_predict": 3}}
        long = body | {"options": {"num_predict": 20}}
        async with session.post(f"{node.url}/api/generate", json=long) as first:
            second = asyncio.create_task(session.post(f"{node.url}/api/generate", json=body))
            await node.until(lambda: node.waiting == 1)
            assert not second.done()
            await first.read()
        async with await second as reply:
            assert reply.status == 200
            await reply.read()
    assert node.max_active == 1


async def test_it_remembers_what_it_was_sent(node: FakeNode) -> None:
    headers = (("X-Test", "one"), ("Authorization", "Bearer secret"))
    body = {"model": "plain", "prompt": "a", "stream": False}
    await asyncio.to_thread(ask, node.url, "POST", "/api/generate?x=1", body, headers)

    (seen,) = node.inference
    assert (seen.method, seen.path, seen.query) == ("POST", "/api/generate", "x=1")
    assert seen.header("x-test") == "one"
    assert ("Authorization", "Bearer secret") in seen.headers
    assert json.loads(seen.body) == body
    assert seen.model == "plain"
    assert seen.status == 200
    assert seen.is_answered
    assert not node.disconnects


async def test_it_knows_which_requests_shared_a_connection(node: FakeNode) -> None:
    def two() -> None:
        with Client(node.url) as client:
            for _ in range(2):
                client.send("GET", "/api/version")
                assert client.receive().status == 200

    await asyncio.to_thread(two)
    await asyncio.to_thread(ask, node.url, "GET", "/api/version")

    assert [seen.connection for seen in node.requests] == [1, 1, 2]
    assert node.connections == 2
    await node.until(lambda: node.open_connections == 0)


async def test_a_client_that_leaves_stops_the_work() -> None:
    async with FakeNode(["m"], rate=50.0) as node:

        def leave() -> None:
            with Client(node.url) as client:
                body = {"model": "m", "prompt": "a", "options": {"num_predict": 10_000}}
                client.send("POST", "/api/generate", body)
                client.wait()

        await asyncio.to_thread(leave)
        await node.until(lambda: bool(node.disconnects))
        await node.until(lambda: node.active == 0)

        assert node.generated_tokens < 1000
        assert node.disconnects == node.inference


async def test_a_client_that_leaves_the_line_is_forgotten() -> None:
    async with FakeNode(["m"], rate=50.0) as node, aiohttp.ClientSession() as session:
        body = {"model": "m", "prompt": "a", "options": {"num_predict": 50}}
        async with session.post(f"{node.url}/api/generate", json=body) as first:
            second = asyncio.create_task(session.post(f"{node.url}/api/generate", json=body))
            await node.until(lambda: node.waiting == 1)
            second.cancel()
            await node.until(lambda: node.waiting == 0)
            lines = (await first.read()).splitlines()
    assert len(lines) == 51


async def test_it_restarts_on_its_port_with_nothing_loaded(node: FakeNode) -> None:
    await _post(node, "/api/generate", model="plain")
    assert [runner.model.name for runner in node.residents] == ["plain"]
    port = node.port

    await node.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(ask, node.url, "GET", "/")
    await node.start()

    assert (await asyncio.to_thread(ask, node.url, "GET", "/")).status == 200
    assert node.port == port
    assert not node.residents


async def test_stopping_cuts_what_is_under_way() -> None:
    async with FakeNode(["m"], rate=20.0) as node:
        body = {"model": "m", "prompt": "a", "options": {"num_predict": 1000}}
        call = asyncio.to_thread(ask, node.url, "POST", "/api/generate", body)
        asking = asyncio.create_task(call)
        await node.until(lambda: node.active == 1)
        await node.stop()

        answer = await asking

    assert answer.end is not End.CLEAN
    assert not node.disconnects


async def test_models_come_and_go(node: FakeNode) -> None:
    node.ollama.add(FakeModel(name="new"))
    assert node.ollama.remove("plain") is not None

    listed: Any = (await asyncio.to_thread(ask, node.url, "GET", "/api/tags")).json()
    names = {model["name"] for model in listed["models"]}
    assert names == {"new:latest", "thinker:latest", "caller:latest", "embedder:latest"}


async def test_bytes_that_are_no_http_get_a_400(node: FakeNode) -> None:
    reader, writer = await asyncio.open_connection(node.host, node.port)
    writer.write(b"\x16\x03\x01\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()


async def test_http_1_0_gets_an_unframed_body(node: FakeNode) -> None:
    reader, writer = await asyncio.open_connection(node.host, node.port)
    body = json.dumps({"model": "plain", "messages": _HI, "options": {"num_predict": 2}}).encode()
    writer.write(b"POST /api/chat HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    head, _, text = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()

    assert head.startswith(b"HTTP/1.0 200 ")
    assert b"chunked" not in head
    assert len([json.loads(line) for line in text.splitlines()]) == 3


async def test_a_reader_that_stands_still_holds_the_work_back() -> None:
    async with FakeNode(["m"], rate=0.0) as node:
        reader, writer = await asyncio.open_connection(node.host, node.port, limit=2**10)
        body = json.dumps({"model": "m", "prompt": "a", "options": {"num_predict": 10**6}})
        head = f"POST /api/generate HTTP/1.1\r\nHost: x.local\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}\r\n{body}".encode())
        await reader.read(100)
        before = -1
        while before != node.generated_tokens:
            before = node.generated_tokens
            await asyncio.sleep(0.2)
        writer.transport.abort()
        await node.until(lambda: node.active == 0)

    assert 0 < before < 10**6
