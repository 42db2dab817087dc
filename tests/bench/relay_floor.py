"""What the relay path costs without any logic, beside a bare `ClientSession` proxy in one run.

`python -m tests.bench.relay_floor` starts an upstream and the two proxies as processes of their
own, loads each in turn, and divides the proxy's own CPU time by the work it did.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import aiohttp
import uvloop
from aiohttp import web

from sollold.upstream.connection import Exchange, Head, Request
from sollold.upstream.pool import Address, NodePool
from sollold.upstream.wheel import TimerWheel
from sollold.web.client_stream import ClientStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp.typedefs import Handler

    from sollold.errors import UpstreamError

STREAMS = 64
GAP_S = 0.01
PACED_S = 5.0
BACKLOG_STREAMS = 4
BACKLOG_FRAMES = 50_000
SMALL_S = 4.0
SMALL_CLIENTS = 32
FIRST_BYTE_STREAMS = 32
FIRST_BYTE_FRAMES = 20
ROUNDS = 3

_TEXT = b"x" * 84
FRAME = (
    b'{"model":"llama3.2:3b","created_at":"2025-01-01T00:00:00.000000Z","response":"%b",'
    b'"done":false}\n' % _TEXT
)
SMALL_REPLY = b'{"model":"m","created_at":"2025-01-01T00:00:00Z","response":"hello","done":true}\n'
REQUEST_BODY = b'{"model":"llama3.2:3b","prompt":"Why is the sky blue?","stream":true}'
DROPPED = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})


# The upstream: raw, paced, or as fast as the socket takes it.


class Upstream(asyncio.Protocol):
    """Answers `/paced/N`, `/backlog/N` and everything else with one small reply."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._left = 0
        self._is_blocked = False
        self._handle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = re.search(rb"(?i)content-length: (\d+)", head)
        size = int(length.group(1)) if length else 0
        if len(rest) < size:
            return
        self._received = rest[size:]
        self._answer(head.split(b" ", 2)[1].decode())

    def _answer(self, path: str) -> None:
        _, kind, *args = path.split("/")
        if kind not in ("paced", "backlog"):
            self._transport.write(_SMALL)
            return
        self._left = int(args[0])
        self._transport.write(_STREAM_HEAD)
        if kind == "paced":
            # The first frame leaves at once, the others at a phase of their own.
            self._send_frame()
            self._handle = self._loop.call_later(GAP_S * random.random(), self._tick)
        else:
            self._send_backlog()

    def _tick(self) -> None:
        self._send_frame()
        if self._left:
            self._handle = self._loop.call_later(GAP_S, self._tick)

    def _send_frame(self) -> None:
        self._left -= 1
        self._transport.write(_CHUNK if self._left else _CHUNK + b"0\r\n\r\n")

    def _send_backlog(self) -> None:
        while self._left and not self._is_blocked:
            count = min(self._left, 200)
            self._left -= count
            self._transport.write(_CHUNK * count)
            if not self._left:
                self._transport.write(b"0\r\n\r\n")

    def pause_writing(self) -> None:
        self._is_blocked = True

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._send_backlog()


_CHUNK = b"%x\r\n%b\r\n" % (len(FRAME), FRAME)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
    b"Date: Wed, 01 Jan 2025 00:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_SMALL = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"Date: Wed, 01 Jan 2025 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n%b"
    % (len(SMALL_REPLY), SMALL_REPLY)
)


