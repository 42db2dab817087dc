"""What every request meets first and every answer carries: origins, hosts, ids, error shapes."""

from __future__ import annotations

import asyncio
import json
import logging
import platform
import re
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

MIB = 1024 * 1024
CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": False}
OWN_ID = re.compile(r"r-[a-z2-7]{12}")


async def call(
    lab: Lab,
    method: str,
    path: str,
    body: object = None,
    headers: Sequence[tuple[str, str]] = (),
) -> Answer:
    """One request as it is on the wire; no client library adds or hides anything."""
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


# Origins -------------------------------------------------------------------------------------


async def test_origins() -> None:
    settings = {"origins": ["https://chat.example.org", "https://*.example.net"]}
    allowed = [
        *(
            f"{scheme}://{host}{port}"
            for scheme in ("http", "https")
            for host in ("localhost", "127.0.0.1", "0.0.0.0")
            for port in ("", ":3000")
        ),
        *("app://x", "file://y", "tauri://z", "vscode-webview://a", "vscode-file://b"),
        *("https://chat.example.org", "https://a.example.net"),
    ]
    denied = [
        "http://evil.example",
        "http://localhost.evil.example",
        "https://chat.example.org.evil.example",
        "http://chat.example.org",
        "null",
        "chrome-extension://abc",
    ]
    async with Lab(http=settings) as lab:
        for origin in allowed:
            headers = [("Host", f"127.0.0.1:{lab.port}"), ("Origin", origin)]
            answer = await call(lab, "GET", "/api/tags", headers=headers)
            found = answer.headers.get("access-control-allow-origin"), answer.headers.get("vary")
            assert (answer.status, *found) == (200, origin, "Origin"), origin
            assert "access-control-allow-credentials" not in answer.headers
        seen = len(lab.nodes[0].inference)
        for origin in denied:
            answer = await call(lab, "POST", "/api/chat", CHAT, [("Origin", origin)])
            assert (answer.status, answer.body) == (403, b""), origin
            assert "access-control-allow-origin" not in answer.headers
            assert answer.headers["via"] == lab.built.edge.via
        assert len(lab.nodes[0].inference) == seen


async def test_a_page_of_our_own_is_no_foreign_origin() -> None:
    async with Lab() as lab:
        for scheme in ("http", "https"):
            own = f"{scheme}://127.0.0.1:{lab.port}"
            headers = [("Host", own.partition("//")[2]), ("Origin", own)]
            answer = await call(lab, "GET", "/api/tags", headers=headers)
            assert answer.status == 200
            assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-origin" not in (await call(lab, "GET", "/api/tags")).headers


async def test_a_lone_star_allows_all_pages() -> None:
    async with Lab(http={"origins": ["*"]}) as lab:
        answer = await call(lab, "GET", "/", headers=[("Origin", "http://evil.example")])
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "vary" not in answer.headers


async def test_a_preflight() -> None:
    async with Lab() as lab:
        for path in ("/api/chat", "/v1/models", "/nowhere", "/api/v1/status"):
            headers = [
                ("Origin", "app://x"),
                ("Access-Control-Request-Method", "POST"),
                ("Access-Control-Request-Headers", "x-stainless-os"),
            ]
            answer = await call(lab, "OPTIONS", path, headers=headers)
            assert (answer.status, answer.body) == (204, b"")
            assert answer.headers["access-control-allow-origin"] == "app://x"
            methods = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
            assert answer.headers["access-control-allow-methods"] == methods
            assert answer.headers["access-control-max-age"] == "43200"
            asked = answer.headers["access-control-allow-headers"].lower().split(",")
            assert {"authorization", "content-type", "openai-beta", "x-stainless-os"} <= set(asked)
            varied = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
            assert answer.headers["vary"] == varied
        denied = await call(lab, "OPTIONS", "/api/chat", headers=[("Origin", "http://evil.test")])
        assert (denied.status, denied.body) == (403, b"")


