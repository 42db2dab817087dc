"""Long bodies: understood in any spelling, looked at without holding others up, or refused."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sollold.web import inference, outgoing
from sollold.wire.peek import peek
from sollold.wire.translate.requests import steps
from tests.component.lab import Lab
from tests.fakes.llama import FakeLlama
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from sollold.wire.peek import InferenceRoute, Peek

KIB = 1024
MIB = 1024 * KIB
LAG_S = 0.25
"""Far more than it takes, and far less than decoding all of it would."""


async def post(lab: Lab, path: str, body: bytes) -> tuple[int, bytes]:
    async with lab.session.post(path, data=io.BytesIO(body)) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("size_bytes", [200 * KIB, 5 * MIB])
@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_long_body_in_odd_spelling_is_dispatched(size_bytes: int, is_stream: bool) -> None:
    body = json.dumps(
        {
            "user_data": "A" * size_bytes,
            "MESSAGES": [{"Role": "user", "content": "hi"}],
            "Stream": is_stream,
            "Model": "llama3.2",
        }
    ).encode()
    async with Lab([FakeNode(rate=50.0, answer_tokens=10)]) as lab:
        call = asyncio.create_task(lab.session.post("/api/chat", data=io.BytesIO(body)))
        await lab.until(lambda: len(lab.built.dispatcher.admission.load) == 1)
        answer = await call
        text = await answer.read()
        assert answer.status == 200
        assert "X-Sollold-Attempts" in answer.headers
        assert (len(text.splitlines()) > 5) is is_stream
        assert [request.body for request in lab.nodes[0].inference] == [body]
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        lab.assert_idle()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (b'"model":1,"prompt":"%b"', "json: cannot unmarshal number into Go struct field"),
        (b'"model":"llama3.2","prompt":["%b"]', "json: cannot unmarshal array into Go struct"),
        (b'"model":"llama3.2" "prompt":"%b",,"x":1', "no JSON from byte"),
        (b'"prompt":"%b"', "model '' not found"),
        (b'"model":"a b","prompt":"%b"', "invalid model name"),
    ],
)
async def test_a_long_body_that_is_not_understood_is_refused_here(fields: bytes, text: str) -> None:
    body = b"{" + fields % (b"x" * 200 * KIB) + b"}"
    async with Lab(1) as lab:
        async with lab.session.post("/api/generate", data=body) as answer:
            assert answer.status in (400, 404)
            assert answer.headers["X-Sollold-Error"] == "sollold"
            assert text in (await answer.json())["error"]
        assert not lab.nodes[0].inference
        lab.assert_idle()


MANY: dict[str, tuple[str, bytes, bytes, bytes]] = {
    "texts": ("/api/embed", b'{"model":"nope","input":[', b'"",', b'""]}'),
    "messages": ("/api/chat", b'{"model":"nope","messages":[', b'{"role":"user"},', b"{}]}"),
    "odd-case": ("/api/chat", b'{"Model":"nope","messages":[', b"{},", b"{}]}"),
    "escapes": ("/api/generate", b'{"model":"nope","prompt":"', b'\\"\\n', b'"}'),
}


@pytest.mark.parametrize("name", MANY)
async def test_a_look_at_a_long_body_holds_nobody_up(name: str) -> None:
    path, head, item, tail = MANY[name]
    body = head + item * (20 * MIB // len(item)) + tail
    async with Lab(1) as lab:
        call = asyncio.create_task(post(lab, path, body))
        longest_s = 0.0
        while not call.done():
            begun_s = time.perf_counter()
            await asyncio.sleep(0.001)
            longest_s = max(longest_s, time.perf_counter() - begun_s)
        assert (await call)[0] == 404
        assert longest_s < LAG_S
        lab.assert_idle()


class SlowLook:
    """A look at bodies that lasts until it is allowed to end."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def __call__(self, route: InferenceRoute, body: Any) -> Peek:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.may_end.wait(20)
        with self._lock:
            self.running -= 1
        return peek(route, body)


CHAT = {"model": "llama3.2", "stream": False, "messages": [{"role": "user", "content": "x"}]}
LONG_CHAT = json.dumps(CHAT | {"pad": "x" * 100 * KIB}).encode()


@pytest.fixture
def slow_look(monkeypatch: pytest.MonkeyPatch) -> SlowLook:
    look = SlowLook()
    monkeypatch.setattr(inference, "peek", look)
    return look


async def test_a_body_counts_until_nobody_looks_at_it(slow_look: SlowLook) -> None:
    async with Lab(1) as lab:
        try:
            call = asyncio.create_task(post(lab, "/api/chat", LONG_CHAT))
            await lab.until(lambda: slow_look.running == 1)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await lab.until(lambda: not lab.built.edge._tasks)
            assert lab.built.bodies.in_memory_bytes == len(LONG_CHAT)
        finally:
            slow_look.may_end.set()
        await lab.until(lambda: lab.built.bodies.in_memory_bytes == 0)
        lab.assert_idle()


