"""The settings that change in the running daemon, and the owners that take them.

What a key marked `live` in the schema changes is written here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from sollold.compose.policies import (
    assign_policy,
    dispatch_settings,
    health_policy,
    host_policies,
    probe_settings,
    queue_rules,
    reply_limits,
)
from sollold.log import Level
from sollold.nodes.own import OwnAddresses
from sollold.nodes.probe import Prober
from sollold.nodes.registry import Registry
from sollold.nodes.tls import TlsContexts
from sollold.routing.admission import Admission
from sollold.routing.dispatch import Dispatcher
from sollold.routing.pools import Pools
from sollold.routing.reporter import EventReporter
from sollold.routing.steps import StepLog
from sollold.web.body import BodyStore
from sollold.web.caller import ClientIdentity
from sollold.web.catalogue import Catalogue
from sollold.web.edge import Edge
from sollold.web.facts import Bound
from sollold.web.inference import InferenceApi
from sollold.wire.cors import OriginPolicy

if TYPE_CHECKING:
    from sollold.compose.reload import Fresh
    from sollold.config import Config


class Owners(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds settings that can change."""

    registry: Registry
    prober: Prober
    tls: TlsContexts
    pools: Pools
    admission: Admission
    dispatcher: Dispatcher
    reporter: EventReporter
    steps: StepLog
    bodies: BodyStore
    catalogue: Catalogue
    inference: InferenceApi
    edge: Edge
    bound: Bound
    own: OwnAddresses
    set_level: Callable[[Level], None]

    def apply(self, fresh: Fresh) -> None:
        """Hand every owner its settings, whether they changed or not. No await."""
        config = fresh.loaded.config
        self.set_level(config.log.level)
        self._apply_to_requests(config)
        self._apply_to_edge(config)
        # Nodes last: what is probed then goes by the new limits.
        self.registry.set_policy(health_policy(config))
        self.tls.reread()
        self.prober.set_settings(probe_settings(config))
        self.prober.set_sources(fresh.sources, fresh.found)

    def _apply_to_requests(self, config: Config) -> None:
        queue = config.queue
        self.admission.queue.set_bounds(
            limit=queue.length,
            client_limit=queue.per_client_waiting,
            age_step_s=queue.age_step_s,
        )
        self.admission.set_policy(assign_policy(config), queue_rules(config))
        self.dispatcher.set_settings(dispatch_settings(config))
        self.pools.set_connect_timeout(config.health.timeout_s)
        self.reporter.set_logging(is_on=config.log.requests)
        self.steps.set(is_kept=config.log.routing, is_printed=config.log.routing_console)

    def _apply_to_edge(self, config: Config) -> None:
        self.bodies.set_stall(config.limits.client_stall_s)
        self.catalogue.set_version_floor(config.http.version_floor)
        clients = ClientIdentity(config.listen.trusted_proxies)
        self.inference.set_limits(reply_limits(config), clients)
        hosts = host_policies(config, self.bound, self.own)
        self.edge.set_rules(OriginPolicy(config.http.origins), hosts)
