"""Requests with something that an engine cannot do: another kind of node, or a clear word."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.component.lab import Lab
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
