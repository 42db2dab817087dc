"""Connections to one node: kept alive, bounded, and every one accounted for.

Resolves no names and limits no concurrency; addresses are literals and admission counts requests.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from sollold.errors import ConnectFailed, UpstreamError, UpstreamTimeout
from sollold.upstream.connection import Connection
from sollold.upstream.exchange import Exchange, Receiver, Request
from sollold.upstream.wheel import Timer

if TYPE_CHECKING:
    import ssl

    from sollold.upstream.wheel import TimerWheel

STALE_WINDOW_S = 2.0
"""A stale connection says so within round trips; later than this, the node had the request."""


class Address(NamedTuple):
    """Where a node listens: an IP literal, and what TLS needs to know."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """Name the certificate is checked against; None: the host."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NodePool:
    """All connections to one node; used from the wheel's loop only."""

    def __init__(
        self,
        address: Address,
        *,
        wheel: TimerWheel,
        connect_timeout_s: float = 2.0,
        keepalive_s: float = 60.0,
        max_idle: int = 64,
        stale_window_s: float = STALE_WINDOW_S,
    ) -> None:
        self.address = address
        self.wheel = wheel
        self.stale_window_s = stale_window_s
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._max_idle = max_idle
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, float] = {}
        """Idle since when; in that order, so the last is the freshest."""
        self._expiry = Timer(wheel, self._expire)
        self._replacing: dict[Exchange, asyncio.Task[None]] = {}
        self._is_closed = False

    @property
    def open(self) -> int:
        """Connections that were made and not yet lost."""
        return len(self._connections)

    @property
    def idle(self) -> int:
        """Sockets kept for the next request."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """Exchanges under way, those that wait for a fresh connection included."""
        return sum(connection.is_busy for connection in self._connections) + len(self._replacing)

    def set_connect_timeout(self, connect_timeout_s: float) -> None:
        """Give connections that are opened from now on so long. No await."""
        self._connect_timeout_s = connect_timeout_s

    def try_send(self, request: Request, receiver: Receiver) -> Exchange | None:
        """Send over an idle connection, or return None when there is none. No await."""
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            if connection.is_usable:
                exchange = Exchange(self, request, receiver)
                connection.begin(exchange)
                return exchange
        return None

    async def send(self, request: Request, receiver: Receiver) -> Exchange:
        """Send, over a fresh connection if none is idle; cancelling closes what was opened.

        Raises `ConnectFailed`, or `UpstreamTimeout` with phase ``connect``.
        """
        exchange = self.try_send(request, receiver)
        if exchange is None:
            if self._is_closed:
                raise ConnectFailed(f"{self.address} is no longer used")
            connection = await self._dial()
            exchange = Exchange(self, request, receiver)
            connection.begin(exchange)
        return exchange

    def close(self) -> None:
        """Close every connection at once; exchanges under way end with an error. No await."""
        self._is_closed = True
        self._expiry.cancel()
        error = UpstreamError(f"{self.address} is no longer used")
        for connection in tuple(self._connections):
            connection.fail(error)
        for exchange in tuple(self._replacing):
            self.forget(exchange)
            exchange.fail(error)

    # Called by connections and exchanges.

    def on_idle(self, connection: Connection) -> None:
        """Keep a connection for the next request, the longest idle one giving way."""
        if self._is_closed or not connection.is_usable:
            connection.drop()
            return
        if self._expiry.filed_tick is None:
            self._expiry.push(self._keepalive_s)
        # A tick old at most, since the wheel turns now.
        self._idle[connection] = self.wheel.now_s
        if len(self._idle) > self._max_idle:
            next(iter(self._idle)).drop()

    def on_unusable(self, connection: Connection) -> None:
        """Offer a connection no more."""
        self._idle.pop(connection, None)

    def on_lost(self, connection: Connection) -> None:
        """Stop counting a socket."""
        self._idle.pop(connection, None)
        self._connections.discard(connection)

    def replace(self, exchange: Exchange) -> None:
        """Carry an exchange over to a fresh connection."""
        self._replacing[exchange] = self.wheel.loop.create_task(
            self._replace(exchange), name=f"redial {self.address}"
        )

    def forget(self, exchange: Exchange) -> None:
        """Stop dialling for an exchange."""
        task = self._replacing.pop(exchange, None)
        if task is not None:
            task.cancel()

    async def _replace(self, exchange: Exchange) -> None:
        try:
            connection = await self._dial()
        except UpstreamError as error:
            self._replacing.pop(exchange, None)
            exchange.fail(error)
            return
        self._replacing.pop(exchange, None)
        connection.begin(exchange)

    async def _dial(self) -> Connection:
        connection = Connection(self)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._open(connection)
        except TimeoutError:
            connection.drop()
            raise UpstreamTimeout(
                f"{self.address} accepted no connection within {self._connect_timeout_s:g} s",
                phase="connect",
            ) from None
        except (OSError, ValueError) as error:
            connection.drop()
            raise ConnectFailed(
                f"cannot connect to {self.address}: {error}",
                refused=isinstance(error, ConnectionRefusedError),
            ) from error
        except BaseException:
            connection.drop()
            raise
        if self._is_closed or not connection.is_usable:
            connection.drop()
            raise ConnectFailed(f"the connection to {self.address} did not last")
        # Not sooner: uvloop tells a protocol whose dialling was cancelled nothing of its end.
        self._connections.add(connection)
        return connection

    async def _open(self, connection: Connection) -> None:
        host, port, tls, server_name = self.address
        await self.wheel.loop.create_connection(
            lambda: connection, host, port, ssl=tls, server_hostname=server_name
        )

    def _expire(self) -> None:
        now_s = self.wheel.loop.time()
        for connection, since_s in tuple(self._idle.items()):
            remaining_s = since_s + self._keepalive_s - now_s
            if remaining_s > 0:
                self._expiry.push(remaining_s)
                return
            connection.drop()
