"""Requests with something that an engine cannot do: another kind of node, or a clear word."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from tests.component.lab import Lab
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.llama import FakeLlama
from tests.fakes.node import FakeNode

_MODEL = "llama3.2"
_ASKED = {
    "model": _MODEL,
    "prompt": "hello",
    "stream": False,
    "options": {"num_predict": 4},
}


def _box(llama: FakeLlama) -> dict[str, Any]:
    """A llama-server whose model stands in for Ollama's, and is always the first choice."""
    return {
        "url": llama.url,
        "name": "box",
        "kind": "llama_server",
        "model": _MODEL,
        "same_as_ollama": [_MODEL],
        "tier": 1,
    }


async def _post(lab: Lab, **fields: Any) -> tuple[int, Any, Any]:
    async with lab.session.post("/api/generate", json=_ASKED | fields) as reply:
        return reply.status, reply.headers, await reply.json()


@pytest.mark.parametrize("extra", [{"template": "{{ .Prompt }}"}, {"_debug_render_only": True}])
async def test_another_kind_of_node_does_it_before_the_client_hears(extra: dict[str, Any]) -> None:
    async with AsyncExitStack() as stack:
        llama = await stack.enter_async_context(FakeLlama())
        node = FakeNode()
        lab = await stack.enter_async_context(
            Lab([node], nodes_config=[_box(llama)], routing={"weights": {"tier": 1000.0}})
        )
        status, headers, _ = await _post(lab)
        assert (status, headers["X-Sollold-Node"]) == (200, "box")

        status, headers, _ = await _post(lab, **extra)
        assert (status, headers["X-Sollold-Node"]) == (200, "n1")
        assert headers["X-Sollold-Attempts"] == "2"
        assert lab.fleet["box"].is_routable
        lab.assert_idle()


async def test_without_one_the_client_is_told() -> None:
    async with FakeLlama() as llama, Lab([], nodes_config=[_box(llama)]) as lab:
        status, headers, body = await _post(lab, template="{{ .Prompt }}")
        assert status == 400
        assert body["error"].startswith("template is not supported by the node of this model")
        assert headers["X-Sollold-Node"] == "box"
        assert lab.fleet["box"].is_routable
        lab.assert_idle()


async def test_nodes_of_the_same_kind_are_not_asked_one_after_the_other() -> None:
    async with AsyncExitStack() as stack:
        boxes = [await stack.enter_async_context(FakeLlama()) for _ in range(4)]
        config = [_box(llama) | {"name": f"box{n}"} for n, llama in enumerate(boxes, 1)]
        lab = await stack.enter_async_context(Lab([], nodes_config=config))
        status, headers, _ = await _post(lab, template="{{ .Prompt }}")
        assert (status, headers["X-Sollold-Attempts"]) == (400, "1")
        lab.assert_idle()


async def test_a_request_that_is_wrong_goes_no_further() -> None:
    async with AsyncExitStack() as stack:
        llama = await stack.enter_async_context(FakeLlama())
        node = FakeNode()
        lab = await stack.enter_async_context(
            Lab([node], nodes_config=[_box(llama)], routing={"weights": {"tier": 1000.0}})
        )
        status, headers, body = await _post(lab, options={"seed": "x"})
        assert (status, headers["X-Sollold-Node"], headers["X-Sollold-Attempts"]) == (
            500,
            "box",
            "1",
        )
        assert body["error"].startswith('option "seed" must be of type')
        assert not node.inference
        assert lab.fleet["box"].state == "up"
        lab.assert_idle()


async def _counts(lab: Lab, node: str) -> tuple[int, dict[str, int]]:
    """Failures in a node's figures, and attempts by how they ended."""
    async with lab.session.get("/api/v1/nodes") as reply:
        (found,) = (item for item in (await reply.json())["nodes"] if item["name"] == node)
    failed = 0 if found["last_hour"] is None else found["last_hour"]["failed"]
    return failed, lab.built.metrics._attempts


async def test_what_an_engine_cannot_do_is_no_failure_of_its_node(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with AsyncExitStack() as stack:
        llama = await stack.enter_async_context(FakeLlama())
        lab = await stack.enter_async_context(
            Lab([FakeNode()], nodes_config=[_box(llama)], routing={"weights": {"tier": 1000.0}})
        )
        for _ in range(3):
            status, headers, _ = await _post(lab, template="{{ .Prompt }}")
            assert (status, headers["X-Sollold-Attempts"]) == (200, "2")
        assert await _counts(lab, "box") == (0, {"ok": 3, "failed": 0, "given_up": 3})
        lab.assert_idle()

    caplog.clear()
    with caplog.at_level(logging.INFO):
        async with FakeLlama() as llama, Lab([], nodes_config=[_box(llama)]) as lab:
            assert (await _post(lab, template="{{ .Prompt }}"))[0] == 400
            assert await _counts(lab, "box") == (0, {"ok": 0, "failed": 0, "given_up": 1})
            lab.assert_idle()
    assert "status=400" in caplog.text
    assert "outcome=caller_error" in caplog.text


async def test_what_our_account_may_not_do_is_no_failure_of_the_node() -> None:
    async with AsyncExitStack() as stack:
        llama = await stack.enter_async_context(FakeLlama())
        lab = await stack.enter_async_context(Lab([], nodes_config=[_box(llama)]))
        llama.fault = Fault(kind=FaultKind.STATUS, status=403, text="no", scope="inference")
        assert (await _post(lab))[0] == 403
        assert await _counts(lab, "box") == (0, {"ok": 0, "failed": 0, "given_up": 1})
        llama.fault = Fault(kind=FaultKind.RATE_LIMITED)
        assert (await _post(lab))[0] == 429
        assert await _counts(lab, "box") == (1, {"ok": 0, "failed": 1, "given_up": 1})
        lab.assert_idle()


async def test_what_was_to_be_translated_never_goes_out_as_it_is() -> None:
    async with FakeLlama() as llama, Lab([], nodes_config=[_box(llama)]) as lab:
        # The model leaves the node between the choice of the node and the request to it.
        view = lab.fleet["box"]
        gone = msgspec.structs.replace(view, models={})
        lab.built.dispatcher.admission._views[view.id] = gone
        status, _, body = await _post(lab)
        assert status in (502, 503)
        assert "box" in body["error"]
        assert {request.path for request in llama.inference} <= {"/v1/embeddings"}
        lab.assert_idle()


async def test_two_proxies_that_say_the_same_do_not_acquit_each_other() -> None:
    async with AsyncExitStack() as stack:
        boxes = [await stack.enter_async_context(FakeLlama()) for _ in range(2)]
        config = [_box(llama) | {"name": f"box{n}"} for n, llama in enumerate(boxes, 1)]
        lab = await stack.enter_async_context(Lab([], nodes_config=config))
        for llama in boxes:
            llama.fault = Fault(kind=FaultKind.PAGE)
        for _ in range(4):
            status, _, _ = await _post(lab)
            assert status == 502
        assert all(lab.fleet[name].reason.code in ("ejected", "trial") for name in ("box1", "box2"))
        lab.assert_idle()
