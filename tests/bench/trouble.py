"""How long a user waits when something goes wrong: cancel, and failing over to another node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import aiohttp

from tests.bench.figures import SOLLOLD, Figure
from tests.bench.processes import make_daemon
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode
from tests.stack.http import post_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_HOLD_S = 0.2
_LIMIT_S = 10.0


async def measure_cancel(directory: Path, rounds: int) -> Figure:
    """From a client's leaving to the end of the node's connection."""
    figure = Figure(key="cancel", what="cancel reaches the node", unit="ms", budget=50)
    async with (
        FakeNode(["m"], rate=100.0, slots=64) as node,
        _daemon(directory / "cancel", [node]) as url,
    ):
        for _ in range(rounds):
            left_s = await _leave_midway(url)
            await node.until(lambda: node.active == 0, _LIMIT_S)
            ended_s = node.inference[-1].ended_s
            assert ended_s is not None
            figure.add(SOLLOLD, (ended_s - left_s) * 1e3)
    return figure


async def measure_failover(directory: Path, rounds: int) -> list[Figure]:
    """What a node that is gone, or goes before its first byte, adds to an answer from another."""
    refused = Figure(
        key="failover_refused", what="failover added, node refuses", unit="ms", budget=10
    )
    killed = Figure(
        key="failover_killed",
        what="failover added, node killed before its first byte",
        unit="ms",
        budget=50,
    )
    # A model of its own for each round: a node that failed is rightly shunned afterwards.
    names = [f"m{number}" for number in range(2 * rounds)]
    models = [FakeModel(name=name, load_s=0.0) for name in [*names, "warm"]]
    async with contextlib.AsyncExitStack() as stack:
        spare = await stack.enter_async_context(FakeNode(models, rate=0.0, max_resident=999))
        nodes = [
            await stack.enter_async_context(FakeNode([name], rate=0.0, slots=8)) for name in names
        ]
        for node, name in zip(nodes, names, strict=True):
            await asyncio.to_thread(post_json, f"{node.url}/api/generate", {"model": name})
        tiers = {node.url: 1 for node in nodes} | {spare.url: 9}
        url = await stack.enter_async_context(_daemon(directory / "fail", [*nodes, spare], tiers))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        base_ms = sorted([(await _ask(session, url, "warm"))[0] for _ in range(21)])[10]
        for number in range(rounds):
            figure, kind = refused, FaultKind.REFUSE
            await _fail(session, url, nodes[number], names[number], kind, figure, base_ms)
        for number in range(rounds, 2 * rounds):
            figure, kind = killed, FaultKind.CUT_RESET
            await _fail(session, url, nodes[number], names[number], kind, figure, base_ms)
    return [refused, killed]


async def _fail(
    session: aiohttp.ClientSession,
    url: str,
    node: FakeNode,
    name: str,
    kind: FaultKind,
    figure: Figure,
    base_ms: float,
) -> None:
    if kind is FaultKind.REFUSE:
        node.fault = Fault(kind=kind)
        held_ms = 0.0
    else:
        node.set_faults(Fault(kind=FaultKind.SLOW_HEAD, delay_s=_HOLD_S), Fault(kind=kind))
        held_ms = _HOLD_S * 1e3
    took_ms, attempts = await _ask(session, url, name)
    if attempts < 2 and not node.inference:
        figure.notes.append(f"{name}: {attempts} attempt: the daemon knew before it asked")
    figure.add(SOLLOLD, took_ms - held_ms - base_ms)


async def _ask(session: aiohttp.ClientSession, url: str, model: str) -> tuple[float, int]:
    body = {"model": model, "prompt": "a", "stream": False, "options": {"num_predict": 1}}
    started_s = time.perf_counter()
    async with session.post(f"{url}/api/generate", json=body) as reply:
        text = await reply.text()
        if reply.status != 200:
            raise RuntimeError(f"status {reply.status}: {text}")
        took_ms = (time.perf_counter() - started_s) * 1e3
        return took_ms, int(reply.headers.get("X-Sollold-Attempts", "1"))


async def _leave_midway(url: str) -> float:
    """Read some lines of a long stream, leave, and say when."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({"model": "m", "prompt": "a", "options": {"num_predict": 10_000}}).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    seen = b""
    async with asyncio.timeout(_LIMIT_S):
        while seen.count(b'"done":false') < 5:
            piece = await reader.read(65_536)
            if not piece:
                raise RuntimeError(f"the stream ended: {seen[:300]!r}")
            seen += piece
    left_s = time.monotonic()
    writer.transport.abort()
    return left_s


@contextlib.asynccontextmanager
async def _daemon(
    directory: Path, nodes: list[FakeNode], tiers: dict[str, int] | None = None
) -> AsyncIterator[str]:
    """A daemon over fake nodes of this very loop, so nothing here may block."""
    urls = [node.url for node in nodes]
    daemon = make_daemon(directory, urls, tiers=tiers or {})
    try:
        await asyncio.to_thread(daemon.start)
        await _wait_until_known(daemon.api_url, nodes)
        yield daemon.api_url
    finally:
        await asyncio.to_thread(daemon.close)


async def _wait_until_known(url: str, nodes: list[FakeNode]) -> None:
    """Every node was asked for what it has loaded, and the answer has arrived."""
    for node in nodes:
        await node.until(
            lambda at=node: any(  # type: ignore[misc]
                seen.path == "/api/ps" and seen.is_answered for seen in at.requests
            ),
            _LIMIT_S,
        )
    models = {model for node in nodes for model in node.ollama.models}
    async with asyncio.timeout(_LIMIT_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/api/tags") as reply:
                if len((await reply.json())["models"]) >= len(models):
                    return
            await asyncio.sleep(0.02)
