"""The daemon's application in the test's own loop, in front of fake nodes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import msgspec
from aiohttp import web

from sollold.compose.build import Built, build
from sollold.config import LoadedConfig, Node
from sollold.config.schema import Config
from sollold.nodes.own import find_own_addresses
from sollold.web.facts import Bound
from sollold.web.server import ServerRunner
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sollold.api_reload import ReloadDocument
    from sollold.logs.hub import LogHub
    from tests.fakes.server import FakeServer

IN_ORDER = {"weights": {"tier": 1000.0}}
"""Routing by which n1 is always the first choice, n2 the second, and so on."""


def listening_socket() -> socket.socket:
    """Return a socket that listens on a free port of loopback."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    sock.setblocking(False)
    return sock


class Lab:
    """Fake nodes and the daemon before them; an asynchronous context manager.

    `others` are fakes of other kinds, listed after the nodes: n3 is the first after two nodes.
    With `is_console` its listener is the console's.
    `settings` are sections of the configuration by name: ``failover={"overdue_s": 0.2}``.
    """

    def __init__(
        self,
        nodes: Sequence[FakeNode] | int = 1,
        *,
        others: Sequence[FakeServer] = (),
        is_probing: bool = True,
        nodes_config: Sequence[dict[str, Any]] = (),
        is_console: bool = False,
        logs: LogHub | None = None,
        **settings: dict[str, Any],
    ) -> None:
        self.nodes = [FakeNode() for _ in range(nodes)] if isinstance(nodes, int) else list(nodes)
        self.others = list(others)
        self._settings: dict[str, Any] = {"discovery": {"enabled": False}, **settings}
        if nodes_config:
            self._settings["nodes"] = list(nodes_config)
        self._without: frozenset[str] = frozenset()
        self.level = "info"
        """What the daemon would log from."""
        self._is_probing = is_probing
        self._is_console = is_console
        self._logs = logs
        self._stack = contextlib.AsyncExitStack()
        self.built: Built
        self.session: aiohttp.ClientSession
        self.url = ""
        self.port = 0
        self._prober: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            for node in (*self.nodes, *self.others):
                await stack.enter_async_context(node)
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        sock = stack.enter_context(contextlib.closing(listening_socket()))
        self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        loaded = self._read()
        own = find_own_addresses(frozenset({("127.0.0.1", self.port)}))
        name = (("127.0.0.1", self.port),)
        bound = Bound(api=name, console=name if self._is_console else ())
        self.built = await stack.enter_async_context(
            build(loaded, own, bound, self._logs, read=self._read, set_level=self._set_level)
        )
        runner = ServerRunner(
            self.built.app,
            headers=self.built.edge.headers,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=0.5,
        )
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        self.session = await stack.enter_async_context(
            aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=30))
        )
        if self._is_probing:
            self._prober = asyncio.create_task(self.built.prober.run())
            stack.push_async_callback(self._stop_probing)
            async with asyncio.timeout(5):
                await self.built.prober.first_round.wait()
        else:
            await self.built.prober.probe_once()

    async def _stop_probing(self) -> None:
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.gather(self._prober, return_exceptions=True)

    async def reload(
        self,
        changed: Mapping[str, Any] | None = None,
        *,
        without: Sequence[str] = (),
        **settings: dict[str, Any],
    ) -> ReloadDocument:
        """Have the daemon reload, with other sections and without some of the nodes."""
        self._settings |= {**(changed or {}), **settings}
        self._without = frozenset(without)
        async with asyncio.timeout(10):
            return await self.built.reloader.reload()

    def _set_level(self, level: str) -> None:
        self.level = level

    def _read(self) -> LoadedConfig:
        return LoadedConfig(config=self._config(), origins={}, files=(), notes=())

    def _config(self) -> Config:
        config = msgspec.convert(self._settings, Config)
        is_ordered = self._settings.get("routing") is IN_ORDER
        nodes = tuple(
            Node(
                url=node.url,
                name=f"n{number}",
                kind=node.kind,
                key_env=node.key_env,
                tier=min(10, number) if is_ordered else 5,
            )
            for number, node in enumerate((*self.nodes, *self.others), 1)
            if f"n{number}" not in self._without
        )
        return msgspec.structs.replace(config, nodes=nodes + config.nodes)

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    @property
    def fleet(self) -> dict[str, Any]:
        """Node views by id."""
        return {view.id: view for view in self.built.registry.fleet().nodes}

    async def until(self, is_true: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait for a condition inside the daemon; `TimeoutError` when it does not come true."""
        async with asyncio.timeout(timeout_s):
            while not is_true():
                await asyncio.sleep(0.005)

    def assert_idle(self) -> None:
        """Fail when anything of a request is left in the daemon."""
        dispatcher = self.built.dispatcher
        assert not list(dispatcher.runs)
        assert len(dispatcher.admission.load) == 0
        assert len(dispatcher.admission.queue) == 0
        assert self.built.bodies.in_memory_bytes == 0

    async def chat(self, *, stream: bool = False, **fields: Any) -> aiohttp.ClientResponse:
        """POST /api/chat; the caller reads the answer."""
        body = {
            "model": "llama3.2",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": stream,
            **fields,
        }
        return await self.session.post("/api/chat", json=body)
