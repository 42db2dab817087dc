"""`python -m tests.bench`: the daemon beside nginx and a bare aiohttp proxy, against one upstream.

Ratios within one run count; absolute figures belong to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import fleet, latency, llama, load, report, streams, trouble, upstream
from tests.bench.figures import BARE, DIRECT, NGINX, SOLLOLD, Figure
from tests.bench.processes import (
    Peer,
    rss_mb,
    start_bare,
    start_daemon,
    start_llama_upstream,
    start_nginx_proxy,
    start_nginx_upstream,
    start_upstream,
    tools,
)
from tests.stack.http import get_json, wait_until
from tests.stack.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Plan(NamedTuple):
    """How much of everything."""

    rounds: int
    requests: int
    stream_rounds: int
    cpu_rounds: int
    cpu_s: float
    translated_s: float
    wrk_rounds: int
    wrk_s: int
    growth: int
    starts: int
    idle_s: float
    troubles: int


FULL = Plan(
    rounds=12,
    requests=300,
    stream_rounds=12,
    cpu_rounds=5,
    cpu_s=2.0,
    translated_s=2.0,
    wrk_rounds=5,
    wrk_s=2,
    growth=50_000,
    starts=5,
    idle_s=20.0,
    troubles=10,
)
SMOKE = Plan(
    rounds=3,
    requests=50,
    stream_rounds=2,
    cpu_rounds=1,
    cpu_s=0.7,
    translated_s=0.3,
    wrk_rounds=1,
    wrk_s=1,
    growth=2_000,
    starts=1,
    idle_s=2.0,
    troubles=3,
)


class Bench:
    """The processes that every measurement of one run shares."""

    def __init__(self, directory: Path, plan: Plan, peers: list[Peer]) -> None:
        self.directory = directory
        self.plan = plan
        self.peers = peers

    def latency(self) -> list[Figure]:
        """Small requests one at a time."""
        return latency.measure(self.peers, self.plan.rounds, self.plan.requests)

    def streams(self) -> list[Figure]:
        """First bytes and CPU per frame."""
        figures, plan = [], self.plan
        lengths_s = {streams.PASSED: plan.cpu_s, streams.TRANSLATED: plan.translated_s}
        for variant, length_s in lengths_s.items():
            figures.append(streams.measure_first_byte(self.peers, plan.stream_rounds, variant))
            figures += streams.measure_cpu(self.peers, plan.cpu_rounds, length_s, variant)
        return figures

    def load(self) -> list[Figure]:
        """Requests per CPU-second, and memory before and after many."""
        idle = Figure(key="rss_idle", what="resident memory before any load", unit="MB")
        for peer in self.peers:
            if peer.pid is not None:
                idle.add(peer.name, rss_mb(peer.pid))
        _, found = tools()
        if found is None:
            return [idle]
        wrk = load.Wrk(self.directory)
        plan = self.plan
        figures = load.measure_throughput(self.peers, wrk, plan.wrk_rounds, plan.wrk_s)
        return [*figures, idle, load.measure_growth(self.peers, wrk, plan.growth)]

    def start(self) -> list[Figure]:
        """Start of the daemon, and what it needs with one node."""
        url = self.peers[0].small_url
        alone = fleet.measure_alone(self.directory, url)
        return [fleet.measure_start(self.directory, url, self.plan.starts), alone]

    def fleet(self) -> list[Figure]:
        """Fifty nodes."""
        count = self.plan.requests
        return fleet.measure_fleet(self.directory, self.plan.idle_s, count)

    def trouble(self) -> list[Figure]:
        """Cancel and failover."""
        cancel = asyncio.run(trouble.measure_cancel(self.directory, 2 * self.plan.troubles))
        return [cancel, *asyncio.run(trouble.measure_failover(self.directory, self.plan.troubles))]


_PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "latency": Bench.latency,
    "streams": Bench.streams,
    "load": Bench.load,
    "start": Bench.start,
    "fleet": Bench.fleet,
    "trouble": Bench.trouble,
}
_WITHOUT_DAEMON = ("latency", "streams", "load")


def main() -> int:
    """Measure, print, write."""
    options = _arguments()
    plan = SMOKE if options.smoke else FULL
    plan = plan._replace(growth=options.requests or plan.growth)
    started_s = time.monotonic()
    names = options.only or (_WITHOUT_DAEMON if options.null else list(_PARTS))
    figures: list[Figure] = []
    missing = _missing(is_null=options.null)
    with tempfile.TemporaryDirectory(prefix="sollold-bench.") as directory:
        try:
            with _bench(Path(directory), plan, is_null=options.null) as bench:
                for name in names:
                    figures += _measure(bench, name, missing)
        except (RuntimeError, OSError) as error:
            missing.append(f"the processes: not measured: {error}")
    if options.null:
        for figure in figures:
            figure.budget = None
    run = report.Run(
        machine=report.machine(),
        when=datetime.now(UTC).strftime("%Y-%m-%d"),
        is_smoke=options.smoke,
        seconds=time.monotonic() - started_s,
        figures=figures,
        missing=missing,
    )
    print(report.as_text(run))
    if options.json:
        report.write_json(run, options.json)
    if options.markdown:
        options.markdown.write_text(report.as_markdown(run))
    return 1 if any(": not measured: " in line for line in missing) else 0


def _measure(bench: Bench, name: str, missing: list[str]) -> list[Figure]:
    """One part; what cannot be measured is said and does not stop the rest."""
    _say(f"{name} …")
    try:
        return _PARTS[name](bench)
    except (RuntimeError, OSError) as error:
        missing.append(f"{name}: not measured: {error}")
        return []


@contextlib.contextmanager
def _bench(directory: Path, plan: Plan, *, is_null: bool) -> Iterator[Bench]:
    """The upstreams, and every gateway in front of each."""
    has_nginx = tools()[0] is not None
    with contextlib.ExitStack() as stack:
        own = [upstream.PACED, upstream.BACKLOG] + ([] if has_nginx else [upstream.SMALL])
        raw, (stream_url,) = start_upstream(directory, own)
        stack.enter_context(raw)
        speaker, llama_url = start_llama_upstream(directory)
        stack.enter_context(speaker)
        small_url = stream_url
        if has_nginx:
            port = free_port()
            stack.enter_context(start_nginx_upstream(directory / "upstream", port))
            small_url = f"http://127.0.0.1:{port}"
        urls = (small_url, stream_url, llama_url)
        peers = [Peer(DIRECT, *urls, None)]
        if has_nginx:
            ports = _ports(urls)
            proxy = start_nginx_proxy(directory / "proxy", ports)
            peers.append(_peer(NGINX, ports, stack.enter_context(proxy).pid))
        ports = _ports(urls)
        bare = stack.enter_context(start_bare(directory, "bare", ports))
        peers.append(_peer(BARE, ports, bare.pid))
        if is_null:
            ports = _ports(urls)
            twin = stack.enter_context(start_bare(directory, "twin", ports))
            peers.append(_peer(SOLLOLD, ports, twin.pid))
        else:
            peers.append(_start_daemon_peer(stack, directory, urls))
        yield Bench(directory, plan, peers)


def _start_daemon_peer(
    stack: contextlib.ExitStack, directory: Path, urls: tuple[str, str, str]
) -> Peer:
    started = start_daemon(directory / "daemon", list(dict.fromkeys(urls)))
    daemon = stack.enter_context(contextlib.closing(started))
    url = daemon.api_url
    kept = latency.Kept(url)
    request = kept.request("POST", "/api/chat", latency.SMALL_BODY)
    wait_until(
        lambda: kept.exchange(request)[0] == 200, limit_s=15, failure=lambda: daemon.log_text()
    )
    kept.close()
    wait_until(
        lambda: llama.MODEL in str(get_json(f"{url}/api/tags")),
        limit_s=15,
        failure=lambda: daemon.log_text(),
    )
    return Peer(SOLLOLD, url, url, url, daemon.group.pid, is_translator=True)


def _ports(urls: Sequence[str]) -> dict[int, str]:
    return {free_port(): url for url in urls}


def _peer(name: str, ports: dict[int, str], pid: int) -> Peer:
    small_url, stream_url, llama_url = (f"http://127.0.0.1:{port}" for port in ports)
    return Peer(name, small_url, stream_url, llama_url, pid)


def _missing(*, is_null: bool) -> list[str]:
    nginx, wrk = tools()
    lines = []
    if nginx is None:
        lines.append("nginx is not installed: no nginx column, and a Python upstream throughout.")
    if wrk is None:
        lines.append("wrk is not installed: no requests per CPU-second, no memory after load.")
    if is_null:
        lines.append("null run: the column sollold is a second bare proxy; ratios should be 1.")
    return lines


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="everything, briefly: 40 s at most")
    parser.add_argument("--only", action="append", choices=list(_PARTS), help="one part; repeat")
    parser.add_argument("--requests", type=int, help="load before memory is read again")
    parser.add_argument("--json", type=Path, help="write every round here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--null", action="store_true", help="no daemon: measure the harness")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
