"""The one place that touches aiohttp's transport: frames an answer and holds back its source.

Owns framing, back-pressure and the end of one response. Knows nothing of nodes or dialects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiohttp import HttpVersion11, hdrs, web

from sollold.upstream.sockets import Tuner, reset_on_close, unacknowledged_bytes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.typedefs import LooseHeaders

    from sollold.upstream.wheel import TimerWheel, Watch

SPOOL_BYTES = 4 * 1024 * 1024

_NOTICE_BYTES = 64 * 1024
"""Unsent bytes from which on the wheel looks at the client."""

_KERNEL_GRACE_S = 5.0
"""The kernel gives a client up this much later: the wheel goes first, since it can tell."""

_FIRST_BYTES = 32 * 1024
"""Most of the body that leaves in one write with the head; aiohttp waits above 64 KiB."""


def client_tuner(stall_s: float) -> Tuner:
    """Return what sets the options of clients' connections."""
    return Tuner(user_timeout_s=stall_s + _KERNEL_GRACE_S)


class Source(Protocol):
    """What the bytes come from."""

    def pause(self) -> None:
        """Deliver no more."""

    def resume(self) -> None:
        """Deliver again."""


class _LateHeadResponse(web.StreamResponse):
    # The head leaves together with the first bytes of the body: one packet, one system call.
    _send_headers_immediately = False


