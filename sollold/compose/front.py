"""Builds what clients meet: the edge, bodies, inference and the inventory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sollold.compose.policies import (
    host_policies,
    reply_limits,
)
from sollold.core.model import NodeKind
from sollold.routing.outlook import Oracle
from sollold.web.body import BodyStore
from sollold.web.caller import ClientIdentity
from sollold.web.edge import Edge
from sollold.web.imitated import known_methods
from sollold.web.inference import InferenceApi
from sollold.web.inventory import InventoryApi
from sollold.web.outgoing import Outgoing
from sollold.wire.cors import OriginPolicy
from sollold.wire.engines import engine_for
from sollold.wire.translate.seam import Clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sollold.compose.flow import Flow
    from sollold.compose.knowledge import Knowledge
    from sollold.config import Config
    from sollold.core.load import Load
    from sollold.core.model import NodeView
    from sollold.nodes.own import OwnAddresses
    from sollold.nodes.probe import Prober
    from sollold.routing.record import Outcome
    from sollold.routing.reporter import EventReporter
    from sollold.web.catalogue import Catalogue
    from sollold.web.facts import Bound
    from sollold.web.metrics import Metrics
    from sollold.web.turns import Turns
    from sollold.wire.routes import InferenceRoute


_FIRST_ROUND_LIMIT_S = 3.0
_REFRESH_LIMIT_S = 1.0


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


def make_inference(
    config: Config,
    know: Knowledge,
    flow: Flow,
    catalogue: Catalogue,
    bodies: BodyStore,
    via: str,
) -> InferenceApi:
    """Return what answers requests for inference."""
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


def make_inventory(know: Knowledge, flow: Flow, turns: Turns) -> InventoryApi:
    """Return what answers which models there are, and where one would run."""
    fleet = know.registry.fleet
    oracle = Oracle(admission=flow.admission, fleet=fleet)
    return InventoryApi(fleet=fleet, oracle=oracle, clock=time.monotonic, turns=turns)


def _is_ollama(node: NodeView | None) -> bool:
    return node is None or node.kind is NodeKind.OLLAMA


def make_bodies(config: Config) -> BodyStore:
    """Return what holds the bodies of requests."""
    spool = config.limits.spool_dir
    return BodyStore(
        limit_bytes=config.limits.body_bytes,
        budget_bytes=config.limits.bodies_bytes,
        stall_s=config.limits.client_stall_s,
        spool_dir=Path(spool) if spool else None,
    )


def undispatched(
    metrics: Metrics, reporter: EventReporter
) -> Callable[[InferenceRoute, int, Outcome], None]:
    """Return what takes note of requests that never reached the queue."""

    def note(route: InferenceRoute, status: int, outcome: Outcome) -> None:
        metrics.undispatched(route, outcome)
        reporter.undispatched(route, status, outcome, time.monotonic())

    return note


def make_edge(
    config: Config,
    instance: str,
    bound: Bound,
    own: OwnAddresses,
    load: Load,
    on_undispatched: Callable[[InferenceRoute, int, Outcome], None],
) -> Edge:
    """Return what every request passes first and every answer last."""
    return Edge(
        instance=instance,
        origins=OriginPolicy(config.http.origins),
        hosts=host_policies(config, bound, own),
        methods=known_methods(),
        running=lambda: (running.request for running in load),
        on_undispatched=on_undispatched,
    )
