"""The console page over HTTP, and what keeps it live over its WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from sollold import __version__
from sollold.events.types import NodeLeft, RouteDecision
from sollold.web.console import viewer as viewer_module
from sollold.web.console.contents import CONTENTS
from sollold.web.console.hub import MAX_VIEWERS
from tests.component.console_page import read
from tests.component.lab import Lab
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

QUICK = {"interval_s": 0.1, "timeout_s": 0.2, "backoff_max_s": 0.2}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def page(lab: Lab, path: str = "/console") -> str:
    async with lab.session.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


# The page --------------------------------------------------------------------------------------


async def test_the_page_is_complete_without_scripts() -> None:
    async with Lab(2) as lab:
        await (await lab.chat()).read()
        found = read(await page(lab))
        assert found.one("html")["lang"] == "en"
        assert found.one("title").text == "sollold"
        assert len(found.all("h1")) == 1
        assert [panel["id"] for panel in found.all(class_="panel")][:6] == [
            "attention", "nodes", "loaded", "requests", "decisions", "changes",
        ]  # fmt: skip
        for panel in found.all("section", class_="panel"):
            assert found.one(id=panel["aria-labelledby"]).tag == "h2"
        nodes = found.one(id="nodes")
        assert [row["data-name"] for row in nodes.one("tbody").all("tr")] == ["n1", "n2"]
        assert "llama3.2" in found.one(id="loaded").text
        assert found.one(id="decisions").all("li")
        assert all(item.text for item in found.all("time"))
        assert found.all("noscript")[0].text.startswith("Made at ")
        assert found.all("noscript")[0].one("a").text == "Reload"
        assert found.one("a", class_="skip").text == "Skip to nodes"


async def test_the_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    async with Lab(1) as lab, lab.session.get("/console") as answer:
        html = await answer.text()
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        found = read(html)
        for script in found.all("script"):
            assert script["src"].startswith("static/")
            assert not script.text
        for element in found.all():
            assert not [name for name in element.attributes if name.startswith("on")]
            assert "style" not in element.attributes
            for name in ("src", "href", "action"):
                assert ":" not in (element.attributes.get(name) or "")
        assert found.all("style") == []
        for element in (*found.all("script"), *found.all("link")):
            url = element["src"] if element.tag == "script" else element["href"]
            async with lab.session.get("/" + url) as file:
                assert file.status == 200, url
                assert "immutable" in file.headers["Cache-Control"]
                assert b"http://" not in (await file.read()).replace(b"http://www.w3.org", b"")


async def test_what_the_first_visit_weighs() -> None:
    models = [FakeModel(name=f"model-{number}") for number in range(20)]
    async with Lab([FakeNode(models) for _ in range(10)]) as lab:
        for number in range(250):
            lab.built.bus.publish(
                RouteDecision(request_id=f"r-{number}", model="m" * 20, node="n1", reason="x" * 40)
            )
        async with aiohttp.ClientSession(lab.url, auto_decompress=False) as plain:
            async with plain.get("/console", headers={"Accept-Encoding": "gzip"}) as answer:
                assert answer.headers["Content-Encoding"] == "gzip"
                total = len(await answer.read())
            urls = re.findall(r'"(static/(?!icons)[^"]+)"', await page(lab))
            assert len(urls) >= 4
            for url in urls:
                async with plain.get("/" + url, headers={"Accept-Encoding": "gzip"}) as answer:
                    total += len(await answer.read())
        print(f"first visit: {total} bytes")
        assert total < 150_000


async def test_only_the_consoles_listener_has_the_page_at_the_top() -> None:
    async with Lab(1) as lab:
        async with lab.session.get("/") as answer:
            assert await answer.text() == "Ollama is running"
    async with Lab(1, is_console=True) as lab:
        async with lab.session.get("/?sort=node") as answer:
            assert "Skip to nodes" in await answer.text()
        async with lab.session.head("/") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
        async with lab.session.get("/api/version") as answer:
            assert answer.status == 200


async def test_the_view_is_in_the_address() -> None:
    async with Lab(3) as lab:
        found = read(await page(lab, "/console?sort=-node&filter=n"))
        rows = [row["data-name"] for row in found.one(id="nodes").one("tbody").all("tr")]
        assert rows == ["n3", "n2", "n1"]
        assert found.one(id="nodes-filter")["value"] == "n"
        await page(lab, "/console?sort=%00&filter=%f0%28%8c%28&request=%22%3E")


# The socket ------------------------------------------------------------------------------------


class Watcher:
    """A page as the socket sees it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.panels: dict[str, str] = {}
        self.got: list[dict[str, Any]] = []
        self.at_s: list[float] = []

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            message: dict[str, Any] = await self.socket.receive_json()
        self.got.append(message)
        self.at_s.append(time.monotonic())
        if message["type"] == "panel":
            self.panels[message["name"]] = message["html"]
        return message

    async def until(self, is_true: Callable[[], bool]) -> None:
        while not is_true():
            await self.next()

    async def quiet(self, for_s: float) -> list[dict[str, Any]]:
        """What comes within a time."""
        start = len(self.got)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                while True:
                    await self.next()
        return self.got[start:]


