"""What every kind of answer, and of silence, is taken for."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from sollold.core.health import Misconfigured, ProbeFailed, Warming
from sollold.core.model import NodeKind
from sollold.nodes.ask import (
    MAX_REPLY_BYTES,
    Asker,
    Target,
    _explain_connect,
    explain,
    probe_session,
)
from sollold.nodes.client import Memory, NodeClient, Peer, Stranger, Version
from sollold.nodes.parse import Shown, Tags
from tests.component.nodes.support import black_hole, target, web_server
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def client() -> AsyncIterator[NodeClient]:
    async with probe_session() as session:
        yield NodeClient(Asker(session))


async def version(client: NodeClient, url: str, limit_s: float = 5.0) -> object:
    return await client.version(target(url), limit_s)


async def test_a_node_answers_all_questions(client: NodeClient) -> None:
    llama = FakeModel(name="llama3.2", capabilities=("completion", "tools"))
    async with FakeNode([llama, "qwen3:8b"], version="0.33.0") as node:
        place = target(node.url)
        who = await client.version(place, 5.0)
        assert isinstance(who, Version)
        assert who.version == "0.33.0"
        assert 0 < who.latency_s < 5
        assert await client.peer(place, 5.0) is None
        tags = await client.tags(place, 5.0)
        assert isinstance(tags, Tags)
        assert sorted(model.name for model in tags.models) == ["llama3.2:latest", "qwen3:8b"]
        memory = await client.ps(place, 5.0)
        assert isinstance(memory, Memory)
        assert memory.residents == ()
        assert 0 < memory.latency_s < 5
        shown = await client.show(place, "llama3.2", 5.0)
        assert isinstance(shown, Shown)
        assert shown.capabilities == frozenset({"completion", "tools"})
        assert await client.show(place, "absent", 5.0) is None


async def test_every_question_has_a_connection_of_its_own(client: NodeClient) -> None:
    async with FakeNode() as node:
        for _ in range(3):
            await client.version(target(node.url), 5.0)
        assert node.connections == 3
        await node.until(lambda: node.open_connections == 0)


async def test_questions_never_load_a_model(client: NodeClient) -> None:
    async with FakeNode() as node:
        place = target(node.url)
        await client.version(place, 5.0)
        await client.tags(place, 5.0)
        await client.ps(place, 5.0)
        await client.show(place, "llama3.2", 5.0)
        assert node.loads == []
        assert node.inference == []


async def test_what_is_sent(client: NodeClient) -> None:
    seen: list[web.Request] = []

    def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response({"version": "1"}, headers={"Set-Cookie": "a=b"})

    async with web_server(answer) as url:
        place = target(url, host="Gpu.Lan", key="s3cret")
        for _ in range(2):
            assert isinstance(await client.version(place, 5.0), Version)
        headers = seen[1].headers
        assert headers["Authorization"] == "Bearer s3cret"
        assert headers["Accept-Encoding"] == "identity"
        assert "Cookie" not in headers
        # A node bound to loopback would turn a foreign name away.
        assert headers["Host"] == f"127.0.0.1:{place.port}"
        assert isinstance(await version(client, f"{url}/ollama"), Version)
        assert seen[2].path == "/ollama/api/version"


@pytest.mark.parametrize(
    ("place", "authority"),
    [
        (Target(scheme="http", address="10.0.0.1", port=1, host="Gpu.Lan"), "Gpu.Lan:1"),
        (Target(scheme="http", address="10.0.0.1", port=1, host="10.0.0.1"), "10.0.0.1:1"),
        (Target(scheme="http", address="fe80::1%eth0", port=1, host="fe80::1%eth0"), "[fe80::1]:1"),
        (Target(scheme="http", address="127.0.0.1", port=1, host="gpu.lan"), "127.0.0.1:1"),
        (Target(scheme="https", address="10.0.0.1", port=443, host="ai.org"), "ai.org"),
        (Target(scheme="https", address="fd00::1", port=443, host="fd00::1"), "[fd00::1]"),
        (Target(scheme="https", address="10.0.0.1", port=80, host="ai.org"), "ai.org:80"),
    ],
)
def test_the_host_named(place: Target, authority: str) -> None:
    assert place.authority() == authority


async def test_refused(client: NodeClient) -> None:
    async with FakeNode() as node:
        await node.stop()
        assert await version(client, node.url) == ProbeFailed(
            "refused", f"connection refused on {node.port}", is_refused=True
        )


async def test_silence(client: NodeClient) -> None:
    async with FakeNode() as node:
        node.fault = Fault(kind=FaultKind.HANG)
        assert await version(client, node.url, 0.1) == ProbeFailed(
            "timeout", "no answer to /api/version in 0.1 s"
        )


async def test_no_connection(client: NodeClient) -> None:
    async with FakeNode() as node:
        port = node.port
    with black_hole("127.0.0.1", port):
        found = await version(client, f"http://127.0.0.1:{port}", 0.2)
    assert isinstance(found, ProbeFailed)
    # On a busy machine both time limits may pass before either is looked at.
    assert found.text in {f"no connection on {port} in 0.2 s", "no answer to /api/version in 0.2 s"}


@pytest.mark.parametrize(
    ("exc", "failure"),
    [
        (aiohttp.ConnectionTimeoutError(), ("connect_timeout", "no connection on 1 in 2 s")),
        (aiohttp.SocketTimeoutError(), ("timeout", "no answer to /x in 2 s")),
        (TimeoutError(), ("timeout", "no answer to /x in 2 s")),
        (ConnectionResetError(104, "Reset"), ("disconnected", "connection lost on 1: Reset")),
        (
            aiohttp.ServerDisconnectedError(),
            ("disconnected", "closes connections on 1 without an answer"),
        ),
    ],
)
def test_what_exceptions_are_called(exc: Exception, failure: tuple[str, str]) -> None:
    place = Target(scheme="http", address="10.0.0.1", port=1)
    assert explain(exc, place, "/x", 2.0) == ProbeFailed(*failure)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ECONNREFUSED, "refused"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.EACCES, "connect_failed"),
    ],
)
def test_what_failed_connections_are_called(number: int, code: str) -> None:
    failure = _explain_connect(OSError(number, os.strerror(number)), 1)
    assert (failure.code, failure.is_refused) == (code, code == "refused")


async def test_no_route(client: NodeClient) -> None:
    failure = await version(client, "http://[fe80::dead%lo]:11434", 2.0)
    assert isinstance(failure, ProbeFailed)
    assert failure.code in {"unreachable", "connect_failed"}
    assert not failure.is_refused


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        (FaultKind.DROP_ACCEPT, "closes connections on {} without an answer"),
        (FaultKind.GARBAGE, "answers on {}, but not in HTTP"),
        (FaultKind.UNAUTHORIZED, "wants a key (answers 401)"),
    ],
)
async def test_faults(client: NodeClient, kind: FaultKind, failure: str) -> None:
    async with FakeNode() as node:
        node.fault = Fault(kind=kind)
        found = await version(client, node.url)
        is_network = kind is FaultKind.DROP_ACCEPT
        assert isinstance(found, ProbeFailed if is_network else Misconfigured)
        assert found.text == failure.format(node.port)


async def test_a_reset(client: NodeClient) -> None:
    async with FakeNode() as node:
        node.fault = Fault(kind=FaultKind.CUT_RESET, scope="all")
        found = await version(client, node.url)
        assert isinstance(found, ProbeFailed)
        assert found.code == "disconnected"


async def test_a_wrong_key(client: NodeClient) -> None:
    async with FakeNode() as node:
        node.fault = Fault(kind=FaultKind.UNAUTHORIZED)
        found = await client.version(target(node.url, key="old"), 5.0)
        assert found == Misconfigured("does not accept its key (answers 401)")


async def test_a_key_that_cannot_be_sent(client: NodeClient) -> None:
    async with FakeNode() as node:
        found = await client.version(target(node.url, key="a\r\nb"), 5.0)
        assert isinstance(found, Misconfigured)
        assert node.requests == []


async def test_server_errors_are_the_nodes(client: NodeClient) -> None:
    async with FakeNode() as node:
        node.fault = Fault(kind=FaultKind.STATUS, status=500, scope="all")
        text = f"answers 500 to /api/version on {node.port}"
        assert await version(client, node.url) == ProbeFailed("http_error", text)
        node.fault = Fault(kind=FaultKind.LOADING, scope="all")
        assert await version(client, node.url) == Warming()
        assert await client.tags(target(node.url), 5.0) == Warming()
        assert await client.show(target(node.url), "llama3.2", 5.0) == Warming()


async def test_another_sollold_by_its_via(client: NodeClient) -> None:
    def answer(request: web.Request) -> web.Response:
        return web.json_response({"version": "0.33.0"}, headers={"Via": "1.1 sollold-4f1c"})

    async with web_server(answer) as url:
        assert await version(client, url) == Peer("0.33.0")
        assert await client.ps(target(url), 5.0) == Peer(None)


async def test_a_nameless_via_is_a_peer_whatever_it_answers(client: NodeClient) -> None:
    def answer(request: web.Request) -> web.Response:
        return web.Response(status=403, headers={"Via": "1.1 sollold"})

    async with web_server(answer) as url:
        assert await version(client, url) == Peer(None)


async def test_another_sollold_by_its_status(client: NodeClient) -> None:
    def answer(request: web.Request) -> web.Response:
        assert request.path == "/api/v1/status"
        return web.json_response({"schema": "sollold.status/1", "version": "0.1.0"})

    async with web_server(answer) as url:
        assert await client.peer(target(url), 5.0) == Peer("0.1.0")


async def test_another_proxys_via_is_no_sollold(client: NodeClient) -> None:
    def answer(request: web.Request) -> web.Response:
        return web.json_response({"version": "0.33.0"}, headers={"Via": "1.1 nginx"})

    async with web_server(answer) as url:
        assert isinstance(await version(client, url), Version)


_STRANGE = "answers with {}, not as Ollama does, on PORT"


@pytest.mark.parametrize(
    ("status", "body", "headers", "text"),
    [
        (404, "Not Found", {}, "answers 404 to /api/version on PORT, not as Ollama does"),
        (200, "<!DOCTYPE html>", {}, _STRANGE.format("a web page")),
        (200, "Ollama is running", {}, _STRANGE.format("something not JSON")),
        (200, '{"error": 5}', {}, _STRANGE.format("JSON of another shape")),
        (302, "", {"Location": "https://sso.lan/"}, "redirects /api/version to https://sso.lan/"),
        (403, "", {}, "wants a key (answers 403)"),
    ],
)
async def test_other_servers(
    client: NodeClient, status: int, body: str, headers: dict[str, str], text: str
) -> None:
    def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers=headers)

    async with web_server(answer) as url:
        found = await version(client, url)
        assert found == Misconfigured(text.replace("PORT", str(target(url).port)))


@pytest.mark.parametrize("status", [404, 503, 401, 200])
async def test_a_llama_server_signs_whatever_it_says(client: NodeClient, status: int) -> None:
    def answer(request: web.Request) -> web.Response:
        return web.json_response({}, status=status, headers={"Server": "llama.cpp"})

    async with web_server(answer) as url:
        assert await version(client, url) == Stranger(NodeKind.LLAMA_SERVER)


async def test_a_redirect_is_not_followed(client: NodeClient) -> None:
    paths: list[str] = []

    def answer(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=301, headers={"Location": "/elsewhere"})

    async with web_server(answer) as url:
        await version(client, url)
    assert paths == ["/api/version"]


async def test_replies_are_bounded(client: NodeClient) -> None:
    def answer(request: web.Request) -> web.Response:
        return web.Response(body=b" " * (MAX_REPLY_BYTES + 1), content_type="application/json")

    async with web_server(answer) as url:
        found = await client.tags(target(url), 30.0)
        assert found == Misconfigured("answers /api/tags with more than 16 MiB")


async def test_an_answer_that_breaks_off(client: NodeClient) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await version(client, f"http://127.0.0.1:{port}")
        assert found == ProbeFailed("disconnected", "breaks off its answer to /api/version")


async def test_tls_towards_a_plain_server(client: NodeClient) -> None:
    async with FakeNode() as node:
        found = await version(client, f"https://127.0.0.1:{node.port}")
        assert isinstance(found, Misconfigured | ProbeFailed)
        assert str(node.port) in found.text


async def test_old_servers_do_not_know_ps(client: NodeClient) -> None:
    def answer(request: web.Request) -> web.Response:
        return web.Response(status=404, text="404 page not found")

    async with web_server(answer) as url:
        assert await client.ps(target(url), 5.0) is None
        found = await client.tags(target(url), 5.0)
        assert isinstance(found, Misconfigured)


async def test_nonsense_in_lists(client: NodeClient) -> None:
    def answer(request: web.Request) -> web.Response:
        return web.json_response({"models": "all of them"})

    async with web_server(answer) as url:
        place = target(url)
        for path, found in (
            ("/api/tags", await client.tags(place, 5.0)),
            ("/api/ps", await client.ps(place, 5.0)),
        ):
            assert found == Misconfigured(f"answers with JSON of another shape to {path}")
        assert await client.show(place, "m", 5.0) == Shown(None, None)
