"""From the configuration's words to the policies of the parts that follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.core.assign import AssignPolicy
from sollold.core.estimate import Weights
from sollold.core.health import HealthPolicy
from sollold.routing.dispatch import DispatchSettings

if TYPE_CHECKING:
    from sollold.config import Config


def health_policy(config: Config) -> HealthPolicy:
    """Return how health is judged."""
    health = config.health
    return HealthPolicy(
        interval_s=health.interval_s,
        retry_cap_s=health.backoff_max_s,
        eject_after=float(health.eject_after),
        eject_s=health.eject_s,
        eject_cap_s=health.eject_max_s,
    )


def assign_policy(config: Config) -> AssignPolicy:
    """Return how nodes are compared."""
    weights = config.routing.weights
    return AssignPolicy(
        weights=Weights(**{name: getattr(weights, name) for name in Weights.__struct_fields__}),
        client_cap=config.queue.per_client_running,
    )


def dispatch_settings(config: Config) -> DispatchSettings:
    """Return the limits of attempts."""
    return DispatchSettings(
        attempts=config.failover.attempts,
        overdue_s=config.failover.overdue_s,
        frozen_idle_s=config.failover.frozen_idle_s,
        progress_s=config.failover.progress_s,
        hold_bytes=config.limits.held_bytes,
        detach_loads=config.loads.on_client_gone == "finish",
        load_limit_s=config.loads.limit_s,
    )