@contextlib.asynccontextmanager
async def watching(lab: Lab, query: str = "") -> AsyncIterator[Watcher]:
    async with lab.session.ws_connect(f"/ws/console{query}") as socket:
        watcher = Watcher(socket)
        await watcher.until(lambda: set(watcher.panels) == set(CONTENTS))
        yield watcher


async def test_a_page_is_greeted_with_every_panel() -> None:
    async with Lab(2) as lab:
        assert not lab.built.console.hub.is_running
        async with watching(lab) as watcher:
            assert watcher.got[0]["type"] == "hello"
            assert watcher.got[0]["version"] == __version__
            assert abs(watcher.got[0]["at"] / 1000 - time.time()) < 5
            titles = [item for item in watcher.got if item["type"] == "title"]
            assert titles == [{"type": "title", "text": "sollold", "icon": "up"}]
            assert len(watcher.got) == len(CONTENTS) + 2
            assert 'data-name="n2"' in watcher.panels["nodes"]
        await lab.until(lambda: not lab.built.console.hub.is_running)
        await lab.until(lambda: lab.built.bus.subscriber_count == 0)


async def test_frames_come_on_change_only() -> None:
    async with Lab(2) as lab, watching(lab) as watcher:
        assert [item for item in await watcher.quiet(2.5) if item["type"] != "tick"] == []
        lab.built.bus.publish(NodeLeft(node="far", reason="gone"))
        message = await watcher.next()
        assert (message["type"], message["name"]) == ("panel", "changes")
        assert "far" in message["html"]


async def test_a_page_hears_that_the_connection_lives() -> None:
    async with Lab(1) as lab, watching(lab) as watcher:
        await watcher.until(lambda: watcher.got[-1]["type"] == "tick")


async def test_a_lost_node_shows_at_once() -> None:
    lost = FakeNode()
    async with Lab([FakeNode(), lost], health=QUICK) as lab, watching(lab) as watcher:
        await lost.stop()
        await lab.until(lambda: lab.fleet["n2"].state == "down")
        started_s = time.monotonic()
        await watcher.until(
            lambda: (
                'data-state="down"' in watcher.panels["nodes"]
                and "n2" in watcher.panels["attention"]
                and "degraded" in watcher.panels["head"]
            )
        )
        assert time.monotonic() - started_s < 2.0
        assert {"type": "title", "text": "1 problem · sollold", "icon": "slow"} in watcher.got


