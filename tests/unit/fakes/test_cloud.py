"""The fake cloud as its clients see it: key, strictness, streams, limits, TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest

from tests.fakes.certificates import TestAuthority
from tests.fakes.cloud import FakeCloud, Leak
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import Answer, Client, End, ask
from tests.fakes.ollama import expected_text
from tests.fakes.program import FakeCloudProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_KEY = ("Authorization", "Bearer cloud-key")
_HI = [{"role": "user", "content": "hi"}]
_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
_CHAT = "/v1/chat/completions"


@pytest.fixture
async def cloud() -> AsyncIterator[FakeCloud]:
    async with FakeCloud("gpt-a", "gpt-b") as started:
        yield started


async def _ask(
    cloud: FakeCloud, method: str, path: str, body: object = None, *headers: tuple[str, str]
) -> Answer:
    return await asyncio.to_thread(ask, cloud.url, method, path, body, headers or (_KEY,))


async def _chat(cloud: FakeCloud, **fields: Any) -> Answer:
    body = {"model": "gpt-a", "messages": _HI, "max_tokens": 3, **fields}
    return await _ask(cloud, "POST", _CHAT, body)


def _error(answer: Answer) -> dict[str, Any]:
    body: Any = answer.json()
    assert body["error"].keys() == {"message", "type", "param", "code"}
    return dict(body["error"])


def _events(answer: Answer) -> list[Any]:
    parts = answer.body.split(b"\n\n")[:-1]
    data = [part.removeprefix(b"data: ") for part in parts if part.startswith(b"data: {")]
    return [json.loads(part) for part in data]


def _text(answer: Answer) -> str:
    deltas = [event["choices"][0]["delta"] for event in _events(answer) if event.get("choices")]
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.mark.parametrize(
    ("header", "code"),
    [(("X-Other", "1"), None), (("Authorization", "Bearer wrong"), "invalid_api_key")],
)
async def test_nothing_without_the_key(
    header: tuple[str, str], code: str | None, cloud: FakeCloud
) -> None:
    answer = await _ask(cloud, "GET", "/v1/models", None, header)

    assert answer.status == 401
    assert _error(answer)["code"] == code


async def test_foreign_fields_are_noted(cloud: FakeCloud) -> None:
    await _ask(cloud, "GET", "/v1/models", None, _KEY, ("Cookie", "a=b"), ("X-API-Key", "c"))
    await _ask(cloud, "GET", "/v1/models", None, ("Authorization", "Bearer of the client"))
    await _chat(cloud)

    assert cloud.leaks == [
        Leak("/v1/models", "Cookie", "a=b"),
        Leak("/v1/models", "X-API-Key", "c"),
        Leak("/v1/models", "Authorization", "Bearer of the client"),
    ]
    assert cloud.state()["leaks"][0]["name"] == "Cookie"


async def test_models(cloud: FakeCloud) -> None:
    listing: Any = (await _ask(cloud, "GET", "/v1/models")).json()
    one: Any = (await _ask(cloud, "GET", "/v1/models/gpt-b")).json()
    missing = await _ask(cloud, "GET", "/v1/models/nope")

    assert [model["id"] for model in listing["data"]] == ["gpt-a", "gpt-b", "embed-fake"]
    assert one["id"] == "gpt-b"
    assert (missing.status, _error(missing)["code"]) == (404, "model_not_found")


async def test_usage_comes_only_when_asked_for(cloud: FakeCloud) -> None:
    plain = await _chat(cloud, stream=True)
    counted = await _chat(cloud, stream=True, stream_options={"include_usage": True})

    assert _text(plain) == _text(counted) == expected_text(3)
    assert plain.body.endswith(b"data: [DONE]\n\n")
    assert all("usage" not in event for event in _events(plain))
    *before, last = _events(counted)
    assert all(event["usage"] is None for event in before)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 3)


async def test_whole_answers(cloud: FakeCloud) -> None:
    chat: Any = (await _chat(cloud)).json()
    body = {"model": "gpt-a", "prompt": "a b", "max_tokens": 2}
    text: Any = (await _ask(cloud, "POST", "/v1/completions", body)).json()
    cloud.settings.calls_tools = True
    called: Any = (await _chat(cloud, tools=_TOOLS)).json()

    assert chat["choices"][0]["message"]["content"] == expected_text(3)
    assert chat["usage"]["completion_tokens"] == 3
    assert "timings" not in chat
    assert text["choices"][0]["text"] == expected_text(2)
    assert called["choices"][0]["finish_reason"] == "tool_calls"
    (call,) = called["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"zeta": 1, "alpha": "two"}


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings(encoding: str, cloud: FakeCloud) -> None:
    body = {"model": "embed-fake", "input": ["a", "b"], "encoding_format": encoding}
    answer: Any = (await _ask(cloud, "POST", "/v1/embeddings", body | {"dimensions": 8})).json()

    assert [item["index"] for item in answer["data"]] == [0, 1]
    assert len(answer["data"][0]["embedding"]) == (8 if encoding == "float" else 44)


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"top_k": 1}, 400, "Unrecognized request argument supplied: top_k"),
        ({"min_p": 1, "n_predict": 2}, 400, "Unrecognized request arguments supplied"),
        ({"model": "nope"}, 404, "does not exist"),
        ({"model": ""}, 400, "Missing required parameter: 'model'."),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "zip"}]}, 400, "zip"),
        ({"messages": [{"role": "user", "content": "a", "thinking": "b"}]}, 400, "thinking"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"temperature": 3}, 400, "temperature"),
        ({"max_tokens": -1}, 400, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"messages": [{"role": "user", "content": "w " * 9000}]}, 400, "maximum context length"),
    ],
)
async def test_what_is_refused(
    fields: dict[str, Any], status: int, text: str, cloud: FakeCloud
) -> None:
    answer = await _chat(cloud, **fields)

    assert answer.status == status
    assert text in _error(answer)["message"]


async def test_a_lenient_one_at_home() -> None:
    async with FakeCloud(api_key="", is_strict=False, models="m") as cloud:
        body = {"model": "m", "messages": _HI, "top_k": 1}
        assert (await _ask(cloud, "POST", _CHAT, body, ("X-Other", "1"))).status == 200


async def test_too_many_at_once(cloud: FakeCloud) -> None:
    cloud.settings.max_parallel, cloud.settings.rate = 1, 2
    with Client(cloud.url) as client:
        body = {"model": "gpt-a", "messages": _HI, "stream": True}
        client.send("POST", _CHAT, body, (_KEY,))
        await cloud.until(lambda: cloud.active == 1)
        refused = await _chat(cloud)
    await cloud.until(lambda: cloud.active == 0)

    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert _error(refused)["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(kind=FaultKind.RATE_LIMITED, retry_after_s=7), 429, "rate_limit_exceeded"),
        (Fault(kind=FaultKind.NO_ROOM), 400, "context_length_exceeded"),
        (Fault(kind=FaultKind.MISSING), 404, "model_not_found"),
        (Fault(kind=FaultKind.STATUS, status=503, text="later"), 503, None),
        (Fault(kind=FaultKind.ENGINE_ERROR), 500, None),
    ],
)
async def test_faults_in_its_dialect(
    fault: Fault, status: int, code: str | None, cloud: FakeCloud
) -> None:
    cloud.fault = fault
    answer = await _chat(cloud)

    assert (answer.status, _error(answer)["code"]) == (status, code)
    wait_s = None if fault.retry_after_s is None else str(fault.retry_after_s)
    assert answer.headers.get("retry-after") == wait_s


@pytest.mark.parametrize(
    ("fault", "text", "end"),
    [
        (Fault(kind=FaultKind.ENGINE_ERROR, after_frames=2), expected_text(1), End.CLEAN),
        (Fault(kind=FaultKind.CUT_CLEAN, after_frames=2), expected_text(1), End.CLEAN),
        (Fault(kind=FaultKind.CUT_CLOSE, after_frames=2), expected_text(1), End.CUT),
        (Fault(kind=FaultKind.NO_DONE), expected_text(3), End.CLEAN),
    ],
)
async def test_streams_without_their_end(
    fault: Fault, text: str, end: End, cloud: FakeCloud
) -> None:
    cloud.fault = fault
    answer = await _chat(cloud, stream=True)

    assert (_text(answer), answer.end) == (text, end)
    assert b"[DONE]" not in answer.body


async def test_comments_and_a_page(cloud: FakeCloud) -> None:
    cloud.fault = Fault(kind=FaultKind.PINGS, delay_s=0.1, count=1)
    pinged = await _chat(cloud, stream=True)
    cloud.fault = Fault(kind=FaultKind.PAGE, status=530, count=1)
    page = await _chat(cloud)

    assert pinged.body.startswith(b": ")
    assert _text(pinged) == expected_text(3)
    assert (page.status, page.headers["content-type"]) == (530, "text/html")


async def test_over_tls_with_a_client_library(tmp_path: Path) -> None:
    authority = TestAuthority()
    async with FakeCloud("gpt-a", tls=authority.server_context()) as cloud:
        trusting = ssl.create_default_context(cafile=str(authority.write(tmp_path / "ca.pem")))
        client = openai.DefaultAsyncHttpxClient(verify=trusting)
        async with openai.AsyncOpenAI(
            base_url=f"{cloud.url}/v1", api_key="cloud-key", http_client=client, max_retries=0
        ) as library:
            stream = await library.chat.completions.create(
                model="gpt-a",
                messages=[{"role": "user", "content": "hi"}],
                max_tokens=3,
                stream=True,
            )
            text = [chunk.choices[0].delta.content or "" async for chunk in stream]

        assert cloud.url.startswith("https://")
        assert "".join(text) == expected_text(3)


async def test_who_does_not_trust_it_gets_nothing() -> None:
    authority = TestAuthority()
    async with (
        FakeCloud(tls=authority.server_context()) as cloud,
        aiohttp.ClientSession(cloud.url) as session,
    ):
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get("/v1/models")
        await cloud.until(lambda: cloud.open_connections == 0)
        assert cloud.requests == []
        trusting = aiohttp.TCPConnector(ssl=authority.client_context())
        async with aiohttp.ClientSession(cloud.url, connector=trusting) as other:
            async with other.get("/v1/models") as answer:
                assert answer.status == 401


def test_as_a_program() -> None:
    with FakeCloudProcess("--models", "a,b", "--api-key", "k", "--no-is-strict") as process:
        told = ask(process.url, "GET", "/v1/models", None, (("Authorization", "Bearer k"),))

        assert told.status == 200
        assert process.state()["requests"] == 1
