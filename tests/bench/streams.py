"""Streams: time to the first byte; CPU per relayed frame, paced like tokens and as a backlog.

Once from an upstream of Ollama's dialect, which is passed through, and once from one of
llama-server's, which the daemon translates and the other gateways pass through.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import uvloop

from tests.bench import llama
from tests.bench.figures import DIRECT, Figure, percentile
from tests.bench.processes import cpu_s
from tests.bench.upstream import BACKLOG, BACKLOG_BLOCK, PACE_S, PACED

if TYPE_CHECKING:
    from tests.bench.processes import Peer

FIRST_BYTE_STREAMS = 32
PACED_STREAMS = 64
BACKLOG_STREAMS = 8
_LIMIT_S = 60.0


class Dialect(NamedTuple):
    """How a stream is asked for, and what is counted in it."""

    path: str
    mark: bytes
    marks_more: int
    """Marks beside those of the frames that were asked for."""


OLLAMA = Dialect("/api/chat", b'"done":', 1)
OPENAI = Dialect("/v1/chat/completions", b'"delta":{"content":', 0)


class Variant(NamedTuple):
    """What the upstream speaks, and what the daemon may cost then."""

    key: str
    what: str
    is_translated: bool
    first_byte_ms: float
    paced_us: float
    backlog_us: float

    def url(self, peer: Peer) -> str:
        """Where a peer takes such streams."""
        return peer.llama_url if self.is_translated else peer.stream_url

    def dialect(self, peer: Peer) -> Dialect:
        """What a client of a peer speaks."""
        return OPENAI if self.is_translated and not peer.is_translator else OLLAMA


PASSED = Variant("", "", is_translated=False, first_byte_ms=2.0, paced_us=22.0, backlog_us=3.0)
TRANSLATED = Variant(
    "_translated",
    "translated from a llama-server, ",
    is_translated=True,
    first_byte_ms=2.0,
    paced_us=32.0,
    backlog_us=6.0,
)


class Reader(asyncio.Protocol):
    """One connection that reads one stream after the other and looks at as little as it can."""

    def __init__(self, mark: bytes = OLLAMA.mark) -> None:
        self.first_s: float | None = None
        self.count = 0
        self._mark = mark
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
        self.count += body.count(self._mark)
        # One byte short of the mark: it may lie across two reads, and must not count twice.
        self._tail = body[1 - len(self._mark) :]

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._end(None if status == 200 else RuntimeError(f"status {status}: {self._tail!r}"))

    def _end(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(error)


def stream_request(url: str, variant: Variant, dialect: Dialect, kind: str, frames: int) -> bytes:
    """The bytes of a streamed chat of so many frames: `kind` is how the upstream sends them."""
    # A llama-server has one model; the upstream looks for the kind anywhere in the body.
    body = {
        "model": llama.MODEL if variant.is_translated else kind,
        "messages": [{"role": "user", "content": f"Count as {kind} does."}],
        "stream": True,
    }
    limit = {"n_predict": frames} if dialect is OPENAI else {"options": {"num_predict": frames}}
    data = json.dumps(body | limit).encode()
    head = (
        f"POST {dialect.path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def measure_first_byte(peers: list[Peer], rounds: int, variant: Variant = PASSED) -> Figure:
    """What each gateway adds to the first byte when many streams begin at once."""
    figure = Figure(
        key=f"first_byte{variant.key}",
        what=f"added time to first byte, {variant.what}{FIRST_BYTE_STREAMS} streams at once, p50",
        unit="ms",
        budget=variant.first_byte_ms,
    )
    for number in range(rounds):
        order = peers[number % len(peers) :] + peers[: number % len(peers)]
        medians = {peer.name: uvloop.run(_first_byte_ms(peer, variant)) for peer in order}
        figure.add(DIRECT, medians[DIRECT])
        for name, median in medians.items():
            if name != DIRECT:
                figure.add(name, median - medians[DIRECT])
    return figure


def measure_cpu(
    peers: list[Peer], rounds: int, seconds: float, variant: Variant = PASSED
) -> list[Figure]:
    """CPU of each gateway per frame it relayed."""
    pace_ms = PACE_S * 1e3
    paced = Figure(
        key=f"cpu_paced{variant.key}",
        what=f"CPU per frame, {variant.what}{PACED_STREAMS} streams, a frame each {pace_ms:.0f} ms",
        unit="µs",
        budget=variant.paced_us,
    )
    backlog = Figure(
        key=f"cpu_backlog{variant.key}",
        what=f"CPU per frame, {variant.what}{BACKLOG_STREAMS} streams, as fast as they go",
        unit="µs",
        budget=variant.backlog_us,
    )
    gateways = [peer for peer in peers if peer.pid is not None]
    paced_frames = round(seconds / PACE_S)
    backlog_frames = round(seconds * 40_000 / BACKLOG_BLOCK) * BACKLOG_BLOCK
    for number in range(rounds):
        order = gateways[number % len(gateways) :] + gateways[: number % len(gateways)]
        for peer in order:
            cost = _cpu_per_frame_us(peer, variant, PACED, PACED_STREAMS, paced_frames)
            paced.add(peer.name, cost)
            cost = _cpu_per_frame_us(peer, variant, BACKLOG, BACKLOG_STREAMS, backlog_frames)
            backlog.add(peer.name, cost)
    return [paced, backlog]


def _cpu_per_frame_us(peer: Peer, variant: Variant, kind: str, streams: int, frames: int) -> float:
    assert peer.pid is not None
    before_s = cpu_s(peer.pid)
    seen = uvloop.run(_read_all(peer, variant, kind, streams, frames))
    wanted = streams * (frames + variant.dialect(peer).marks_more)
    if seen != wanted:
        raise RuntimeError(f"{peer.name}: {seen} frames came of {wanted}")
    return (cpu_s(peer.pid) - before_s) / seen * 1e6


async def _first_byte_ms(peer: Peer, variant: Variant) -> float:
    url, dialect = variant.url(peer), variant.dialect(peer)
    readers = await _connect(url, FIRST_BYTE_STREAMS, dialect)
    request = stream_request(url, variant, dialect, PACED, 2)
    # The first pass opens the gateway's own connections; the second is the one that counts.
    await _all([reader.begin(request) for reader in readers])
    request = stream_request(url, variant, dialect, PACED, 10)
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


async def _read_all(peer: Peer, variant: Variant, kind: str, streams: int, frames: int) -> int:
    url, dialect = variant.url(peer), variant.dialect(peer)
    readers = await _connect(url, streams, dialect)
    request = stream_request(url, variant, dialect, kind, frames)
    ends = []
    for reader in readers:
        ends.append(reader.begin(request))
        # Spread over one pace, as requests of different people are.
        await asyncio.sleep(PACE_S / streams if kind == PACED else 0)
    await _all(ends)
    _close(readers)
    return sum(reader.count for reader in readers)


async def _connect(url: str, count: int, dialect: Dialect) -> list[Reader]:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    assert parts.hostname is not None
    assert parts.port is not None
    make = functools.partial(Reader, dialect.mark)
    pairs = [await loop.create_connection(make, parts.hostname, parts.port) for _ in range(count)]
    return [reader for _, reader in pairs]


async def _all(ends: list[asyncio.Future[None]]) -> None:
    async with asyncio.timeout(_LIMIT_S):
        await asyncio.gather(*ends)


def _close(readers: list[Reader]) -> None:
    for reader in readers:
        reader.transport.close()
