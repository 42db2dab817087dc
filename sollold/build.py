"""Builds the daemon's objects from its configuration and wires them; opens nothing but sessions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import msgspec
from aiohttp import web

from sollold.core.load import Load
from sollold.core.model import NodeKind
from sollold.core.nodetable import NodeTable
from sollold.core.queue import Queue
from sollold.core.rates import RateTable
from sollold.core.slots import SlotTable
from sollold.events.bus import EventBus
from sollold.events.types import EVENT_TYPES
from sollold.live import Owners
from sollold.logs.hub import LogHub
from sollold.nodes.ask import Asker, probe_session
from sollold.nodes.client import NodeClient
from sollold.nodes.probe import Prober
from sollold.nodes.registry import Registry
from sollold.nodes.sources import StaticSources
from sollold.nodes.tls import TlsContexts
from sollold.policies import (
    assign_policy,
    dispatch_settings,
    health_policy,
    host_policies,
    probe_settings,
    queue_rules,
    reply_limits,
)
from sollold.reload import Reloader
from sollold.routing.admission import Admission
from sollold.routing.blame import Blame
from sollold.routing.dispatch import Dispatcher
from sollold.routing.figures import Figures
from sollold.routing.learning import Learner
from sollold.routing.outlook import Oracle
from sollold.routing.plain import PlainForwarder
from sollold.routing.pools import Pools
from sollold.routing.reporter import EventReporter
from sollold.routing.steps import StepLog
from sollold.upstream.wheel import TimerWheel
from sollold.web.app import make_app
from sollold.web.body import BodyStore
from sollold.web.caller import ClientIdentity
from sollold.web.catalogue import Catalogue
from sollold.web.configuration import ConfigurationApi
from sollold.web.console.pages import Console
from sollold.web.control import ControlApi
from sollold.web.documents import Documents
from sollold.web.door import NodeDoor
from sollold.web.edge import Edge
from sollold.web.facts import Bound, DaemonFacts, gather
from sollold.web.imitated import known_methods
from sollold.web.inference import InferenceApi
from sollold.web.inventory import InventoryApi
from sollold.web.loglines import LogApi
from sollold.web.metrics import Metrics
from sollold.web.outgoing import Outgoing
from sollold.web.push import Audience
from sollold.web.reload import ReloadApi
from sollold.web.static import StaticFiles
from sollold.web.viewer import Viewer
from sollold.wire.cors import OriginPolicy
from sollold.wire.engines import engine_for
from sollold.wire.translate.seam import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sollold.config import Config, LoadedConfig
    from sollold.core.model import NodeId, NodeView
    from sollold.log import Level
    from sollold.nodes.own import OwnAddresses
    from sollold.routing.record import Outcome, RequestRecord
    from sollold.wire.routes import InferenceRoute

_SHOW_LIMIT_S = 30.0
_FIRST_ROUND_LIMIT_S = 3.0
_REFRESH_LIMIT_S = 1.0


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon starts, feeds and stops."""

    app: web.Application
    prober: Prober
    registry: Registry
    dispatcher: Dispatcher
    documents: Documents
    facts: DaemonFacts
    metrics: Metrics
    bus: EventBus
    wheel: TimerWheel
    pools: Pools
    bodies: BodyStore
    edge: Edge
    console: Console
    reloader: Reloader
    owners: Owners


class _Knowledge:
    """What is known and learned about nodes."""

    def __init__(
        self,
        loaded: LoadedConfig,
        own: OwnAddresses,
        bus: EventBus,
        session: aiohttp.ClientSession,
        clock: Callable[[], float],
    ) -> None:
        config = loaded.config
        self.rates, self.slots, self.load = RateTable(), SlotTable(), Load()
        self.registry = Registry(
            clock=clock, on_event=_publisher(bus), policy=health_policy(config), own=own
        )
        self.table = NodeTable(self.rates, self.slots)
        self.figures = Figures()
        self.tls = TlsContexts()
        self.prober = Prober(
            self.registry,
            NodeClient(Asker(session, clock=clock)),
            clock=clock,
            dice=random.random,
            secret_of=os.environ.get,
            settings=probe_settings(config),
            sources=StaticSources.of(loaded),
            tls=self.tls,
            has_work=lambda node: self.load.count(node) > 0,
        )


