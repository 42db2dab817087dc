"""From the configuration's words to the policies of the parts that follow them."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from sollold.config.address import is_loopback
from sollold.core.assign import AssignPolicy
from sollold.core.estimate import Weights
from sollold.core.health import HealthPolicy
from sollold.nodes.tools import ProbeSettings
from sollold.routing.dispatch import DispatchSettings
from sollold.routing.ticket import QueueRules
from sollold.web.inference import ReplyLimits
from sollold.wire.cors import HostPolicy

if TYPE_CHECKING:
    from sollold.config import Config
    from sollold.nodes.own import OwnAddresses
    from sollold.web.facts import Bound


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


def probe_settings(config: Config) -> ProbeSettings:
    """Return the limits and pauses of probing."""
    return ProbeSettings(
        limit_s=config.health.timeout_s,
        catalogue_s=config.health.catalogue_s,
        silence_s=config.failover.frozen_idle_s,
    )


def queue_rules(config: Config) -> QueueRules:
    """Return the bounds of waiting."""
    queue = config.queue
    return QueueRules(
        look_ahead=queue.look_ahead,
        max_wait_s=queue.max_wait_s,
        holder_down_s=queue.holder_down_s,
    )


def reply_limits(config: Config) -> ReplyLimits:
    """Return how answers are sent."""
    return ReplyLimits(
        spool_bytes=config.limits.client_spool_bytes,
        stall_s=config.limits.client_stall_s,
        notes_in_body=config.replies.routing == "body",
    )


def host_policies(
    config: Config, bound: Bound, own: OwnAddresses
) -> dict[tuple[str, int], HostPolicy]:
    """Return, by listener, the names it may be addressed by."""
    return {
        (host, port): HostPolicy(
            is_loopback_bind=is_loopback(host),
            allowed=config.listen.allowed_hosts,
            own_names=(platform.node(),),
            own_addresses=tuple(own.interfaces),
        )
        for host, port in (*bound.api, *bound.console)
    }
