"""Builds the daemon's objects from its configuration and wires them; opens nothing but sessions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import time
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from sollold.compose.flow import Flow
from sollold.compose.front import (
    make_bodies,
    make_edge,
    make_inference,
    make_inventory,
    undispatched,
)
from sollold.compose.knowledge import Knowledge
from sollold.compose.live import Owners
from sollold.compose.reload import Reloader
from sollold.events.bus import EventBus
from sollold.logs.hub import LogHub
from sollold.nodes.ask import probe_session
from sollold.nodes.probe import Prober
from sollold.nodes.registry import Registry
from sollold.routing.dispatch import Dispatcher
from sollold.routing.pools import Pools
from sollold.upstream.wheel import TimerWheel
from sollold.web.app import make_app
from sollold.web.body import BodyStore
from sollold.web.catalogue import Catalogue
from sollold.web.configuration import ConfigurationApi
from sollold.web.console.pages import Console
from sollold.web.control import ControlApi
from sollold.web.documents import Documents
from sollold.web.edge import Edge
from sollold.web.events import EventApi
from sollold.web.facts import Bound, DaemonFacts, gather
from sollold.web.inference import InferenceApi
from sollold.web.loglines import LogApi
from sollold.web.metrics import Metrics
from sollold.web.push import Audience
from sollold.web.reload import ReloadApi
from sollold.web.static import StaticFiles
from sollold.web.viewer import Viewer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from sollold.config import Config, LoadedConfig
    from sollold.log import Level
    from sollold.nodes.own import OwnAddresses
    from sollold.web.route import Routed


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
    loop = asyncio.get_running_loop()
    instance = f"{platform.node()}_{os.getpid()}_{os.urandom(4).hex()}"
    bus = EventBus(instance, platform.node(), os.getpid(), time.time)
    metrics = Metrics()
    session = probe_session()
    know = Knowledge(loaded, own, bus, session, time.monotonic)
    flow = Flow(loaded.config, know, bus, metrics, loop)
    hub = logs or LogHub()
    hub.open(loop)
    facts = gather(loaded, bound, instance, loop)
    front = _front(loaded.config, know, flow, metrics, instance, bound, own)
    owners = _owners(know, flow, front, bound, own, set_level)
    reloader = Reloader(
        loaded,
        read=read or (lambda: loaded),
        apply=owners.apply,
        facts=facts,
        publish=bus.publish,
    )
    static = await StaticFiles.load()
    try:
        yield _built(
            know,
            flow,
            front,
            owners,
            reloader,
            facts=facts,
            bus=bus,
            metrics=metrics,
            hub=hub,
            static=static,
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


def _built(
    know: Knowledge,
    flow: Flow,
    front: _Front,
    owners: Owners,
    reloader: Reloader,
    *,
    facts: DaemonFacts,
    bus: EventBus,
    metrics: Metrics,
    hub: LogHub,
    static: StaticFiles,
) -> Built:
    documents = _documents(know, flow, facts, bus)
    console = Console(
        documents=documents,
        fleet=know.registry.fleet,
        bus=bus,
        static=static,
        listeners=owners.bound.console,
        is_stopping=lambda: facts.is_stopping,
    )
    audience = Audience(bus.close, hub.close)
    parts = (
        EventApi(bus, audience),
        LogApi(hub, audience),
        static,
        Viewer(static),
        ReloadApi(reloader.reload),
        make_inventory(know, flow, audience.turns),
        ConfigurationApi(lambda: reloader.loaded),
    )
    control = ControlApi(documents, fleet=know.registry.fleet, turns=audience.turns)
    return Built(
        app=_app(reloader.loaded.config, front, control, audience, console, parts, metrics),
        prober=know.prober,
        registry=know.registry,
        dispatcher=flow.dispatcher,
        documents=documents,
        facts=facts,
        metrics=metrics,
        bus=bus,
        wheel=flow.wheel,
        pools=flow.pools,
        bodies=front.bodies,
        edge=front.edge,
        console=console,
        reloader=reloader,
        owners=owners,
    )


def _documents(know: Knowledge, flow: Flow, facts: DaemonFacts, bus: EventBus) -> Documents:
    return Documents(
        facts=facts,
        fleet=know.registry.fleet,
        admission=flow.admission,
        dispatcher=flow.dispatcher,
        figures=know.figures,
        bus=bus,
        clock=time.monotonic,
    )


class _Front(msgspec.Struct, frozen=True, kw_only=True):
    """What requests meet, and settings change."""

    bodies: BodyStore
    edge: Edge
    catalogue: Catalogue
    inference: InferenceApi


def _front(
    config: Config,
    know: Knowledge,
    flow: Flow,
    metrics: Metrics,
    instance: str,
    bound: Bound,
    own: OwnAddresses,
) -> _Front:
    bodies = make_bodies(config)
    edge = make_edge(config, instance, bound, own, know.load, undispatched(metrics, flow.reporter))
    catalogue = Catalogue(know.registry.fleet, version_floor=config.http.version_floor)
    inference = make_inference(config, know, flow, catalogue, bodies, edge.via)
    return _Front(bodies=bodies, edge=edge, catalogue=catalogue, inference=inference)


def _owners(
    know: Knowledge,
    flow: Flow,
    front: _Front,
    bound: Bound,
    own: OwnAddresses,
    set_level: Callable[[Level], None],
) -> Owners:
    return Owners(
        registry=know.registry,
        prober=know.prober,
        tls=know.tls,
        pools=flow.pools,
        admission=flow.admission,
        dispatcher=flow.dispatcher,
        reporter=flow.reporter,
        steps=flow.steps,
        bodies=front.bodies,
        catalogue=front.catalogue,
        inference=front.inference,
        edge=front.edge,
        bound=bound,
        own=own,
        set_level=set_level,
    )


def _app(
    config: Config,
    front: _Front,
    control: ControlApi,
    audience: Audience,
    console: Console,
    parts: Sequence[Routed],
    metrics: Metrics,
) -> web.Application:
    return make_app(
        edge=front.edge,
        catalogue=front.catalogue,
        inference=front.inference,
        control=control,
        audience=audience,
        console=console,
        parts=parts,
        metrics=metrics if config.metrics.enabled else None,
        body_limit_bytes=config.limits.body_bytes,
    )
