"""Added latency, one request at a time, interleaved, on kept connections and blocking sockets."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.bench.figures import DIRECT, Figure, percentile
from tests.bench.upstream import SMALL

if TYPE_CHECKING:
    from tests.bench.processes import Peer

SMALL_BODY = json.dumps(
    {
        "model": SMALL,
        "stream": False,
        "messages": [{"role": "user", "content": "What is two and two?"}],
    }
).encode()


class Kept:
    """One kept connection to a server, for whole answers."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = parts.netloc.encode()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The bytes of one request."""
        return (
            b"%b %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b"
        ) % (method.encode(), path.encode(), self._host, len(body), body)

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and read the whole answer: status and all its bytes."""
        self._socket.sendall(request)
        data = self._socket.recv(1 << 20)
        while not _is_whole(data):
            more = self._socket.recv(1 << 20)
            if not more:
                break
            data += more
        return int(data[9:12] or 0), data

    def timed(self, request: bytes) -> float:
        """Seconds of one successful exchange."""
        started_s = time.perf_counter()
        status, data = self.exchange(request)
        ended_s = time.perf_counter()
        if status != 200:
            raise RuntimeError(f"status {status}: {data[:300]!r}")
        return ended_s - started_s


def _is_whole(data: bytes) -> bool:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = data.find(b"ength:", 0, end)
    if at < 0:
        return data.endswith(b"0\r\n\r\n")
    return len(data) - end - 4 >= int(data[at + 6 : data.find(b"\r\n", at)])


def measure(peers: list[Peer], rounds: int, count: int) -> list[Figure]:
    """p50 and p99 that each gateway adds to a small answer that is not streamed."""
    median = Figure(
        key="latency_p50", what="added latency, small request, p50", unit="ms", budget=0.4
    )
    tail = Figure(
        key="latency_p99", what="added latency, small request, p99", unit="ms", budget=1.5
    )
    kept = {peer.name: Kept(peer.small_url) for peer in peers}
    try:
        requests = {name: kept[name].request("POST", "/api/chat", SMALL_BODY) for name in kept}
        for name, connection in kept.items():
            for _ in range(count // 2):
                connection.timed(requests[name])
        for number in range(rounds):
            times: dict[str, list[float]] = {name: [] for name in kept}
            order = _rotated(list(kept), number)
            for _ in range(count):
                for name in order:
                    times[name].append(kept[name].timed(requests[name]) * 1e3)
            _add_round(median, times, 0.50)
            _add_round(tail, times, 0.99)
    finally:
        for connection in kept.values():
            connection.close()
    return [median, tail]


def _add_round(figure: Figure, times: dict[str, list[float]], share: float) -> None:
    base = percentile(times[DIRECT], share)
    figure.add(DIRECT, base)
    for name, values in times.items():
        if name != DIRECT:
            figure.add(name, percentile(values, share) - base)


def _rotated(names: list[str], by: int) -> list[str]:
    at = by % len(names)
    return names[at:] + names[:at]
