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
from sollold.core.assign import AssignPolicy
from sollold.core.health import HealthPolicy
from sollold.log import Level
from sollold.nodes.own import OwnAddresses
from sollold.nodes.probe import Prober
from sollold.nodes.registry import Registry
from sollold.nodes.tls import TlsContexts
from sollold.nodes.tools import ProbeSettings
from sollold.routing.admission import Admission
from sollold.routing.dispatch import Dispatcher, DispatchSettings
from sollold.routing.pools import Pools
from sollold.routing.reporter import EventReporter
from sollold.routing.steps import StepLog
from sollold.routing.ticket import QueueRules
from sollold.web.body import BodyStore
from sollold.web.caller import ClientIdentity
from sollold.web.catalogue import Catalogue
from sollold.web.edge import Edge
from sollold.web.facts import Bound
from sollold.web.inference import InferenceApi, ReplyLimits
from sollold.wire.cors import HostPolicy, OriginPolicy

if TYPE_CHECKING:
    from sollold.compose.reload import Fresh
    from sollold.config import Config


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the owners are handed, made from one configuration."""

    assign: AssignPolicy
    queue: QueueRules
    dispatch: DispatchSettings
    health: HealthPolicy
    probe: ProbeSettings
    reply: ReplyLimits
    clients: ClientIdentity
    origins: OriginPolicy
    hosts: dict[tuple[str, int], HostPolicy]

    @classmethod
    def of(cls, config: Config, bound: Bound, own: OwnAddresses) -> Settings:
        """Make all of them, or raise."""
        return cls(
            assign=assign_policy(config),
            queue=queue_rules(config),
            dispatch=dispatch_settings(config),
            health=health_policy(config),
            probe=probe_settings(config),
            reply=reply_limits(config),
            clients=ClientIdentity(config.listen.trusted_proxies),
            origins=OriginPolicy(config.http.origins),
            hosts=host_policies(config, bound, own),
        )


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
        # All of it before the first owner has any: a fault leaves all of them as they were.
        settings = Settings.of(config, self.bound, self.own)
        self.set_level(config.log.level)
        self._apply_to_requests(config, settings)
        self._apply_to_edge(config, settings)
        # Nodes last: what is probed then goes by the new limits.
        self.registry.set_policy(settings.health)
        self.prober.set_settings(settings.probe)
        self.prober.set_sources(fresh.sources, fresh.found)
        self._apply_to_tls(has_changes=bool(fresh.changes.live))

    def _apply_to_requests(self, config: Config, settings: Settings) -> None:
        queue = config.queue
        self.admission.queue.set_bounds(
            limit=queue.length,
            client_limit=queue.per_client_waiting,
            age_step_s=queue.age_step_s,
        )
        self.admission.set_policy(settings.assign, settings.queue)
        self.dispatcher.set_settings(settings.dispatch)
        self.pools.set_connect_timeout(config.health.timeout_s)
        self.reporter.set_logging(is_on=config.log.requests)
        self.steps.set(is_kept=config.log.routing, is_printed=config.log.routing_console)

    def _apply_to_edge(self, config: Config, settings: Settings) -> None:
        self.bodies.set_stall(config.limits.client_stall_s)
        self.catalogue.set_version_floor(config.http.version_floor)
        self.inference.set_limits(settings.reply, settings.clients)
        self.edge.set_rules(settings.origins, settings.hosts)

    def _apply_to_tls(self, *, has_changes: bool) -> None:
        """Read authorities again; probes come at once where something is to be seen by them."""
        trusts = self.registry.trusts()
        self.tls.keep(trusts)
        self.tls.reread()
        if has_changes or any(trust.ca_file for trust in trusts):
            self.prober.kick_all()
