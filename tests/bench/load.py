"""What a gateway costs under load: requests per CPU-second, and memory before and after it."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from tests.bench.figures import Figure
from tests.bench.latency import SMALL_BODY
from tests.bench.processes import cpu_s, rss_mb, tools

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.processes import Peer

CONNECTIONS = 32

_SCRIPT = """
wrk.method = "POST"
wrk.path = "/api/chat"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[{body}]==]
"""
_DONE = re.compile(r"(\d+) requests in")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")


class Wrk:
    """The compiled load generator, with the benchmark's small request."""

    def __init__(self, directory: Path) -> None:
        _, wrk = tools()
        assert wrk is not None
        self._program = wrk
        self._script = directory / "post.lua"
        self._script.write_text(_SCRIPT.format(body=SMALL_BODY.decode()))

    def run(self, url: str, seconds: int) -> int:
        """Load a server; how many requests it answered. Any error ends the benchmark."""
        argv = [self._program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s"]
        told = subprocess.run(
            [*argv, "-s", str(self._script), url], capture_output=True, text=True, check=True
        ).stdout
        done = _DONE.search(told)
        if done is None or _BAD.search(told):
            raise RuntimeError(f"wrk against {url}:\n{told}")
        return int(done[1])


def measure_throughput(peers: list[Peer], wrk: Wrk, rounds: int, seconds: int) -> list[Figure]:
    """Small requests per second of a gateway's own CPU, and per second of the clock."""
    figure = Figure(
        key="per_cpu_second",
        what=f"small requests per CPU-second, {CONNECTIONS} connections",
        unit="1/s",
        budget=8000,
        is_more_better=True,
    )
    wall = Figure(
        key="per_second",
        what=f"small requests per second, {CONNECTIONS} connections, cores shared with the load",
        unit="1/s",
        is_more_better=True,
    )
    for number in range(rounds):
        for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
            before_s = 0.0 if peer.pid is None else cpu_s(peer.pid)
            answered = wrk.run(peer.small_url, seconds)
            wall.add(peer.name, answered / seconds)
            if peer.pid is not None:
                figure.add(peer.name, answered / (cpu_s(peer.pid) - before_s))
    return [figure, wall]


def measure_growth(peers: list[Peer], wrk: Wrk, requests: int) -> Figure:
    """Resident memory of each gateway after so many further requests."""
    figure = Figure(
        key="rss_after", what=f"resident memory after {requests:,} requests", unit="MB", budget=80
    )
    for peer in peers:
        if peer.pid is None:
            continue
        answered, start_mb = 0, rss_mb(peer.pid)
        while answered < requests:
            answered += wrk.run(peer.small_url, 2)
        figure.add(peer.name, rss_mb(peer.pid))
        grown = rss_mb(peer.pid) - start_mb
        figure.notes.append(f"{peer.name}: {answered:,} requests, {grown:+.1f} MB")
    return figure
