"""Failures upon failures, and answers that are not what they seem."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.component.lab import IN_ORDER, Lab
from tests.component.odd_node import JSON, NDJSON, odd_node, reply
from tests.component.test_routing import load_model
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from tests.fakes.raw import Conversation, RawRequest, RawServer

QUICK = {"overdue_s": 0.2, "frozen_idle_s": 1.0}


class Ordered(Lab):
    """A lab in which n1 is the first choice, n2 the second, and so on."""

    def __init__(self, nodes: Any = 1, **settings: Any) -> None:
        super().__init__(nodes, routing=IN_ORDER, **settings)


def asked(lab: Lab) -> list[int]:
    """Inference requests each node has seen."""
    return [len(node.inference) for node in lab.nodes]


async def test_two_frozen_nodes_do_not_hold_a_request_for_ever() -> None:
    async with Ordered(2, failover=QUICK) as lab:
        for node in lab.nodes:
            node.fault = Fault(kind=FaultKind.HANG)
        async with asyncio.timeout(10):
            answer = await lab.chat()
        assert answer.status == 504
        assert "frozen" in (await answer.json())["error"]
        lab.assert_idle()


async def test_a_refusal_after_a_frozen_node_is_passed_on() -> None:
    async with Ordered(2, failover=QUICK) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.HANG)
        lab.nodes[1].fault = Fault(kind=FaultKind.STATUS, status=500, text="boom")
        async with asyncio.timeout(10):
            answer = await lab.chat()
        assert (answer.status, (await answer.json())["error"]) == (500, "boom")
        assert answer.headers["X-Sollold-Node"] == "n2"
        lab.assert_idle()


async def test_a_busy_node_after_a_frozen_one_leads_to_a_third() -> None:
    async with Ordered(3, failover=QUICK) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.HANG)
        lab.nodes[1].fault = Fault(kind=FaultKind.QUEUE_FULL)
        async with asyncio.timeout(10):
            answer = await lab.chat()
        assert answer.status == 200
        assert answer.headers["X-Sollold-Node"] == "n3"
        lab.assert_idle()


async def test_a_frozen_attempt_does_not_use_up_its_clients_share() -> None:
    async with Ordered(2, failover=QUICK, queue={"per_client_running": 1}) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.HANG)
        async with asyncio.timeout(10):
            answer = await lab.chat()
        assert answer.status == 200
        lab.assert_idle()


async def test_no_more_than_two_engines_get_a_prompt() -> None:
    async with Ordered(3, failover=QUICK) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.STATUS, status=500, text="boom")
        lab.nodes[1].fault = Fault(kind=FaultKind.HANG)
        async with asyncio.timeout(10):
            answer = await lab.chat()
        assert answer.status == 500
        assert asked(lab) == [1, 1, 0]
        lab.assert_idle()


async def test_requests_for_a_node_that_is_down_do_not_hide_others() -> None:
    nodes = [FakeNode([FakeModel(name="llama3.2")]), FakeNode([FakeModel(name="qwen3")])]
    async with Ordered(nodes, queue={"holder_down_s": 5.0}, health={"interval_s": 0.2}) as lab:
        await nodes[0].stop()
        await lab.until(lambda: lab.fleet["n1"].state == "down")
        held = [asyncio.create_task(lab.chat()) for _ in range(70)]
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 70)
        async with asyncio.timeout(3):
            answer = await lab.chat(model="qwen3")
        assert answer.status == 200
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_a_capped_client_does_not_hide_others() -> None:
    nodes = [FakeNode(rate=20.0, answer_tokens=40), FakeNode(rate=20.0, answer_tokens=40)]
    async with Lab(nodes, queue={"per_client_running": 1}) as lab:
        await load_model(lab)
        mine = [asyncio.create_task(lab.chat()) for _ in range(70)]
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 69)
        async with asyncio.timeout(8):
            other = await lab.session.post(
                "/api/chat",
                json={
                    "model": "llama3.2",
                    "stream": False,
                    "messages": [{"role": "user", "content": "x"}],
                },
                headers={"Authorization": "Bearer other"},
            )
        assert other.status == 200
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)


async def test_a_callers_mistake_ends_a_trial() -> None:
    async with Ordered(1, health={"eject_after": 1, "eject_s": 0.3}) as lab:
        node = lab.nodes[0]
        node.fault = Fault(kind=FaultKind.CUT_RESET)
        assert (await lab.chat()).status == 502
        node.fault = Fault(kind=FaultKind.STATUS, status=400, text="bad")
        await lab.until(lambda: not lab.fleet["n1"].is_ejected or lab.fleet["n1"].takes_trial)
        assert (await lab.chat()).status == 400
        node.fault = None
        for _ in range(3):
            assert (await lab.chat()).status == 200
        await lab.until(lambda: lab.fleet["n1"].state == "up")


async def test_what_is_known_of_no_node_is_not_called_missing() -> None:
    node = FakeNode()
    async with node:
        await node.stop()
        async with Lab([], nodes_config=[{"url": node.url, "name": "off"}]) as lab:
            answer = await lab.chat()
            assert answer.status == 503
            assert "off" in (await answer.json())["error"]


LAST = {
    "model": "llama3.2",
    "message": {"role": "assistant", "content": "hi"},
    "done": True,
    "done_reason": "stop",
}


async def ask_odd(server: RawServer, *, is_stream: bool, **settings: Any) -> tuple[int, bytes]:
    config = [{"url": f"http://127.0.0.1:{server.port}", "name": "odd"}]
    async with Lab([], nodes_config=config, **settings) as lab:
        async with asyncio.timeout(10):
            answer = await lab.chat(stream=is_stream)
            data = await answer.read()
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        lab.assert_idle()
        return answer.status, data


async def test_counters_beyond_belief_harm_nobody() -> None:
    async def answer(connection: Conversation, request: RawRequest) -> bool:
        body = json.dumps(LAST).encode()[:-1] + b',"eval_count":5,"eval_duration":' + b"9" * 400
        await connection.send(reply(body + b"}"))
        return False

    async with odd_node(answer) as server:
        status, data = await ask_odd(server, is_stream=False)
    assert status == 200
    assert json.loads(data)["done"] is True


async def test_an_encoded_stream_is_passed_as_it_is() -> None:
    lines = b'{"message":{"content":"x"},"done":false}\n' + json.dumps(LAST).encode() + b"\n"

    async def answer(connection: Conversation, request: RawRequest) -> bool:
        await connection.send(reply(gzip.compress(lines), NDJSON, b"Content-Encoding: gzip\r\n"))
        return False

    async with odd_node(answer) as server:
        status, data = await ask_odd(server, is_stream=True)
    assert (status, data) == (200, lines)


async def test_a_last_line_without_its_newline_is_an_answer() -> None:
    async def answer(connection: Conversation, request: RawRequest) -> bool:
        await connection.send(reply(json.dumps(LAST).encode(), NDJSON))
        return False

    async with odd_node(answer) as server:
        status, data = await ask_odd(server, is_stream=True)
    assert status == 200
    assert json.loads(data)["done"] is True


@pytest.mark.parametrize("is_framed", [True, False])
async def test_half_an_object_is_no_answer(is_framed: bool) -> None:
    half = json.dumps(LAST).encode()[:40]

    async def answer(connection: Conversation, request: RawRequest) -> bool:
        if is_framed:
            await connection.send(reply(half))
            return False
        await connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: " + JSON + b"\r\n\r\n" + half)
        return True

    async with odd_node(answer) as server:
        status, data = await ask_odd(server, is_stream=False)
    assert status == 502
    assert "not whole" in json.loads(data)["error"]


async def test_a_whole_answer_that_stalls_is_given_up() -> None:
    async def answer(connection: Conversation, request: RawRequest) -> bool:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: 100\r\n\r\n{" % JSON
        await connection.send(head)
        await asyncio.Event().wait()
        return True

    async with odd_node(answer) as server:
        failover = {"overdue_s": 0.2, "frozen_idle_s": 0.4, "progress_s": 1.0}
        status, _ = await ask_odd(server, is_stream=False, failover=failover)
    assert status == 504


async def test_a_redirect_is_no_answer_for_a_client() -> None:
    async def answer(connection: Conversation, request: RawRequest) -> bool:
        await connection.send(
            b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n"
        )
        return False

    async with odd_node(answer) as server:
        status, data = await ask_odd(server, is_stream=False)
    assert status == 502
    assert b"10.0.0.1" not in data


async def test_an_error_after_a_cut_stands_on_its_own_line_with_routing_data_asked_for() -> None:
    async with Ordered(1) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.CUT_CLEAN, after_frames=3)
        answer = await lab.session.post(
            "/api/chat?routing=1",
            json={"model": "llama3.2", "messages": [{"role": "user", "content": "x"}]},
        )
        data = b""
        with pytest.raises(Exception, match="not completed"):
            async for chunk in answer.content.iter_any():
                data += chunk
        answer.close()
        lines = [json.loads(line) for line in data.splitlines()]
        assert "error" in lines[-1]
        assert not any("_sollol_routing" in line for line in lines)


async def test_bodies_are_gone_when_their_requests_are() -> None:
    gc.collect()
    gc.disable()
    try:
        async with Ordered(1) as lab:
            for is_stream in (False, True):
                answer = await lab.chat(
                    stream=is_stream, messages=[{"role": "user", "content": "x" * 500_000}]
                )
                await answer.read()
                await lab.until(lambda: not list(lab.built.dispatcher.runs))
                large = [
                    item
                    for item in gc.get_objects()
                    if type(item).__name__ == "Job" and len(item.body) > 100_000
                ]
                assert not large
    finally:
        gc.enable()
