"""Prometheus metrics: counters bound once, gauges read at scrape time, rendered in a thread.

Label values come from closed sets or from the registry; see `docs/metrics.md`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sollold import __version__
from sollold.core.model import NodeState
from sollold.routing.record import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from sollold.core.model import Fleet
    from sollold.routing.admission import Admission
    from sollold.routing.dispatch import Dispatcher
    from sollold.routing.record import RequestRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_CACHE_S = 1.0
_TTFT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_QUEUE_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300)
_LAG_BUCKETS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 1)


class _LiveGauges(Collector):
    """Reads the daemon's state when scraped, so there is no second copy to forget."""

    def __init__(
        self, fleet: Callable[[], Fleet], admission: Admission, dispatcher: Dispatcher
    ) -> None:
        self._fleet = fleet
        self._admission = admission
        self._dispatcher = dispatcher

    def collect(self) -> Iterable[Metric]:
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


class Metrics:
    """All metric families of one daemon."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "sollold_requests",
            "Requests by dialect, kind and how they ended",
            ("dialect", "kind", "outcome"),
            registry=self.registry,
        )
        self._bound: dict[tuple[str, str, str], Counter] = {}
        self._duration = Histogram(
            "sollold_request_duration_seconds",
            "Arrival to last byte",
            ("kind",),
            buckets=_DURATION_BUCKETS,
            registry=self.registry,
        )
        self._ttft = Histogram(
            "sollold_time_to_first_token_seconds",
            "Arrival to first content of a streamed answer",
            ("kind",),
            buckets=_TTFT_BUCKETS,
            registry=self.registry,
        )
        self._queue_wait = Histogram(
            "sollold_queue_wait_seconds",
            "Arrival to slot",
            buckets=_QUEUE_BUCKETS,
            registry=self.registry,
        )
        self._attempts = Counter(
            "sollold_attempts",
            "Attempts on nodes by how they ended",
            ("outcome",),
            registry=self.registry,
        )
        self._good_attempt = self._attempts.labels("ok")
        self._bad_attempt = self._attempts.labels("failed")
        self._tokens = Counter(
            "sollold_tokens",
            "Tokens as the engines counted them",
            ("direction",),
            registry=self.registry,
        )
        self._tokens_in = self._tokens.labels("prompt")
        self._tokens_out = self._tokens.labels("generated")
        self._lag = Histogram(
            "sollold_loop_lag_seconds",
            "How late the event loop runs its timers",
            buckets=_LAG_BUCKETS,
            registry=self.registry,
        )
        self._page = b""
        self._page_s = -_CACHE_S
        self._rendering: asyncio.Task[bytes] | None = None

    def watch(
        self, fleet: Callable[[], Fleet], admission: Admission, dispatcher: Dispatcher
    ) -> None:
        """Read gauges from these when scraped."""
        self.registry.register(_LiveGauges(fleet, admission, dispatcher))

    def note_lag(self, lag_s: float) -> None:
        """Record how late a timer of the event loop ran. No await."""
        self._lag.observe(lag_s)

    def request_done(self, record: RequestRecord) -> None:
        """Count a request that ended. No await."""
        outcome = record.outcome or Outcome.FAILED
        key = (record.route.dialect.value, record.kind.value, outcome.value)
        counter = self._bound.get(key)
        if counter is None:
            counter = self._bound[key] = self._requests.labels(*key)
        counter.inc()
        ended_s = record.ended_s or record.received_s
        self._duration.labels(record.kind.value).observe(ended_s - record.received_s)
        self._queue_wait.observe(record.queue_s)
        if record.is_stream and record.first_content_s is not None:
            first_s = record.first_content_s - record.received_s
            self._ttft.labels(record.kind.value).observe(first_s)
        failed = len(record.failures)
        self._bad_attempt.inc(failed)
        self._good_attempt.inc(max(0, record.attempts - failed))
        self._tokens_in.inc(record.prompt_tokens or 0)
        self._tokens_out.inc(record.output_tokens or 0)

    async def page(self, request: web.Request) -> web.Response:
        """Answer `/metrics`, at most one second old."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._page_s >= _CACHE_S:
            if self._rendering is None:
                self._rendering = asyncio.create_task(self._render(), name="metrics")
            self._page = await asyncio.shield(self._rendering)
        response = web.Response(body=self._page)
        response.headers["Content-Type"] = CONTENT_TYPE
        return response

    async def _render(self) -> bytes:
        try:
            page = await asyncio.to_thread(generate_latest, self.registry)
            self._page_s = asyncio.get_running_loop().time()
            return page
        finally:
            self._rendering = None
