"""Choice, waiting and what passes through, seen from outside."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.component.lab import IN_ORDER, Lab
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from sollold.core.queue import Queue


def has_length(thing: Queue | FakeNode, length: int) -> bool:
    """Whether so many requests wait, or so many models are loaded."""
    return len(thing.residents if isinstance(thing, FakeNode) else thing) == length


async def load_model(lab: Lab) -> None:
    """Load the model on every node, by asking each for nothing."""
    for view in list(lab.fleet.values()):
        answer = await lab.session.post(
            "/api/chat",
            json={"model": "llama3.2", "messages": []},
            headers={"X-Sollold-Pin": view.id},
        )
        assert answer.status == 200


async def test_requests_wait_here_and_not_inside_a_node() -> None:
    async with Lab([FakeNode(rate=50.0, answer_tokens=10)]) as lab:
        node = lab.nodes[0]
        await asyncio.gather(*(lab.chat() for _ in range(6)))
        assert node.max_active == 1
        assert node.waiting == 0
        lab.assert_idle()


async def test_configured_slots_are_used() -> None:
    node = FakeNode(rate=20.0, answer_tokens=20, slots=4)
    async with node:
        async with Lab([], nodes_config=[{"url": node.url, "name": "big", "slots": 4}]) as lab:
            asked = [asyncio.create_task(lab.chat()) for _ in range(4)]
            await node.until(lambda: node.active == 4)
            for answer in await asyncio.gather(*asked):
                assert answer.status == 200


async def test_priority_goes_first() -> None:
    async with Lab([FakeNode(rate=100.0, answer_tokens=30)]) as lab:
        await load_model(lab)
        order: list[int] = []

        async def ask(priority: int) -> None:
            answer = await lab.session.post(
                f"/api/chat?priority={priority}",
                json={
                    "model": "llama3.2",
                    "stream": False,
                    "messages": [{"role": "user", "content": "x"}],
                },
            )
            await answer.read()
            order.append(priority)

        queue = lab.built.dispatcher.admission.queue
        tasks = [asyncio.create_task(ask(5))]
        await lab.until(lambda: lab.nodes[0].active == 1)
        for number, priority in enumerate((1, 3, 9), 1):
            tasks.append(asyncio.create_task(ask(priority)))
            await lab.until(partial(has_length, queue, number))
        await asyncio.gather(*tasks)
        assert order == [5, 9, 3, 1]
        assert not any(b"priority" in r.target.encode() for r in lab.nodes[0].inference)


async def test_a_full_queue_answers_503_in_both_dialects() -> None:
    async with Lab([FakeNode(rate=10.0, answer_tokens=100)], queue={"length": 1}) as lab:
        await load_model(lab)
        running = [asyncio.create_task(lab.chat()) for _ in range(1)]
        await lab.until(lambda: lab.nodes[0].active == 1)
        running.append(asyncio.create_task(lab.chat()))
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 1)
        native = await lab.chat()
        assert native.status == 503
        assert "maximum pending requests exceeded" in (await native.json())["error"]
        assert int(native.headers["Retry-After"]) >= 1
        openai = await lab.session.post(
            "/v1/chat/completions",
            json={"model": "llama3.2", "messages": [{"role": "user", "content": "x"}]},
        )
        assert openai.status == 503
        assert (await openai.json())["error"]["type"] == "api_error"
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@pytest.mark.parametrize(("answer_tokens", "least_s", "most_s"), [(20, 12, 24), (2000, 60, 60)])
async def test_a_full_queue_says_when_its_head_will_have_started(
    answer_tokens: int, least_s: int, most_s: int
) -> None:
    node = FakeNode(rate=10.0, answer_tokens=answer_tokens)
    async with Lab([node], queue={"length": 8}) as lab:
        await load_model(lab)
        # The rate is learned, and so is how long answers are.
        options = {"num_predict": answer_tokens}
        await (await lab.chat(options={"num_predict": 10})).read()
        tasks = [asyncio.create_task(lab.chat(options=options)) for _ in range(9)]
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 8)
        answers = [await lab.chat(options=options) for _ in range(3)]
        told = {int(answer.headers["Retry-After"]) for answer in answers}
        assert [answer.status for answer in answers] == [503] * 3
        assert least_s <= min(told) <= max(told) <= most_s, told
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_clients_share_of_the_queue() -> None:
    nodes = [FakeNode(rate=10.0, answer_tokens=100)]
    async with Lab(nodes, queue={"per_client_waiting": 1}) as lab:
        await load_model(lab)
        tasks = [asyncio.create_task(lab.chat()) for _ in range(2)]
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 1)
        assert (await lab.chat()).status == 503
        other = asyncio.create_task(
            lab.session.post(
                "/api/chat",
                json={"model": "llama3.2", "messages": [{"role": "user", "content": "x"}]},
                headers={"Authorization": "Bearer other"},
            )
        )
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 2)
        for task in (*tasks, other):
            task.cancel()
        await asyncio.gather(*tasks, other, return_exceptions=True)


async def test_a_clients_own_timeout_ends_its_wait() -> None:
    async with Lab([FakeNode(rate=10.0, answer_tokens=100)]) as lab:
        await load_model(lab)
        running = asyncio.create_task(lab.chat())
        await lab.until(lambda: lab.nodes[0].active == 1)
        answer = await lab.session.post(
            "/v1/chat/completions",
            json={"model": "llama3.2", "messages": [{"role": "user", "content": "x"}]},
            headers={"X-Stainless-Timeout": "0.3"},
        )
        assert answer.status == 503
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_longest_wait_can_be_bounded() -> None:
    async with Lab([FakeNode(rate=10.0, answer_tokens=100)], queue={"max_wait_s": 0.2}) as lab:
        await load_model(lab)
        running = asyncio.create_task(lab.chat())
        await lab.until(lambda: lab.nodes[0].active == 1)
        answer = await lab.chat()
        assert answer.status == 503
        assert "waited" in (await answer.json())["error"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_node_that_has_the_model_loaded_is_preferred() -> None:
    nodes = [FakeNode(load_s=1.5), FakeNode(load_s=1.5)]
    async with Lab(nodes) as lab:
        first = await lab.chat()
        home = first.headers["X-Sollold-Node"]
        for _ in range(5):
            answer = await lab.chat()
            assert answer.headers["X-Sollold-Node"] == home
        assert sum(len(node.loads) for node in nodes) == 1


async def test_an_unknown_node_is_tried_and_the_faster_one_preferred() -> None:
    nodes = [FakeNode(rate=200.0, answer_tokens=10), FakeNode(rate=2000.0, answer_tokens=10)]
    async with Lab(nodes) as lab:
        await load_model(lab)
        for _ in range(200):
            await lab.chat()
            if all(len(node.inference) > 1 for node in nodes):
                break
        assert all(len(node.inference) > 1 for node in nodes)
        served = [(await lab.chat()).headers["X-Sollold-Node"] for _ in range(10)]
        assert served.count("n2") >= 8, served


async def test_a_node_that_others_keep_busy_gives_a_request_back() -> None:
    nodes = [FakeNode(rate=200.0, answer_tokens=4), FakeNode(rate=200.0, answer_tokens=4)]
    async with Lab(nodes, routing=IN_ORDER, failover={"overdue_s": 0.2}) as lab:
        await load_model(lab)
        for _ in range(3):
            assert (await lab.chat(stream=True)).status == 200
        nodes[0].fault = Fault(kind=FaultKind.SLOW_HEAD, delay_s=20.0)
        answer = await lab.chat(stream=True)
        assert answer.status == 200
        assert answer.headers["X-Sollold-Node"] == "n2"
        await answer.read()
        assert lab.fleet["n1"].state == "up"
        lab.assert_idle()


async def test_an_unload_reaches_every_node_that_has_the_model() -> None:
    async with Lab(3) as lab:
        await load_model(lab)
        await lab.until(lambda: all(view.residents for view in lab.fleet.values()))
        answer = await lab.session.post(
            "/api/generate", json={"model": "llama3.2", "keep_alive": 0}
        )
        assert (await answer.json())["done_reason"] == "unload"
        for node in lab.nodes:
            await node.until(partial(has_length, node, 0))


async def test_unloading_what_nobody_has_loaded_still_answers() -> None:
    async with Lab(2) as lab:
        answer = await lab.session.post(
            "/api/chat", json={"model": "llama3.2", "messages": [], "keep_alive": 0}
        )
        assert (await answer.json())["done_reason"] == "unload"


async def test_show_is_answered_by_any_holder_that_lives() -> None:
    async with Lab(2) as lab:
        await lab.nodes[0].stop()
        for _ in range(4):
            answer = await lab.session.post("/api/show", json={"name": "llama3.2"})
            assert answer.status == 200
            assert "model_info" in await answer.json()


async def test_a_pinned_request_goes_nowhere_else() -> None:
    async with Lab(3, queue={"holder_down_s": 0.2}) as lab:
        for name in ("n3", "n2", "n1"):
            answer = await lab.session.post(
                "/api/generate",
                json={"model": "llama3.2", "prompt": "x", "stream": False},
                headers={"X-Sollold-Pin": name},
            )
            assert answer.headers["X-Sollold-Node"] == name
        missing = await lab.session.post(
            "/api/generate", json={"model": "llama3.2"}, headers={"X-Sollold-Pin": "nope"}
        )
        assert missing.status == 404


BODIES = [
    (
        b'{"model":"llama3.2","stream":false,"zzz":{"b":1,"a":[1,2]},"messages":'
        b'[{"role":"user","content":"\\u00e9 \xc3\xa9 \\n"}]}'
    ),
    b'  {"MODEL":"llama3.2","Stream":false,"messages":[{"role":"user","content":"x"}]} trailing',
]


@pytest.mark.parametrize("body", BODIES)
async def test_bodies_pass_byte_for_byte(body: bytes) -> None:
    async with Lab(1) as lab:
        answer = await lab.session.post("/api/chat", data=body)
        assert answer.status == 200
        assert lab.nodes[0].inference[-1].body == body


async def test_private_headers_stay_here() -> None:
    async with Lab(1) as lab:
        answer = await lab.session.post(
            "/api/chat",
            json={"model": "llama3.2", "messages": [{"role": "user", "content": "x"}]},
            headers={
                "Authorization": "Bearer secret",
                "x-api-key": "secret",
                "Cookie": "a=secret",
                "Origin": "http://localhost:3000",
                "X-Custom": "kept",
            },
        )
        await answer.read()
        seen = {name.lower(): value for name, value in lab.nodes[0].inference[-1].headers}
        assert "secret" not in str(seen)
        assert "origin" not in seen
        assert seen["x-custom"] == "kept"
        assert seen["accept-encoding"] == "identity"
        assert seen["x-request-id"] == answer.headers["X-Request-Id"]


async def test_routing_data_in_the_body_on_request() -> None:
    async with Lab(1) as lab:
        for is_stream in (False, True):
            answer = await lab.session.post(
                "/api/chat?routing=1",
                json={
                    "model": "llama3.2",
                    "stream": is_stream,
                    "messages": [{"role": "user", "content": "x"}],
                },
            )
            last = json.loads((await answer.read()).splitlines()[-1])
            assert last["_sollol_routing"]["host"] == "n1"
            assert last["done"] is True
        plain: Any = await (await lab.chat()).json()
        assert "_sollol_routing" not in plain


async def test_an_answer_too_large_to_hold_is_passed_as_it_comes() -> None:
    async with Lab(1, limits={"held_bytes": 2048}) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.HUGE_LINE, size_bytes=300_000)
        answer = await lab.chat()
        data = await answer.read()
        assert len(data) > 300_000
        assert json.loads(data)["done"] is True
        lab.assert_idle()


async def test_a_huge_last_line_passes_unharmed() -> None:
    async with Lab(1) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.HUGE_LINE, size_bytes=400_000)
        answer = await lab.chat(stream=True)
        lines = (await answer.read()).splitlines()
        assert json.loads(lines[-1])["done"] is True
        assert max(map(len, lines)) > 400_000
        lab.assert_idle()


async def test_models_are_only_sought_where_they_are() -> None:
    nodes = [FakeNode([FakeModel(name="a")]), FakeNode([FakeModel(name="b")])]
    async with Lab(nodes) as lab:
        for name, node in (("a", "n1"), ("b", "n2")):
            answer = await lab.chat(model=name)
            assert answer.headers["X-Sollold-Node"] == node


async def test_events_tell_the_story_of_a_request() -> None:
    async with Lab(2, routing=IN_ORDER) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.CUT_RESET)
        answer = await lab.chat()
        request = answer.headers["X-Request-Id"]
        events = await (await lab.session.get(f"/api/v1/events?request={request}")).json()
        types = [event["event_type"] for event in events["events"]]
        assert types == [
            "ROUTE_DECISION", "OLLAMA_NODE_SELECTED", "TASK_START", "FALLBACK_TRIGGERED",
            "ROUTE_DECISION", "OLLAMA_NODE_SELECTED", "TASK_START", "TASK_COMPLETE", "REQUEST_DONE",
        ]  # fmt: skip
