"""What the daemon says about models and about its configuration, and what the CLI makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sollold.api_config import ConfigDocument
from sollold.api_models import LoadedDocument, Model, ModelDocument, ModelsDocument
from sollold.web.nearest import nearest
from sollold.web.turns import Turns
from tests.component.lab import IN_ORDER, Lab
from tests.component.test_control import QUICK, busy, fetch, get, slow_node
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from collections.abc import Mapping

LLAMA = "llama3.2:latest"
OTHER = FakeModel(name="hf.co/Some/Model-GGUF:Q4_K_M")


async def model_of(lab: Lab, name: str = LLAMA) -> Model:
    document = await fetch(lab, "/api/v1/models", ModelsDocument)
    return {item.name: item for item in document.models}[name]


async def sollolctl(lab: Lab, *args: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and stdout of the command, asking this daemon."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from sollold.ctl.main import main; main()", *args,
        env={**os.environ, "SOLLOLD_URL": lab.url, "LC_ALL": "C.UTF-8", **(env or {})},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode()


# Models --------------------------------------------------------------------------------------


async def test_a_model_says_where_it_is_and_who_would_get_it() -> None:
    async with Lab(2, routing=IN_ORDER) as lab:
        found = await model_of(lab)
        assert [(copy.node, copy.state, copy.is_loaded) for copy in found.copies] == [
            ("n1", "up", False),
            ("n2", "up", False),
        ]
        assert found.next is not None
        assert (found.next.node, found.next.wait_ms, found.next.is_load) == ("n1", 0, True)
        async with await lab.chat() as answer:
            assert answer.headers["X-Sollold-Node"] == found.next.node
        found = await model_of(lab)
        assert found.next is not None
        assert found.next.is_load is False
        assert [copy.is_loaded for copy in found.copies] == [True, False]


async def test_asking_is_what_routing_does_next() -> None:
    """A node that is named gets the request; asking takes no slot, and no place in the queue."""
    async with Lab([slow_node(), slow_node()]) as lab, contextlib.AsyncExitStack() as stack:
        for count in (2, 1):
            following = (await model_of(lab)).next
            assert following is not None
            named = {following.node, *following.equals}
            assert len(named) == count
            call = await stack.enter_async_context(await lab.chat(stream=True))
            await call.content.readline()
            assert call.headers["X-Sollold-Node"] in named
        following = (await model_of(lab)).next
        assert following is not None
        assert following.reason.code == "waits"
        assert following.wait_ms is not None
        assert following.wait_ms > 0
        assert not lab.built.dispatcher.admission.queue.head()
        assert len(lab.built.dispatcher.admission.load) == 2


async def test_equal_nodes_are_said_to_be_equal() -> None:
    async with Lab(3) as lab:
        following = (await model_of(lab)).next
        assert following is not None
        assert {following.node, *following.equals} == {"n1", "n2", "n3"}


async def test_behind_a_full_queue_nobody_promises() -> None:
    async with Lab([slow_node()]) as lab, busy(lab, 12):
        following = (await model_of(lab)).next
        assert following is not None
        assert (following.node, following.reason.code) == (None, "busy")
        assert "11 requests wait" in following.reason.text


async def test_a_model_whose_holder_is_gone() -> None:
    async with Lab([FakeNode(), FakeNode((OTHER,))], health=QUICK) as lab:
        await lab.nodes[1].stop()
        await lab.until(lambda: lab.fleet["n2"].state == "down")
        found = await model_of(lab, OTHER.name)
        assert found.next is not None
        assert found.next.node is None
        assert found.next.reason.text.startswith("n2 is down: connection refused")
        assert found.copies[0].left_out is not None
        assert (found.copies[0].left_out.code, found.copies[0].is_loaded) == ("down", None)
        assert (await sollolctl(lab, "check", "--model", OTHER.name)) == (6, "cannot_serve\n")
        assert (await sollolctl(lab, "check", "--node", "n2")) == (6, "cannot_serve\n")
        assert (await sollolctl(lab, "check", "--model", "llama3.2")) == (0, "ok\n")
        assert (await sollolctl(lab, "check", "--model", "llama3.2", "--node", "n2"))[0] == 6
        assert (await sollolctl(lab, "check")) == (5, "degraded\n")


async def test_one_model_in_full() -> None:
    async with Lab([FakeNode((OTHER,)), FakeNode()]) as lab:
        path = "/api/v1/models/hf.co%2FSome%2FModel-GGUF:Q4_K_M"
        found = await fetch(lab, path, ModelDocument)
        assert found.model.name == OTHER.name
        assert found.asked.task == "chat"
        assert [cost.node for cost in found.costs] == ["n1"]
        assert found.costs[0].is_measured is False
        assert found.costs[0].total_ms is not None
        code, text = await sollolctl(lab, "models", "hf.co/Some")
        assert (code, text.splitlines()[0]) == (0, OTHER.name)
        assert "  Next       n1: only holder" in text
        missing = await get(lab, "/api/v1/models/llama3.3", 404)
        assert missing["error"]["code"] == "model_not_found"
        assert missing["error"]["hint"] == f"did you mean '{LLAMA}'?"


async def test_the_costly_part_can_be_left_out() -> None:
    async with Lab(1) as lab:
        quick = await fetch(lab, "/api/v1/models?next=0", ModelsDocument)
        assert quick.models[0].next is None
        assert quick.models[0].copies[0].left_out is None
        assert (await get(lab, "/api/v1/models?next=maybe", 400))["error"]["hint"] is None


async def test_a_large_fleet_does_not_hold_the_loop() -> None:
    models = tuple(FakeModel(name=f"m{number}:latest") for number in range(200))
    async with Lab([FakeNode(models) for _ in range(5)]) as lab:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counter = asyncio.create_task(count())
        handler = next(
            route.handler
            for route in lab.built.app.router.routes()
            if route.resource is not None and route.resource.canonical == "/api/v1/models"
        )
        request: Any = type("Request", (), {"query": {}})()
        before = turns
        answer: Any = await handler(request)
        counter.cancel()
        assert len(json.loads(answer.body)["models"]) == 200
        assert turns > before


@pytest.mark.parametrize("path", ["models", "models?next=0", "models/llama3.2-instruct-3:9b"])
async def test_thousands_of_models_are_all_there_and_in_order(path: str) -> None:
    nodes = [
        FakeNode([f"llama3.2-instruct-{node}-{number}:8b" for number in range(200)])
        for node in range(20)
    ]
    async with Lab(nodes) as lab:
        async with lab.session.get(f"/api/v1/{path}") as response:
            answer = json.loads(await response.read())

        if path.startswith("models/"):
            assert answer["error"]["hint"].startswith("did you mean 'llama3.2-instruct-3-")
        else:
            names = [model["name"] for model in answer["models"]]
            assert len(names) == 4000
            assert names == sorted(names)


async def test_what_was_meant_is_found_among_few_and_among_many() -> None:
    turns = Turns()
    many = [f"qwen2.5-{number}:14b" for number in range(3000)]

    assert await nearest("lama3.1:8b", ["phi3:mini", "llama3.1:8b"], turns) == "llama3.1:8b"
    assert await nearest("qwen2.5-710:14c", many, turns) == "qwen2.5-710:14b"
    assert await nearest("nothing-like-it", many, turns) is None
    assert await nearest("q" * 10_000, many, turns) is None
    assert await nearest("x", [], turns) is None


# In memory -----------------------------------------------------------------------------------


async def test_what_is_in_memory() -> None:
    async with Lab(2, routing=IN_ORDER, health=QUICK) as lab:
        assert (await fetch(lab, "/api/v1/loaded", LoadedDocument)).loaded == ()
        assert (await lab.chat()).status == 200
        await lab.until(lambda: any(item.size_bytes for item in lab.fleet["n1"].residents))
        found = await fetch(lab, "/api/v1/loaded", LoadedDocument)
        assert [(item.name, item.node) for item in found.loaded] == [(LLAMA, "n1")]
        assert found.loaded[0].context_length
        code, text = await sollolctl(lab, "ps", "--json")
        raw = json.loads(text)
        assert (code, raw["schema"], raw["loaded"]) == (
            0,
            "sollold.loaded/1",
            [msgspec.to_builtins(item) for item in found.loaded],
        )


# Configuration -------------------------------------------------------------------------------


async def test_the_configuration_in_force() -> None:
    async with Lab(1, queue={"length": 7}) as lab:
        found = await fetch(lab, "/api/v1/config", ConfigDocument)
        values = {item.key: item for item in found.values}
        assert values["queue.length"].value == 7
        assert values["queue.length"].is_live
        assert values["nodes[0].name"].value == "n1"
        assert values["listen.api"].origin == "default"
        code, text = await sollolctl(lab, "config", "show", "--filter", "key=queue.length")
        assert (code, text.splitlines()[1].split()) == (0, ["queue.length", "7"])


async def test_json_is_the_http_document() -> None:
    async with Lab(2) as lab:
        for args, path in (
            (("models",), "/api/v1/models"),
            (("models", "llama3.2"), f"/api/v1/models/{LLAMA}"),
            (("ps",), "/api/v1/loaded"),
            (("config", "show"), "/api/v1/config"),
        ):
            code, text = await sollolctl(lab, *args, "--json")
            served = await get(lab, path)
            shown = json.loads(text)
            assert code == 0
            assert shown.pop("at") <= served.pop("at")
            assert shown == served
