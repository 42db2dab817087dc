"""Requests that need no slot: sent to one node, whose reply is returned as a whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sollold.errors import ConnectFailed, UpstreamError, UpstreamProtocol, UpstreamTimeout
from sollold.upstream.exchange import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sollold.core.model import NodeId
    from sollold.routing.pools import Pools
    from sollold.upstream.exchange import Body, Exchange, Head

_MAX_REPLY_BYTES = 64 << 20


class PlainReply:
    """A complete reply of one node."""

    __slots__ = ("body", "head", "node")

    def __init__(self, node: NodeId, head: Head, body: bytes) -> None:
        self.node = node
        self.head = head
        self.body = body


class _Collector:
    """Gathers one reply (`sollold.upstream.exchange.Receiver`)."""

    def __init__(
        self,
        node: NodeId,
        done: asyncio.Future[PlainReply],
        wants_body: Callable[[int], bool] | None,
    ) -> None:
        self._node = node
        self._done = done
        self._wants_body = wants_body
        self._head: Head | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self.exchange: Exchange | None = None

    def on_head(self, head: Head) -> None:
        self._head = head
        if self._wants_body is not None and not self._wants_body(head.status):
            self.on_end()

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > _MAX_REPLY_BYTES:
            if self.exchange is not None:
                self.exchange.abort()
            self.on_error(UpstreamProtocol(f"{self._node} sent more than {_MAX_REPLY_BYTES} bytes"))
        else:
            self._pieces.append(data)

    def on_end(self) -> None:
        if self._head is not None and not self._done.done():
            self._done.set_result(PlainReply(self._node, self._head, b"".join(self._pieces)))

    def on_error(self, error: UpstreamError) -> None:
        if not self._done.done():
            self._done.set_exception(error)


class PlainForwarder:
    """Sends one request to one node and returns its whole reply."""

    def __init__(
        self,
        pools: Pools,
        *,
        limit_s: float,
        overdue_s: float,
        is_frozen: Callable[[NodeId], Awaitable[bool]],
    ) -> None:
        """After `overdue_s` without an answer `is_frozen` is asked whether to go on waiting."""
        self._pools = pools
        self._limit_s = limit_s
        self._overdue_s = overdue_s
        self._is_frozen = is_frozen

    def set_overdue(self, overdue_s: float) -> None:
        """Ask after so long from now on. No await."""
        self._overdue_s = overdue_s

    async def ask(
        self,
        node: NodeId,
        head: bytes | None,
        body: Body,
        *,
        wants_body: Callable[[int], bool] | None = None,
        limit_s: float | None = None,
    ) -> PlainReply:
        """Ask one node; a reply whose status is not wanted is cut off and comes without its body.

        Raises:
            UpstreamError: it gave no complete answer in time.
        """
        pool = self._pools.get(node)
        if pool is None or head is None:
            raise ConnectFailed(f"{node} has left")
        done: asyncio.Future[PlainReply] = asyncio.get_running_loop().create_future()
        collector = _Collector(node, done, wants_body)
        exchange = await pool.send(Request(head, body), collector)
        collector.exchange = exchange
        try:
            await self._await_answer(node, done, self._limit_s if limit_s is None else limit_s)
            return done.result()
        finally:
            exchange.abort()
            done.cancel()

    async def _await_answer(
        self, node: NodeId, done: asyncio.Future[PlainReply], limit_s: float
    ) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + limit_s
        while not done.done():
            left_s = until_s - loop.time()
            if left_s <= 0:
                text = f"{node} gave no answer in {limit_s:.0f} s"
                raise UpstreamTimeout(text, phase="head")
            await asyncio.wait({done}, timeout=min(self._overdue_s, left_s))
            if not done.done() and await self._is_frozen(node) and not done.done():
                raise UpstreamTimeout(f"{node} does not answer its probes", phase="head")
