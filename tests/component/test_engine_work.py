"""What llama-servers are given to do, and what is learned from it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from typing import Any

import pytest

from sollold.routing import translated
from sollold.wire.translate.reply_embed import EmbedReader
from tests.component.engines import (
    MODEL,
    QUICK_HEALTH,
    STREAMS,
    WAYS,
    ask,
    error_of,
    fleet,
    frames_of,
    is_complete,
    outcomes,
    settled,
    turns,
    work_of,
)
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.llama import FakeLlama
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "looks",
        "parameters": {"type": "object", "properties": {"zeta": {"type": "integer"}}},
    },
}
LONG: dict[str, Any] = {"options": {"num_predict": 2000}, "max_tokens": 2000}


@pytest.mark.parametrize("after_tokens", [0, 3])
@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_a_client_that_leaves_frees_the_slot(
    path: str, is_stream: bool, after_tokens: int
) -> None:
    llama = FakeLlama(slots=1, rate=50.0 if after_tokens else 1000.0)
    llama.settings.prefill_s = 0.0 if after_tokens else 20.0
    async with fleet(llama) as lab:
        asking = asyncio.create_task(ask(lab, path, stream=is_stream, **LONG))
        await llama.until(lambda: llama.active == 1)
        await lab.until(lambda: llama.generated_tokens >= after_tokens)
        if is_stream and after_tokens:
            (await asking).close()
        asking.cancel()
        await llama.until(lambda: llama.active == 0)
        await settled(lab)
        assert outcomes(lab) == {"canceled": 1}
        assert lab.built.dispatcher.detached_count == 0
        assert lab.fleet["n1"].state == "up"


async def test_a_client_that_leaves_during_a_call_before_the_work() -> None:
    llama = FakeLlama()
    async with fleet(llama) as lab:
        llama.fault = Fault(kind=FaultKind.HANG, scope="/apply-template")
        asking = asyncio.create_task(ask(lab, "/api/generate"))
        await llama.until(lambda: any(r.path == "/apply-template" for r in llama.requests))
        asking.cancel()
        await llama.until(lambda: len(llama.disconnects) == 1)
        await settled(lab)
        assert not work_of(llama)


async def test_as_many_at_once_as_it_has_slots_and_the_rest_waits_here() -> None:
    llama = FakeLlama(slots=2, rate=50.0)
    async with fleet(llama) as lab:
        asking = [asyncio.create_task(ask(lab)) for _ in range(5)]
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 3)
        await llama.until(lambda: llama.active == 2)
        assert llama.waiting == 0
        answers = await asyncio.gather(*asking)
        assert [answer.status for answer in answers] == [200] * 5
        assert llama.max_active == 2
        await settled(lab)


async def test_a_large_request_is_taken_apart_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[bool] = []
    advance = translated._advance

    def watched(*args: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return advance(*args)

    monkeypatch.setattr(translated, "_advance", watched)
    llama = FakeLlama(n_ctx=1_000_000)
    async with fleet(llama) as lab:
        body = {"model": MODEL, "messages": turns("x" * 1_200_000), "stream": False}
        upload = io.BytesIO(json.dumps(body | {"options": {"num_predict": 4}}).encode())
        answer = await lab.session.post("/api/chat", data=upload)
        assert answer.status == 200
        assert threads
        assert not any(threads)
        threads.clear()
        assert (await ask(lab)).status == 200
        assert all(threads)
        await settled(lab)


async def test_many_numbers_are_printed_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    is_main: list[bool] = []
    finish = EmbedReader.finish

    def watched(reader: EmbedReader) -> bytes:
        is_main.append(threading.current_thread() is threading.main_thread())
        return finish(reader)

    monkeypatch.setattr(EmbedReader, "finish", watched)
    llama = FakeLlama(has_embeddings=True, embedding_length=40_000)
    async with fleet(llama) as lab:
        body: dict[str, Any] = {"model": MODEL}
        for inputs in (["a"], ["a", "b"]):
            body["input"] = inputs
            answer = await lab.session.post("/api/embed", json=body)
            vectors = (await answer.json())["embeddings"]
            assert [len(vector) for vector in vectors] == [40_000] * len(inputs)
        assert is_main == [False, False]
        llama.settings.embedding_length = 8
        assert (await lab.session.post("/api/embed", json=body)).status == 200
        assert is_main == [False, False, True]
        await settled(lab)


@pytest.mark.parametrize("is_sound", [True, False])
async def test_a_client_that_leaves_while_its_answer_is_printed(
    monkeypatch: pytest.MonkeyPatch, is_sound: bool
) -> None:
    begun, released = threading.Event(), threading.Event()
    finish = EmbedReader.finish

    def slow(reader: EmbedReader) -> bytes:
        begun.set()
        released.wait(10)
        if not is_sound:
            raise MemoryError
        return finish(reader)

    monkeypatch.setattr(EmbedReader, "finish", slow)
    llama = FakeLlama(has_embeddings=True, embedding_length=40_000)
    async with fleet(llama) as lab:
        body = {"model": MODEL, "input": "a"}
        asking = asyncio.create_task(lab.session.post("/api/embed", json=body))
        assert await asyncio.to_thread(begun.wait, 10)
        asking.cancel()
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        released.set()
        await lab.until(lambda: not lab.built.dispatcher._tasks)
        await settled(lab)
        assert outcomes(lab) == {"canceled": 1}
        assert lab.fleet["n1"].state == "up"


async def test_what_cannot_be_printed_is_the_nodes_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_reader: EmbedReader) -> bytes:
        raise MemoryError

    monkeypatch.setattr(EmbedReader, "finish", failing)
    llama = FakeLlama(has_embeddings=True, embedding_length=40_000)
    async with fleet(llama) as lab:
        answer = await lab.session.post("/api/embed", json={"model": MODEL, "input": "a"})
        assert answer.status == 502
        await settled(lab)


@pytest.mark.parametrize("after_frames", [0, 3])
@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_nobody_waits_for_the_rest_of_what_is_spoiled(
    path: str, is_stream: bool, after_frames: int
) -> None:
    llama = FakeLlama(slots=1, rate=50.0)
    async with fleet(llama) as lab:
        llama.fault = Fault(
            kind=FaultKind.HUGE_LINE, after_frames=after_frames, size_bytes=9 * 1024 * 1024
        )
        answer = await ask(lab, path, stream=is_stream, **LONG)
        assert answer.status == (200 if is_stream and after_frames else 502)
        assert error_of(await answer.read()) == "the node's answer is too long"
        await llama.until(lambda: llama.active == 0)
        assert llama.generated_tokens < 1000
        await settled(lab)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_what_a_server_cannot_do_is_done_by_an_ollama(is_stream: bool) -> None:
    llama = FakeLlama()
    able = FakeModel(name=MODEL, capabilities=("completion", "tools"))
    node = FakeNode([able], answer_tokens=4)
    async with fleet(llama, node) as lab:
        # Whoever comes first: the model is one, and an Ollama can do it.
        answer = await ask(lab, stream=is_stream, template="{{ .Prompt }}", path="/api/generate")
        assert answer.status == 200, await answer.read()
        assert answer.headers["X-Sollold-Node"] == "n2"
        assert not work_of(llama)
        assert lab.fleet["n1"].state == "up"
        await settled(lab)
        assert outcomes(lab) == {"ok": 1}


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_what_nobody_can_do_is_the_callers(path: str, is_stream: bool) -> None:
    llama = FakeLlama()
    async with fleet(llama) as lab:
        more: dict[str, Any] = {"template": "x"} if path == "/api/generate" else {"tools": [TOOL]}
        answer = await ask(lab, path, stream=is_stream, **more)
        data = await answer.read()
        assert answer.status == 400
        assert "support" in error_of(data)
        assert not work_of(llama)
        assert lab.fleet["n1"].state == "up"
        assert outcomes(lab) == {"caller_error": 1}
        await settled(lab)


async def test_an_ollama_that_failed_is_not_hidden_by_what_a_server_cannot_do() -> None:
    node, llama = FakeNode([MODEL]), FakeLlama()
    async with fleet(node, llama) as lab:
        node.fault = Fault(kind=FaultKind.CUT_RESET)
        answer = await ask(lab, "/api/generate", template="x")
        assert answer.status == 502
        assert outcomes(lab) == {"failed": 1}
        await settled(lab)


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_load_and_unload_are_answered_and_prove_nothing(path: str) -> None:
    llama = FakeLlama()
    async with fleet(llama) as lab:
        seen = len(llama.requests)
        for keep_alive, reason in ((None, "load"), (0, "unload")):
            body: dict[str, Any] = {"prompt": ""} if "generate" in path else {"messages": []}
            body |= {} if keep_alive is None else {"keep_alive": keep_alive}
            answer = await ask(lab, path, **body)
            assert answer.status == 200
            (told,) = frames_of(await answer.read())
            assert (told["done"], told["done_reason"]) == (True, reason)
            assert answer.headers["X-Sollold-Node"] == "n1"
        assert len(llama.requests) == seen
        assert lab.built.dispatcher._learner._rates.snapshot(0.0).pairs == ()
        await settled(lab)


async def test_an_answered_load_does_not_end_the_trial_of_a_broken_server() -> None:
    llama = FakeLlama()
    async with fleet(llama, health={"eject_after": 1, "eject_s": 0.2}) as lab:
        llama.fault = Fault(kind=FaultKind.CUT_RESET, scope="inference")
        assert (await ask(lab)).status == 502
        assert lab.fleet["n1"].is_ejected
        await lab.until(lambda: lab.fleet["n1"].reason.code == "trial")
        assert (await ask(lab, messages=[])).status == 200
        assert lab.fleet["n1"].reason.code == "trial"
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_headers_figures_and_the_log(
    path: str, is_stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    llama = FakeLlama()
    with caplog.at_level(logging.INFO):
        async with fleet(llama) as lab:
            answer = await ask(lab, path, stream=is_stream)
            assert is_complete(await answer.read())
            assert answer.headers["X-Sollold-Node"] == "n1"
            assert answer.headers["X-Sollold-Attempts"] == "1"
            assert answer.headers["X-Sollold-Reason"] == "only holder"
            assert "X-Request-Id" in answer.headers
            assert "Via" in answer.headers
            assert "Server" not in answer.headers or "llama" not in answer.headers["Server"]
            await settled(lab)
            async with lab.session.get("/metrics") as response:
                figures = await response.text()
            async with lab.session.get("/api/v1/events") as response:
                events = (await response.json())["events"]
    assert 'node="n1"' in figures
    kinds = {event["event_type"] for event in events}
    assert "REQUEST_DONE" in kinds
    assert "hello there" not in caplog.text
    assert "node=n1" in caplog.text


@pytest.mark.parametrize("is_stream", [False, True])
async def test_nothing_of_reading_a_prompt_is_learned_from_counts_with_cached_tokens(
    is_stream: bool,
) -> None:
    llama = FakeLlama(prefill_rate=1000.0, rate=2000.0)
    async with fleet(llama) as lab:
        text = "word " * 60
        for _ in range(3):
            await (await ask(lab, messages=turns(text), stream=is_stream)).read()
            await asyncio.sleep(0.06)
        rates = lab.built.dispatcher._learner._rates
        (row,) = rates.snapshot(0.0).pairs
        assert (row.node, row.prefill_tps, row.load_s) == ("n1", None, None)
        assert row.decode[0] is not None
        await settled(lab)


async def test_no_costs_of_loading_for_servers_that_do_not() -> None:
    llama, other = FakeLlama(), FakeLlama()
    async with fleet(llama, other) as lab:
        async with lab.session.post("/api/chat", json={"model": MODEL}) as response:
            assert response.status == 200
        answer = await ask(lab, options={"num_ctx": 1234, "num_predict": 4})
        assert answer.status == 200
        assert lab.built.dispatcher.admission.loads_started == 0
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), [STREAMS[0], STREAMS[2]])
async def test_pieces_of_a_tool_call_are_progress(path: str, is_stream: bool) -> None:
    llama = FakeLlama(has_tools=True)
    quick = {"overdue_s": 0.05, "progress_s": 0.8}
    async with fleet(llama, failover=quick, health=QUICK_HEALTH) as lab:
        await (await ask(lab, path, stream=is_stream)).read()
        llama.settings.calls_tools, llama.settings.rate = True, 2.5
        answer = await ask(lab, path, stream=is_stream, tools=[TOOL])
        data = await answer.read()
        assert answer.status == 200, data
        assert is_complete(data)
        assert b'"look"' in data
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), STREAMS)
async def test_pings_alone_are_no_progress_for_ever(path: str, is_stream: bool) -> None:
    first, second = FakeLlama(prefill_s=30.0, ping_s=0.02), FakeLlama()
    quick = {"overdue_s": 0.05, "progress_s": 0.5}
    async with fleet(first, second, failover=quick, health=QUICK_HEALTH) as lab:
        answer = await ask(lab, path, stream=is_stream)
        assert is_complete(await answer.read())
        assert answer.headers["X-Sollold-Node"] == "n2"
        await settled(lab)