class _Flow:
    """What carries requests."""

    def __init__(
        self,
        config: Config,
        know: _Knowledge,
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


@contextlib.asynccontextmanager
async def build(
    loaded: LoadedConfig,
    own: OwnAddresses,
    bound: Bound,
    logs: LogHub | None = None,
    *,
    read: Callable[[], LoadedConfig] | None = None,
    set_level: Callable[[Level], None] = lambda _: None,
) -> AsyncIterator[Built]:
    """Make every object; close what they opened when the context ends.

    `logs` has the daemon's log lines; without it there are none to read. A reload gets its
    configuration from `read`, by default the old one, and tells `set_level` how much to log.
    """
    config = loaded.config
    loop = asyncio.get_running_loop()
    instance = f"{platform.node()}_{os.getpid()}_{os.urandom(4).hex()}"
    bus = EventBus(instance, platform.node(), os.getpid(), time.time)
    metrics = Metrics()
    session = probe_session()
    know = _Knowledge(loaded, own, bus, session, time.monotonic)
    flow = _Flow(config, know, bus, metrics, loop)
    facts = gather(loaded, bound, instance, loop)
    documents = Documents(
        facts=facts,
        fleet=know.registry.fleet,
        admission=flow.admission,
        dispatcher=flow.dispatcher,
        figures=know.figures,
        bus=bus,
        clock=time.monotonic,
    )
    bodies = _bodies(config)
    edge = _edge(config, instance, bound, own, know.load, _undispatched(metrics, flow.reporter))
    hub = logs or LogHub()
    hub.open(loop)
    audience = Audience(bus.close, hub.close)
    catalogue = Catalogue(know.registry.fleet, version_floor=config.http.version_floor)
    inference = _inference(config, know, flow, catalogue, bodies, edge.via)
    owners = Owners(
        registry=know.registry,
        prober=know.prober,
        tls=know.tls,
        pools=flow.pools,
        admission=flow.admission,
        dispatcher=flow.dispatcher,
        reporter=flow.reporter,
        steps=flow.steps,
        bodies=bodies,
        catalogue=catalogue,
        inference=inference,
        edge=edge,
        bound=bound,
        own=own,
        set_level=set_level,
    )
    reloader = Reloader(
        loaded,
        read=read or (lambda: loaded),
        apply=owners.apply,
        facts=facts,
        publish=bus.publish,
    )
    static = await StaticFiles.load()
    console = Console(
        documents=documents,
        fleet=know.registry.fleet,
        bus=bus,
        static=static,
        listeners=bound.console,
        is_stopping=lambda: facts.is_stopping,
    )
    app = make_app(
        edge=edge,
        catalogue=catalogue,
        inference=inference,
        control=ControlApi(
            documents=documents, bus=bus, fleet=know.registry.fleet, audience=audience
        ),
        audience=audience,
        console=console,
        parts=(
            LogApi(hub, audience),
            static,
            Viewer(static),
            ReloadApi(reloader.reload),
            _inventory(know, flow),
            ConfigurationApi(lambda: reloader.loaded),
        ),
        metrics=metrics if config.metrics.enabled else None,
        body_limit_bytes=config.limits.body_bytes,
    )
    try:
        yield Built(
            app=app,
            prober=know.prober,
            registry=know.registry,
            dispatcher=flow.dispatcher,
            documents=documents,
            facts=facts,
            metrics=metrics,
            bus=bus,
            wheel=flow.wheel,
            pools=flow.pools,
            bodies=bodies,
            edge=edge,
            console=console,
            reloader=reloader,
            owners=owners,
        )
    finally:
        hub.close()
        await reloader.close()
        flow.dispatcher.close()
        flow.reporter.flush()
        await know.prober.close()
        flow.pools.close()
        flow.wheel.close()
        await session.close()


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


def _publisher(bus: EventBus) -> Callable[[str, dict[str, Any]], None]:
    def publish(kind: str, fields: dict[str, Any]) -> None:
        bus.publish(EVENT_TYPES[kind](**fields))

    return publish


def _refresher(prober: Prober) -> Callable[[], Awaitable[None]]:
    async def refresh() -> None:
        """Ask all nodes for their models once more; at the start, wait for the first answers."""
        if not prober.first_round.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_ROUND_LIMIT_S):
                    await prober.first_round.wait()
            return
        await prober.refresh(_REFRESH_LIMIT_S)

    return refresh


def _admission(
    config: Config, know: _Knowledge, wheel: TimerWheel, clock: Callable[[], float]
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


def _inference(
    config: Config,
    know: _Knowledge,
    flow: _Flow,
    catalogue: Catalogue,
    bodies: BodyStore,
    via: str,
) -> InferenceApi:
    return InferenceApi(
        dispatcher=flow.dispatcher,
        plain=flow.plain,
        bodies=bodies,
        catalogue=catalogue,
        fleet=know.registry.fleet,
        refresh=_refresher(know.prober),
        look_soon=know.prober.kick,
        outgoing=Outgoing(
            node_head=flow.door.head,
            is_ollama=lambda node: _is_ollama(flow.admission.view(node)),
            engine_for=lambda node, key: engine_for(flow.admission.view(node), key),
            via=via,
            clock=Clock(time.time_ns, time.monotonic_ns),
        ),
        rates=know.rates,
        wheel=flow.wheel,
        clients=ClientIdentity(config.listen.trusted_proxies),
        limits=reply_limits(config),
    )


def _inventory(know: _Knowledge, flow: _Flow) -> InventoryApi:
    fleet = know.registry.fleet
    oracle = Oracle(admission=flow.admission, fleet=fleet)
    return InventoryApi(fleet=fleet, oracle=oracle, clock=time.monotonic)


def _is_ollama(node: NodeView | None) -> bool:
    return node is None or node.kind is NodeKind.OLLAMA


def _bodies(config: Config) -> BodyStore:
    spool = config.limits.spool_dir
    return BodyStore(
        limit_bytes=config.limits.body_bytes,
        budget_bytes=config.limits.bodies_bytes,
        stall_s=config.limits.client_stall_s,
        spool_dir=Path(spool) if spool else None,
    )


def _undispatched(
    metrics: Metrics, reporter: EventReporter
) -> Callable[[InferenceRoute, int, Outcome], None]:
    def note(route: InferenceRoute, status: int, outcome: Outcome) -> None:
        metrics.undispatched(route, outcome)
        reporter.undispatched(route, status, outcome, time.monotonic())

    return note


def _edge(
    config: Config,
    instance: str,
    bound: Bound,
    own: OwnAddresses,
    load: Load,
    on_undispatched: Callable[[InferenceRoute, int, Outcome], None],
) -> Edge:
    return Edge(
        instance=instance,
        origins=OriginPolicy(config.http.origins),
        hosts=host_policies(config, bound, own),
        methods=known_methods(),
        running=lambda: (running.request for running in load),
        on_undispatched=on_undispatched,
    )
