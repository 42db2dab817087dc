"""llama-servers and servers of OpenAI's API, seen through the prober."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trustme

from sollold.core.health import HealthPolicy
from sollold.core.model import NodeId, NodeKind, NodeState, NodeView
from sollold.core.names import key_of
from sollold.nodes.offer import Offer
from sollold.nodes.tls import TlsContexts, Trust
from sollold.wire.engines import engine_for
from tests.component.nodes.others import Cloud, Llama, recorded
from tests.component.nodes.support import LIMITS, Bench, black_hole
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = msgspec.structs.replace(LIMITS, cloud_s=0.05, cloud_retry_s=0.05, catalogue_s=0.05)
PATIENT = msgspec.structs.replace(LIMITS, limit_s=0.2)
LAZY = HealthPolicy(interval_s=3600.0, stale_s=7200.0)
ALLOWED = {"GET /props", "GET /v1/models", "GET /api/version", "POST /v1/embeddings"}


def names(view: NodeView) -> list[str]:
    return [model.name for model in view.models.values()]


def only_digest(view: NodeView) -> str:
    (model,) = view.models.values()
    return model.digest


async def test_an_unknown_address_turns_out_to_be_a_llama_server() -> None:
    async with Llama() as server, Bench() as bench:
        node = bench.add(server.url, name=None)
        assert node == f"ollama:127.0.0.1:{server.port}"
        await bench.prober.probe_once()
        view = bench.view(f"llama_server:127.0.0.1:{server.port}")
        assert bench.registry.get(node) is None
        assert (view.kind, view.state, view.slots) == (NodeKind.LLAMA_SERVER, NodeState.UP, 2)
        assert view.version == "b1-571d0d5"
        assert names(view) == ["chat:latest"]
        (resident,) = view.residents
        assert (resident.digest, resident.context_length) == (only_digest(view), 2048)
        assert set(server.asked) <= ALLOWED


async def test_a_name_stays_when_the_kind_is_found() -> None:
    async with Llama() as server, Bench() as bench:
        bench.add(server.url)
        await bench.prober.probe_once()
        assert bench.view().kind is NodeKind.LLAMA_SERVER
        assert server.count("GET /api/version") == 1
        await bench.prober.probe_once()
        assert server.count("GET /api/version") == 1


async def test_the_first_round_waits_for_who_goes_on_under_another_name() -> None:
    async with Llama() as server, Bench(policy=LAZY) as bench:
        bench.add(server.url, name=None)
        async with bench.running():
            await asyncio.wait_for(bench.prober.first_round.wait(), 5)
            view = bench.view(f"llama_server:127.0.0.1:{server.port}")
            assert names(view) == ["chat:latest"]


async def test_a_llama_server_behind_a_proxy_is_known_by_its_properties() -> None:
    async with Llama() as server, Bench() as bench:
        server.is_signed = False
        bench.add(server.url)
        await bench.prober.probe_once()
        assert bench.view().kind is NodeKind.LLAMA_SERVER
        assert bench.view().state is NodeState.UP


async def test_loading_is_warming_and_ends() -> None:
    async with Llama() as server, Bench() as bench:
        server.is_loading = True
        bench.add(server.url)
        async with bench.running():
            await bench.until(lambda: bench.told().startswith("unknown warming"))
            assert bench.view().kind is NodeKind.LLAMA_SERVER
            server.is_loading = False
            await bench.until_state(NodeState.UP)
            await bench.until(lambda: names(bench.view()) == ["chat:latest"])


async def test_killed_and_started_again_with_another_model() -> None:
    async with Llama() as server, Bench() as bench:
        bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            await server.stop()
            await bench.until_state(NodeState.DOWN)
            assert names(bench.view()) == ["chat:latest"]
            server.props = recorded("llama_props_tools")
            server.models["data"][0]["id"] = "qwen-ish"
            await server.start()
            await bench.until(lambda: names(bench.view()) == ["qwen-ish:latest"])
            await bench.until_state(NodeState.UP)


async def test_a_server_for_embeddings_is_found_out_without_embedding() -> None:
    async with (
        Llama("llama_props_embedding", "llama_models_embedding") as server,
        Bench() as bench,
    ):
        server.has_embeddings = True
        bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        await bench.prober.probe_once()
        await bench.prober.probe_once()
        models = bench.view().models.values()
        assert {model.capabilities for model in models} == {frozenset({"embedding"})}
        assert sorted(names(bench.view())) == ["emb:latest", "tiny-embed:latest"]
        assert server.count("POST /v1/embeddings") == 1


async def test_a_sleeping_server_is_not_woken() -> None:
    async with Llama(is_sleeping=True) as server, Bench() as bench:
        bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        await bench.prober.probe_once()
        assert set(server.asked) == {"GET /props", "GET /v1/models"}
        (model,) = bench.view().models.values()
        assert model.capabilities is None
        assert bench.view().residents == ()
        server.props["is_sleeping"] = False
        await bench.prober.probe_once()
        (model,) = bench.view().models.values()
        assert model.capabilities == frozenset({"completion"})


async def test_a_router_lists_all_its_models_and_is_not_made_to_load_any() -> None:
    async with Llama("llama_router_props", "llama_router_models") as server, Bench() as bench:
        bench.add(server.url)
        await bench.prober.probe_once()
        view = bench.view()
        assert sorted(names(view)) == ["tiny-chat:latest", "tiny-embed:latest"]
        (resident,) = view.residents
        assert resident.entry["name"] == "tiny-chat:latest"
        assert view.slots == 1
        asked = [path for path in server.asked if "model=" in path]
        assert set(asked) == {"GET /props?model=tiny-chat&autoload=false"}


async def test_keys_are_asked_for_told_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Llama() as server, Bench(secrets={"K": "wrong", "R": "sesame"}) as bench:
        server.wants_key = "sesame"
        bench.add(server.url)
        await bench.prober.probe_once()
        assert bench.view().kind is NodeKind.LLAMA_SERVER
        assert bench.told().startswith("down misconfigured: wants a key (answers 401)")
        bench.add(server.url, key_env="K")
        await bench.prober.probe_once()
        assert "does not accept its key (answers 401)" in bench.told()
        bench.add(server.url, key_env="R")
        await bench.prober.probe_once()
        assert bench.view().state is NodeState.UP
        assert "Bearer sesame" in server.keys
        everything = caplog.text + str(bench.events) + repr(bench.registry.fleet())
        assert "sesame" not in everything


@pytest.mark.parametrize("has_work", [True, False])
async def test_silence_while_it_works_is_busy(has_work: bool) -> None:
    async with Llama() as server, Bench(settings=PATIENT) as bench:
        bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        await bench.prober.probe_once()
        bench.prober.has_work = lambda _: has_work
        server.is_silent = True
        await bench.prober.probe_once()
        await bench.prober.probe_once()
        if has_work:
            assert bench.told() == "up busy: answers no probes while it works"
            assert bench.view().is_routable
        else:
            assert bench.view().state is NodeState.DOWN
        assert await bench.prober.is_frozen(NodeId("node")) is not has_work


async def test_waiting_ends_when_a_llama_server_is_gone() -> None:
    async with Llama() as server, Cloud("m") as cloud, Bench(policy=LAZY) as bench:
        bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        bench.add(cloud.url, name="cloud", kind=NodeKind.OPENAI)
        await bench.prober.probe_once()
        assert not await bench.prober.is_frozen(NodeId("node"))
        server.wants_key = "x"
        assert not await bench.prober.is_frozen(NodeId("node"))
        await server.stop()
        assert await bench.prober.is_frozen(NodeId("node"))
        await server.start()
        cloud.is_silent = True
        asked = len(cloud.asked)
        # It was looked at a moment ago, and is asked no more often than the pause allows.
        assert not await bench.prober.is_frozen(NodeId("cloud"))
        assert len(cloud.asked) == asked


async def test_a_switched_off_host_is_gone_though_requests_run_there() -> None:
    settings = msgspec.structs.replace(LIMITS, limit_s=0.3)
    async with Llama() as server, Bench(policy=LAZY, settings=settings) as bench:
        bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        await bench.prober.probe_once()
        bench.prober.has_work = lambda _: True
        await server.stop()
        with black_hole("127.0.0.1", server.port):
            for _ in range(20):
                if await bench.prober.is_frozen(NodeId("node")):
                    break
            assert bench.view().state is NodeState.DOWN
        await server.start()


async def test_an_ollama_that_comes_back_is_read_anew() -> None:
    async with FakeNode(["x"]) as ollama, Bench() as bench:
        bench.add(ollama.url)
        await bench.prober.probe_once()
        await ollama.stop()
        server = Llama()
        server.port = ollama.port
        async with server:
            await bench.prober.probe_once()
            assert names(bench.view()) == ["chat:latest"]
        await ollama.start()
        await bench.prober.probe_once()
        await bench.prober.probe_once()
        assert names(bench.view()) == ["x:latest"]


async def test_another_daemon_in_the_place_of_a_llama_server() -> None:
    async with Llama() as server, Bench() as bench:
        bench.add(server.url)
        await bench.prober.probe_once()
        server.headers = {"Via": "1.1 sollold"}
        await bench.prober.probe_once()
        assert bench.registry.fleet().nodes == ()
        server.headers = {}
        await bench.prober.probe_once()
        assert names(bench.view()) == ["chat:latest"]


async def test_another_server_than_configured_is_told() -> None:
    async with Llama() as server, FakeNode() as ollama, Bench() as bench:
        bench.add(server.url, name="a", kind=NodeKind.OLLAMA)
        bench.add(ollama.url, name="b", kind=NodeKind.LLAMA_SERVER)
        await bench.prober.probe_once()
        assert bench.told("a") == (
            f"down misconfigured: a llama.cpp server answers on {server.port}, not Ollama; "
            'write kind = "llama_server", or leave kind out'
        )
        assert bench.told("b") == (
            f"down misconfigured: an Ollama answers on {ollama.port}, not a llama.cpp server"
        )
        assert bench.view("a").kind is NodeKind.OLLAMA
        assert ollama.inference == []


async def test_a_llama_server_configured_as_openai_is_told() -> None:
    async with Llama() as server, Bench() as bench:
        bench.add(server.url, kind=NodeKind.OPENAI)
        await bench.prober.probe_once()
        assert bench.told() == (
            f"down misconfigured: a llama.cpp server answers on {server.port}; "
            'write kind = "llama_server", or leave kind out'
        )


async def test_who_comes_in_the_place_of_a_found_llama_server_is_recognised() -> None:
    async with FakeNode(["x"]) as ollama, Bench() as bench:
        await ollama.stop()
        server = Llama()
        server.port = ollama.port
        async with server:
            bench.add(server.url)
            await bench.prober.probe_once()
            assert bench.view().kind is NodeKind.LLAMA_SERVER
        await ollama.start()
        await bench.prober.probe_once()
        await bench.prober.probe_once()
        view = bench.view()
        assert (view.kind, view.state, view.slots) == (NodeKind.OLLAMA, NodeState.UP, None)
        assert names(view) == ["x:latest"]


async def test_another_daemon_is_no_llama_server_and_no_cloud() -> None:
    async with Cloud("m") as server, Bench() as bench:
        server.headers = {"Via": "1.1 sollold"}
        bench.add(server.url, kind=NodeKind.OPENAI)
        await bench.prober.probe_once()
        assert bench.registry.fleet().nodes == ()
        assert len(bench.registry.peers()) == 1


async def test_hostile_properties() -> None:
    async with Llama() as server, Bench() as bench:
        server.props = {"total_slots": "many", "default_generation_settings": 5}
        bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        await bench.prober.probe_once()
        assert bench.view().state is NodeState.UP
        server.props = {"nothing": True}
        await bench.prober.probe_once()
        port = server.port
        assert bench.told().startswith(
            "down misconfigured: answers with JSON of another shape, "
            f"not as a llama.cpp server does, on {port}"
        )


async def test_nothing_is_offered_before_the_list_was_read_once() -> None:
    async with Llama() as server, Bench() as bench:
        good, server.models = server.models, {"data": 5}
        bench.add(server.url, kind=NodeKind.LLAMA_SERVER, offer=Offer(name="mine:1b"))
        await bench.prober.probe_once()
        assert names(bench.view()) == []
        assert bench.told() == (
            "down misconfigured: answers with JSON of another shape to /v1/models"
        )
        server.models = good
        await bench.prober.probe_once()
        assert names(bench.view()) == ["mine:1b"]
        engine = engine_for(bench.view(), next(iter(bench.view().models)))
        assert engine is not None
        assert (engine.model, engine.context_length) == ("chat", 2048)
        assert engine.has_templates


async def test_a_list_that_fails_changes_nothing() -> None:
    async with Llama() as server, Bench() as bench:
        node = bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        await bench.prober.probe_once()
        (before,) = bench.view().models.values()
        server.models = {"data": 5}
        for _ in range(2):
            bench.prober.kick(node)
            await bench.prober.probe_once()
            assert list(bench.view().models.values()) == [before]
            assert bench.view().state is NodeState.UP


async def test_a_list_that_fails_is_no_list_of_another_model() -> None:
    async with Llama() as server, Bench() as bench:
        bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        await bench.prober.probe_once()
        first = only_digest(bench.view())
        good, server.models = server.models, {"data": 5}
        server.props = recorded("llama_props", model_path="/srv/models/tuned.gguf")
        await bench.prober.probe_once()
        assert names(bench.view()) == []
        server.models = good
        await bench.prober.probe_once()
        assert only_digest(bench.view()) != first


async def test_who_does_not_say_whether_it_embeds_is_asked_again_later() -> None:
    settings = msgspec.structs.replace(LIMITS, catalogue_s=0.05)
    async with Llama() as server, Bench(settings=settings) as bench:
        server.embedding_status = 503
        bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            (model,) = bench.view().models.values()
            assert model.capabilities is None
            server.embedding_status = 0
            await bench.until(
                lambda: (
                    [model.capabilities for model in bench.view().models.values()]
                    == [frozenset({"completion"})]
                )
            )


async def test_a_cloud_offers_what_configuration_names() -> None:
    async with Cloud("Qwen/Qwen2.5-7B", "other") as server, Bench(secrets={"K": "k3y"}) as bench:
        server.wants_key = "k3y"
        offer = Offer(names=(("qwen2.5:7b", "Qwen/Qwen2.5-7B"), ("gone", "gone")))
        bench.add(f"{server.url}/v1", kind=NodeKind.OPENAI, key_env="K", offer=offer)
        await bench.prober.probe_once()
        view = bench.view()
        assert (view.kind, view.state, view.version) == (NodeKind.OPENAI, NodeState.UP, None)
        assert names(view) == ["qwen2.5:7b"]
        assert [resident.key for resident in view.residents] == list(view.models)
        assert set(server.asked) == {"GET /v1/models"}


async def test_what_lists_of_clouds_say_more() -> None:
    vllm = {"id": "a", "max_model_len": 32768, "created": 1_700_000_000}
    router = {
        "id": "b",
        "context_length": 1000,
        "architecture": {"input_modalities": ["text", "image"]},
        "supported_parameters": ["tools", "reasoning"],
    }
    async with Cloud(vllm, router, {"id": "c", "max_model_len": "x"}) as server, Bench() as bench:
        bench.add(server.url, kind=NodeKind.OPENAI)
        await bench.prober.probe_once()
        models = {model.name: model for model in bench.view().models.values()}
        assert models["a:latest"].modified_at == "2023-11-14T22:13:20Z"
        assert models["a:latest"].capabilities is None
        assert models["b:latest"].capabilities == frozenset(
            {"completion", "vision", "tools", "thinking"}
        )
        engines = {name: model.engine for name, model in models.items()}
        lengths = {name: one.context_length for name, one in engines.items() if one}
        assert lengths == {"a:latest": 32768, "b:latest": 1000, "c:latest": None}
        # A server that prints the current time does not make its models newer each time.
        vllm["created"] = 1_800_000_000
        generation = bench.registry.fleet().generation
        await bench.prober.probe_once()
        assert bench.registry.fleet().generation == generation


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (401, {}, "down misconfigured: wants a key (answers 401)"),
        (
            404,
            {},
            "down misconfigured: answers 404 to /v1/models on PORT, not as OpenAI's API does",
        ),
        (500, {}, "unknown http_error: answers 500 to /v1/models on PORT"),
        (429, {"Retry-After": "7"}, "unknown busy: said it is busy, left alone for 7 s"),
        (429, {"Retry-After": "Thu"}, "unknown busy: said it is busy, left alone for 1 s"),
    ],
)
async def test_clouds_that_do_not_answer(status: int, headers: dict[str, str], told: str) -> None:
    async with Cloud() as server, Bench() as bench:
        server.status, server.headers = status, headers
        bench.add(server.url, kind=NodeKind.OPENAI)
        await bench.prober.probe_once()
        assert bench.told() == told.replace("PORT", str(server.port))


async def test_too_many_requests_are_no_failure() -> None:
    async with Cloud("m") as server, Bench() as bench:
        bench.add(server.url, kind=NodeKind.OPENAI)
        await bench.prober.probe_once()
        server.status = 429
        for _ in range(3):
            await bench.prober.probe_once()
            assert bench.view().state is NodeState.UP
        server.status = 0
        server.body = b"<html>"
        await bench.prober.probe_once()
        assert bench.told() == "down misconfigured: answers with a web page to /v1/models"


async def test_a_cloud_is_not_asked_often_whatever_happens() -> None:
    async with Cloud("m") as server, Bench() as bench:
        node = bench.add(server.url, kind=NodeKind.OPENAI)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            for _ in range(5):
                bench.prober.kick(node)
                await bench.prober.refresh(0.3)
            assert server.asked == ["GET /v1/models"]


async def test_a_cloud_is_asked_again_in_time() -> None:
    async with Cloud("m") as server, Bench(settings=PROMPT) as bench:
        bench.add(server.url, kind=NodeKind.OPENAI)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            server.models.append("n")
            await bench.until(lambda: len(bench.view().models) == 2)


async def test_a_refresh_finds_what_a_router_was_given() -> None:
    async with (
        Llama("llama_router_props", "llama_router_models") as server,
        Bench(policy=LAZY) as bench,
    ):
        node = bench.add(server.url, kind=NodeKind.LLAMA_SERVER)
        async with bench.running():
            await bench.until_state(NodeState.UP)
            server.models["data"].append({"id": "new", "status": {"value": "unloaded"}})
            await bench.prober.refresh(5.0)
            assert "new:latest" in names(bench.view())
            server.models = {"data": None}
            bench.prober.kick(node)
            await bench.prober.refresh(5.0)
            assert "new:latest" in names(bench.view())


async def test_equality_by_configuration_and_without() -> None:
    async with FakeNode(["m"]) as ollama, Llama() as one, Llama() as two, Bench() as bench:
        same = frozenset(filter(None, [key_of("m")]))
        bench.add(ollama.url, name="o")
        bench.add(
            one.url,
            name="l1",
            offer=Offer(name="m", same_as_ollama=same),
            kind=NodeKind.LLAMA_SERVER,
        )
        bench.add(two.url, name="l2", offer=Offer(name="m"), kind=NodeKind.LLAMA_SERVER)
        await bench.prober.probe_once()
        real = only_digest(bench.view("o"))
        assert only_digest(bench.view("l1")) == real
        assert bench.view("l1").residents[0].digest == real
        assert only_digest(bench.view("l2")) != real
        ids = {str(view.id): only_digest(view) for view in bench.registry.fleet().nodes}
        assert ids["l1"] == ids["o"] != ids["l2"]


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("127.0.0.1", "localhost")


@pytest.fixture
def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def pin_of(certificate: trustme.LeafCert) -> bytes:
    pem = certificate.cert_chain_pems[0].bytes().decode()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()


async def told_of(server: Cloud, trust: Trust | None) -> str:
    async with Bench() as bench:
        bench.add(server.url, kind=NodeKind.OPENAI, trust=trust)
        await bench.prober.probe_once()
        return bench.told()


async def test_certificates(
    authority: trustme.CA,
    certificate: trustme.LeafCert,
    serving: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    async with Cloud("m", tls=serving) as server:
        assert await told_of(server, Trust(ca_file=str(ca_file))) == "up"
        assert await told_of(server, Trust(pin=pin_of(certificate))) == "up"
        server.asked.clear()
        told = await told_of(server, None)
        assert told.startswith("down misconfigured: its TLS certificate is not accepted")
        told = await told_of(server, Trust(pin=bytes(32)))
        assert told == (
            f"down misconfigured: its TLS certificate is not accepted on {server.port}: "
            "it is not the pinned one"
        )
        told = await told_of(server, Trust(ca_file=str(tmp_path / "gone.pem")))
        assert told == ("down misconfigured: its ca_file cannot be used: No such file or directory")
        # Nothing was asked, so no key was told either.
        assert server.asked == []


@pytest.mark.parametrize("is_right", [True, False])
async def test_the_same_context_serves_requests(
    certificate: trustme.LeafCert, serving: ssl.SSLContext, is_right: bool
) -> None:
    contexts = TlsContexts()
    trust = Trust(pin=pin_of(certificate) if is_right else bytes(32))
    assert contexts.known(trust) is None
    await contexts.prepare(trust)
    context = contexts.known(trust)
    await contexts.prepare(trust)
    assert contexts.known(trust) is context is not None
    async with Cloud("m", tls=serving) as server:
        opening = asyncio.open_connection(
            "127.0.0.1", server.port, ssl=context, server_hostname="localhost"
        )
        if not is_right:
            with pytest.raises(ssl.SSLCertVerificationError, match="not the pinned one"):
                await opening
            return
        reader, writer = await opening
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b'"id": "m"' in await reader.read()
        writer.close()


async def test_a_renewed_authority_is_noticed(
    authority: trustme.CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contexts, ca_file = TlsContexts(), tmp_path / "ca.pem"
    trust = Trust(ca_file=str(ca_file))
    with pytest.raises(FileNotFoundError):
        await contexts.prepare(trust)

    async def after(pem: bytes) -> ssl.SSLContext:
        await asyncio.to_thread(ca_file.write_bytes, pem)
        await contexts.prepare(trust)
        context = contexts.known(trust)
        assert context is not None
        return context

    first = await after(authority.cert_pem.bytes())
    renewed = trustme.CA().cert_pem.bytes()
    second = await after(renewed)
    assert second is not first
    (held,) = second.get_ca_certs(binary_form=True)
    assert held == ssl.PEM_cert_to_DER_cert(renewed.decode())
    # What was written by halves, or taken away for a moment, ends nothing.
    assert await after(renewed[:100]) is second
    assert "what it was before is" in caplog.text
    await asyncio.to_thread(ca_file.unlink)
    await contexts.prepare(trust)
    assert contexts.known(trust) is second
    assert await after(authority.cert_pem.bytes()) is not second


async def test_an_ollama_may_have_its_own_certificate(
    certificate: trustme.LeafCert, serving: ssl.SSLContext
) -> None:
    class Version(Cloud):
        def answer(self, request: Any) -> Any:
            from aiohttp import web

            if request.path == "/api/version":
                return web.json_response({"version": "1.2.3"})
            return web.json_response({"models": []})

    async with Version(tls=serving) as server, Bench() as bench:
        bench.add(server.url, trust=Trust(pin=pin_of(certificate)))
        await bench.prober.probe_once()
        assert bench.told() == "up"
        assert bench.view().version == "1.2.3"
