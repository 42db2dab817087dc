"""A receiver that notes what it heard and insists on the order of calls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sollold.upstream.connection import Head, Request
from sollold.upstream.pool import Address, NodePool
from tests.fakes.raw import DEADLINE_S, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sollold.errors import UpstreamError
    from sollold.upstream.connection import Body, Exchange
    from sollold.upstream.wheel import TimerWheel
    from tests.fakes.raw import RawServer


class Recorder:
    """Notes one answer; a call out of order raises, which the loop reports."""

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.bodies: list[bytes] = []
        self.error: UpstreamError | None = None
        self.is_over = False
        self.on_next_body: Callable[[], None] | None = None
        self.after_end: Callable[[], None] | None = None
        self._over = asyncio.Event()

    @property
    def head(self) -> Head:
        assert len(self.heads) == 1, self.heads
        return self.heads[0]

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)

    def on_head(self, head: Head) -> None:
        assert not self.is_over
        assert not self.heads
        self.heads.append(head)

    def on_body(self, data: bytes) -> None:
        assert not self.is_over
        assert self.heads
        assert data
        self.bodies.append(data)
        if self.on_next_body is not None:
            self.on_next_body()

    def on_end(self) -> None:
        assert not self.is_over
        assert self.heads
        self._end()

    def on_error(self, error: UpstreamError) -> None:
        assert not self.is_over
        self.error = error
        self._end()

    def _end(self) -> None:
        self.is_over = True
        self._over.set()
        if self.after_end is not None:
            self.after_end()

    async def wait_over(self) -> None:
        """Wait for the end or the error."""
        async with asyncio.timeout(DEADLINE_S):
            await self._over.wait()

    async def wait_end(self) -> None:
        """Wait for the end, which must not be an error."""
        await self.wait_over()
        assert self.error is None, self.error

    async def wait_body(self, size: int) -> None:
        """Wait until that many body bytes came."""
        await eventually(lambda: sum(map(len, self.bodies)) >= size)


def post(body: Body = b"{}", *, target: str = "/api/chat", is_replayable: bool = True) -> Request:
    """Build a request as the router will."""
    size = len(body) if isinstance(body, bytes) else body.size_bytes
    head = f"POST {target} HTTP/1.1\r\nHost: node\r\nContent-Length: {size}\r\n\r\n".encode()
    return Request(head, body, is_replayable)


def address_of(server: RawServer) -> Address:
    """Return where the server listens."""
    return Address(server.host, server.port)


@asynccontextmanager
async def pool_to(
    server: RawServer,
    wheel: TimerWheel,
    *,
    connect_timeout_s: float = 2.0,
    keepalive_s: float = 60.0,
    max_idle: int = 64,
) -> AsyncIterator[NodePool]:
    """Yield a pool that must account for every socket when it closes."""
    pool = NodePool(
        address_of(server),
        wheel=wheel,
        connect_timeout_s=connect_timeout_s,
        keepalive_s=keepalive_s,
        max_idle=max_idle,
    )
    try:
        yield pool
    finally:
        pool.close()
        await eventually(lambda: (pool.open, pool.idle, pool.in_use) == (0, 0, 0))


def state_of(exchange: Exchange) -> tuple[bool, bool]:
    """Return whether it is reused and whether it is sent."""
    return exchange.is_reused, exchange.is_sent


async def exchange(pool: NodePool, request: Request | None = None) -> Recorder:
    """Run one exchange to its end."""
    recorder = Recorder()
    await pool.send(request or post(), recorder)
    await recorder.wait_over()
    return recorder


async def begin(pool: NodePool, request: Request | None = None) -> tuple[Exchange, Recorder]:
    """Begin one exchange."""
    recorder = Recorder()
    return await pool.send(request or post(), recorder), recorder
