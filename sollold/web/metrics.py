"""Prometheus metrics: counters bound once, gauges read at scrape time, rendered in a thread.

Label values come from closed sets or from the registry; see `docs/metrics.md`.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from sollold import __version__
from sollold.core.model import NodeState, TaskKind
from sollold.routing.record import Outcome
from sollold.web.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from sollold.core.model import Fleet
    from sollold.routing.admission import Admission
    from sollold.routing.dispatch import Dispatcher
    from sollold.routing.record import RequestRecord
    from sollold.wire.routes import InferenceRoute

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_CACHE_S = 1.0
_TTFT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_QUEUE_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300)
_LAG_BUCKETS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 1)


class _LiveGauges:
    """Reads the daemon's state when scraped, so there is no second copy to forget."""

    def __init__(
        self, fleet: Callable[[], Fleet], admission: Admission, dispatcher: Dispatcher
    ) -> None:
        self._fleet = fleet
        self._admission = admission
        self._dispatcher = dispatcher

    def collect(self) -> Iterable[Metric]:
        """Return the gauges. No await."""
        fleet = self._fleet()
        state = GaugeMetricFamily(
            "sollold_node_state", "1 for the state a node is in", labels=("node", "state")
        )
        inflight = GaugeMetricFamily(
            "sollold_node_inflight", "Requests a node is working on for us", labels=("node",)
        )
        models = GaugeMetricFamily(
            "sollold_node_models", "Models a node holds or has loaded", labels=("node", "where")
        )
        for node in fleet.nodes:
            for word in NodeState:
                state.add_metric((node.id, word.value), float(node.state is word))
            inflight.add_metric((node.id,), len(self._admission.load.on_node(node.id)))
            models.add_metric((node.id, "disk"), len(node.models))
            if node.tells_memory:
                models.add_metric((node.id, "memory"), len(node.residents))
        yield from (state, inflight, models)
        yield GaugeMetricFamily(
            "sollold_queue_depth", "Requests that wait for a slot", value=len(self._admission.queue)
        )
        yield GaugeMetricFamily(
            "sollold_requests_running",
            "Requests under way, waiting ones included",
            value=sum(1 for _ in self._dispatcher.runs),
        )
        yield GaugeMetricFamily(
            "sollold_detached_loads",
            "Model loads that go on although their client left",
            value=self._dispatcher.detached_count,
        )
        build = GaugeMetricFamily("sollold_build_info", "Always 1", labels=("version",))
        build.add_metric((__version__,), 1.0)
        yield build


class _Buckets:
    """One histogram: adding is a bisection, everything else happens when it is scraped."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value. No await."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def metric(self) -> tuple[list[tuple[str, float]], float]:
        """Return cumulative buckets and the sum."""
        total = 0
        buckets = []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets, self._sum


class _Family:
    """Histograms of one name, by one label or none."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...], label: str = "") -> None:
        self._name = name
        self._text = text
        self._label = label
        self._bounds = bounds
        self._by_label: dict[str, _Buckets] = {}
        if not label:
            self._by_label[""] = _Buckets(bounds)

    def add(self, value: float, label: str = "") -> None:
        """Count a value. No await."""
        buckets = self._by_label.get(label)
        if buckets is None:
            buckets = self._by_label[label] = _Buckets(self._bounds)
        buckets.add(value)

    def metric(self) -> Metric:
        """Return what Prometheus reads."""
        labels = (self._label,) if self._label else ()
        metric = HistogramMetricFamily(self._name, self._text, labels=labels)
        for label, item in self._by_label.items():
            buckets, total = item.metric()
            metric.add_metric((label,) if self._label else (), buckets, total)
        return metric


