"""The applications on their listeners: opened when all is ready, closed at the end.

Sockets that a service manager keeps open are left early, so that those who come while the daemon
drains wait for its successor instead of being refused.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from sollold.system.listen import BACKLOG
from sollold.upstream.sockets import tune_socket
from sollold.web.app import make_metrics_app
from sollold.web.server import ServerRunner

if TYPE_CHECKING:
    import socket

    from sollold.compose.build import Built
    from sollold.compose.listeners import Listeners

_CLIENT_USER_TIMEOUT_S = 120.0
_KEEPALIVE_S = 75.0
_LAST_WORDS_S = 0.5


class Doors:
    """Serves what was built on what was bound."""

    def __init__(self, built: Built, listeners: Listeners) -> None:
        self._listeners = listeners
        self._main = _runner(built.app, built)
        self._extra = _runner(make_metrics_app(built.metrics), built)
        self._passed: list[web.SockSite] = []

    async def prepare(self) -> None:
        """Have the applications ready; nothing is accepted yet."""
        await self._main.setup()
        await self._extra.setup()

    async def open(self) -> None:
        """Accept clients."""
        listeners = self._listeners
        for sock in (*listeners.api, *listeners.console):
            # Connections inherit this: a laptop that was closed says nothing.
            tune_socket(sock, user_timeout_s=_CLIENT_USER_TIMEOUT_S)
        for sock in (*listeners.api, *listeners.console, *listeners.control):
            await self._start(self._main, sock)
        for sock in listeners.metrics:
            await self._start(self._extra, sock)

    async def leave_to_successor(self) -> None:
        """Accept no more on sockets that stay open without us, and free idle connections."""
        server = self._main.server
        if not self._passed or server is None:
            return
        for site in self._passed:
            await site.stop()
        # Who has just connected is about to ask, and is still answered.
        await asyncio.sleep(_LAST_WORDS_S)
        server.pre_shutdown()

    async def close(self) -> None:
        """Close the listeners, and the connections with them."""
        await self._extra.cleanup()
        await self._main.cleanup()

    def names(self) -> frozenset[tuple[str, int]]:
        """Return (address, port) of every TCP listener."""
        return self._listeners.names()

    async def _start(self, runner: web.AppRunner, sock: socket.socket) -> None:
        site = web.SockSite(runner, sock, backlog=BACKLOG)
        await site.start()
        if self._listeners.is_passed(sock):
            self._passed.append(site)


def _runner(app: web.Application, built: Built) -> web.AppRunner:
    return ServerRunner(
        app,
        headers=built.edge.headers,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=built.reloader.loaded.config.server.cancel_after_s,
        keepalive_timeout=_KEEPALIVE_S,
    )
