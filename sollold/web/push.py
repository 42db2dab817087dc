"""Readers that stay: what happens is pushed to them, over a WebSocket or as lines.

Owns how many there may be, and who is told goodbye when the daemon stops. What they are told comes
from a `Feed`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from sollold.web.answer import SEND_LIMIT_S, add_headers, begin, send
from sollold.web.context import CONTEXT
from sollold.web.route import NDJSON
from sollold.web.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sollold.events.subscription import Batch, Subscription

T = TypeVar("T")

MAX_LISTENERS = 64
"""Readers that follow something, over WebSockets and as lines together."""

_HEARTBEAT_S = 20.0
_GOODBYE_S = 0.5


class Feed(NamedTuple, Generic[T]):
    """What a reader gets: JSON texts to begin with, then those of each batch.

    Both are made step by step; a step that makes none yields None.
    """

    first: Iterator[bytes | None]
    later: Subscription[T]
    lines: Callable[[Batch[T]], Iterator[bytes | None]]


class Audience:
    """Every reader that stays, whatever it follows."""

    def __init__(
        self,
        *end: Callable[[], None],
        limit: int = MAX_LISTENERS,
        send_limit_s: float = SEND_LIMIT_S,
    ) -> None:
        """`end` are called when the daemon stops; each ends the feeds of one kind."""
        self.turns = Turns()
        self._end = end
        self._limit = limit
        self._send_limit_s = send_limit_s
        self._count = 0
        self._sockets: dict[web.WebSocketResponse, web.Request] = {}

    async def lines(self, request: web.Request, start: Callable[[], Feed[T]]) -> web.StreamResponse:
        """Answer with one JSON object a line, until the feed ends or the reader leaves."""
        with self.listening(request):
            feed = start()
            try:
                response = await begin(request, NDJSON)
                # The head goes out with the first piece, even where there is no line yet.
                await response.write(b"")
                async for lines in self._portions(feed):
                    data = b"".join(line + b"\n" for line in lines)
                    if not await send(response, request, data, self._send_limit_s):
                        break
                return response
            finally:
                feed.later.close()

    async def _portions(self, feed: Feed[T]) -> AsyncIterator[list[bytes]]:
        async for portion in self.turns.portions(feed.first):
            if portion:
                yield portion
        async for batch in feed.later:
            async for portion in self.turns.portions(feed.lines(batch)):
                if portion:
                    yield portion

    async def socket(
        self, request: web.Request, start: Callable[[], Feed[T]]
    ) -> web.StreamResponse:
        """Answer with a WebSocket that carries JSON arrays; what the reader says is ignored."""
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, max_msg_size=4096, timeout=_GOODBYE_S
        )
        add_headers(socket, request)
        with self.listening(request):
            await socket.prepare(request)
            self._sockets[socket] = request
            try:
                await self._push(socket, start())
            except (TimeoutError, ConnectionError):
                pass
            finally:
                await _close(socket, request, WSCloseCode.OK)
                self._sockets.pop(socket, None)
        return socket

    async def _push(self, socket: web.WebSocketResponse, feed: Feed[T]) -> None:
        reader = asyncio.create_task(_read_until_closed(socket, feed.later), name="ws-read")
        try:
            await self._send(socket, await self.turns.all(feed.first))
            async for batch in feed.later:
                await self._send(socket, await self.turns.all(feed.lines(batch)))
        finally:
            feed.later.close()
            reader.cancel()
            await asyncio.wait({reader})

    async def _send(self, socket: web.WebSocketResponse, lines: list[bytes]) -> None:
        async with asyncio.timeout(self._send_limit_s):
            await socket.send_str((b"[" + b",".join(lines) + b"]").decode())

    @contextlib.contextmanager
    def listening(self, request: web.Request) -> Iterator[None]:
        """Count a reader; there are only so many."""
        if self._count >= self._limit:
            request[CONTEXT].hint = "close some of them, or ask without follow"
            raise web.HTTPServiceUnavailable(reason=f"{self._limit} readers follow events now")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    async def say_goodbye(self, app: web.Application) -> None:
        """End every feed and tell every WebSocket that the daemon stops; for `on_shutdown`."""
        for end in self._end:
            end()
        goodbyes = [
            _close(socket, request, WSCloseCode.GOING_AWAY)
            for socket, request in list(self._sockets.items())
        ]
        await asyncio.gather(*goodbyes)


def check_origin(request: web.Request) -> None:
    """Refuse pages of other sites: a browser lets any page open WebSockets and send forms.

    The scheme is not compared: behind a proxy that ends TLS the page is at `https` while the
    request comes as `http`, and a page of the same host and port on the other scheme is the same
    operator's.
    """
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise web.HTTPForbidden(reason="pages of other sites may not ask this of sollold")


async def _read_until_closed(socket: web.WebSocketResponse, later: Subscription[T]) -> None:
    """Ignore what a reader says; end its subscription when it leaves."""
    async for message in socket:
        if message.type is WSMsgType.ERROR:
            break
    later.close()


async def _close(socket: web.WebSocketResponse, request: web.Request, code: WSCloseCode) -> None:
    """Say goodbye; a reader that reads no more is cut."""
    text = b"sollold is stopping" if code is WSCloseCode.GOING_AWAY else b""
    try:
        async with asyncio.timeout(_GOODBYE_S):
            await socket.close(code=code, message=text)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
