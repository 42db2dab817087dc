"""The daemon before servers other than Ollama: lists, `/api/show`, certificates."""

from __future__ import annotations

import hashlib
import ssl
import threading
from typing import Any

import pytest
import trustme

from sollold.core.model import NodeId
from sollold.core.names import key_of
from sollold.wire.engines import engine_for
from tests.component.lab import Lab
from tests.component.nodes.others import Cloud, Llama, both
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode


async def get(lab: Lab, path: str) -> Any:
    async with lab.session.get(path) as response:
        assert response.status == 200
        return await response.json(content_type=None)


async def show(lab: Lab, model: str) -> tuple[int, Any]:
    async with lab.session.post("/api/show", json={"model": model}) as response:
        return response.status, await response.json()


async def test_lists_show_what_all_kinds_hold() -> None:
    llama, cloud = Llama(), Cloud("Qwen/Qwen2.5-7B")
    async with both(llama, cloud):
        nodes: list[dict[str, Any]] = [
            {"url": llama.url, "name": "box"},
            {
                "url": f"{cloud.url}/v1",
                "name": "cloud",
                "kind": "openai",
                "models": {"qwen2.5:7b": "Qwen/Qwen2.5-7B"},
            },
        ]
        async with Lab([FakeNode(["llama3.2"])], nodes_config=nodes) as lab:
            tags = {item["name"]: item for item in (await get(lab, "/api/tags"))["models"]}
            assert {name: item["nodes"] for name, item in tags.items()} == {
                "llama3.2:latest": ["n1"],
                "chat:latest": ["box"],
                "qwen2.5:7b": ["cloud"],
            }
            assert all(len(item["digest"]) == 64 for item in tags.values())
            assert tags["chat:latest"]["details"]["quantization_level"] == "Q4_K_M"
            rows = {(row["name"], row["node"]) for row in (await get(lab, "/api/ps"))["models"]}
            assert {("chat:latest", "box"), ("qwen2.5:7b", "cloud")} <= rows
            cards = [card["id"] for card in (await get(lab, "/v1/models"))["data"]]
            assert sorted(cards) == ["chat:latest", "llama3.2:latest", "qwen2.5:7b"]
            status, shown = await show(lab, "chat")
            assert status == 200
            assert shown["capabilities"] == ["completion"]
            assert shown["model_info"]["unknown.context_length"] == 2048
            assert "<|im_start|>" in shown["template"]
            assert (await show(lab, "llama3.2"))[1]["details"]["format"] == "gguf"
            assert (await show(lab, "absent"))[0] == 404
            document = await get(lab, "/api/v1/nodes")
            kinds = {node["name"]: node["kind"] for node in document["nodes"]}
            assert kinds == {"n1": "ollama", "box": "llama_server", "cloud": "openai"}
            loaded = {node["name"]: node["loaded"] for node in document["nodes"]}
            assert [item["name"] for item in loaded["box"]] == ["chat:latest"]
            assert loaded["cloud"] is None
            assert (await get(lab, "/api/v1/status"))["models"]["loaded_nodes"] == 1


async def test_equality_lets_an_ollama_tell_and_the_engine_is_known() -> None:
    async with Llama() as llama:
        config = {
            "url": llama.url,
            "name": "box",
            "kind": "llama_server",
            "model": "llama3.2",
            "same_as_ollama": ["llama3.2"],
        }
        real = FakeModel(name="llama3.2", capabilities=("completion", "vision"))
        health = {"interval_s": 0.2}
        async with Lab([FakeNode([real])], nodes_config=[config], health=health) as lab:
            (item,) = (await get(lab, "/api/tags"))["models"]
            assert item["nodes"] == ["n1", "box"]
            assert (await show(lab, "llama3.2"))[1]["capabilities"] == ["completion", "vision"]
            key = key_of("llama3.2")
            assert key is not None
            engine = engine_for(lab.built.registry.get(NodeId("box")), key)
            assert engine is not None
            assert engine.model == "chat"
            await lab.nodes[0].stop()
            await lab.until(lambda: not lab.fleet["n1"].is_routable)
            assert "unknown.context_length" in (await show(lab, "llama3.2"))[1]["model_info"]


async def test_a_model_that_a_loading_server_may_hold_is_not_called_missing() -> None:
    async with Llama() as llama:
        llama.is_loading = True
        config = {"url": llama.url, "name": "box", "kind": "llama_server"}
        health = {"interval_s": 0.2}
        async with Lab([FakeNode(["llama3.2"])], nodes_config=[config], health=health) as lab:
            assert (await show(lab, "llama3.2"))[0] == 200
            async with lab.session.post("/api/show", json={"model": "chat"}) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "5")
                error = (await response.json())["error"]
                assert "not all have: box (" in error
                assert "n1" not in error
            await llama.stop()
            await lab.until(lambda: lab.fleet["box"].reason.code != "warming")
            # Who is away does not make every misspelled name its fault.
            assert (await show(lab, "chat"))[0] == 404
            await llama.start()
            await lab.until(lambda: lab.fleet["box"].reason.code == "warming")
            assert (await show(lab, "chat"))[0] == 503
            llama.is_loading = False
            assert (await show(lab, "chat"))[0] == 200
            assert (await show(lab, "absent"))[0] == 404


async def test_what_only_ollama_can_be_asked_is_answered_here() -> None:
    async with Llama() as llama:
        config = {"url": llama.url, "name": "box"}
        async with Lab([], nodes_config=[config]) as lab:
            llama.asked.clear()
            async with lab.session.post("/api/chat", data=b"{") as response:
                assert response.status == 400
            unload = {"model": "chat", "keep_alive": 0}
            async with lab.session.post("/api/generate", json=unload) as response:
                assert response.status == 200
                assert (await response.json())["done_reason"] == "unload"
            assert not [path for path in llama.asked if path.startswith("POST")]


async def test_certificates_are_read_in_threads_before_requests_need_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_by: list[threading.Thread] = []
    make = ssl.create_default_context

    def noted(*args: Any, **fields: Any) -> ssl.SSLContext:
        made_by.append(threading.current_thread())
        return make(*args, **fields)

    monkeypatch.setattr("sollold.nodes.tls.ssl.create_default_context", noted)
    config = {"url": "https://127.0.0.1:9", "name": "cloud", "kind": "openai"}
    async with Lab([], nodes_config=[config]) as lab:
        assert lab.built.dispatcher.pools.get(NodeId("cloud")) is not None
        assert len(made_by) == 1
        assert made_by[0] is not threading.main_thread()


@pytest.mark.parametrize("is_pinned", [True, False])
async def test_requests_trust_what_probes_trust(is_pinned: bool, tmp_path: Any) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    trust = (
        {"pin": hashlib.sha256(der).hexdigest()}
        if is_pinned
        else {"ca_file": str(tmp_path / "ca.pem")}
    )
    async with Cloud("m", tls=context) as cloud:
        config = {"url": cloud.url, "name": "cloud", "kind": "openai", **trust}
        async with Lab([], nodes_config=[config]) as lab:
            assert lab.fleet["cloud"].is_routable
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
            async with lab.session.post("/v1/chat/completions", json=body) as response:
                await response.read()
            assert "POST /v1/chat/completions" in cloud.asked