async def test_a_fault_found_after_its_client_left_troubles_nobody(slow_look: SlowLook) -> None:
    async with Lab(1) as lab:
        try:
            call = asyncio.create_task(post(lab, "/api/chat", b'{"model":' + b"x" * 100 * KIB))
            await lab.until(lambda: slow_look.running == 1)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await lab.until(lambda: not lab.built.edge._tasks)
        finally:
            slow_look.may_end.set()
        await lab.until(lambda: lab.built.bodies.in_memory_bytes == 0)
        lab.assert_idle()


async def test_few_bodies_are_looked_at_at_once(slow_look: SlowLook) -> None:
    async with Lab(1) as lab:
        try:
            gone = [asyncio.create_task(post(lab, "/api/chat", LONG_CHAT)) for _ in range(3)]
            await lab.until(lambda: slow_look.running == 2)
            for call in gone:
                call.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
            # Threads that work for clients who have left take their places all the same.
            calls = [asyncio.create_task(post(lab, "/api/chat", LONG_CHAT)) for _ in range(4)]
            await lab.until(lambda: lab.built.bodies.in_memory_bytes >= 6 * len(LONG_CHAT))
            assert slow_look.running == 2
        finally:
            slow_look.may_end.set()
        assert {status for status, _ in await asyncio.gather(*calls)} == {200}
        assert slow_look.most == 2
        lab.assert_idle()


class SlowSteps:
    """A translation that lasts until it is allowed to end."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.running = 0

    def __call__(self, *args: Any) -> Any:
        self.running += 1
        assert self.may_end.wait(20)
        self.running -= 1
        return (yield from steps(*args))


async def test_few_bodies_are_translated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowSteps()
    monkeypatch.setattr(outgoing, "steps", slow)
    async with Lab(0, others=[FakeLlama(slots=8)]) as lab:
        model = next(iter(lab.fleet["n1"].models.values())).name
        body = json.dumps(CHAT | {"model": model, "pad": "x" * 100 * KIB}).encode()
        bodies = lab.built.bodies
        try:
            calls = [asyncio.create_task(post(lab, "/api/chat", body)) for _ in range(2)]
            await lab.until(lambda: slow.running == 2)
            calls += [asyncio.create_task(post(lab, "/api/chat", body)) for _ in range(3)]
            await lab.until(lambda: bodies.in_memory_bytes == 5 * len(body))
            assert slow.running == 2
            for call in calls[:3]:
                call.cancel()
            await asyncio.gather(*calls[:3], return_exceptions=True)
            # Threads go on for those who left, and what they look at counts.
            await lab.until(lambda: bodies.in_memory_bytes == 4 * len(body))
            await lab.until(lambda: not list(lab.built.dispatcher.runs))
            assert slow.running == 2
            assert bodies.in_memory_bytes == 4 * len(body)
        finally:
            slow.may_end.set()
        assert {status for status, _ in await asyncio.gather(*calls[3:])} == {200}
        await lab.until(lambda: bodies.in_memory_bytes == 0)
        lab.assert_idle()


async def test_what_is_made_of_a_body_counts_while_it_is_needed() -> None:
    async with Lab(0, others=[FakeLlama(rate=20.0)]) as lab:
        model = next(iter(lab.fleet["n1"].models.values())).name
        fields = {"model": model, "stream": True, "options": {"num_predict": 40}}
        body = json.dumps(CHAT | fields).encode()
        call = asyncio.create_task(post(lab, "/api/chat", body))
        bodies = lab.built.bodies
        await lab.until(lambda: bodies.in_memory_bytes > 1.5 * len(body))
        assert (await call)[0] == 200
        await lab.until(lambda: bodies.in_memory_bytes == 0)
        lab.assert_idle()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_too_many_parts_are_refused_where_they_are_translated(path: str) -> None:
    llama, ollama = FakeLlama(), FakeNode()
    async with Lab([ollama], others=[llama]) as lab:
        model = next(iter(lab.fleet["n2"].models.values())).name
        for name, expected in ((model, 413), ("llama3.2", 200)):
            many = {"model": name, "messages": [{"role": "user", "content": "x"}] * 70_000}
            status, text = await post(lab, path, json.dumps(CHAT | many).encode())
            assert status == expected, text[:200]
            assert (b"keys and texts" in text) is (status == 413)
        quoted = {"model": model, "messages": [{"role": "user", "content": '{"a":"b"}' * 200_000}]}
        status, text = await post(lab, path, json.dumps(CHAT | quoted).encode())
        assert b"keys and texts" not in text
        lab.assert_idle()
