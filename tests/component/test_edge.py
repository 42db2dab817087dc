"""What every request meets first and every answer carries: origins, hosts, ids, error shapes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import platform
import re
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from sollold.web.edge import Edge
from sollold.wire.cors import HostPolicy, OriginPolicy
from tests.component.lab import Lab, listening_socket
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import Answer, ask
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

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


async def test_each_listener_has_its_own_rules_even_on_one_port() -> None:
    """Loopback is guarded against DNS rebinding although the same port is open to the network."""
    with listening_socket() as guarded, socket.socket() as free:
        port = guarded.getsockname()[1]
        free.bind(("127.0.0.2", port))
        free.setblocking(False)
        for hosts in (
            {("127.0.0.1", port): HostPolicy(is_loopback_bind=True)},
            {
                ("127.0.0.1", port): HostPolicy(is_loopback_bind=True),
                ("0.0.0.0", port): HostPolicy(is_loopback_bind=False),
            },
        ):
            edge = Edge(instance="test", origins=OriginPolicy(), hosts=hosts, methods={})
            runner = web.AppRunner(web.Application(middlewares=[edge.middleware]))
            await runner.setup()
            for sock in (guarded, free):
                await web.SockSite(runner, sock.dup()).start()
            headers = [("Host", "evil.example")]
            found = [
                await asyncio.to_thread(ask, f"http://{host}:{port}", "GET", "/", None, headers)
                for host in ("127.0.0.1", "127.0.0.2")
            ]
            await runner.cleanup()
            assert [answer.status for answer in found] == [403, 404]


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


# Afterwards ----------------------------------------------------------------------------------


async def test_no_task_is_left_of_requests_whatever_became_of_them() -> None:
    nodes = [FakeNode(slots=4), FakeNode(slots=4)]
    async with Lab(nodes, queue={"holder_down_s": 0.1}, health={"eject_s": 0.1}) as lab:

        async def one(number: int) -> None:
            body = CHAT | {"stream": number % 2 == 0}
            if number % 5 == 0:
                body |= {"model": "nobody-has-it"}
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with asyncio.timeout(0.02 if number % 3 == 0 else 10):
                    async with lab.session.post("/api/chat", json=body) as answer:
                        await answer.read()

        await asyncio.gather(*(one(number) for number in range(4)))
        before = len(asyncio.all_tasks())
        for fault in (
            Fault(kind=FaultKind.CRASH, count=5),
            Fault(kind=FaultKind.CUT_RESET, after_frames=1, count=5),
            Fault(kind=FaultKind.STALE_KEEPALIVE, count=5),
            Fault(kind=FaultKind.REFUSE),
        ):
            nodes[1].fault = fault
            await asyncio.gather(*(one(number) for number in range(20)))
        nodes[1].fault = None
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        lab.assert_idle()
        # Of the server, each connection that the client keeps has one.
        await lab.session.close()
        await lab.until(lambda: len(asyncio.all_tasks()) <= before)
        assert not lab.built.edge._tasks
        assert not lab.built.edge._ids
