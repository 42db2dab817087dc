"""Builds what is known and learned about nodes, and what keeps it fresh."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

from sollold.compose.policies import (
    health_policy,
    probe_settings,
)
from sollold.core.load import Load
from sollold.core.nodetable import NodeTable
from sollold.core.rates import RateTable
from sollold.core.slots import SlotTable
from sollold.events.types import EVENT_TYPES
from sollold.nodes.ask import Asker
from sollold.nodes.client import NodeClient
from sollold.nodes.probe import Prober
from sollold.nodes.registry import Registry
from sollold.nodes.sources import StaticSources
from sollold.nodes.tls import TlsContexts
from sollold.routing.figures import Figures

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from sollold.config import LoadedConfig
    from sollold.events.bus import EventBus
    from sollold.nodes.own import OwnAddresses


class Knowledge:
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


def _publisher(bus: EventBus) -> Callable[[str, dict[str, Any]], None]:
    def publish(kind: str, fields: dict[str, Any]) -> None:
        bus.publish(EVENT_TYPES[kind](**fields))

    return publish
