"""A daemon with many nodes: memory, idle CPU, listings beside a black hole, and its own start."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from tests.bench.figures import SOLLOLD, Figure, percentile
from tests.bench.latency import SMALL_BODY, Kept
from tests.bench.processes import (
    black_hole,
    cpu_s,
    make_daemon,
    rss_mb,
    start_daemon,
    start_upstream,
)
from tests.bench.upstream import SMALL
from tests.stack.http import get_json, wait_until

if TYPE_CHECKING:
    from pathlib import Path

NODES = 50
MODELS = 200
FEW_MODELS = 20


def measure_fleet(directory: Path, idle_s: float, count: int) -> list[Figure]:
    """Memory and CPU of a daemon that does nothing but know 50 nodes; then its listings."""
    memory = Figure(
        key="rss_fleet",
        what=f"resident memory idle, {NODES} nodes of {MODELS} models",
        unit="MB",
        budget=60,
    )
    idle = Figure(
        key="idle_cpu", what=f"idle CPU, {NODES} nodes, of one core", unit="%", budget=1.0
    )
    large = Figure(
        key="tags_large", what=f"/api/tags, {NODES} nodes of {MODELS} models, p50", unit="ms"
    )
    upstream, urls = start_upstream(directory, [SMALL], NODES, MODELS)
    with upstream:
        with contextlib.closing(start_daemon(directory / "fleet", urls)) as daemon:
            _wait_for_models(daemon.api_url, urls)
            pid = daemon.group.pid
            # By now it knows what every model can do; asking 10,000 times is not idling.
            time.sleep(1.5 * idle_s)
            idle.add(SOLLOLD, _cpu_share(pid, idle_s) * 100)
            memory.add(SOLLOLD, rss_mb(pid))
            memory.notes.append(f"{_model_count(daemon.api_url):,} different models listed")
            large.add(SOLLOLD, percentile(_tags_ms(daemon.api_url, count // 10, large), 0.5))
    upstream, urls = start_upstream(directory, [SMALL], NODES - 1, FEW_MODELS)
    with upstream:
        return [memory, idle, *_measure_tags(directory, urls, count), large]


def _cpu_share(pid: int, length_s: float) -> float:
    before_s, started_s = cpu_s(pid), time.monotonic()
    time.sleep(length_s)
    return (cpu_s(pid) - before_s) / (time.monotonic() - started_s)


def measure_start(directory: Path, url: str, rounds: int) -> Figure:
    """From starting the process to its first answer from a node."""
    figure = Figure(
        key="start", what="start to first answered request, one node up", unit="s", budget=1.0
    )
    for number in range(rounds):
        daemon = make_daemon(directory / f"start{number}", [url])
        with contextlib.closing(daemon):
            started_s = time.monotonic()
            daemon.launch()
            wait_until(
                lambda at=daemon.api_url: _is_answered(at),  # type: ignore[misc]
                limit_s=20,
                failure=daemon.log_text,
            )
            figure.add(SOLLOLD, time.monotonic() - started_s)
    return figure


def measure_alone(directory: Path, url: str) -> Figure:
    """Memory of a daemon that knows one node and has done nothing."""
    figure = Figure(key="rss_one", what="resident memory idle, one node", unit="MB")
    with contextlib.closing(start_daemon(directory / "alone", [url])) as daemon:
        _wait_for_models(daemon.api_url, [url])
        figure.add(SOLLOLD, rss_mb(daemon.group.pid))
    return figure


def _measure_tags(directory: Path, urls: list[str], count: int) -> list[Figure]:
    what = f"/api/tags, {NODES} nodes of {FEW_MODELS} models, one black hole"
    median = Figure(key="tags_p50", what=f"{what}, p50", unit="ms", budget=5)
    worst = Figure(key="tags_max", what=f"{what}, max", unit="ms")
    listener, fillers, hole = black_hole()
    try:
        with contextlib.closing(start_daemon(directory / "hole", [*urls, hole])) as daemon:
            _wait_for_models(daemon.api_url, urls)
            times = _tags_ms(daemon.api_url, count, median)
    finally:
        for one in (listener, *fillers):
            one.close()
    median.add(SOLLOLD, percentile(times, 0.5))
    worst.add(SOLLOLD, max(times))
    return [median, worst]


def _tags_ms(url: str, count: int, figure: Figure) -> list[float]:
    with contextlib.closing(Kept(url)) as kept:
        request = kept.request("GET", "/api/tags")
        _, answer = kept.exchange(request)
        figure.notes.append(f"{len(answer) / 1e3:,.0f} kB")
        return [kept.timed(request) * 1e3 for _ in range(count)]


def _wait_for_models(api_url: str, urls: list[str]) -> None:
    """Every node has been probed: what it alone holds is listed."""
    per_node = len(get_json(f"{urls[0]}/api/tags")["models"]) - 1
    own = per_node // 2
    wanted = 1 + (per_node - own) + own * len(urls)
    wait_until(
        lambda: _model_count(api_url) >= wanted,
        limit_s=30,
        failure=lambda: f"{_model_count(api_url)} of {wanted} models are listed",
    )


def _model_count(api_url: str) -> int:
    return len(get_json(f"{api_url}/api/tags")["models"])


def _is_answered(api_url: str) -> bool:
    with contextlib.suppress(OSError, ValueError), contextlib.closing(Kept(api_url)) as kept:
        status, _ = kept.exchange(kept.request("POST", "/api/chat", SMALL_BODY))
        return status == 200
    return False
