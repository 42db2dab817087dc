"""A prober over a registry, quick enough for tests, and servers that are not Ollama."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from sollold.core.health import HealthPolicy
from sollold.core.model import NodeId, NodeState, NodeView
from sollold.nodes.ask import Asker, Target, probe_session
from sollold.nodes.candidates import Candidate
from sollold.nodes.client import NodeClient
from sollold.nodes.probe import Prober
from sollold.nodes.registry import Registry
from sollold.nodes.tools import ProbeSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from sollold.nodes.own import OwnAddresses
    from sollold.nodes.sources import StaticSources
    from tests.fakes.node import FakeNode

QUICK = HealthPolicy(interval_s=0.1, retry_s=0.05, retry_cap_s=0.2)
LIMITS = ProbeSettings(limit_s=1.0, least_gap_s=0.01)


class Bench:
    """Registry, client and prober, wired as the daemon wires them."""

    def __init__(
        self,
        *,
        policy: HealthPolicy = QUICK,
        settings: ProbeSettings = LIMITS,
        own: OwnAddresses | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        sources: StaticSources | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.names = dict(names or {})
        self.lookups: list[str] = []
        self.registry = Registry(
            clock=time.monotonic,
            on_event=lambda kind, fields: self.events.append((kind, fields)),
            policy=policy,
            own=own,
        )
        self._changed = asyncio.Event()
        self.registry.subscribe(self._changed.set)
        self._session = probe_session()
        self.client = NodeClient(Asker(self._session))
        self.prober = Prober(
            self.registry,
            self.client,
            clock=time.monotonic,
            dice=lambda: 0.5,
            secret_of=(secrets or {}).get,
            settings=settings,
            sources=sources,
            resolve=self._resolve,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.prober.close()
        await self._session.close()

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        self.lookups.append(host)
        found = self.names.get(host)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    def add(self, url: str, name: str | None = "node", **fields: Any) -> NodeId:
        fields.setdefault("source", "config")
        node = self.registry.add(Candidate(url=url, name=name, **fields))
        assert node is not None
        return node

    def view(self, node: str = "node") -> NodeView:
        view = self.registry.get(NodeId(node))
        assert view is not None
        return view

    def told(self, node: str = "node") -> str:
        """State, code and sentence in one line."""
        view = self.view(node)
        return f"{view.state} {view.reason.code}: {view.reason.text}" if view.reason else view.state

    async def until(self, is_true: Callable[[], bool], limit_s: float = 10.0) -> None:
        async with asyncio.timeout(limit_s):
            while not is_true():
                self._changed.clear()
                await self._changed.wait()

    async def until_state(
        self, state: NodeState, node: str = "node", limit_s: float = 10.0
    ) -> None:
        await self.until(lambda: self.view(node).state is state, limit_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.prober.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def target(url: str, **fields: Any) -> Target:
    place = Candidate(url=url, source="config").place()
    return Target(
        scheme=place.scheme,
        address=place.address.host,
        port=place.address.port,
        path=place.path,
        **fields,
    )


def count(node: FakeNode, path: str) -> int:
    return sum(request.path == path for request in node.requests)


async def kill(node: FakeNode) -> None:
    """Kill a node between two questions."""
    await node.until(lambda: node.open_connections == 0)
    await node.stop()


@asynccontextmanager
async def web_server(
    answer: Callable[[web.Request], web.Response | Awaitable[web.Response]], port: int = 0
) -> AsyncIterator[str]:
    """Serve every path with one function; yields the base URL."""

    async def handle(request: web.Request) -> web.StreamResponse:
        found = answer(request)
        return found if isinstance(found, web.Response) else await found

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextmanager
def black_hole(host: str, port: int) -> Iterator[None]:
    """A listener whose queue is full: connections to it are neither made nor refused."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex((host, port))
            yield
        finally:
            for filler in fillers:
                filler.close()
