"""The fake llama-server as its clients see it: streams, slots, loading, key, faults."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.faults import Fault, FaultKind
from tests.fakes.llama import FakeLlama
from tests.fakes.look import Answer, Client, End, ask
from tests.fakes.ollama import expected_text
from tests.fakes.program import FakeLlamaProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HI = [{"role": "user", "content": "hi"}]
_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
_CHAT = "/v1/chat/completions"


@pytest.fixture
async def llama() -> AsyncIterator[FakeLlama]:
    async with FakeLlama(slots=2, has_embeddings=True, has_infill=True) as started:
        yield started


async def _get(llama: FakeLlama, path: str, *headers: tuple[str, str]) -> Answer:
    return await asyncio.to_thread(ask, llama.url, "GET", path, None, headers)


async def _post(llama: FakeLlama, path: str, **body: Any) -> Answer:
    return await asyncio.to_thread(ask, llama.url, "POST", path, body)


async def _chat(llama: FakeLlama, **fields: Any) -> Answer:
    return await _post(llama, _CHAT, **({"messages": _HI, "max_tokens": 3} | fields))


def _events(answer: Answer) -> list[Any]:
    parts = [part.removeprefix(b"data: ") for part in answer.body.split(b"\n\n")[:-1]]
    return [json.loads(part) for part in parts if part not in {b"[DONE]", b":"}]


def _text(answer: Answer) -> str:
    deltas = [e["choices"][0]["delta"] for e in _events(answer) if e.get("choices")]
    return "".join(delta.get("content") or "" for delta in deltas)


def _kind(answer: Answer) -> str:
    body: Any = answer.json()
    return str(body["error"]["type"])


async def test_a_stream_begins_with_a_role_and_ends_with_done(llama: FakeLlama) -> None:
    answer = await _chat(llama, stream=True)
    first, *_, finish = _events(answer)

    assert answer.headers["server"] == "llama.cpp"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert _text(answer) == expected_text(3)
    assert finish["choices"][0]["finish_reason"] == "length"
    assert finish["timings"]["predicted_n"] == 3
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_the_timings_move_to_the_chunk_with_the_usage(llama: FakeLlama) -> None:
    answer = await _chat(llama, stream=True, stream_options={"include_usage": True})
    *_, finish, usage = _events(answer)

    assert "timings" not in finish
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == usage["timings"]["predicted_n"] == 3


async def test_native_streams_have_no_done(llama: FakeLlama) -> None:
    answer = await _post(llama, "/completion", prompt="a b", n_predict=2, stream=True)
    *pieces, last = _events(answer)

    assert b"[DONE]" not in answer.body
    assert [piece["stop"] for piece in pieces] == [False, False]
    assert last["stop"] is True
    assert last["stop_type"] == "limit"
    assert last["tokens_evaluated"] == 3


async def test_thinking_and_tool_calls(llama: FakeLlama) -> None:
    llama.settings.thinks = 2
    thought: Any = (await _chat(llama, max_tokens=5)).json()
    plain: Any = (await _chat(llama, chat_template_kwargs={"enable_thinking": False})).json()
    llama.settings.calls_tools = True
    called = await _chat(llama, tools=_TOOLS, stream=True)

    assert thought["choices"][0]["message"]["reasoning_content"] == "think0 think1 "
    assert thought["choices"][0]["message"]["content"] == expected_text(3)
    assert "reasoning_content" not in plain["choices"][0]["message"]
    deltas = [event["choices"][0]["delta"] for event in _events(called)]
    pieces = [d["tool_calls"][0]["function"] for d in deltas if "tool_calls" in d]
    assert pieces[0]["name"] == "weather"
    assert json.loads("".join(piece["arguments"] for piece in pieces)) == {
        "zeta": 1,
        "alpha": "two",
    }
    assert _events(called)[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        ({"stop": ["tok2"]}, "tok0 tok1 ", "stop"),
        ({"stop": "tok0"}, "", "stop"),
        ({"n_predict": 1}, "tok0", "length"),
        ({"max_tokens": 0}, "tok0", "length"),
        ({"max_tokens": -1}, expected_text(16), "stop"),
    ],
)
async def test_where_an_answer_ends(
    body: dict[str, Any], text: str, reason: str, llama: FakeLlama
) -> None:
    whole: Any = (await _chat(llama, **({"max_tokens": 9} | body))).json()

    assert whole["choices"][0]["message"]["content"] == text
    assert whole["choices"][0]["finish_reason"] == reason


async def test_the_context_bounds_prompt_and_answer(llama: FakeLlama) -> None:
    llama.settings.n_ctx = 20
    long: Any = await _post(llama, "/completion", prompt="a " * 19)
    cut: Any = (await _post(llama, "/completion", prompt="a " * 14, n_predict=50)).json()

    assert long.status == 400
    error = long.json()["error"]
    assert (error["type"], error["n_ctx"]) == ("exceed_context_size_error", 20)
    assert error["n_prompt_tokens"] >= 20
    assert cut["truncated"] is True
    assert cut["tokens_predicted"] < 20


async def test_what_a_slot_remembers_costs_no_prefill(llama: FakeLlama) -> None:
    first: Any = (await _post(llama, "/completion", prompt="a b c d")).json()
    again: Any = (await _post(llama, "/completion", prompt="a b c d e")).json()

    assert first["timings"]["cache_n"] == 0
    assert again["timings"]["cache_n"] == 5
    assert again["timings"]["prompt_n"] == 1


async def test_text_and_tokens_there_and_back(llama: FakeLlama) -> None:
    told: Any = (await _post(llama, "/tokenize", content="one two  three")).json()
    back: Any = (await _post(llama, "/detokenize", tokens=told["tokens"])).json()
    rendered: Any = (await _post(llama, "/apply-template", messages=_HI)).json()
    counted: Any = (await _post(llama, f"{_CHAT}/input_tokens", messages=_HI)).json()
    chatted: Any = (await _chat(llama)).json()

    assert back == {"content": "one two  three"}
    assert rendered["prompt"].endswith("assistant\n")
    assert counted["input_tokens"] == chatted["usage"]["prompt_tokens"]


async def test_embeddings_and_infill(llama: FakeLlama) -> None:
    two: Any = (await _post(llama, "/v1/embeddings", input=["a", "b"])).json()
    old: Any = (await _post(llama, "/embedding", content="a")).json()
    filled: Any = (await _post(llama, "/infill", input_prefix="a", input_suffix="b")).json()
    llama.settings.batch = 4

    assert [len(item["embedding"]) for item in two["data"]] == [64, 64]
    assert old[0]["embedding"][0] == two["data"][0]["embedding"]
    assert filled["content"] == expected_text(16)
    assert (await _post(llama, "/v1/embeddings", input="a b c d e")).status == 500
    assert (await _post(llama, "/infill", input_prefix="a")).status == 400
    llama.settings.has_embeddings = llama.settings.has_infill = False
    assert (await _post(llama, "/v1/embeddings", input="a")).status == 501
    assert (await _post(llama, "/infill", input_prefix="a")).status == 501


async def test_more_than_the_slots_wait_in_silence(llama: FakeLlama) -> None:
    llama.settings.rate = 5
    clients = [Client(llama.url, limit_s=0.2) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send("POST", _CHAT, {"messages": _HI, "stream": True})
        await llama.until(lambda n=number: llama.active + llama.waiting > n)  # type: ignore[misc]

    assert (llama.active, llama.waiting) == (2, 1)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(clients[2].wait)
    full = await _get(llama, "/slots?fail_on_no_slot=1")
    assert full.status == 503

    clients[0].close()
    await llama.until(lambda: not llama.waiting)
    await asyncio.to_thread(clients[2].wait)
    clients[1].close()
    clients[2].close()
    await llama.until(lambda: not llama.active)
    assert len(llama.disconnects) == 3


async def test_who_leaves_may_go_unheard(llama: FakeLlama) -> None:
    llama.settings.hears_leaving = False
    llama.settings.rate = 200
    with Client(llama.url) as client:
        client.send("POST", _CHAT, {"messages": _HI, "max_tokens": 20})
        await llama.until(lambda: llama.active == 1)
    await llama.until(lambda: bool(llama.disconnects))

    assert llama.active == 1
    await llama.until(lambda: not llama.active)
    assert llama.generated_tokens == 20


async def test_every_path_says_that_it_loads(llama: FakeLlama) -> None:
    llama.is_loading = True
    answers = [await _get(llama, path) for path in ("/health", "/props", "/nope")]
    answers.append(await _chat(llama))
    llama.is_loading = False

    assert {(answer.status, _kind(answer)) for answer in answers} == {(503, "unavailable_error")}
    assert (await _get(llama, "/health")).json() == {"status": "ok"}


async def test_a_restart_loads_again() -> None:
    async with FakeLlama(load_s=0.15) as llama:
        assert (await _get(llama, "/health")).status == 503
        llama.is_loading = False
        assert (await _get(llama, "/health")).status == 200
        await llama.restart()
        assert (await _get(llama, "/health")).status == 503
        await asyncio.sleep(0.15)
        assert (await _get(llama, "/health")).status == 200


@pytest.mark.parametrize(
    ("path", "is_newer", "status"),
    [
        ("/health", False, 200),
        ("/v1/models", False, 200),
        ("/v1/models", True, 401),
        ("/props", False, 401),
        ("/nope", False, 401),
    ],
)
async def test_a_key_is_asked_for(path: str, is_newer: bool, status: int) -> None:
    async with FakeLlama(api_key="k", is_newer=is_newer) as llama:
        assert (await _get(llama, path)).status == status
        for header in (("Authorization", "Bearer k"), ("X-Api-Key", "k")):
            assert (await _get(llama, path, header)).status in {200, 404}


@pytest.mark.parametrize(("is_newer", "status"), [(False, 500), (True, 400)])
async def test_whose_fault_a_broken_body_is(is_newer: bool, status: int) -> None:
    async with FakeLlama(is_newer=is_newer) as llama:
        broken = await asyncio.to_thread(ask, llama.url, "POST", _CHAT, b"{bad")
        assert broken.status == status


async def test_pings_before_the_first_token(llama: FakeLlama) -> None:
    llama.settings.prefill_s, llama.settings.ping_s = 0.1, 0.02
    slow = await _chat(llama, stream=True)
    llama.settings.prefill_s = 0
    llama.fault = Fault(kind=FaultKind.PINGS, delay_s=0.1, count=1)
    stalled = await _chat(llama, stream=True)

    for answer in (slow, stalled):
        assert answer.chunks is not None
        assert answer.chunks[:2] == (b":\n\n", b":\n\n")
        assert _text(answer) == expected_text(3)


async def test_pings_in_the_middle_are_no_frames(llama: FakeLlama) -> None:
    llama.set_faults(
        Fault(kind=FaultKind.PINGS, after_frames=2, delay_s=0.1, count=1),
        Fault(kind=FaultKind.ENGINE_ERROR, after_frames=3, count=1),
    )
    answer = await _chat(llama, stream=True, max_tokens=9)

    assert answer.chunks is not None
    assert answer.chunks[2] == b":\n\n"
    assert _text(answer) == expected_text(3)
    assert "error" in _events(answer)[-1]


@pytest.mark.parametrize(
    ("fault", "text", "end"),
    [
        (Fault(kind=FaultKind.CUT_CLEAN, after_frames=2), expected_text(2), End.CLEAN),
        (Fault(kind=FaultKind.CUT_CLEAN, after_frames=3), expected_text(3), End.CLEAN),
        (Fault(kind=FaultKind.CUT_CLOSE, after_frames=2), expected_text(2), End.CUT),
        (Fault(kind=FaultKind.CUT_RESET, after_frames=2), expected_text(2), End.RESET),
        (Fault(kind=FaultKind.NO_DONE), expected_text(3), End.CLEAN),
        (Fault(kind=FaultKind.ENGINE_ERROR, after_frames=1), expected_text(1), End.CLEAN),
        (Fault(kind=FaultKind.ENGINE_ERROR), "", End.CLEAN),
    ],
)
async def test_streams_without_their_end(
    fault: Fault, text: str, end: End, llama: FakeLlama
) -> None:
    llama.fault = fault
    answer = await _chat(llama, stream=True)

    assert answer.status == 200
    assert _text(answer) == text
    assert answer.end is end
    assert b"[DONE]" not in answer.body
    assert ("error" in _events(answer)[-1]) == (fault.kind is FaultKind.ENGINE_ERROR)


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Fault(kind=FaultKind.LOADING), 503, "unavailable_error"),
        (Fault(kind=FaultKind.NO_ROOM), 400, "exceed_context_size_error"),
        (Fault(kind=FaultKind.UNAUTHORIZED), 401, "authentication_error"),
        (Fault(kind=FaultKind.CRASH), 500, "server_error"),
        (Fault(kind=FaultKind.ENGINE_ERROR), 500, "server_error"),
        (Fault(kind=FaultKind.STATUS, status=501, text="no"), 501, "not_supported_error"),
    ],
)
async def test_errors_instead_of_an_answer(
    fault: Fault, status: int, kind: str, llama: FakeLlama
) -> None:
    llama.fault = fault
    answer = await _chat(llama)

    assert (answer.status, _kind(answer)) == (status, kind)
    assert answer.headers["connection"] == "close"
    health = await _get(llama, "/health")
    assert health.status == (401 if fault.kind is FaultKind.UNAUTHORIZED else 200)


async def test_a_page_and_a_role_alone(llama: FakeLlama) -> None:
    llama.fault = Fault(kind=FaultKind.PAGE, count=1)
    page = await _chat(llama)
    llama.fault = Fault(kind=FaultKind.EMPTY_FIRST, count=1)
    alone = await _chat(llama, stream=True)

    assert (page.status, page.headers["content-type"]) == (502, "text/html")
    assert alone.chunks is not None
    assert [chunk.count(b"data: ") for chunk in alone.chunks] == [1, 1, 1, 1, 1, 1]


async def test_connections_end_when_idle_or_old(llama: FakeLlama) -> None:
    llama.framing = llama.framing._replace(idle_s=0.1, most_requests=3)
    with Client(llama.url) as old, Client(llama.url) as idle:
        for path, said in (("/health", None), ("/nope", "close"), ("/health", "close")):
            old.send("GET", path)
            answer = await asyncio.to_thread(old.receive)
            assert answer.headers.get("connection") == said
        assert await asyncio.to_thread(list, old.pieces()) == []
        assert await asyncio.to_thread(list, idle.pieces()) == []
    await llama.until(lambda: llama.open_connections == 0)


async def test_several_answers_to_one_request(llama: FakeLlama) -> None:
    two: Any = (await _chat(llama, n=2)).json()
    texts: Any = (await _post(llama, "/completion", prompt=["a", "b"], n_predict=1)).json()
    streamed = await _post(llama, "/completion", prompt=["a", "b"], n_predict=1, stream=True)

    assert [choice["index"] for choice in two["choices"]] == [0, 1]
    assert [text["index"] for text in texts] == [0, 1]
    assert _events(streamed)[0] is None


def test_as_a_program() -> None:
    arguments = ("--model", "mine", "--slots", "3", "--no-has-prefix-cache", "--load-s", "0")
    with FakeLlamaProcess(*arguments) as process:
        props: Any = ask(process.url, "GET", "/props").json()
        process.set_faults(Fault(kind=FaultKind.LOADING, scope="all"))
        loading = ask(process.url, "GET", "/health")
        process.set_faults()
        process.kill()
        process.start()
        state = process.state()

        assert (props["model_alias"], props["total_slots"]) == ("mine", 3)
        assert loading.status == 503
        assert state["is_loading"] is False
        assert len(state["slots"]) == 3
