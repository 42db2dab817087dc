"""One node under watch: what a round of probes asks, in which order, and what follows from it.

Owns no schedule and no facts: facts go to the registry. Background work goes through `spawn`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from sollold.core.health import Frozen, Misconfigured, ProbeFailed, ProbeOk, Warming
from sollold.core.model import NodeKind
from sollold.nodes.catalogue import CatalogueWatch, join
from sollold.nodes.client import Memory, Peer, Target, Version
from sollold.nodes.own import is_literal
from sollold.nodes.race import first_good

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.core.health import Observation
    from sollold.core.model import Digest, NodeId
    from sollold.nodes.client import Failure
    from sollold.nodes.records import ProbeTarget
    from sollold.nodes.tools import Tools

_SILENT = frozenset({"timeout", "connect_timeout", "unreachable", "connect_failed", "disconnected"})


class NodeWatch:
    """Probes one node."""

    def __init__(self, node: NodeId, tools: Tools) -> None:
        self.node = node
        self.wake = asyncio.Event()
        """Set: the next round is wanted now."""
        self.catalogue = CatalogueWatch(node, tools)
        self._tools = tools
        self._good: Target | None = None
        self._is_identified = False
        self._version_due_s = 0.0
        self._residents: frozenset[Digest] = frozenset()
        self._resolve_due_s = 0.0
        self._resolve_problem = ""
        self._was_frozen = False
        self._resolving: asyncio.Task[None] | None = None
        self._freezing: asyncio.Task[None] | None = None

    async def round(self, *, is_full: bool = False) -> None:
        """Probe once; `is_full` also lists the models and waits for the list."""
        target = self._tools.registry.target(self.node)
        if target is None:
            return
        if target.kind is not NodeKind.OLLAMA:
            text = f'nodes of kind "{target.kind}" are not supported by this version'
            self._observe(Misconfigured(text))
            return
        places = await self._places(target)
        if isinstance(places, ProbeFailed):
            self._failed(places)
        elif places and not await self._ask_briefly(places, target, is_full=is_full):
            await self._ask_who(places, target, is_full=is_full)
        if is_full:
            await self.catalogue.listed()

    async def is_frozen(self) -> bool:
        """Whether the node leaves two fresh connections unanswered; callers share one check."""
        if self._freezing is None or self._freezing.done():
            self._freezing = self._tools.spawn(self._check_frozen(), f"frozen? {self.node}")
        await join(self._freezing)
        return self._was_frozen

    def close(self) -> None:
        """End the work in the background. No await."""
        self.catalogue.close()
        for task in (self._resolving, self._freezing):
            if task is not None:
                task.cancel()

    # Where

    async def _places(self, target: ProbeTarget) -> list[Target] | ProbeFailed:
        """Return the addresses to try, best first; none when the node is gone."""
        if not is_literal(target.place.address.host):
            await self._look_up(target)
            found = self._tools.registry.target(self.node)
            if found is None:
                return []
            target = found
        if not target.addresses:
            host = target.place.address.host
            text = self._resolve_problem or f"the name {host} is still being looked up"
            return ProbeFailed("unresolved", text)
        return [self._place(target, address) for address in target.addresses]

    def _place(self, target: ProbeTarget, address: str) -> Target:
        place = target.place
        return Target(
            scheme=place.scheme,
            address=address,
            port=place.address.port,
            path=place.path,
            host=place.address.host,
            key=self._tools.secret_of(target.key_env) if target.key_env else None,
        )

    async def _look_up(self, target: ProbeTarget) -> None:
        """See that the name is resolved now and then; wait only while nothing is known."""
        tools = self._tools
        is_running = self._resolving is not None and not self._resolving.done()
        if not is_running and tools.clock() >= self._resolve_due_s:
            self._resolving = tools.spawn(self._resolve(target), f"resolve {self.node}")
        if not target.addresses and self._resolving is not None:
            await asyncio.wait({self._resolving}, timeout=tools.settings.limit_s)

    async def _resolve(self, target: ProbeTarget) -> None:
        tools, (host, port) = self._tools, target.place.address
        try:
            addresses = await tools.resolve(host, port)
        except (OSError, UnicodeError):
            self._resolve_problem = f"the name {host} does not resolve"
            return
        self._resolve_problem = ""
        self._resolve_due_s = tools.clock() + tools.settings.resolve_s
        tools.registry.set_addresses(self.node, addresses)

    # Liveness

    async def _ask_who(
        self, places: Sequence[Target], target: ProbeTarget, *, is_full: bool
    ) -> None:
        tools = self._tools
        limit_s = tools.settings.limit_s
        calls = [partial(tools.client.version, place, limit_s) for place in places]
        index, answers = await first_good(
            calls, lambda answer: isinstance(answer, Version | Peer), tools.settings.race_s
        )
        answer = answers[0] if index >= 0 else worst(answers)
        if not isinstance(answer, Version | Peer):
            self._failed(answer)
            return
        self._good = places[index]
        found = answer if isinstance(answer, Peer) else await self._identify(target)
        if found is not None:
            tools.registry.mark_peer(self.node, found.version)
            self.catalogue.forget()
        elif isinstance(answer, Version):
            tools.registry.unmark_peer(self.node)
            tools.registry.prefer_address(self.node, self._good.address)
            await self._ask_more(self._good, answer, is_full=is_full)

    async def _identify(self, target: ProbeTarget) -> Peer | None:
        """Tell a sollold that hides its name; asked once per appearance, of peers each time."""
        if (self._is_identified and not target.is_peer) or self._good is None:
            return None
        self._is_identified = True
        return await self._tools.client.peer(self._good, self._tools.settings.limit_s)

    async def _ask_briefly(
        self, places: Sequence[Target], target: ProbeTarget, *, is_full: bool
    ) -> bool:
        """Ask a known node for its memory only, which also says that it lives.

        Halves the price of watching many nodes. False: it has to be asked who it is.
        """
        good, now_s = self._good, self._tools.clock()
        if is_full or good is None or target.is_peer or now_s >= self._version_due_s:
            return False
        place = next((p for p in places if p.address == good.address), None)
        if place is None:
            return False
        memory = await self._tools.client.ps(place, self._tools.settings.limit_s)
        if isinstance(memory, Memory):
            found = Version(self.catalogue.version, memory.latency_s)
            self._living(place, found, memory, now_s, is_full=False)
            return True
        self._version_due_s = 0.0
        if memory is None or isinstance(memory, Peer) or len(places) > 1:
            return False
        self._failed(memory)
        return True

    async def _ask_more(self, place: Target, answer: Version, *, is_full: bool) -> None:
        """Ask what is in memory before the node may get work."""
        tools, asked_s = self._tools, self._tools.clock()
        memory = await tools.client.ps(place, tools.settings.limit_s)
        if isinstance(memory, ProbeFailed):
            self._failed(memory)
            return
        if isinstance(memory, Memory):
            self._version_due_s = asked_s + tools.settings.version_s
        known = memory if isinstance(memory, Memory) else None
        self._living(place, answer, known, asked_s, is_full=is_full)

    def _living(
        self, place: Target, found: Version, memory: Memory | None, asked_s: float, *, is_full: bool
    ) -> None:
        """Note what a node that answers said; list its models when something is new. No await."""
        registry, catalogue = self._tools.registry, self.catalogue
        residents = self._residents
        if memory is not None:
            registry.set_residents(self.node, memory.residents, asked_s=asked_s)
            residents = frozenset(resident.digest for resident in memory.residents)
        is_news = (found.version, residents) != (catalogue.version, self._residents)
        if found.version != catalogue.version:
            catalogue.forget()  # Another version may know other capabilities.
        self._good = catalogue.place = place
        catalogue.version, self._residents = found.version, residents
        registry.set_version(self.node, found.version)
        self._observe(ProbeOk(found.latency_s))
        if is_full or is_news or self._tools.clock() >= catalogue.due_s:
            _ = catalogue.start()

    def _failed(self, failure: Failure | Frozen) -> None:
        """Note a failure; whatever answers next is looked at from the beginning."""
        self._is_identified = False
        self.catalogue.due_s = self._resolve_due_s = self._version_due_s = 0.0
        self._observe(failure)

    def _observe(self, seen: Observation) -> None:
        self._tools.registry.observe(self.node, seen)

    # Frozen

    async def _check_frozen(self) -> None:
        """Decide within seconds whether to give up waiting; a refusal says the same sooner."""
        self._was_frozen = False
        tools, settings = self._tools, self._tools.settings
        target = tools.registry.target(self.node)
        if target is None or target.kind is not NodeKind.OLLAMA or not target.addresses:
            return
        place = self._place(target, target.addresses[0])
        call = partial(tools.client.version, place, settings.frozen_limit_s)
        index, answers = await first_good([call, call], is_sign_of_life, settings.frozen_stagger_s)
        answer = answers[0]
        if index < 0:
            self._was_frozen = True
            self._failed(Frozen("two probes unanswered while requests wait"))
        elif isinstance(answer, Version):
            self._observe(ProbeOk(answer.latency_s))
        elif not isinstance(answer, Peer):
            self._was_frozen = isinstance(answer, ProbeFailed) and answer.is_refused
            self._failed(answer)
        self.wake.set()


def worst(answers: Sequence[Version | Peer | Failure]) -> Failure:
    """Return the failure that says most; refused only when every address refuses."""
    failures = [answer for answer in answers if not isinstance(answer, Version | Peer)]
    return min(failures, key=_weight)


def _weight(failure: Failure) -> int:
    match failure:
        case Misconfigured():
            return 0
        case Warming():
            return 1
        case _:
            return 3 if failure.is_refused else 2


def is_sign_of_life(answer: Version | Peer | Failure) -> bool:
    """Whether somebody answered, if only with a refusal."""
    return not isinstance(answer, ProbeFailed) or answer.code not in _SILENT
