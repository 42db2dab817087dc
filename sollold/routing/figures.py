"""Figures that status pages show: counts and speeds over sliding windows, whole and per node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.core.stats import Window
from sollold.routing.record import Outcome

if TYPE_CHECKING:
    from sollold.core.model import NodeId
    from sollold.routing.record import RequestRecord

_WINDOW_S = 300.0
_HOUR_S = 3600.0


class NodeFigures:
    """One node's recent performance for this daemon's requests."""

    __slots__ = ("counts", "first_token", "tokens_per_s")

    def __init__(self) -> None:
        self.counts = Window(_HOUR_S, slices=12)
        self.first_token = Window(_WINDOW_S)
        self.tokens_per_s = Window(_WINDOW_S)


class Figures:
    """Counts and speeds of ended requests."""

    def __init__(self) -> None:
        self.counts = Window(_WINDOW_S)
        self.first_token = Window(_WINDOW_S)
        self.tokens_per_s = Window(_WINDOW_S)
        self._nodes: dict[NodeId, NodeFigures] = {}

    def node(self, node: NodeId) -> NodeFigures:
        """Return a node's figures, empty ones when it served nothing. No await."""
        figures = self._nodes.get(node)
        if figures is None:
            figures = self._nodes[node] = NodeFigures()
        return figures

    def forget(self, node: NodeId) -> None:
        """Drop a node that left. No await."""
        self._nodes.pop(node, None)

    def request_done(self, record: RequestRecord) -> None:
        """Count a request that ended. No await."""
        now_s = record.ended_s or record.received_s
        self.counts.count((record.outcome or Outcome.FAILED).value, now_s)
        if record.attempts > 1:
            self.counts.count("failed_over", now_s)
        for failure in record.failures:
            if failure.is_nodes:
                self.node(failure.node).counts.count("failed", now_s)
        if record.node is None:
            return
        figures = self.node(record.node)
        if record.outcome in (Outcome.OK, Outcome.CALLER):
            figures.counts.count("ok", now_s)
        if record.first_content_s is None or not record.is_stream:
            return
        first_s = record.first_content_s - record.received_s
        self.first_token.record(first_s, now_s)
        figures.first_token.record(first_s, now_s)
        if record.output_tokens and record.output_tokens > 1 and now_s > record.first_content_s:
            rate = (record.output_tokens - 1) / (now_s - record.first_content_s)
            self.tokens_per_s.record(rate, now_s)
            figures.tokens_per_s.record(rate, now_s)