class Metrics(Collector):
    """All metric families of one daemon; touched on the event loop only, rendered in a thread."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, str], int] = {}
        self._duration = _Family(
            "sollold_request_duration_seconds", "Arrival to last byte", _DURATION_BUCKETS, "kind"
        )
        self._ttft = _Family(
            "sollold_time_to_first_token_seconds",
            "Arrival to first content of a streamed answer",
            _TTFT_BUCKETS,
            "kind",
        )
        self._queue_wait = _Family("sollold_queue_wait_seconds", "Arrival to slot", _QUEUE_BUCKETS)
        self._lag = _Family(
            "sollold_loop_lag_seconds", "How late the event loop runs its timers", _LAG_BUCKETS
        )
        self._attempts = {"ok": 0, "failed": 0, "given_up": 0}
        self._tokens = {"prompt": 0, "generated": 0}
        self._gauges: _LiveGauges | None = None
        self._taken: list[Metric] = []
        self._page = b""
        self._page_s = -_CACHE_S
        self._rendering: asyncio.Task[None] | None = None

    def watch(
        self, fleet: Callable[[], Fleet], admission: Admission, dispatcher: Dispatcher
    ) -> None:
        """Read gauges from these when scraped."""
        self._gauges = _LiveGauges(fleet, admission, dispatcher)

    def note_lag(self, lag_s: float) -> None:
        """Record how late a timer of the event loop ran. No await."""
        self._lag.add(lag_s)

    def request_done(self, record: RequestRecord) -> None:
        """Count a request that ended. No await."""
        kind = record.kind
        self._count(record.route, kind, record.outcome or Outcome.FAILED)
        ended_s = record.ended_s or record.received_s
        self._duration.add(ended_s - record.received_s, kind)
        self._queue_wait.add(record.queue_s)
        if record.is_stream and record.first_content_s is not None:
            self._ttft.add(record.first_content_s - record.received_s, kind)
        unfit, ended = record.unfit, len(record.failures)
        self._attempts["failed"] += ended - unfit
        self._attempts["given_up"] += unfit
        is_answered = record.outcome in (Outcome.OK, Outcome.CALLER)
        self._attempts["ok" if is_answered else "given_up"] += max(0, record.attempts - ended)
        self._tokens["prompt"] += record.prompt_tokens or 0
        self._tokens["generated"] += record.output_tokens or 0

    def undispatched(self, route: InferenceRoute, outcome: Outcome) -> None:
        """Count an inference request that ended before it was queued. No await."""
        self._count(route, route.kind or TaskKind.CHAT, outcome)

    def _count(self, route: InferenceRoute, kind: TaskKind, outcome: Outcome) -> None:
        key = (route.dialect, kind, outcome)
        self._requests[key] = self._requests.get(key, 0) + 1

    def take(self) -> None:
        """Take a picture of everything, for a thread to render. No await."""
        requests = CounterMetricFamily(
            "sollold_requests",
            "Requests by dialect, kind and how they ended",
            labels=("dialect", "kind", "outcome"),
        )
        for key, count in self._requests.items():
            requests.add_metric(key, count)
        attempts = CounterMetricFamily(
            "sollold_attempts", "Attempts on nodes by how they ended", labels=("outcome",)
        )
        for outcome, count in self._attempts.items():
            attempts.add_metric((outcome,), count)
        tokens = CounterMetricFamily(
            "sollold_tokens", "Tokens as the engines counted them", labels=("direction",)
        )
        for direction, count in self._tokens.items():
            tokens.add_metric((direction,), count)
        families = (self._duration, self._ttft, self._queue_wait, self._lag)
        self._taken = [requests, attempts, tokens, *(family.metric() for family in families)]
        if self._gauges is not None:
            self._taken.extend(self._gauges.collect())

    def collect(self) -> Iterable[Metric]:
        """Return the last picture."""
        return self._taken

    def routes(self) -> list[Route]:
        """Return the route."""
        return [
            Route(
                method="GET",
                path="/metrics",
                handler=self.page,
                summary="Figures for Prometheus, at most one second old",
                tag="State",
                media=CONTENT_TYPE,
                link="https://prometheus.io/docs/instrumenting/exposition_formats/",
            )
        ]

    async def page(self, request: web.Request) -> web.Response:
        """Answer `/metrics`, at most one second old."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._page_s >= _CACHE_S:
            if self._rendering is None:
                self._rendering = asyncio.create_task(self._render(), name="metrics")
            await asyncio.shield(self._rendering)
        response = web.Response(body=self._page)
        response.headers["Content-Type"] = CONTENT_TYPE
        return response

    async def _render(self) -> None:
        try:
            self.take()
            page = await asyncio.to_thread(generate_latest, self)
            # Together, or a reader in between would get the page before this one as a fresh one.
            self._page, self._page_s = page, asyncio.get_running_loop().time()
        finally:
            self._rendering = None
