"""Accepting connections, reading requests from them, and ending them well or badly."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from tests.fakes.httpd import Broken, Exchange, Framing, SeenRequest

if TYPE_CHECKING:
    from collections.abc import Callable


class Owner(Protocol):
    """The node behind the connections."""

    @property
    def framing(self) -> Framing:
        """How it frames its answers."""

    async def handle(self, exchange: Exchange, connection: Connection) -> None:
        """Answer one request."""

    def seen(self, request: SeenRequest) -> None:
        """A request is there, body and all."""

    def is_answered_early(self, request: SeenRequest) -> bool:
        """True when the answer does not wait for the body."""

    def changed(self) -> None:
        """Something that a test may wait for happened."""

    def gone(self, connection: Connection) -> None:
        """A connection ended."""


class Connection(asyncio.Protocol):
    """One accepted connection: parses requests and runs the handler for one after the other."""

    def __init__(self, number: int, accepted: socket.socket, owner: Owner) -> None:
        self.number = number
        self._socket = accepted
        self.served = 0
        self.is_http10 = False
        self.task: asyncio.Task[None] | None = None
        self.current: SeenRequest | None = None
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._pending: list[SeenRequest] = []
        self._building: SeenRequest | None = None
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._is_closed_here = False
        self._idle: asyncio.TimerHandle | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError:
            body = b"400 Bad Request"
            self.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Connection: close\r\n\r\n" + body
            )
            self.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._can_write.set()
        self._stop_waiting()
        if self.current is not None and not self.current.is_answered and not self._is_closed_here:
            self.current.is_disconnected = True
        if self.task is not None and not self._is_closed_here:
            self.task.cancel()
        self._is_closed_here = True
        if self.task is None:
            self._owner.gone(self)
        self._owner.changed()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def on_message_begin(self) -> None:
        self._target, self._headers, self._body = b"", [], bytearray()
        self._building = None
        self._stop_waiting()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.is_http10 = self._parser.get_http_version() == "1.0"
        self._building = SeenRequest(
            self._parser.get_method().decode(),
            self._target.decode("latin-1"),
            self._headers,
            self.number,
        )
        if (self._building.header("expect") or "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._owner.is_answered_early(self._building):
            self._enqueue()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._building is not None:
            self._enqueue()

    def node_changed(self) -> None:
        """Tell whoever waits for something at this node."""
        self._owner.changed()

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket unless it is gone."""
        if self._transport is not None and not self._is_closed_here:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait while the client does not read."""
        await self._can_write.wait()

    async def flushed(self) -> None:
        """Wait until the kernel has taken everything."""
        while self._transport is not None and self._transport.get_write_buffer_size():
            await asyncio.sleep(0.001)

    def close(self) -> None:
        """Orderly end from our side."""
        self._is_closed_here = True
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """End with a reset, as a crashed peer's kernel sends it."""
        self._is_closed_here = True
        if self._transport is not None:
            with contextlib.suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()

    def _enqueue(self) -> None:
        request, self._building = self._building, None
        if request is None:
            return
        request.body = bytes(self._body)
        self._owner.seen(request)
        self._pending.append(request)
        if self.task is None:
            self._begin()

    def _begin(self) -> None:
        self.task = asyncio.get_running_loop().create_task(
            self._serve(), name=f"fake connection {self.number}"
        )
        # A callback, since a task that is cancelled before its first step runs no `finally`.
        self.task.add_done_callback(self._served)

    async def _serve(self) -> None:
        while self._pending and not self._is_closed_here:
            self.current = self._pending.pop(0)
            try:
                with contextlib.suppress(Broken):
                    framing = self._owner.framing
                    is_last = self.served + 1 == framing.most_requests
                    exchange = Exchange(self, self.current, framing, is_last=is_last)
                    await self._owner.handle(exchange, self)
            finally:
                self.served += 1
                self.current.ended_s = time.monotonic()
            self._owner.changed()

    def _served(self, task: asyncio.Task[None]) -> None:
        self.task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.close()
            self._owner.gone(self)
            raise error
        if self._is_closed_here:
            self._owner.gone(self)
        elif self._pending:
            self._begin()
        else:
            self._await_request()
        self._owner.changed()

    def _await_request(self) -> None:
        """Close if no request comes in the time that a client has. No await."""
        idle_s = self._owner.framing.idle_s
        self._stop_waiting()
        if idle_s > 0:
            self._idle = asyncio.get_running_loop().call_later(idle_s, self.close)

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


class Listener:
    """One address; while it does not listen it still holds the port and refuses connections."""

    def __init__(self, host: str, port: int, accepted: Callable[[socket.socket], None]) -> None:
        self._host = host
        self._accepted = accepted
        self._socket = self._bound(port)
        self.port: int = self._socket.getsockname()[1]
        self._is_listening = False

    @property
    def is_listening(self) -> bool:
        """True while connections are accepted."""
        return self._is_listening

    def open(self) -> None:
        """Accept connections from now on. No await."""
        if not self._is_listening:
            self._is_listening = True
            self._socket.listen(512)
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def refuse(self) -> None:
        """Refuse connections from now on, keeping the port. No await."""
        if self._is_listening:
            self.close()
            self._socket = self._bound(self.port)

    def close(self) -> None:
        """Give the port back. No await."""
        if self._is_listening:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._is_listening = False
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                accepted, _ = self._socket.accept()
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._accepted(accepted)

    def _bound(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind((self._host, port))
        return bound
