"""One socket to a node: HTTP/1 framing, back-pressure, and when it may serve again.

The parser's callbacks only take notes; what they noted is delivered once the bytes in hand are
parsed, so a receiver never re-enters the parser. One exchange at a time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sollold.errors import UpstreamDisconnected, UpstreamError, UpstreamProtocol
from sollold.upstream.exchange import Body, Exchange, Head, Receiver, Request, SpooledBody
from sollold.upstream.sockets import tune

if TYPE_CHECKING:
    from sollold.upstream.pool import NodePool

__all__ = ["Body", "Connection", "Exchange", "Head", "Receiver", "Request", "SpooledBody"]

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
NODE_USER_TIMEOUT_S = 30.0
"""A node that acknowledges nothing for this long is gone; health probes usually know sooner."""

_SLICE_BYTES = 64 * 1024
_SLICES_PER_TURN = 16
"""Upper bound of what one turn of the loop spends on writing a large body."""


class _RefusedError(Exception):
    """Stops the parser: the response breaks a rule of ours, which the text names."""


class Connection(asyncio.Protocol):
    """A connection of a `NodePool`; used by the pool and by the exchange it carries."""

    def __init__(self, pool: NodePool) -> None:
        self._pool = pool
        self._wheel = pool.wheel
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._has_served = False
        self._is_read_paused = False
        self._is_write_paused = False
        self._body: Body | None = None
        self._offset = 0
        self._head: Head | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._bodiless_bytes = 0
        self._is_interim = False
        self._is_until_close = False
        self._is_complete = False
        self._may_keep = False
        self._needs_care = True
        self._parts: list[bytes] = []
        # The parser appends body pieces itself, without a Python frame per piece.
        self.on_body = self._parts.append
        self._parser = HttpResponseParser(self)
        self._feed = self._parser.feed_data

    @property
    def is_usable(self) -> bool:
        """Whether an exchange may begin on it."""
        transport = self._transport
        return self._exchange is None and transport is not None and not transport.is_closing()

    @property
    def is_busy(self) -> bool:
        """Whether it carries an exchange."""
        return self._exchange is not None

    def begin(self, exchange: Exchange) -> None:
        """Send the request; calls nothing of the receiver's before it returns. No await."""
        transport = self._transport
        if transport is None:
            raise RuntimeError("an exchange begins on a connection that is open")
        self._exchange = exchange
        exchange.attach(self, is_reused=self._has_served)
        self._has_served = True
        self._head = None
        self._bodiless_bytes = 0
        self._is_until_close = self._is_complete = self._may_keep = False
        self._needs_care = True
        if exchange.is_paused:
            self.pause_reading()
        head, body, _ = exchange.request
        if isinstance(body, bytes) and len(body) <= _SLICE_BYTES:
            transport.write(head + body)
            exchange.is_sent = True
            return
        transport.write(head)
        self._body, self._offset = body, 0
        self._write_body()

    def drop(self) -> None:
        """Close at once without a word to the receiver. No await."""
        self._exchange = None
        self._close()

    def fail(self, error: UpstreamError) -> None:
        """Close at once and end the exchange, if one is under way, with `error`. No await."""
        exchange, self._exchange = self._exchange, None
        self._close()
        if exchange is not None:
            exchange.fail(error)

    def pause_reading(self) -> None:
        """Take nothing from the socket until `resume_reading`."""
        if not self._is_complete and not self._is_read_paused and self._transport is not None:
            self._is_read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        if self._is_read_paused and self._transport is not None:
            self._is_read_paused = False
            self._transport.resume_reading()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; the pool counts it when dialling has succeeded."""
        # uvloop's transports have the methods, not the base class.
        self._transport = cast("asyncio.Transport", transport)
        tune(transport, user_timeout_s=NODE_USER_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        """Parse and deliver what one read brought: the hot path."""
        exchange = self._exchange
        if exchange is None:
            self._close()
            return
        exchange.bytes_seen += len(data)
        exchange.touched_s = self._wheel.now_s
        try:
            self._feed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._may_keep = False
            self._deliver(exchange, error)
            return
        parts = self._parts
        if self._needs_care or not parts:
            self._bodiless_bytes += len(data)
            self._deliver(exchange, None)
            return
        self._bodiless_bytes = 0
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        receiver = exchange.receiver
        if receiver is not None:
            receiver.on_body(body)

    def eof_received(self) -> None:
        """End an answer that lasts until the end of the connection; anything else was cut."""
        exchange = self._exchange
        if exchange is not None and self._is_until_close:
            self._finish(exchange)
        else:
            self.fail(self._disconnected("closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the pool and end the exchange that was under way."""
        self._transport = None
        self._pool.on_lost(self)
        # The parser holds this object's methods: without this only the collector frees both.
        del self._feed, self._parser
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.fail(self._disconnected(str(exc) if exc else "connection lost", exchange))

    def pause_writing(self) -> None:
        """Stop cutting slices off a large body."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Go on with a large body."""
        self._is_write_paused = False
        if self._exchange is not None:
            self._exchange.touched_s = self._wheel.now_s
        self._write_body()

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Start a head, final or interim; after the end there must be none."""
        if self._is_complete:
            raise _RefusedError("more bytes after the end of the response")
        self._headers = []
        self._header_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; trailers come here too and are dropped with the next head."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEAD_BYTES:
            raise _RefusedError(f"more than {MAX_HEAD_BYTES} bytes of headers")
        if len(self._headers) >= MAX_HEADERS:
            raise _RefusedError(f"more than {MAX_HEADERS} headers")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the head and how the body will end."""
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                raise _RefusedError(f"status {status}, which was not asked for")
            self._is_interim = True
            return
        self._may_keep = self._parser.should_keep_alive()
        self._is_until_close = not self._may_keep and _lasts_until_close(self._headers)
        self._head = Head(status, self._headers)
        self._headers = []
        self._header_bytes = 0
        if status >= 300:
            # A refusal that came early: the rest of the body is not wanted.
            self._body = None

    def on_message_complete(self) -> None:
        """Note the end; the parser reports the end of an interim response in the same way."""
        if self._is_interim:
            self._is_interim = False
            return
        self._is_complete = True
        self._needs_care = True

    # Delivery.

    def _deliver(self, exchange: Exchange, error: Exception | None) -> None:
        receiver = exchange.receiver
        head, self._head = self._head, None
        if head is not None and receiver is not None:
            self._needs_care = self._is_complete
            self._bodiless_bytes = 0
            exchange.note_head()
            receiver.on_head(head)
        if self._parts:
            body = b"".join(self._parts)
            self._parts.clear()
            if exchange.receiver is not None:
                exchange.receiver.on_body(body)
        if self._exchange is not exchange:
            return
        if self._is_complete:
            self._finish(exchange)
        elif error is not None:
            self.fail(self._broken(error))
        elif self._bodiless_bytes > MAX_HEAD_BYTES:
            self.fail(self._broken(_RefusedError(f"more than {MAX_HEAD_BYTES} bytes of headers")))

    def _finish(self, exchange: Exchange) -> None:
        transport = self._transport
        self._exchange = self._body = None
        receiver = exchange.detach()
        if (
            self._may_keep
            and exchange.is_sent
            and transport is not None
            and not transport.get_write_buffer_size()
        ):
            self.resume_reading()
            self._pool.on_idle(self)
        else:
            self._close()
        if receiver is not None:
            receiver.on_end()

    def _write_body(self) -> None:
        exchange, transport, body = self._exchange, self._transport, self._body
        if exchange is None or transport is None or body is None:
            return
        size_bytes = len(body) if isinstance(body, bytes) else body.size_bytes
        for _ in range(_SLICES_PER_TURN):
            if self._offset >= size_bytes:
                self._body = None
                exchange.is_sent = True
                return
            if self._is_write_paused or transport.is_closing():
                return
            piece = self._slice(body)
            if not piece:
                self._body = None
                # Not now: the receiver hears nothing before `begin` has returned.
                error = UpstreamError("the spooled request body cannot be read")
                self._wheel.loop.call_soon(self.fail, error)
                return
            transport.write(piece)
            self._offset += len(piece)
        self._wheel.loop.call_soon(self._write_body)

    def _slice(self, body: Body) -> bytes | memoryview:
        if isinstance(body, bytes):
            return memoryview(body)[self._offset : self._offset + _SLICE_BYTES]
        try:
            return body.read(self._offset, _SLICE_BYTES)
        except OSError:
            return b""

    def _close(self) -> None:
        self._body = None
        self._pool.on_unusable(self)
        if self._transport is not None:
            self._transport.abort()

    def _disconnected(self, what: str, exchange: Exchange | None = None) -> UpstreamDisconnected:
        exchange = exchange or self._exchange
        seen = 0 if exchange is None else exchange.bytes_seen
        return UpstreamDisconnected(
            f"{self._pool.address}: {what} after {seen} bytes of the response", bytes_seen=seen
        )

    def _broken(self, error: Exception) -> UpstreamProtocol:
        cause = error.__context__ if isinstance(error.__context__, _RefusedError) else error
        return UpstreamProtocol(f"{self._pool.address} sent a bad response: {cause}")


def _lasts_until_close(headers: list[tuple[bytes, bytes]]) -> bool:
    coding = b""
    for name, value in headers:
        lower = name.lower()
        if lower == b"content-length":
            return False
        if lower == b"transfer-encoding":
            coding = value
    return coding.rsplit(b",", 1)[-1].strip().lower() != b"chunked"