async def test_the_page_learns_of_errors_and_streams_too_and_the_node_of_no_page() -> None:
    origin = [("Origin", "http://localhost:3000"), ("Referer", "http://localhost:3000/x")]
    async with Lab() as lab:
        answers = [
            await call(lab, "POST", "/api/chat", CHAT | {"model": "nobody-has-it"}, origin),
            await call(lab, "POST", "/api/chat", CHAT | {"stream": True}, origin),
            await call(lab, "POST", "/v1/chat/completions", CHAT | {"stream": True}, origin),
            await call(lab, "GET", "/nowhere", headers=origin),
            await call(lab, "DELETE", "/api/tags", headers=origin),
        ]
        assert [answer.status for answer in answers] == [404, 200, 200, 404, 405]
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        for request in lab.nodes[0].inference:
            names = {name.lower() for name, _ in request.headers}
            assert names.isdisjoint({"origin", "referer"})


# Hosts ---------------------------------------------------------------------------------------


async def test_hosts(caplog: pytest.LogCaptureFixture) -> None:
    accepted = [
        *("localhost", "LOCALHOST:11434", "127.0.0.1", "127.9.9.9:1", "[::1]:11434", "0.0.0.0"),
        *("foo.local", "a.b.internal", "x.localhost:80", "192.168.1.9", "10.0.0.1:8080"),
        *(platform.node(), "ai.example.org", "AI.example.org:443"),
    ]
    refused = [
        *("evil.example", "localhost.evil.example", "local", "8.8.8.8", "[2001:db8::1]"),
        *("evillocalhost", "sub.ai.example.org", "x" * 4000 + ".local"),
    ]
    async with Lab(listen={"allowed_hosts": ["ai.example.org"]}) as lab:
        for host in accepted:
            answer = await call(lab, "GET", "/api/version", headers=[("Host", host)])
            assert answer.status == 200, host
        assert not caplog.records
        for host in refused:
            answer = await call(lab, "POST", "/api/chat", CHAT, [("Host", host)])
            assert (answer.status, answer.body) == (403, b""), host
            assert answer.headers["via"] == lab.built.edge.via
        assert not lab.nodes[0].inference
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert "allowed_hosts" in caplog.text
    assert max(map(len, caplog.messages)) < 400


async def test_options_without_an_origin() -> None:
    async with Lab() as lab:
        named = await call(lab, "OPTIONS", "/api/chat", headers=[("Host", "foo.local")])
        assert (named.status, named.body) == (204, b"")
        address = await call(lab, "OPTIONS", "/api/chat", headers=[("Host", "127.0.0.1")])
        assert address.status == 405


async def test_an_old_client_without_a_host_is_served() -> None:
    async with Lab() as lab:
        answer = await raw(lab, b"GET / HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 200")
        assert answer.endswith(b"Ollama is running")


# Ids -----------------------------------------------------------------------------------------


async def test_a_clients_own_id_is_kept_and_passed_on() -> None:
    async with Lab() as lab:
        for sent in ("a", "job:7/2.b+c=@_-", "x" * 128, "0190-uuid.1"):
            answer = await call(lab, "POST", "/api/chat", CHAT, [("X-Request-Id", sent)])
            assert answer.headers["x-request-id"] == sent
            node_saw = dict(lab.nodes[0].inference[-1].headers)
            assert node_saw["X-Request-Id"] == sent
        last = lab.built.bus.last(1)[0]
        assert last.event.request_id == "0190-uuid.1"


async def test_a_hostile_id_is_replaced() -> None:
    hostile = ["x" * 129, "a b", 'a"b', "a<script>", "-a", "a;b", "é", "", "a\tb"]
    async with Lab() as lab:
        for sent in hostile:
            answer = await call(lab, "POST", "/api/chat", CHAT, [("X-Request-Id", sent)])
            assert answer.status == 200
            assert OWN_ID.fullmatch(answer.headers["x-request-id"]), sent


async def test_ids_of_our_own_differ() -> None:
    async with Lab() as lab:
        answers = [await call(lab, "GET", "/api/version") for _ in range(20)]
        found = {answer.headers["x-request-id"] for answer in answers}
        assert len(found) == 20
        assert all(OWN_ID.fullmatch(item) for item in found)