class ClientStream:
    """One response: begun and ended by aiohttp's writer, written past it in between.

    `write` may be called from the first moment on; bytes wait until `start` or `reply`. Headers
    must not carry ``Transfer-Encoding``; a ``Content-Length`` is kept to. A response that neither
    `finish` nor `reply` ended never looks complete to the client.
    """

    def __init__(
        self,
        request: web.Request,
        *,
        wheel: TimerWheel,
        stall_s: float,
        spool_bytes: int = SPOOL_BYTES,
        on_stalled: Callable[[], None] | None = None,
        tuner: Tuner | None = None,
    ) -> None:
        """`tuner` is shared by the streams of one client's connection."""
        self._request = request
        self._wheel = wheel
        self._stall_s = stall_s
        self._spool_bytes = spool_bytes
        self._on_stalled = on_stalled
        self._tuner = tuner or client_tuner(stall_s)
        self._source: Source | None = None
        self._response: web.StreamResponse | None = None
        self._writer: AbstractStreamWriter | None = None
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] | None = []
        self._is_chunked = False
        self._left_bytes: int | None = None
        self._has_reset = False
        self._is_aborted = False
        self._is_draining = False
        self._is_holding = False
        self._watch: Watch | None = None
        self._queued_bytes = 0
        self._taken_bytes = 0
        self._taken_at_s = 0.0

    @property
    def is_gone(self) -> bool:
        """Whether the client can no longer be written to."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    async def start(self, status: int, headers: LooseHeaders, source: Source | None) -> None:
        """Send the head and what was written so far; `source`, if any, is held until that is done.

        A client that has gone is no error: `is_gone` says so and later writes are dropped.
        """
        if source is not None:
            source.pause()
        self._source = source
        request = self._request
        response = self._response = _LateHeadResponse(status=status, headers=headers)
        is_bodiless = request.method == hdrs.METH_HEAD or status in (204, 304)
        if not is_bodiless:
            self._choose_framing(response)
        transport = request.transport
        try:
            writer = self._writer = await response.prepare(request)
            if writer is None or transport is None or transport.is_closing() or self._is_aborted:
                self._early = None
                return
            self._tuner.tune(transport)
            await self._write_first(writer, transport, is_bodiless=is_bodiless)
        except ConnectionError:
            self._early = None
        finally:
            if source is not None and not self._is_holding:
                source.resume()

    def start_at_once(self, status: int, headers: LooseHeaders, source: Source | None) -> None:
        """Do what `start` does, where responses are prepared without waiting. No await.

        Nothing in `start` waits then: the first write is too small for aiohttp to wait for it.
        """
        starting = self.start(status, headers, source)
        try:
            starting.send(None)
        except StopIteration:
            return
        starting.close()
        raise RuntimeError("something waits while a response is prepared")

    def write(self, data: bytes) -> None:
        """Send body bytes, or keep them until `start`; holds the source when too many wait."""
        transport = self._transport
        if transport is None:
            if self._early is not None:
                self._early.append(data)
            return
        if not data or transport.is_closing():
            return
        if self._is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif not self._fits(len(data)):
            self.abort()
            return
        transport.write(data)
        self._queued_bytes += len(data)
        if transport.get_write_buffer_size() > _NOTICE_BYTES:
            self._note_backlog(transport)

    async def finish(self) -> web.StreamResponse:
        """End the response and wait until little of it is unsent; the handler returns the result.

        Too few bytes for the declared length are no end: the client is cut instead.
        """
        response, writer, transport = self._response, self._writer, self._transport
        if response is None:
            raise RuntimeError("a response is started before it is finished")
        if self._left_bytes:
            self.abort()
        if self._is_aborted or writer is None:
            return response
        self._transport = self._source = self._early = None
        self._drain_watched()
        try:
            await response.write_eof()
            await writer.drain()
        except ConnectionError:
            return response
        finally:
            self._stop_watching()
        if self._has_reset and transport is not None and not transport.is_closing():
            reset_on_close(transport, is_on=False)
        return response

    def reply(self, status: int, headers: LooseHeaders) -> web.StreamResponse:
        """Answer with what was written, all in one packet, instead of `start` and `finish`."""
        if self._response is not None or self._early is None:
            raise RuntimeError("a response is started only once")
        body, self._early = b"".join(self._early), None
        self._response = web.Response(status=status, headers=headers, body=body)
        return self._response

    def abort(self) -> web.StreamResponse:
        """End so that it never looks complete, after what was written; a handler may return it."""
        if self._response is None:
            self._response = web.Response(status=502)
        transport = self._request.transport
        if not self._is_aborted:
            self._is_aborted = True
            self._transport = self._source = self._early = None
            if transport is not None:
                self._drain_watched()
                # No terminator was written, or a reset is due: this is not a clean end.
                transport.close()
        return self._response

    def _choose_framing(self, response: web.StreamResponse) -> None:
        self._left_bytes = response.content_length
        if self._left_bytes is not None:
            return
        self._is_chunked = self._request.version >= HttpVersion11
        if self._is_chunked:
            return
        # aiohttp would keep the connection open, and the client would wait for its end for ever.
        response.force_close()
        transport = self._request.transport
        if transport is not None:
            # The end of the connection ends the body: only `finish` makes that a clean end.
            reset_on_close(transport, is_on=True)
            self._has_reset = True

    async def _write_first(
        self, writer: AbstractStreamWriter, transport: asyncio.Transport, *, is_bodiless: bool
    ) -> None:
        early = b"".join(self._early or ())
        if is_bodiless or not early:
            writer.send_headers()
            self._early = None
            self._transport = None if is_bodiless else transport
            return
        self._early = []
        first, rest = early[:_FIRST_BYTES], early[_FIRST_BYTES:]
        if not self._fits(len(first)):
            self.abort()
            return
        await writer.write(first)
        late, self._early = self._early or [], None
        if not self._is_aborted:
            self._transport = transport
            self.write(rest + b"".join(late))

    def _fits(self, size_bytes: int) -> bool:
        if self._left_bytes is None:
            return True
        if size_bytes > self._left_bytes:
            return False
        self._left_bytes -= size_bytes
        return True

    def _note_backlog(self, transport: asyncio.Transport) -> None:
        self._start_watching(transport)
        if not self._is_holding and transport.get_write_buffer_size() > self._spool_bytes:
            self._is_holding = True
            if self._source is not None:
                self._source.pause()

    def _drain_watched(self) -> None:
        transport = self._request.transport
        if transport is not None and transport.get_write_buffer_size():
            self._is_draining = True
            self._start_watching(transport)

    def _start_watching(self, transport: asyncio.Transport) -> None:
        if self._watch is None:
            self._taken_bytes = self._count_taken(transport)
            self._taken_at_s = self._wheel.loop.time()
            self._watch = self._wheel.watch(self._look)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look(self) -> None:
        transport = self._request.transport
        waiting_bytes = 0 if transport is None else transport.get_write_buffer_size()
        taken_bytes = self._queued_bytes if transport is None else self._count_taken(transport)
        if taken_bytes > self._taken_bytes:
            self._taken_bytes = taken_bytes
            self._taken_at_s = self._wheel.now_s
        elif waiting_bytes and self._wheel.now_s - self._taken_at_s >= self._stall_s:
            self._cut()
            return
        if self._is_holding and waiting_bytes <= self._spool_bytes // 2:
            self._is_holding = False
            if self._source is not None:
                self._source.resume()
        low_bytes = 0 if self._is_draining else _NOTICE_BYTES
        if waiting_bytes <= low_bytes and not self._is_holding:
            self._stop_watching()

    def _count_taken(self, transport: asyncio.Transport) -> int:
        waiting_bytes = transport.get_write_buffer_size() + unacknowledged_bytes(transport)
        return self._queued_bytes - waiting_bytes

    def _cut(self) -> None:
        self._stop_watching()
        self._is_aborted = True
        self._transport = self._source = self._early = None
        transport = self._request.transport
        if transport is not None:
            reset_on_close(transport, is_on=True)
            transport.abort()
        if self._on_stalled is not None:
            self._on_stalled()
