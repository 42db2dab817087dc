"""One node under watch: what a round of probes asks, in which order, and what follows from it.

Owns no schedule and no facts: facts go to the registry. Background work goes through `spawn`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from sollold.core.health import Frozen, Misconfigured, ProbeFailed, ProbeOk
from sollold.core.model import NodeKind, NodeState
from sollold.nodes.ask import Target
from sollold.nodes.catalogue import CatalogueWatch, join
from sollold.nodes.client import Memory, Peer, Stranger, Version
from sollold.nodes.foreign import ForeignWatch, weight
from sollold.nodes.llama import is_llama_server
from sollold.nodes.own import is_literal
from sollold.nodes.race import first_good
from sollold.nodes.tls import Trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.core.health import Observation
    from sollold.core.model import Digest, NodeId
    from sollold.nodes.ask import Failure
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
        self._refreshing: asyncio.Task[None] | None = None
        self._foreign: ForeignWatch | None = None
        self._looked_s = float("-inf")

    async def round(self, *, is_full: bool = False) -> None:
        """Probe once; `is_full` also lists the models and waits for the list."""
        target = self._tools.registry.target(self.node)
        if target is None:
            return
        places = await self._places(target)
        if isinstance(places, ProbeFailed | Misconfigured):
            self._failed(places)
        elif places and target.kind is not NodeKind.OLLAMA:
            await self._look(places, target)
        elif places and not await self._ask_briefly(places, target, is_full=is_full):
            await self._ask_who(places, target, is_full=is_full)
        if is_full:
            await self.catalogue.listed()

    def kick(self) -> None:
        """Have everything looked at soon. No await."""
        self.catalogue.due_s = 0.0
        if self._foreign is not None:
            self._foreign.forget()
        self.wake.set()

    def refresh(self) -> asyncio.Task[None]:
        """Have the models listed; callers at the same time share one question. No await."""
        if self._foreign is None:
            return self.catalogue.start()
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._tools.spawn(self._refresh(), f"refresh {self.node}")
        return self._refreshing

    @property
    def gap_s(self) -> float:
        """How long the node is to be left alone after a round, if nothing happens."""
        return 0.0 if self._foreign is None else self._foreign.gap_s

    async def is_frozen(self) -> bool:
        """Whether the node leaves two fresh connections unanswered; callers share one check."""
        if self._freezing is None or self._freezing.done():
            self._freezing = self._tools.spawn(self._check_frozen(), f"frozen? {self.node}")
        await join(self._freezing)
        return self._was_frozen

    def close(self) -> None:
        """End the work in the background. No await."""
        self.catalogue.close()
        for task in (self._resolving, self._freezing, self._refreshing):
            if task is not None:
                task.cancel()

    # Where

    async def _places(self, target: ProbeTarget) -> list[Target] | ProbeFailed | Misconfigured:
        """Return the addresses to try, best first; none when the node is gone."""
        if target.place.scheme == "https":
            try:
                await self._tools.tls.prepare(target.trust or Trust())
            except OSError as exc:
                return Misconfigured(f"its ca_file cannot be used: {exc.strerror or exc}")
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
            tls=self._tools.tls.known(target.trust or Trust()) if place.scheme == "https" else None,
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
            calls,
            lambda answer: isinstance(answer, Version | Peer | Stranger),
            tools.settings.race_s,
        )
        answer = answers[0] if index >= 0 else worst(answers)
        if isinstance(answer, Stranger):
            await self._meet(answer, places, target)
            return
        if not isinstance(answer, Version | Peer):
            index = answers.index(answer)
            if await self._is_llama(answer, places[index], target):
                await self._meet(Stranger(NodeKind.LLAMA_SERVER), places, target)
            else:
                self._failed(answer)
            return
        self._good = places[index]
        if not target.is_kind_given and isinstance(answer, Version):
            tools.registry.set_kind(self.node, NodeKind.OLLAMA)
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

    # Other servers than Ollama

    async def _look(self, places: Sequence[Target], target: ProbeTarget) -> None:
        """Look at a server of another kind; one that turns out to be no such is asked who it is."""
        if self._foreign is None or self._foreign.kind is not target.kind:
            self._foreign = ForeignWatch(self.node, target.kind, self._tools)
        self._looked_s = self._tools.clock()
        failure = await self._foreign.round(places, target)
        if failure is None:
            return
        self._failed(failure)
        if isinstance(failure, Misconfigured) and not target.is_kind_given:
            await self._ask_who(places, target, is_full=True)

    async def _is_llama(self, answer: Failure, place: Target, target: ProbeTarget) -> bool:
        """Tell a llama-server whose signature a proxy took off."""
        if target.kind is not NodeKind.OLLAMA or target.is_kind_given:
            return False
        if not isinstance(answer, Misconfigured):
            return False
        return await is_llama_server(self._tools.client, place, self._tools.settings.limit_s)

    async def _meet(
        self, stranger: Stranger, places: Sequence[Target], target: ProbeTarget
    ) -> None:
        """Take a node for what it turned out to be, unless configuration says otherwise."""
        if target.is_kind_given:
            remedy = f'write kind = "{stranger.kind}", or leave kind out'
            port = target.place.address.port
            self._failed(
                Misconfigured(f"a llama.cpp server answers on {port}, not Ollama; {remedy}")
            )
            return
        is_known = target.kind is stranger.kind
        self.catalogue.forget()
        self._tools.registry.set_kind(self.node, stranger.kind)
        known = self._tools.registry.target(self.node)
        # Under a new name it is looked at by a new watch.
        if known is not None and not is_known:
            await self._look(places, known)

    async def _refresh(self) -> None:
        """Look once more, unless it was looked at so lately that it has to be left alone."""
        target = self._tools.registry.target(self.node)
        if target is None or self._foreign is None or target.kind is not self._foreign.kind:
            return
        if self._tools.clock() < self._looked_s + self.gap_s:
            return
        places = await self._places(target)
        if isinstance(places, list) and places:
            self._foreign.forget()
            await self._look(places, target)

    # Frozen

    async def _check_frozen(self) -> None:
        """Decide within seconds whether to give up waiting; a refusal says the same sooner."""
        self._was_frozen = False
        tools, settings = self._tools, self._tools.settings
        target = tools.registry.target(self.node)
        if target is not None and target.kind is not NodeKind.OLLAMA:
            self._was_frozen = await self._is_gone()
            return
        if target is None or not target.addresses:
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
        elif not isinstance(answer, Peer | Stranger):
            self._was_frozen = isinstance(answer, ProbeFailed) and answer.is_refused
            self._failed(answer)
        self.wake.set()

    async def _is_gone(self) -> bool:
        """Whether nobody is there any more. A short silence is none of it: that is how it works."""
        foreign = self._foreign
        if foreign is None or foreign.may_be_asked:
            await self.round()
        view = self._tools.registry.get(self.node)
        if view is None or view.state is not NodeState.DOWN or view.reason is None:
            return False
        return view.reason.code != "misconfigured"


def worst(answers: Sequence[Version | Peer | Stranger | Failure]) -> Failure:
    """Return the failure that says most."""
    failures = [one for one in answers if not isinstance(one, Version | Peer | Stranger)]
    return min(failures, key=weight)


def is_sign_of_life(answer: Version | Peer | Stranger | Failure) -> bool:
    """Whether somebody answered, if only with a refusal."""
    return not isinstance(answer, ProbeFailed) or answer.code not in _SILENT
