"""The relay path put together as plainly as it can be: what routes will do, without their logic."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from sollold.web.client_stream import ClientStream
from tests.component.upstream.support import post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sollold.errors import UpstreamError
    from sollold.upstream.connection import Exchange, Head
    from sollold.upstream.pool import NodePool
    from sollold.upstream.wheel import TimerWheel

NDJSON = {"Content-Type": "application/x-ndjson"}


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *,
    on_prepare: Callable[[web.Request, web.StreamResponse], Awaitable[None]] | None = None,
) -> AsyncIterator[int]:
    """Serve one handler for every path; yield the port."""
    app = web.Application()
    if on_prepare is not None:
        app.on_response_prepare.append(on_prepare)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class Relay:
    """A receiver that wakes the handler for the head and the end, and for nothing between."""

    def __init__(self, stream: ClientStream) -> None:
        self._stream = stream
        loop = asyncio.get_running_loop()
        self.exchange: Exchange | None = None
        self.head: asyncio.Future[Head] = loop.create_future()
        self.end: asyncio.Future[UpstreamError | None] = loop.create_future()
        self.body_bytes = 0

    def on_head(self, head: Head) -> None:
        assert self.exchange is not None
        self.exchange.pause()
        if not self.head.done():
            self.head.set_result(head)

    def on_body(self, data: bytes) -> None:
        self.body_bytes += len(data)
        self._stream.write(data)

    def on_end(self) -> None:
        if not self.end.done():
            self.end.set_result(None)

    def on_error(self, error: UpstreamError) -> None:
        if not self.head.done():
            self.head.cancel()
        if not self.end.done():
            self.end.set_result(error)


class Gateway:
    """Relays every request to one pool, and remembers what became of each."""

    def __init__(
        self,
        pool: NodePool,
        wheel: TimerWheel,
        *,
        stall_s: float = 30.0,
        spool_bytes: int = 4 * 1024 * 1024,
        kernel_bytes: int | None = None,
    ) -> None:
        self._pool = pool
        self._wheel = wheel
        self._stall_s = stall_s
        self._spool_bytes = spool_bytes
        self._kernel_bytes = kernel_bytes
        self.relays: list[Relay] = []
        self.requests: list[web.Request] = []
        self.stalled = 0
        self.cancelled = 0
        self.finished = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self._kernel_bytes is not None:
            assert request.transport is not None
            sock = request.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._kernel_bytes)
        stream = ClientStream(
            request,
            wheel=self._wheel,
            stall_s=self._stall_s,
            spool_bytes=self._spool_bytes,
            on_stalled=self._on_stalled,
        )
        relay = Relay(stream)
        self.relays.append(relay)
        self.requests.append(request)
        outgoing = post(body, target=request.path)
        exchange = relay.exchange = await self._pool.send(outgoing, relay)
        try:
            status, raw_headers = await relay.head
            headers = {
                name.decode(): value.decode()
                for name, value in raw_headers
                if name.lower() not in (b"transfer-encoding", b"connection")
            }
            await stream.start(status, headers, exchange)
            if await relay.end is not None:
                stream.write(b'{"error":"the node died"}\n')
                return stream.abort()
            response = await stream.finish()
            self.finished += 1
            return response
        except asyncio.CancelledError:
            self.cancelled += 1
            exchange.abort()
            stream.abort()
            raise

    def unsent_bytes(self) -> int:
        """Return what waits in this process for the newest client."""
        transport = self.requests[-1].transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def _on_stalled(self) -> None:
        self.stalled += 1
