"""Errors: one shape per dialect for every class, and requests that cannot be read at all."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from typing import TYPE_CHECKING, Any, Self

import pytest
from aiohttp import web

from sollold import errors
from sollold.core.model import Dialect
from sollold.errors import ConfigError, SollolError
from sollold.web.edge import Edge
from sollold.wire.cors import OriginPolicy
from tests.component.lab import Lab
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import Answer, ask
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": False}


async def call(
    lab: Lab,
    method: str,
    path: str,
    body: object = None,
    headers: Sequence[tuple[str, str]] = (),
) -> Answer:
    """One request as it is on the wire."""
    return await asyncio.to_thread(ask, lab.url, method, path, body, headers)


async def raw(lab: Lab, data: bytes) -> bytes:
    """Send bytes, return all that comes until the server closes."""

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", lab.port), 5) as sock:
            sock.sendall(data)
            sock.settimeout(5)
            got = b""
            while piece := sock.recv(65_536):
                got += piece
            return got

    return await asyncio.to_thread(talk)


# Errors --------------------------------------------------------------------------------------


def error_classes() -> Iterator[type[SollolError]]:
    waiting = [SollolError]
    while waiting:
        found = waiting.pop()
        waiting.extend(found.__subclasses__())
        if found.__module__ == errors.__name__:
            yield found


def make(kind: type[SollolError]) -> SollolError:
    if kind is ConfigError:
        return ConfigError(["it broke"])
    if kind is errors.UpstreamTimeout:
        return errors.UpstreamTimeout("it broke", phase="head")
    if kind.__init__ is not SollolError.__init__:
        return kind() if kind is errors.Draining else kind("it broke")
    return kind("it broke", retry_after_s=7)


class Raiser:
    """The edge before a handler that fails as told."""

    def __init__(self, error: BaseException) -> None:
        edge = Edge(instance="test", origins=OriginPolicy(), hosts={}, methods={})
        app = web.Application(middlewares=[edge.middleware])

        async def fail(request: web.Request) -> web.Response:
            raise error

        for path in ("/api/chat", "/v1/chat/completions", "/api/v1/status"):
            app.router.add_post(path, fail)
        self._runner = web.AppRunner(app)
        self.url = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()


OPENAI_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


@pytest.mark.parametrize("kind", list(error_classes()), ids=lambda kind: kind.__name__)
async def test_every_error_has_its_shape_in_both_dialects(kind: type[SollolError]) -> None:
    error = make(kind)
    async with Raiser(error) as server:
        native = await asyncio.to_thread(ask, server.url, "POST", "/api/chat", {})
        openai = await asyncio.to_thread(ask, server.url, "POST", "/v1/chat/completions", {})
        control = await asyncio.to_thread(ask, server.url, "POST", "/api/v1/status", {})
    assert native.json() == {"error": error.message}
    assert native.headers["content-type"] == "application/json; charset=utf-8"
    expected = OPENAI_TYPES.get(kind.http_status, "api_error")
    inner = {"message": error.message, "type": expected, "param": None, "code": None}
    assert openai.json() == {"error": inner}
    assert openai.headers["content-type"] == "application/json"
    document: Any = control.json()
    assert document["schema"] == "sollold.error/1"
    assert document["error"]["code"] == kind.code
    assert document["error"]["message"] == error.message
    for answer in (native, openai, control):
        assert answer.status == kind.http_status
        assert answer.headers["x-sollold-error"] == "sollold"
        assert answer.headers.get("retry-after") == (
            str(error.retry_after_s) if error.retry_after_s else None
        )


def test_the_errors_are_all_there() -> None:
    assert len(list(error_classes())) == len(
        [item for item in vars(errors).values() if isinstance(item, type)]
    )
    assert {dialect.value for dialect in Dialect} == {"ollama", "openai"}


async def test_a_bug_is_told_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    async with Raiser(RuntimeError("secret words")) as server:
        for path in ("/api/chat", "/v1/chat/completions", "/api/v1/status"):
            answer = await asyncio.to_thread(ask, server.url, "POST", path, {})
            assert answer.status == 500
            assert b"secret" not in answer.body
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(logged) == 3
    assert all(record.exc_info for record in logged)


async def test_a_documents_error_says_what_to_do() -> None:
    async with Lab() as lab:
        for path, status, code, hint in (
            ("/api/v1/nodes/n11", 404, "node_not_found", "did you mean 'n1'?"),
            ("/api/v1/nodes/zzz", 404, "node_not_found", "sollolctl nodes lists them"),
            ("/api/v1/nope", 404, "not_found", "docs/api.md lists what there is"),
            ("/api/v1/events?n=x", 400, "invalid_request", None),
        ):
            answer = await call(lab, "GET", path)
            found: Any = answer.json()
            assert (answer.status, found["schema"]) == (status, "sollold.error/1")
            assert (found["error"]["code"], found["error"]["hint"]) == (code, hint)
        wrong = await call(lab, "DELETE", "/api/v1/nodes")
        body: Any = wrong.json()
        assert (wrong.status, wrong.headers["allow"]) == (405, "GET")
        assert body["error"]["code"] == "method_not_allowed"


async def test_the_nodes_words_are_not_said_to_be_ours() -> None:
    async with Lab() as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.STATUS, status=400, text="no such option")
        answer = await call(lab, "POST", "/api/chat", CHAT)
        assert (answer.status, answer.json()) == (400, {"error": "no such option"})
        assert "x-sollold-error" not in answer.headers


# Requests that cannot be read ----------------------------------------------------------------

BROKEN = {
    "binary": b"\x00\x01\x02 no request\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "header without colon": b"GET / HTTP/1.1\r\nHost: localhost\r\nmarker secret\r\n\r\n",
    "huge header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: marker" + b"x" * 70_000 + b"\r\n\r\n",
    "chunk size": (
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"marker secret\r\n"
    ),
    "short length": (
        b"POST /api/version HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n"
        b'{"a":"marker secret"}\r\n\r\n'
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_cannot_be_read_is_refused_and_its_bytes_are_not_logged(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Lab() as lab:
        answer = await raw(lab, BROKEN[name])
        status = b"431 Request Header Fields Too Large" if "huge" in name else b"400 Bad Request"
        last = answer[answer.rindex(b"HTTP/1.") :]
        assert last[8:].startswith(b" " + status + b"\r\n")
        head, _, body = last.partition(b"\r\n\r\n")
        fields = head.decode().lower().split("\r\n")
        assert body == status
        for field in ("server: sollold", "x-sollold-error: sollold", "connection: close"):
            assert field in fields
        assert "content-type: text/plain; charset=utf-8" in fields
        assert f"via: {lab.built.edge.via}" in fields
    assert "marker" not in caplog.text
    assert "cannot be read" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_expectation_nobody_meets_is_refused_as_go_does() -> None:
    async with Lab() as lab:
        for path in ("/api/chat", "/nope"):
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
            answer = await raw(lab, f"{head}Expect: 200-ok\r\n\r\n".encode())
            fields = answer.decode().lower().split("\r\n")
            assert fields[0] == "http/1.1 417 expectation failed"
            assert fields[-2:] == ["", ""]
            for field in ("server: sollold", "connection: close", "content-length: 0"):
                assert field in fields
            assert f"via: {lab.built.edge.via}" in fields


CHUNKED = "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_body_that_breaks_in_the_middle_is_refused_at_once(path: str) -> None:
    async with Lab() as lab:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
        writer.write(CHUNKED.format(path).encode() + b"5\r\n12345\r\n")
        await lab.until(lambda: bool(lab.built.edge._tasks))
        writer.write(b"no length\r\n")
        async with asyncio.timeout(5):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"\r\nConnection: close" in head
        assert b"its framing is broken" in body
        assert b'{"error":' in body
        lab.assert_idle()


async def test_a_body_that_breaks_behind_another_request_is_refused_after_its_answer() -> None:
    lab = Lab([FakeNode(rate=20.0, answer_tokens=8)])
    async with lab:
        body = json.dumps(CHAT).encode()
        head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
        writer.write(head.encode() + body)
        writer.write(CHUNKED.format("/api/chat").encode() + b"5\r\n12345\r\n")
        await lab.nodes[0].until(lambda: bool(lab.nodes[0].inference))
        writer.write(b"no length\r\n")
        async with asyncio.timeout(5):
            answers = await reader.read()
        writer.close()
        assert answers.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answers.count(b"HTTP/1.1 400 Bad Request\r\n") == 1
        lab.assert_idle()


async def test_a_browser_with_many_cookies_is_served() -> None:
    async with Lab() as lab:
        answer = await call(lab, "GET", "/api/tags", headers=[("Cookie", "a=" + "x" * 40_000)])
        assert answer.status == 200
