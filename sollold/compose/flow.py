"""Builds what carries requests: queue, pools, dispatcher, and what they tell."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Protocol

from sollold.compose.policies import (
    assign_policy,
    dispatch_settings,
    queue_rules,
)
from sollold.core.queue import Queue
from sollold.routing.admission import Admission
from sollold.routing.blame import Blame
from sollold.routing.dispatch import Dispatcher
from sollold.routing.learning import Learner
from sollold.routing.plain import PlainForwarder
from sollold.routing.pools import Pools
from sollold.routing.reporter import EventReporter
from sollold.routing.steps import StepLog
from sollold.upstream.wheel import TimerWheel
from sollold.web.door import NodeDoor

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sollold.compose.knowledge import Knowledge
    from sollold.config import Config
    from sollold.core.model import NodeId
    from sollold.events.bus import EventBus
    from sollold.nodes.registry import Registry
    from sollold.routing.record import RequestRecord
    from sollold.web.metrics import Metrics


_SHOW_LIMIT_S = 30.0


class Flow:
    """What carries requests."""

    def __init__(
        self,
        config: Config,
        know: Knowledge,
        bus: EventBus,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.wheel = TimerWheel(loop)
        self.door = NodeDoor(know.registry, know.tls, os.environ.get)
        self.pools = Pools(
            self.door.address, wheel=self.wheel, connect_timeout_s=config.health.timeout_s
        )
        self.plain = PlainForwarder(
            self.pools,
            limit_s=_SHOW_LIMIT_S,
            overdue_s=config.failover.overdue_s,
            is_frozen=know.prober.is_frozen,
        )
        self.admission = _admission(config, know, self.wheel, time.monotonic)
        learner = Learner(
            rates=know.rates,
            slots=know.slots,
            load=know.load,
            registry=know.registry,
            clock=time.monotonic,
        )
        on_done: list[Callable[[RequestRecord], None]] = [
            know.figures.request_done,
            metrics.request_done,
        ]
        self.steps = StepLog(bus, is_kept=config.log.routing, is_printed=config.log.routing_console)
        self.reporter = EventReporter(
            bus,
            node=self.admission.view,
            on_done=on_done,
            is_logging=config.log.requests,
            steps=self.steps,
            later=self.wheel.after,
        )
        self.dispatcher = Dispatcher(
            loop=loop,
            wheel=self.wheel,
            admission=self.admission,
            pools=self.pools,
            plain=self.plain,
            learner=learner,
            blame=Blame(
                know.registry, know.rates, refresh_soon=know.prober.kick, clock=time.monotonic
            ),
            reporter=self.reporter,
            is_frozen=know.prober.is_frozen,
            settings=dispatch_settings(config),
        )
        metrics.watch(know.registry.fleet, self.admission, self.dispatcher)
        self._follow(know, learner)

    def _follow(self, know: Knowledge, learner: Learner) -> None:
        """Have everybody told of nodes that come, go or change."""
        departures = _Departures(
            know.registry,
            know.rates,
            know.slots,
            know.figures,
            know.load,
            self.pools,
            self.door,
            learner,
        )
        know.registry.subscribe(departures.look)
        know.registry.subscribe(self.admission.fleet_changed)
        know.registry.subscribe(self.dispatcher.fleet_changed)


class _Departures:
    """Forgets nodes that left, wherever something was learned about them."""

    def __init__(self, registry: Registry, *stores: _Forgetful) -> None:
        self._registry = registry
        self._stores = stores
        self._known: set[NodeId] = set()

    def look(self) -> None:
        """Compare with the last look. No await."""
        current = self._registry.ids()
        for node in self._known - current:
            for store in self._stores:
                store.forget(node)
        self._known = current


class _Forgetful(Protocol):
    def forget(self, node: NodeId) -> None: ...


def _admission(
    config: Config, know: Knowledge, wheel: TimerWheel, clock: Callable[[], float]
) -> Admission:
    queue = config.queue
    return Admission(
        nodes=know.table,
        fleet=know.registry.fleet,
        queue=Queue(
            limit=queue.length, client_limit=queue.per_client_waiting, age_step_s=queue.age_step_s
        ),
        load=know.load,
        policy=assign_policy(config),
        rules=queue_rules(config),
        wheel=wheel,
        clock=clock,
        dice=random.random,
    )
