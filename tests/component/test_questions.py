"""Questions that need no slot: what a node says is passed on, what it says of our key is not."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.component.lab import IN_ORDER, Lab
from tests.component.odd_node import NDJSON, odd_node
from tests.fakes.faults import PROBE_PATHS, Fault, FaultKind

if TYPE_CHECKING:
    from tests.fakes.raw import Conversation, RawRequest

SECRET = "Incorrect API key provided: sk-NODEKEY"
ASKED = {
    "/api/show": {"model": "llama3.2"},
    "/api/generate": {"model": "llama3.2", "keep_alive": 0},
}


def probes(lab: Lab) -> int:
    return sum(request.path in PROBE_PATHS for request in lab.nodes[0].requests)


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("status", [302, 401, 403])
async def test_a_node_that_wants_a_key_is_named_and_not_quoted(path: str, status: int) -> None:
    async with Lab(1, health={"interval_s": 60.0}) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.STATUS, scope=path, status=status, text=SECRET)
        before = probes(lab)
        async with lab.session.post(path, json=ASKED[path]) as answer:
            text = await answer.text()
        assert (answer.status, json.loads(text)["error"]) == (502, f"n1 answered {status}")
        assert "X-Sollold-Node" not in answer.headers
        await lab.nodes[0].until(lambda: probes(lab) > before)
        lab.assert_idle()


@pytest.mark.parametrize("path", ASKED)
async def test_the_word_of_a_node_that_lets_us_in_counts(path: str) -> None:
    async with Lab(2, routing=IN_ORDER) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.STATUS, scope=path, status=404, text="mine")
        lab.nodes[1].fault = Fault(kind=FaultKind.STATUS, scope=path, status=401, text=SECRET)
        async with lab.session.post(path, json=ASKED[path]) as answer:
            assert (answer.status, (await answer.json())["error"]) == (404, "mine")
            assert answer.headers["X-Sollold-Node"] == "n1"


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("status", [302, 404, 429, 499, 500, 503])
async def test_what_one_node_cannot_say_another_does(path: str, status: int) -> None:
    async with Lab(2, routing=IN_ORDER) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.STATUS, scope=path, status=status)
        async with lab.session.post(path, json=ASKED[path]) as answer:
            assert answer.status == 200
            assert answer.headers["X-Sollold-Node"] == "n2"


async def test_an_unload_that_one_node_does_not_take_is_answered_by_another() -> None:
    async with Lab(2, routing=IN_ORDER) as lab:
        lab.nodes[0].fault = Fault(
            kind=FaultKind.STATUS, scope="/api/generate", status=401, text=SECRET
        )
        async with lab.session.post("/api/generate", json=ASKED["/api/generate"]) as answer:
            assert (await answer.json())["done_reason"] == "unload"
            assert answer.headers["X-Sollold-Node"] == "n2"


async def test_a_node_that_serves_what_we_do_not_understand_is_stopped() -> None:
    closed = asyncio.Event()
    asked = []

    async def answer(connection: Conversation, request: RawRequest) -> bool:
        asked.append(request.target)
        await connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'5\r\n{"a":\r\n' % NDJSON
        )
        await connection.wait_closed()
        closed.set()
        return True

    async with odd_node(answer) as server:
        config = [
            {"url": f"http://127.0.0.1:{server.port}", "name": "odd"},
            {"url": f"http://localhost:{server.port}", "name": "other"},
        ]
        async with Lab([], nodes_config=config) as lab:
            async with asyncio.timeout(5):
                async with lab.session.post("/api/chat", data=b'{"model":1}') as said:
                    error = (await said.json())["error"]
                await closed.wait()
            assert said.status == 400
            assert said.headers["X-Sollold-Error"] == "sollold"
            assert "cannot unmarshal number" in error
            assert asked == ["/api/chat"]
            lab.assert_idle()
