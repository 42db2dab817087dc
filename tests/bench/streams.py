"""Streams: time to the first byte; CPU per relayed frame, paced like tokens and as a backlog."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import httptools
import uvloop

from tests.bench.figures import DIRECT, Figure, percentile
from tests.bench.processes import cpu_s
from tests.bench.upstream import BACKLOG, BACKLOG_BLOCK, PACE_S, PACED

if TYPE_CHECKING:
    from tests.bench.processes import Peer

FIRST_BYTE_STREAMS = 32
PACED_STREAMS = 64
BACKLOG_STREAMS = 8
_LIMIT_S = 60.0
_MARK = b'"done":'


class Reader(asyncio.Protocol):
    """One connection that reads one stream after the other and looks at as little as it can."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.count = 0
        self._tail = b""
        self._parser = httptools.HttpResponseParser(self)
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def begin(self, request: bytes) -> asyncio.Future[None]:
        """Send a request; the future is done when the stream has ended."""
        self.first_s, self.count, self._tail = None, 0, b""
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionError("the stream was cut"))

    def on_body(self, body: bytes) -> None:
        if self.first_s is None:
            self.first_s = time.perf_counter()
        body = self._tail + body
        self.count += body.count(_MARK)
        # One byte short of the mark: it may lie across two reads, and must not count twice.
        self._tail = body[1 - len(_MARK) :]

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._end(None if status == 200 else RuntimeError(f"status {status}: {self._tail!r}"))

    def _end(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(error)


def stream_request(url: str, model: str, frames: int) -> bytes:
    """The bytes of a streamed chat of so many frames."""
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "Count."}],
            "options": {"num_predict": frames},
        }
    ).encode()
    host = urlsplit(url).netloc
    head = f"POST /api/chat HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def measure_first_byte(peers: list[Peer], rounds: int) -> Figure:
    """What each gateway adds to the first byte when many streams begin at once."""
    figure = Figure(
        key="first_byte",
        what=f"added time to first byte, {FIRST_BYTE_STREAMS} streams at once, p50",
        unit="ms",
        budget=2.0,
    )
    for number in range(rounds):
        order = peers[number % len(peers) :] + peers[: number % len(peers)]
        medians = {peer.name: uvloop.run(_first_byte_ms(peer.stream_url)) for peer in order}
        figure.add(DIRECT, medians[DIRECT])
        for name, median in medians.items():
            if name != DIRECT:
                figure.add(name, median - medians[DIRECT])
    return figure


def measure_cpu(peers: list[Peer], rounds: int, seconds: float) -> list[Figure]:
    """CPU of each gateway per frame it relayed."""
    paced = Figure(
        key="cpu_paced",
        what=f"CPU per frame, {PACED_STREAMS} streams, a frame each {PACE_S * 1e3:.0f} ms",
        unit="µs",
        budget=22.0,
    )
    backlog = Figure(
        key="cpu_backlog",
        what=f"CPU per frame, {BACKLOG_STREAMS} streams, as fast as they go",
        unit="µs",
        budget=3.0,
    )
    gateways = [peer for peer in peers if peer.pid is not None]
    paced_frames = round(seconds / PACE_S)
    backlog_frames = round(seconds * 40_000 / BACKLOG_BLOCK) * BACKLOG_BLOCK
    for number in range(rounds):
        order = gateways[number % len(gateways) :] + gateways[: number % len(gateways)]
        for peer in order:
            paced.add(peer.name, _cpu_per_frame_us(peer, PACED, PACED_STREAMS, paced_frames))
            cost = _cpu_per_frame_us(peer, BACKLOG, BACKLOG_STREAMS, backlog_frames)
            backlog.add(peer.name, cost)
    return [paced, backlog]


def _cpu_per_frame_us(peer: Peer, model: str, streams: int, frames: int) -> float:
    assert peer.pid is not None
    before_s = cpu_s(peer.pid)
    seen = uvloop.run(_read_all(peer.stream_url, model, streams, frames))
    if seen != streams * (frames + 1):
        raise RuntimeError(f"{peer.name}: {seen} frames came of {streams * (frames + 1)}")
    return (cpu_s(peer.pid) - before_s) / seen * 1e6


async def _first_byte_ms(url: str) -> float:
    readers = await _connect(url, FIRST_BYTE_STREAMS)
    request = stream_request(url, PACED, 2)
    # The first pass opens the gateway's own connections; the second is the one that counts.
    await _all([reader.begin(request) for reader in readers])
    request = stream_request(url, PACED, 10)
    started_s, ends = [], []
    for reader in readers:
        started_s.append(time.perf_counter())
        ends.append(reader.begin(request))
    await _all(ends)
    waits = [
        (reader.first_s or 0.0) - begun_s
        for reader, begun_s in zip(readers, started_s, strict=True)
    ]
    _close(readers)
    return percentile(waits, 0.5) * 1e3


async def _read_all(url: str, model: str, streams: int, frames: int) -> int:
    readers = await _connect(url, streams)
    request = stream_request(url, model, frames)
    ends = []
    for reader in readers:
        ends.append(reader.begin(request))
        # Spread over one pace, as requests of different people are.
        await asyncio.sleep(PACE_S / streams if model == PACED else 0)
    await _all(ends)
    _close(readers)
    return sum(reader.count for reader in readers)


async def _connect(url: str, count: int) -> list[Reader]:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    assert parts.hostname is not None
    assert parts.port is not None
    pairs = [await loop.create_connection(Reader, parts.hostname, parts.port) for _ in range(count)]
    return [reader for _, reader in pairs]


async def _all(ends: list[asyncio.Future[None]]) -> None:
    async with asyncio.timeout(_LIMIT_S):
        await asyncio.gather(*ends)


def _close(readers: list[Reader]) -> None:
    for reader in readers:
        reader.transport.close()
