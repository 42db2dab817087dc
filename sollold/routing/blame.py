"""Turns what attempts saw into evidence about nodes. A caller's mistake never gets here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.core.observation import (
    Misconfigured,
    Refused,
    Saturated,
    TrafficFailed,
    TrafficOk,
    TrialEnded,
    Warming,
)
from sollold.core.outcome import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.core.model import NodeId
    from sollold.core.outcome import Verdict
    from sollold.core.rates import RateTable
    from sollold.nodes.registry import Registry

_MAX_TEXT_CHARS = 200


class Blame:
    """Tells the registry and the rate table how attempts ended."""

    def __init__(
        self,
        registry: Registry,
        rates: RateTable,
        *,
        refresh_soon: Callable[[NodeId], None],
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._rates = rates
        self._refresh_soon = refresh_soon
        self._clock = clock

    def take_trial(self, node: NodeId) -> int | None:
        """Begin the trial of a node that was set aside; None in the usual case. No await."""
        return self._registry.take_trial(node)

    def look_soon(self, node: NodeId) -> None:
        """Have a node's lists read again soon. No await."""
        self._refresh_soon(node)

    def verdict(self, node: NodeId, verdict: Verdict, text: str, trial: int | None) -> None:
        """Count an attempt that failed before commit, or broke after it. No await."""
        text = text[:_MAX_TEXT_CHARS]
        observe = self._registry.observe
        match verdict.fault:
            case Fault.NETWORK if verdict.code == "refused":
                observe(node, Refused(text))
            case Fault.NODE | Fault.NETWORK:
                observe(node, TrafficFailed(verdict.code, text, trial=trial))
                self._rates.observe_outcome(node, is_success=False, now_s=self._clock())
                return
            case Fault.SATURATED:
                observe(node, Saturated(verdict.retry_after_s))
            case Fault.WARMING:
                observe(node, Warming(is_probe=False))
            case Fault.MISCONFIGURED:
                observe(node, Misconfigured(text or "the node refused us", is_probe=False))
            case Fault.STALE_FACTS:
                self._refresh_soon(node)
            case Fault.NONE | Fault.CLIENT | Fault.ENGINE | Fault.DENIED:
                pass
        self.no_verdict(node, trial)

    def engine(self, node: NodeId, text: str, trial: int | None) -> None:
        """Count a server error that no second node gave too. No await."""
        failed = TrafficFailed("server_error", text[:_MAX_TEXT_CHARS], trial=trial)
        self._registry.observe(node, failed)
        self._rates.observe_outcome(node, is_success=False, now_s=self._clock())

    def success(self, node: NodeId, first_s: float | None, trial: int | None) -> None:
        """Count an attempt that was answered. No await."""
        self._registry.observe(node, TrafficOk(first_s, trial))
        self._rates.observe_outcome(node, is_success=True, now_s=self._clock())

    def no_verdict(self, node: NodeId, trial: int | None) -> None:
        """End a trial that says nothing about its node. No await."""
        if trial is not None:
            self._registry.observe(node, TrialEnded(trial))