async def test_an_id_in_use_is_not_used_twice() -> None:
    """A proxy that repeats a request keeps its id; both must be told apart inside."""
    async with Lab([FakeNode(slots=4, rate=100.0)]) as lab:
        same = {"X-Request-Id": "same"}

        async def one(headers: dict[str, str]) -> tuple[int, str]:
            async with lab.session.post("/api/chat", json=CHAT, headers=headers) as answer:
                await answer.read()
                return answer.status, answer.headers["X-Request-Id"]

        found = await asyncio.gather(
            *(one(same) for _ in range(4)), one({"X-Request-Id": "same.2"})
        )
        assert [status for status, _ in found] == [200] * 5
        ids = [name for _, name in found]
        assert len(set(ids)) == 5
        assert sum(OWN_ID.fullmatch(name) is None for name in ids) == 1
        assert await one(same) == (200, "same")
        lab.assert_idle()


async def test_an_id_is_in_use_while_its_load_goes_on_without_the_client() -> None:
    async with Lab([FakeNode(load_s=0.5)]) as lab:
        impatient = asyncio.create_task(
            lab.session.post("/api/chat", json=CHAT, headers={"X-Request-Id": "again"})
        )
        await lab.until(lambda: len(lab.built.dispatcher.admission.load) == 1)
        await lab.nodes[0].until(lambda: lab.nodes[0].waiting == 1)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        await lab.until(lambda: lab.built.dispatcher.detached_count == 1)
        answer = await call(lab, "POST", "/api/chat", CHAT, [("X-Request-Id", "again")])
        assert answer.status == 200
        assert OWN_ID.fullmatch(answer.headers["x-request-id"])
        lab.assert_idle()


# On every answer -----------------------------------------------------------------------------

EVERYWHERE: list[tuple[int, str, str, object, list[tuple[str, str]]]] = [
    (200, "GET", "/", None, []),
    (200, "HEAD", "/api/tags", None, []),
    (200, "GET", "/api/ps", None, []),
    (200, "GET", "/v1/models", None, []),
    (200, "GET", "/metrics", None, []),
    (200, "GET", "/api/health", None, []),
    (200, "GET", "/api/v1/status", None, []),
    (200, "POST", "/api/chat", CHAT, []),
    (200, "POST", "/api/chat", CHAT | {"stream": True}, []),
    (200, "POST", "/v1/chat/completions", CHAT | {"stream": True}, []),
    (200, "POST", "/api/show", {"model": "llama3.2"}, []),
    (200, "POST", "/api/generate", {"model": "llama3.2", "keep_alive": 0}, []),
    (301, "GET", "/api/tags/", None, []),
    (400, "POST", "/api/chat", b"", []),
    (400, "POST", "/api/chat", b"{bad", []),
    (404, "GET", "/nowhere", None, []),
    (404, "GET", "/api/v1/nodes/nobody", None, []),
    (404, "POST", "/api/chat", CHAT | {"model": "nobody-has-it"}, []),
    (405, "PUT", "/api/chat", None, []),
    (415, "POST", "/v1/embeddings", b"{}", [("Content-Encoding", "br")]),
    (400, "GET", "/ws/routing_events", None, []),
]


async def test_every_answer_names_us_and_the_request() -> None:
    async with Lab() as lab:
        for status, method, path, body, headers in EVERYWHERE:
            answer = await call(lab, method, path, body, headers)
            what = f"{method} {path}: {answer.raw!r}"
            assert answer.status == status, what
            assert answer.headers["via"] == lab.built.edge.via, what
            assert OWN_ID.fullmatch(answer.headers["x-request-id"]), what
            assert answer.headers["server"] == "sollold", what
            assert answer.raw.count(b"\r\nDate: ") == 1, what