async def serve_upstream() -> None:
    """Listen, say where, and stay."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


# The two proxies.


class Relay:
    """A receiver with no logic: head to the handler, bodies to the client."""

    def __init__(self, stream: ClientStream) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self.head: asyncio.Future[Head] = self._loop.create_future()
        self.end: asyncio.Future[None] = self._loop.create_future()
        self.exchange: Exchange | None = None

    def on_head(self, head: Head) -> None:
        assert self.exchange is not None
        self.exchange.pause()
        if not self.head.done():
            self.head.set_result(head)

    def on_body(self, data: bytes) -> None:
        self._stream.write(data)

    def on_end(self) -> None:
        if not self.end.done():
            self.end.set_result(None)

    def on_error(self, error: UpstreamError) -> None:
        for future in (self.head, self.end):
            if not future.done():
                future.set_exception(error)


class OwnProxy:
    """The relay path under test, used directly."""

    def __init__(self, upstream_port: int) -> None:
        self._wheel = TimerWheel(asyncio.get_running_loop())
        self._pool = NodePool(Address("127.0.0.1", upstream_port), wheel=self._wheel)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        head = b"POST %b HTTP/1.1\r\nHost: node\r\nContent-Length: %d\r\n\r\n" % (
            request.rel_url.raw_path_qs.encode(),
            len(body),
        )
        stream = ClientStream(request, wheel=self._wheel, stall_s=60.0)
        relay = Relay(stream)
        outgoing = Request(head, body)
        exchange = self._pool.try_send(outgoing, relay) or await self._pool.send(outgoing, relay)
        relay.exchange = exchange
        try:
            status, raw_headers = await relay.head
            headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in raw_headers
                if name.lower() not in DROPPED
            ]
            if relay.end.done():
                return stream.reply(status, headers)
            await stream.start(status, headers, exchange)
            await relay.end
            return await stream.finish()
        except BaseException:
            exchange.abort()
            stream.abort()
            raise


class SessionProxy:
    """The ruler: the plain way to write a proxy with aiohttp."""

    def __init__(self, upstream_port: int) -> None:
        self._base = f"http://127.0.0.1:{upstream_port}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with self._session.post(
            self._base + request.rel_url.raw_path_qs, data=body
        ) as answer:
            headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in answer.raw_headers
                if name.lower() not in DROPPED
            ]
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response


@web.middleware
async def one_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Stand for what every application has at least one of."""
    return await handler(request)


