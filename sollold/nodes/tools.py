"""What everything that probes shares: limits, and the services of the prober."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Sequence

    from sollold.core.model import NodeId
    from sollold.nodes.capabilities import Capabilities
    from sollold.nodes.client import NodeClient
    from sollold.nodes.registry import Registry
    from sollold.nodes.tls import TlsContexts


class ProbeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit and pause of probing that is not part of health."""

    limit_s: float = 2.0
    """One liveness question."""
    version_s: float = 30.0
    """Between two looks at who answers, while it does."""
    catalogue_s: float = 30.0
    """Between two looks at a node's list of models."""
    catalogue_limit_s: float = 10.0
    show_limit_s: float = 10.0
    confirm_s: float = 5.0
    """Between two questions whose answers only confirm what a list says."""
    resolve_s: float = 60.0
    """How long a name's addresses are believed."""
    race_s: float = 0.3
    """Silence of one address after which the node's next one is tried beside it."""
    frozen_limit_s: float = 1.2
    frozen_stagger_s: float = 0.4
    silence_s: float = 20.0
    """How long a server other than Ollama may leave probes unanswered while it works: busy threads
    answer late, a stopped process never."""
    refresh_gap_s: float = 0.25
    """Between the starts of two refreshes of all catalogues."""
    peer_s: float = 60.0
    least_gap_s: float = 0.1
    """Between two rounds of one node, however often it is asked for."""
    cloud_s: float = 60.0
    """Between two looks at a server of OpenAI's API that answers: not all are in the house."""
    cloud_retry_s: float = 10.0
    """The same after a failure, and at least, however often it is asked for."""


class Tools(Protocol):
    """What all watches share."""

    registry: Registry
    client: NodeClient
    settings: ProbeSettings
    capabilities: Capabilities
    clock: Callable[[], float]
    secret_of: Callable[[str], str | None]
    tls: TlsContexts
    has_work: Callable[[NodeId], bool]
    """Whether requests of ours run on a node."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Return a name's literals. Raises OSError."""

    def spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Start tracked work in the background."""

    def learned(self) -> None:
        """Have all watches apply newly learned capabilities."""