async def test_a_request_that_already_passed_here_is_refused() -> None:
    async with Lab() as lab:
        own = lab.built.edge.via
        loops = [own, f"1.1 other, {own}", own.upper(), f"{own} (comment)"]
        for via in loops:
            for path, is_v1 in (("/api/chat", False), ("/v1/chat/completions", True)):
                answer = await call(lab, "POST", path, CHAT, [("Via", via)])
                assert answer.status == 508, via
                inner: Any = json.loads(answer.body)["error"]
                assert "loop" in (inner["message"] if is_v1 else inner)
        assert not lab.nodes[0].inference
        other = await call(lab, "POST", "/api/chat", CHAT, [("Via", "1.1 sollold-other_1_a")])
        assert other.status == 200
        vias = [value for name, value in lab.nodes[0].inference[0].headers if name == "Via"]
        assert vias == ["1.1 sollold-other_1_a", own]


# Paths and methods ---------------------------------------------------------------------------


async def test_unknown_paths_and_wrong_methods() -> None:
    async with Lab() as lab:
        for method, path in (
            *(("GET", "/nope"), ("POST", "/api/nope"), ("GET", "/api"), ("GET", "/v1/models/a/b")),
            *(("GET", "/health"), ("GET", "/api/tags/x"), ("POST", "/nope/")),
        ):
            answer = await call(lab, method, path)
            assert (answer.status, answer.body) == (404, b"404 page not found"), path
            assert answer.headers["content-type"] == "text/plain"
        for method, path, allow in (
            ("GET", "/api/chat", "POST"),
            ("HEAD", "/v1/models", "GET"),
            ("HEAD", "/api/ps", "GET"),
            ("POST", "/api/tags", "HEAD, GET"),
            ("DELETE", "/v1/chat/completions", "POST"),
            ("POST", "/metrics", "GET"),
        ):
            answer = await call(lab, method, path)
            assert answer.status == 405, path
            assert answer.body == (b"" if method == "HEAD" else b"405 method not allowed")
            assert answer.headers["content-type"] == "text/plain"
            assert answer.headers["allow"] == allow


async def test_slashes_too_many() -> None:
    async with Lab() as lab:
        for method, path, status, location in (
            ("GET", "/api/tags/", 301, "/api/tags"),
            ("GET", "/api/tags/?a=1&b=%20", 301, "/api/tags?a=1&b=%20"),
            ("HEAD", "/api/tags/", 307, "/api/tags"),
            ("POST", "/api/chat/", 307, "/api/chat"),
            ("POST", "/v1/chat/completions/", 307, "/v1/chat/completions"),
            ("GET", "//api/tags", 307, "/api/tags"),
        ):
            answer = await call(lab, method, path)
            assert (answer.status, answer.headers["location"]) == (status, location), path
        away = await call(lab, "GET", "//evil.example/api/tags/")
        assert away.status == 404
        assert "location" not in away.headers


async def test_head() -> None:
    async with Lab() as lab:
        for path in ("/", "/api/version", "/api/tags"):
            head = await call(lab, "HEAD", path)
            got = await call(lab, "GET", path)
            assert (head.status, head.body) == (200, b"")
            assert head.headers["content-length"] == str(len(got.body))
            assert head.headers["content-type"] == got.headers["content-type"]


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
        return kind("it broke")
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
    assert native.json() == {"error": "it broke"}
    assert native.headers["content-type"] == "application/json; charset=utf-8"
    expected = OPENAI_TYPES.get(kind.http_status, "api_error")
    inner = {"message": "it broke", "type": expected, "param": None, "code": None}
    assert openai.json() == {"error": inner}
    assert openai.headers["content-type"] == "application/json"
    document: Any = control.json()
    assert document["schema"] == "sollold.error/1"
    assert document["error"]["code"] == kind.code
    assert document["error"]["message"] == "it broke"
    for answer in (native, openai, control):
        assert answer.status == kind.http_status
        assert answer.headers["x-sollold-error"] == "sollold"
        assert answer.headers.get("retry-after") == ("7" if error.retry_after_s else None)


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
        assert b" 400 Bad Request\r\n" in answer
    assert "marker" not in caplog.text
    assert "cannot be read" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_browser_with_many_cookies_is_served() -> None:
    async with Lab() as lab:
        answer = await call(lab, "GET", "/api/tags", headers=[("Cookie", "a=" + "x" * 40_000)])
        assert answer.status == 200