async def serve_proxy(kind: str, upstream_port: int) -> None:
    """Listen, say where, and stay."""
    proxy = OwnProxy(upstream_port) if kind == "own" else SessionProxy(upstream_port)
    if kind != "own":
        # wrk leaves in the middle of things, and the ruler does not care.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    app = web.Application(middlewares=[one_middleware])
    for number in range(29):
        app.router.add_get(f"/api/route{number}", proxy.handle)
    app.router.add_post("/paced/{count}", proxy.handle)
    app.router.add_post("/backlog/{count}", proxy.handle)
    app.router.add_post("/api/generate", proxy.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


# The client.


class Client(asyncio.Protocol):
    """Sends one request and counts what comes back."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.first: float | None = None
        self.sent = 0.0
        self.bytes = 0
        self._tail = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.first = None
        self._transport.write(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
            % (self._path.encode(), len(REQUEST_BODY), REQUEST_BODY)
        )

    def data_received(self, data: bytes) -> None:
        if self.first is None and (self.bytes or b'"done"' in data):
            self.first = time.perf_counter()
        self.bytes += len(data)
        self._tail = (self._tail + data[-7:])[-7:]
        if self._tail == b"\r\n0\r\n\r\n" and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the stream was cut"))


@contextlib.asynccontextmanager
async def clients(port: int, path: str, count: int) -> AsyncIterator[list[Client]]:
    """Open `count` connections that are closed at the end."""
    loop = asyncio.get_running_loop()
    opened: list[Client] = []
    try:
        for _ in range(count):
            _, client = await loop.create_connection(lambda: Client(path), "127.0.0.1", port)
            opened.append(client)
        yield opened
    finally:
        for client in opened:
            client._transport.abort()
            client.done.cancel()


async def run_streams(port: int, path: str, count: int) -> list[float]:
    """Run `count` streams at once; seconds to each one's first body byte."""
    async with clients(port, path, count) as opened:
        for client in opened:
            client.send()
        async with asyncio.timeout(60):
            await asyncio.gather(*(client.done for client in opened))
        return [(client.first or 0.0) - client.sent for client in opened]


# The measurements.


class Proxy(NamedTuple):
    """A process under measurement."""

    name: str
    port: int
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks = int(fields[11]) + int(fields[12])
        with contextlib.suppress(OSError):
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9
        return ticks / os.sysconf("SC_CLK_TCK")


async def paced_us(proxy: Proxy) -> float:
    """CPU per relayed frame, frames 10 ms apart in each of 64 streams."""
    frames = round(PACED_S / ROUNDS / GAP_S)
    before = proxy.cpu_s()
    await run_streams(proxy.port, f"/paced/{frames}", STREAMS)
    return (proxy.cpu_s() - before) / (frames * STREAMS) * 1e6


async def backlog_us(proxy: Proxy) -> float:
    """CPU per relayed frame when frames come as fast as they are taken."""
    before = proxy.cpu_s()
    await run_streams(proxy.port, f"/backlog/{BACKLOG_FRAMES}", BACKLOG_STREAMS)
    return (proxy.cpu_s() - before) / (BACKLOG_FRAMES * BACKLOG_STREAMS) * 1e6


async def first_byte_ms(port: int) -> float:
    """Median time to the first body byte of 32 streams begun together."""
    times = await run_streams(port, f"/paced/{FIRST_BYTE_FRAMES}", FIRST_BYTE_STREAMS)
    return statistics.median(times) * 1e3


WRK_SCRIPT = """wrk.method = "POST"
wrk.body = '%s'
wrk.headers["Content-Type"] = "application/json"
"""


async def requests_per_cpu_s(proxy: Proxy, script: str) -> float:
    """Small requests per second of the proxy's CPU, 32 clients, by wrk."""
    before = proxy.cpu_s()
    wrk = await asyncio.create_subprocess_exec(
        "wrk", "-t1", f"-c{SMALL_CLIENTS}", f"-d{SMALL_S / ROUNDS * 1.5:.0f}s", "-s", script,
        f"http://127.0.0.1:{proxy.port}/api/generate",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await wrk.communicate()
    used = proxy.cpu_s() - before
    found = re.search(rb"(\d+) requests in", out)
    if found is None or b"Non-2xx" in out:
        raise RuntimeError(out.decode())
    return int(found.group(1)) / used


@contextlib.asynccontextmanager
async def process(*args: str) -> AsyncIterator[tuple[int, int]]:
    """Run a part of this module; its port and process id."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.relay_floor", *args,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        yield int(await child.stdout.readline()), child.pid
    finally:
        child.terminate()
        await child.wait()


def report(name: str, unit: str, own: list[float], ruler: list[float], budget: str) -> None:
    """Print one line: medians, spread, and the ratio of the medians."""
    mine, other = statistics.median(own), statistics.median(ruler)
    spread = f"{min(own):.4g}-{max(own):.4g}"
    print(
        f"{name:<34} {mine:>9.4g} {unit:<6} ({spread:<15}) ruler {other:>9.4g}"
        f"   ratio {mine / other:5.2f}   {budget}"
    )


async def interleave(
    proxies: list[Proxy], run: Callable[[Proxy], Awaitable[float]]
) -> list[list[float]]:
    """Measure the proxies in turn, `ROUNDS` times."""
    results: list[list[float]] = [[] for _ in proxies]
    for _ in range(ROUNDS):
        for proxy, values in zip(proxies, results, strict=True):
            values.append(await run(proxy))
    return results


async def measure(only: str) -> None:
    """Run everything, interleaved, and print the table."""
    async with contextlib.AsyncExitStack() as stack:
        upstream, _ = await stack.enter_async_context(process("upstream"))
        proxies = [
            Proxy(kind, *await stack.enter_async_context(process("proxy", kind, str(upstream))))
            for kind in ("own", "session")
        ]
        for proxy in proxies:
            await run_streams(proxy.port, "/paced/5", 4)
        if only in ("all", "paced"):
            own, ruler = await interleave(proxies, paced_us)
            report("CPU per frame, paced", "us", own, ruler, "budget 22")
        if only in ("all", "backlog"):
            own, ruler = await interleave(proxies, backlog_us)
            report("CPU per frame, backlog", "us", own, ruler, "budget 3")
        if only in ("all", "first"):
            await measure_first_byte(proxies, upstream)
        if only in ("all", "small"):
            await measure_small(proxies)


async def measure_first_byte(proxies: list[Proxy], upstream: int) -> None:
    """Print the time to first byte that each proxy adds."""
    direct = Proxy("direct", upstream, os.getpid())
    own, ruler, bare = await interleave([*proxies, direct], lambda proxy: first_byte_ms(proxy.port))
    floor = statistics.median(bare)
    added = [[value - floor for value in values] for values in (own, ruler)]
    report("first byte added, p50 of 32", "ms", added[0], added[1], f"budget 2, direct {floor:.2g}")


async def measure_small(proxies: list[Proxy]) -> None:
    """Print requests per CPU second, when wrk is there to make them."""
    if shutil.which("wrk") is None:
        print("small requests: wrk is not installed, nothing measured")
        return
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK_SCRIPT % REQUEST_BODY.decode())
        script.flush()
        own, ruler = await interleave(proxies, lambda proxy: requests_per_cpu_s(proxy, script.name))
    report("requests per CPU second", "1/s", own, ruler, "budget 8000")


def main() -> None:
    """Run the bench, or one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help="which measurement; default all")
    match parser.parse_args().part:
        case ["upstream"]:
            uvloop.run(serve_upstream())
        case ["proxy", kind, port]:
            uvloop.run(serve_proxy(kind, int(port)))
        case [only]:
            uvloop.run(measure(only))
        case _:
            uvloop.run(measure("all"))


if __name__ == "__main__":
    main()