async def test_a_panel_comes_at_most_once_a_second() -> None:
    async with Lab(1) as lab, watching(lab) as watcher:

        async def churn() -> None:
            for number in range(1000):
                lab.built.bus.publish(NodeLeft(node=f"far-{number}", reason="gone"))
                await asyncio.sleep(0.01)

        task = asyncio.create_task(churn())
        await watcher.quiet(3.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        at_s = [
            at_s
            for item, at_s in zip(watcher.got, watcher.at_s, strict=True)
            if item.get("name") == "changes"
        ]
        assert 3 <= len(at_s) <= 5
        assert all(later - earlier > 0.8 for earlier, later in itertools.pairwise(at_s))


async def test_decisions_are_pushed_as_rows() -> None:
    async with Lab(1) as lab, watching(lab) as watcher, watching(lab, "?request=r-one") as other:
        lab.built.bus.publish(RouteDecision(request_id="r-two", model="m", node="n1", reason="x"))
        lab.built.bus.publish(RouteDecision(request_id="r-one", model="m", node="n1", reason="x"))
        started_s = time.monotonic()
        rows = await watcher.next()
        assert time.monotonic() - started_s < 0.5
        assert (rows["type"], rows["name"], rows["request"]) == ("rows", "decisions", "")
        ids = re.findall(r'data-request="(r-\w+)"', rows["html"])
        assert ids == ["r-one", "r-two"]
        rows = await other.next()
        assert rows["request"] == "r-one"
        assert "r-two" not in rows["html"]


async def test_a_page_changes_its_view() -> None:
    async with Lab(3) as lab, watching(lab) as watcher, watching(lab) as other:
        await watcher.socket.send_json({"view": "?sort=-node&filter=n"})
        await watcher.until(
            lambda: "Node, Z to A" in watcher.panels["nodes"].replace("node,", "Node,")
        )
        names = re.findall(r'data-name="(\w+)"', watcher.panels["nodes"])
        assert names == ["n3", "n2", "n1"]
        assert 'data-name="n1"' in other.panels["nodes"]
        for nonsense in ("[", '{"view": 3}', '{"view": "?sort=nonsense"}', "{}", '"x"'):
            await watcher.socket.send_str(nonsense)
        await watcher.until(lambda: "worst first" in watcher.panels["nodes"])
        assert all(item.get("name") != "nodes" for item in await other.quiet(0.5))


async def test_a_page_that_nobody_looks_at_gets_its_title_only() -> None:
    async with Lab(1) as lab, watching(lab) as watcher:
        await watcher.socket.send_json({"is_watching": False})
        hub = lab.built.console.hub
        await lab.until(lambda: not any(viewer.is_watching for viewer in hub._viewers))
        lab.built.bus.publish(NodeLeft(node="far", reason="gone"))
        lab.built.bus.publish(RouteDecision(request_id="r-1", model="m", node="n1", reason="x"))
        got = await watcher.quiet(1.5)
        assert {item["type"] for item in got} <= {"title", "tick"}
        watcher.panels.clear()
        await watcher.socket.send_json({"is_watching": True})
        await watcher.until(lambda: set(watcher.panels) == set(CONTENTS))
        assert "far" in watcher.panels["changes"]
        assert "r-1" in watcher.panels["decisions"]


async def test_each_panel_is_made_once_for_all_who_look(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    async with Lab(1) as lab, watching(lab), watching(lab), watching(lab) as third:
        panels = await lab.built.console.panels()
        real = panels.render

        def count(name: str, *args: Any, **settings: Any) -> Any:
            made.append(name)
            return real(name, *args, **settings)

        monkeypatch.setattr(panels, "render", count)
        lab.built.bus.publish(NodeLeft(node="far", reason="gone"))
        await third.next()
        assert made.count("changes") == 1


async def test_a_slow_page_gets_the_latest_and_is_cut_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(viewer_module, "SEND_LIMIT_S", 1.0)
    async with Lab(1) as lab:
        socket = await lab.session.ws_connect("/ws/console", compress=0, max_msg_size=0)
        hub = lab.built.console.hub
        await lab.until(lambda: hub.viewers == 1)
        (viewer,) = hub._viewers
        transport = socket._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.pause_reading()
        big = "x" * 2_000
        async with asyncio.timeout(20):
            number = 0
            while hub.viewers:
                for _ in range(50):
                    number += 1
                    lab.built.bus.publish(
                        RouteDecision(request_id=f"r-{number}", model="m", node="n", reason=big)
                    )
                assert len(viewer._rows) <= 20
                assert len(viewer._panels) <= len(CONTENTS) + 3
                await asyncio.sleep(0.02)
        transport.abort()
        await socket.close()


async def test_other_sites_may_not_look() -> None:
    async with Lab(1) as lab:
        for origin in ("http://evil.example", "null"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await lab.session.ws_connect("/ws/console", headers={"Origin": origin})
            assert refused.value.status == 403
        async with lab.session.ws_connect("/ws/console", headers={"Origin": lab.url}) as socket:
            assert (await socket.receive_json())["type"] == "hello"
        # Behind a proxy that ends TLS the page is at https.
        behind = {"Origin": lab.url.replace("http:", "https:")}
        async with lab.session.ws_connect("/ws/console", headers=behind) as socket:
            assert (await socket.receive_json())["type"] == "hello"
        # One that Ollama's API lets in.
        headers = {"Origin": "http://localhost:1"}
        for method, path in (("POST", "/api/v1/reload"), ("GET", "/ws/console")):
            async with lab.session.request(method, path, headers=headers) as answer:
                assert answer.status == 403
                assert "pages of other sites may not ask this of sollold" in await answer.text()
        async with lab.session.get("/ws/console") as answer:
            assert answer.status == 400


async def test_so_many_pages_and_no_more() -> None:
    async with Lab(1) as lab, contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_VIEWERS):
            await stack.enter_async_context(lab.session.ws_connect("/ws/console"))
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await lab.session.ws_connect("/ws/console")
        assert refused.value.status == 503


async def test_pages_that_come_together_are_counted_too() -> None:
    async with Lab(1) as lab, contextlib.AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(lab.url, connector=connector)
        )
        got = await asyncio.gather(
            *(session.ws_connect("/ws/console") for _ in range(2 * MAX_VIEWERS)),
            return_exceptions=True,
        )
        assert sum(not isinstance(item, BaseException) for item in got) == MAX_VIEWERS
        assert f'data-full="{MAX_VIEWERS}"' in await page(lab)
        for item in got:
            if isinstance(item, aiohttp.ClientWebSocketResponse):
                await item.close()
        hub = lab.built.console.hub
        await lab.until(lambda: not hub.full)
        assert "data-full" not in await page(lab)


async def test_what_one_person_looks_at_is_not_sent_to_others() -> None:
    async with (
        Lab(2, is_console=True) as lab,
        watching(lab, "?filter=mine&sort=vram&request=r-mine"),
        watching(lab) as other,
        await lab.chat(stream=True, options={"num_predict": 2000}),
    ):
        await other.until(lambda: "<tr id=" in other.panels["requests"])
        assert "mine" not in "".join(other.panels.values())


async def test_a_new_order_comes_at_once_and_alone() -> None:
    async with Lab(3) as lab, watching(lab) as watcher:
        await watcher.quiet(0.3)
        hub = lab.built.console.hub
        hub._due_s = dict.fromkeys(hub._due_s, asyncio.get_running_loop().time() + 60)
        watcher.got.clear()
        await watcher.socket.send_json({"view": "?sort=-node"})
        message = await watcher.next()
        assert (message["type"], message["name"]) == ("panel", "nodes")
        await watcher.socket.send_json({"view": "?sort=-node&request=r-1"})
        message = await watcher.next()
        assert (message["type"], message["name"]) == ("panel", "decisions")
        await watcher.socket.send_json({"view": "?sort=-node&request=r-1&log-level=error"})
        assert [item for item in await watcher.quiet(0.5) if item["type"] == "panel"] == []


async def test_a_page_that_is_held_gets_what_it_asks_for_once() -> None:
    async with Lab(3) as lab, watching(lab) as watcher:
        await watcher.socket.send_json({"is_watching": False})
        await watcher.socket.send_json({"view": "?filter=n2"})
        await watcher.until(lambda: "data-name" not in watcher.panels["nodes"].replace(
            'data-name="n2"', ""))  # fmt: skip
        lab.built.bus.publish(NodeLeft(node="far", reason="gone"))
        assert {item["type"] for item in await watcher.quiet(1.5)} <= {"title", "tick"}


async def test_many_views_leave_time_for_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering for all of them is cut into slices, with rests between."""
    async with Lab(1) as lab, contextlib.AsyncExitStack() as stack:
        watchers = [
            await stack.enter_async_context(watching(lab, f"?filter=n1&sort=node&request=r-{n}"))
            for n in range(8)
        ]
        hub = lab.built.console.hub
        rests: list[float] = []
        panels = await lab.built.console.panels()
        real, real_sleep = panels.render, asyncio.sleep

        def slow(name: str, *args: Any, **settings: Any) -> Any:
            if name == "decisions":
                end_s = time.monotonic() + 0.02
                while time.monotonic() < end_s:
                    pass
            return real(name, *args, **settings)

        async def sleep(delay: float, *args: Any) -> Any:
            if asyncio.current_task() is not None and "console-step" in str(asyncio.current_task()):
                rests.append(delay)
            return await real_sleep(delay, *args)

        monkeypatch.setattr(panels, "render", slow)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        for viewer in hub._viewers:
            viewer.ask("decisions")
        hub._wake.set()
        for watcher in watchers:
            watcher.panels.pop("decisions")
        for watcher in watchers:
            while "decisions" not in watcher.panels:
                await watcher.next()
        assert len(rests) >= 7
        assert min(rests) >= 0.05


async def test_a_stop_says_that_it_is_a_restart() -> None:
    async with Lab(1) as lab, watching(lab) as watcher:
        closing = asyncio.create_task(lab.built.app.shutdown())
        async with asyncio.timeout(5):
            while True:
                message = await watcher.socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
        assert (message.data, message.extra) == (
            aiohttp.WSCloseCode.GOING_AWAY,
            "sollold is restarting",
        )
        await closing


async def test_a_stop_that_cuts_says_the_same() -> None:
    async with Lab(1) as lab, watching(lab) as watcher:
        lab.built.facts.is_stopping = True
        lab.built.edge.cut()
        async with asyncio.timeout(5):
            while not watcher.socket.closed:
                await watcher.socket.receive()
        assert watcher.socket.close_code == aiohttp.WSCloseCode.GOING_AWAY
        async with lab.session.get("/ws/console") as answer:
            assert answer.status == 503
            assert "stopping" in await answer.text()


async def test_a_loop_that_fails_lets_its_pages_connect_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Lab(1) as lab:
        async with watching(lab) as watcher:
            panels = await lab.built.console.panels()
            with monkeypatch.context() as patch:

                def fail(*_: object) -> None:
                    raise RuntimeError("no such thing")

                patch.setattr(panels, "look", fail)
                async with asyncio.timeout(5):
                    while not watcher.socket.closed:
                        await watcher.socket.receive()
        assert "the console's loop failed" in caplog.text
        await lab.until(lambda: not lab.built.console.hub.is_running)
        async with watching(lab) as again:
            assert "n1" in again.panels["nodes"]
