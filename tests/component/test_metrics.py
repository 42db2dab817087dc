"""`/metrics`: what `docs/metrics.md` promises is there, moves, and stays bounded."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client.parser import text_string_to_metric_families

from sollold import __version__
from sollold.core.model import NodeState, TaskKind
from sollold.routing.record import Outcome
from sollold.web.app import make_metrics_app
from tests.component.lab import IN_ORDER, Lab
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from prometheus_client.core import Metric

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(sollold_\w+)` \|([^|]*)\| ([^|]+) \|$", re.MULTILINE)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def documented() -> dict[str, tuple[str, ...]]:
    """Names and labels of the table."""
    rows = ROW.findall(DOCS.read_text(encoding="utf-8"))
    return {name: tuple(filter(None, labels.strip().split(", "))) for name, labels, _ in rows}


async def families(lab: Lab) -> list[Metric]:
    """A fresh page, parsed."""
    lab.built.metrics._page_s = float("-inf")
    async with lab.session.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return list(text_string_to_metric_families(await answer.text()))


async def samples(lab: Lab) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in await families(lab)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


async def stir(lab: Lab) -> None:
    """One request of each sort, and one of each end."""
    async with await lab.chat(stream=True) as answer:
        await answer.read()
    for path, body in (
        ("/v1/completions", {"model": "llama3.2", "prompt": "x"}),
        ("/api/embed", {"model": "llama3.2", "input": "x"}),
    ):
        async with lab.session.post(path, json=body) as answer:
            await answer.read()
    async with lab.session.post("/api/generate", json={"model": "unknown"}) as answer:
        assert answer.status == 404


def own_labels(family: Metric) -> set[str]:
    return {key for sample in family.samples for key in sample.labels} - {"le"}


async def test_the_page_and_the_table_name_the_same() -> None:
    table = documented()
    assert len(table) > 10
    async with Lab() as lab:
        await stir(lab)
        found = {
            family.name + ("_total" if family.type == "counter" else ""): family
            for family in await families(lab)
        }
    assert found.keys() == table.keys()
    for name, family in found.items():
        assert own_labels(family) == set(table[name]), name
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")


async def test_counters_move() -> None:
    async with Lab(2, routing=IN_ORDER) as lab:
        before = await samples(lab)
        async with await lab.chat(stream=True) as answer:
            await answer.read()
        lab.nodes[0].fault = Fault(kind=FaultKind.CRASH, count=1)
        async with lab.session.post(
            "/v1/completions", json={"model": "llama3.2", "prompt": "x"}
        ) as answer:
            assert answer.headers["X-Sollold-Attempts"] == "2"
            await answer.read()
        lab.nodes[0].fault = Fault(kind=FaultKind.STATUS, status=400, text="no", count=1)
        await (await lab.chat()).read()
        after = await samples(lab)

    def moved(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert moved("sollold_requests_total", dialect="ollama", kind="chat", outcome="ok") == 1
    assert moved("sollold_requests_total", dialect="openai", kind="generate", outcome="ok") == 1
    assert (
        moved("sollold_requests_total", dialect="ollama", kind="chat", outcome="caller_error") == 1
    )
    assert moved("sollold_attempts_total", outcome="failed") == 1
    assert moved("sollold_attempts_total", outcome="ok") == 3
    assert moved("sollold_tokens_total", direction="generated") == 32
    assert moved("sollold_tokens_total", direction="prompt") > 0
    assert moved("sollold_request_duration_seconds_count", kind="chat") == 2
    assert moved("sollold_request_duration_seconds_sum", kind="chat") > 0
    assert moved("sollold_time_to_first_token_seconds_count", kind="chat") == 1
    assert moved("sollold_queue_wait_seconds_count") == 3


def counted(found: Samples) -> dict[tuple[str, ...], float]:
    """How often requests ended, by dialect, kind and outcome."""
    return {
        tuple(word for _, word in labels): number
        for (name, labels), number in found.items()
        if name == "sollold_requests_total"
    }


CHAT = b'{"model":"llama3.2","messages":[{"role":"user","content":"x"}],"stream":false}'


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "labels"),
    [
        ("/api/generate", b'{"model":"no"}', {}, 404, ("ollama", "generate", "caller_error")),
        ("/v1/embeddings", b'{"model":"no"}', {}, 404, ("openai", "embed", "caller_error")),
        ("/api/chat", b"{}", {}, 400, ("ollama", "chat", "caller_error")),
        ("/api/chat", b"", {}, 400, ("ollama", "chat", "caller_error")),
        ("/api/chat", b"{", {}, 400, ("ollama", "chat", "caller_error")),
        ("/api/chat", CHAT, {"X-Sollold-Pin": "no"}, 404, ("ollama", "chat", "caller_error")),
        ("/api/chat", CHAT, {"Via": "LOOP"}, 508, ("ollama", "chat", "caller_error")),
        (
            "/api/generate",
            b'{"model":"llama3.2","keep_alive":0}',
            {},
            200,
            ("ollama", "generate", "ok"),
        ),
        ("/api/chat", CHAT, {}, 200, ("ollama", "chat", "ok")),
    ],
    ids=["unknown", "v1", "nameless", "empty", "syntax", "pin", "loop", "unload", "served"],
)
async def test_every_inference_request_counts_once(
    path: str, body: bytes, headers: dict[str, str], status: int, labels: tuple[str, ...]
) -> None:
    async with Lab() as lab:
        headers = {k: lab.built.edge.via if v == "LOOP" else v for k, v in headers.items()}
        async with lab.session.post(path, data=body, headers=headers) as answer:
            assert answer.status == status, await answer.text()
        assert counted(await samples(lab)) == {labels: 1}


async def test_requests_that_this_daemon_cannot_serve_count_as_refused_or_failed() -> None:
    silent = FakeNode()
    silent.fault = Fault(kind=FaultKind.HANG)
    async with Lab([silent], health={"timeout_s": 0.2}) as lab:
        async with lab.session.post("/api/chat", data=CHAT) as answer:
            assert answer.status == 503
        assert counted(await samples(lab)) == {("ollama", "chat", "refused"): 1}
        # A bug of ours, wherever it is.
        lab.built.bodies.limit_bytes = None  # type: ignore[assignment]
        async with lab.session.post("/api/embed", data=CHAT) as answer:
            assert answer.status == 500
        assert counted(await samples(lab))["ollama", "embed", "failed"] == 1


async def test_an_attempt_whose_client_left_was_given_up() -> None:
    async with Lab([FakeNode(rate=20.0, answer_tokens=2000)]) as lab:
        async with await lab.chat(stream=True) as answer:
            await answer.content.readline()
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        found = await samples(lab)
        attempts = {labels: n for (name, labels), n in found.items() if "attempts_total" in name}
        assert {labels[0][1]: n for labels, n in attempts.items()} == {
            "ok": 0,
            "failed": 0,
            "given_up": 1,
        }


async def test_what_is_no_inference_request_does_not_count() -> None:
    async with Lab() as lab:
        async with lab.session.post("/api/show", data=b'{"model":"no"}') as answer:
            assert answer.status == 404
        async with lab.session.get("/api/chat") as answer:
            assert answer.status == 405
        assert counted(await samples(lab)) == {}


async def test_a_client_that_leaves_before_its_body_came_counts_as_canceled() -> None:
    async with Lab() as lab:
        _, writer = await asyncio.open_connection("127.0.0.1", lab.port)
        writer.write(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n")
        await lab.until(lambda: bool(lab.built.edge._tasks))
        writer.close()
        await lab.until(lambda: not lab.built.edge._tasks)
        assert counted(await samples(lab)) == {("ollama", "chat", "canceled"): 1}


async def test_gauges_show_what_is_now() -> None:
    slow = FakeNode(rate=20.0, answer_tokens=2000)
    health = {"interval_s": 0.1, "timeout_s": 0.2, "backoff_max_s": 0.2}
    async with Lab([slow, FakeNode(())], health=health) as lab:
        async with await lab.chat(stream=True) as first:
            await first.content.readline()
            second = asyncio.create_task(lab.chat(stream=True))
            await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 1)
            await lab.until(lambda: bool(lab.fleet["n1"].residents))
            found = await samples(lab)
            assert value(found, "sollold_queue_depth") == 1
            assert value(found, "sollold_requests_running") == 2
            assert value(found, "sollold_node_inflight", node="n1") == 1
            assert value(found, "sollold_node_models", node="n1", where="memory") == 1
            assert value(found, "sollold_node_models", node="n1", where="disk") == 1
            assert value(found, "sollold_node_models", node="n2", where="disk") == 0
            assert value(found, "sollold_node_state", node="n1", state="up") == 1
            assert value(found, "sollold_build_info", version=__version__) == 1
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        await slow.stop()
        await lab.until(lambda: lab.fleet["n1"].state == "down")
        found = await samples(lab)
        assert value(found, "sollold_requests_running") == 0
        assert value(found, "sollold_node_inflight", node="n1") == 0
        states = {
            word.value: value(found, "sollold_node_state", node="n1", state=word.value)
            for word in NodeState
        }
        assert states == {word.value: float(word is NodeState.DOWN) for word in NodeState}


async def test_a_load_without_its_client_is_seen() -> None:
    async with Lab([FakeNode(load_s=0.5)]) as lab:
        impatient = asyncio.create_task(lab.chat())
        await lab.nodes[0].until(lambda: lab.nodes[0].waiting == 1)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        await lab.until(lambda: lab.built.dispatcher.detached_count == 1)
        found = await samples(lab)
        assert value(found, "sollold_detached_loads") == 1
        assert (
            value(
                found, "sollold_requests_total", dialect="ollama", kind="chat", outcome="canceled"
            )
            == 1
        )
        await lab.until(lambda: lab.built.dispatcher.detached_count == 0)
        assert value(await samples(lab), "sollold_detached_loads") == 0


async def test_what_clients_write_makes_no_label() -> None:
    async with Lab() as lab:
        await stir(lab)
        before = set(await samples(lab))
        for number in range(3):
            headers = {
                "X-Request-Id": f"marker-{number}",
                "Authorization": f"Bearer marker-{number}",
                "User-Agent": f"marker-{number}",
                "X-Sollold-Priority": "marker",
            }
            body = {"model": f"marker-{number}", "prompt": "x"}
            for path in ("/api/generate", f"/api/marker-{number}"):
                async with lab.session.post(path, json=body, headers=headers) as answer:
                    assert answer.status == 404
        after = await samples(lab)
        assert not [key for key in after if "marker" in str(key)]
        assert set(after) == before
        closed = {
            "dialect": {"ollama", "openai"},
            "kind": {kind.value for kind in TaskKind},
            "outcome": {outcome.value for outcome in Outcome} | {"given_up"},
            "state": {state.value for state in NodeState},
            "where": {"disk", "memory"},
            "direction": {"prompt", "generated"},
            "node": {"n1"},
            "version": {__version__},
        }
        for _, labels in after:
            for key, word in labels:
                assert key == "le" or word in closed[key]


async def test_a_node_that_left_leaves_no_series() -> None:
    async with Lab(2) as lab:
        assert value(await samples(lab), "sollold_node_state", node="n2", state="up") == 1
        lab.built.registry.remove(lab.fleet["n2"].id)
        assert not [key for key in await samples(lab) if ("node", "n2") in key[1]]


async def test_many_readers_share_one_page() -> None:
    async with Lab() as lab:
        metrics = lab.built.metrics
        metrics._page_s = float("-inf")
        request = make_mocked_request("GET", "/metrics")
        first = asyncio.create_task(metrics.page(request))
        readers = [first]
        # One in every round of the loop, so that one comes in each moment of the rendering.
        while not first.done():
            await asyncio.sleep(0)
            readers.append(asyncio.create_task(metrics.page(request)))
        pages = {response.body for response in await asyncio.gather(*readers)}
        assert len(pages) == 1
        assert pages != {b""}
        await (await lab.chat()).read()
        async with lab.session.get("/metrics") as answer:
            assert {await answer.read()} == pages  # younger than a second


async def test_the_event_loops_lag_is_measured() -> None:
    async with Lab() as lab:
        lab.built.metrics.note_lag(0.3)
        found = await samples(lab)
        assert value(found, "sollold_loop_lag_seconds_count") == 1
        assert value(found, "sollold_loop_lag_seconds_sum") == 0.3
        assert value(found, "sollold_loop_lag_seconds_bucket", le="0.25") == 0
        assert value(found, "sollold_loop_lag_seconds_bucket", le="1") == 1


async def test_a_listener_of_its_own_serves_nothing_else() -> None:
    async with Lab() as lab:
        runner = web.AppRunner(make_metrics_app(lab.built.metrics))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
            async with session.get("/metrics") as answer:
                assert "sollold_build_info" in await answer.text()
            for path in ("/", "/api/tags", "/api/v1/status"):
                async with session.get(path) as answer:
                    assert answer.status == 404
        await runner.cleanup()


async def test_metrics_can_be_switched_off() -> None:
    async with Lab(metrics={"enabled": False}) as lab:
        async with lab.session.get("/metrics") as answer:
            assert (answer.status, await answer.text()) == (404, "404 page not found")
