"""The prober: when each node is looked at, and who may ask for more.

One task per node, so that a silent one delays nobody. Nothing here is awaited by requests except
`refresh` and `is_frozen`, and both have limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from sollold.core.health import ProbeFailed
from sollold.core.model import NodeState
from sollold.nodes.capabilities import Capabilities
from sollold.nodes.resolve import resolve as resolve_name
from sollold.nodes.tls import TlsContexts
from sollold.nodes.tools import ProbeSettings
from sollold.nodes.watch import NodeWatch
from sollold.tasks import Reader, StuckError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from sollold.core.model import NodeId
    from sollold.nodes.candidates import Candidate
    from sollold.nodes.client import NodeClient
    from sollold.nodes.registry import Registry
    from sollold.nodes.sources import Found, StaticSources

log = logging.getLogger(__name__)

_TICK_S = 0.5
_LEAST_TICK_S = 0.01
_MAX_LOOKUPS = 4


class Prober:
    """Keeps the registry's facts fresh."""

    def __init__(
        self,
        registry: Registry,
        client: NodeClient,
        *,
        clock: Callable[[], float],
        dice: Callable[[], float],
        secret_of: Callable[[str], str | None],
        settings: ProbeSettings | None = None,
        sources: StaticSources | None = None,
        tls: TlsContexts | None = None,
        has_work: Callable[[NodeId], bool] = lambda _: False,
        resolve: Callable[[str, int], Awaitable[Sequence[str]]] = resolve_name,
    ) -> None:
        self.registry = registry
        self.client = client
        self.clock = clock
        self.secret_of = secret_of
        self.settings = settings or ProbeSettings()
        self.tls = tls or TlsContexts()
        self.has_work = has_work
        self.capabilities = Capabilities()
        self.first_round = asyncio.Event()
        """Set once every node known at the start was probed."""
        self._dice = dice
        self._sources = sources
        self._reader = Reader()
        self._resolve = resolve
        # Names that do not resolve hold a thread for long; some threads must stay free.
        self._lookups = asyncio.Semaphore(_MAX_LOOKUPS)
        self._watches: dict[NodeId, NodeWatch] = {}
        self._loops: dict[NodeId, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._awaited: set[NodeId] | None = None
        self._has_changed = asyncio.Event()
        self._poll_soon = asyncio.Event()
        self._next_refresh: asyncio.Task[None] | None = None
        self._refreshed_s = float("-inf")
        registry.when_in_doubt(self._wake)

    async def run(self) -> None:
        """Probe until cancelled."""
        unsubscribe = self.registry.subscribe(self._has_changed.set)
        try:
            await self._read_sources(is_first=True)
            self._sync()
            self._awaited = set(self._watches)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick(), name="health clock")
                if self._sources is not None:
                    group.create_task(self._poll_sources(), name="node sources")
                await self._keep_loops(group)
        finally:
            unsubscribe()
            await self.close()

    async def close(self) -> None:
        """End all work in the background."""
        tasks = [*self._loops.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loops.clear()

    async def probe_once(self) -> None:
        """Probe everything once, models and capabilities included, and wait for it."""
        await self._read_sources(is_first=self._awaited is None)
        self._sync()
        visited: set[NodeId] = set()
        while fresh := self._watches.keys() - visited:
            await asyncio.gather(*(self._visit(self._watches[node]) for node in fresh))
            visited |= fresh
            self._sync()
        self.registry.tick()
        self._awaited = set()
        self.first_round.set()

    async def refresh(self, limit_s: float = 1.0) -> None:
        """Have every node that answers list its models; at most `limit_s`, shared by callers.

        Callers share a refresh until it begins to ask; one who comes later might be told of a
        catalogue older than the question.
        """
        if self._next_refresh is None:
            self._next_refresh = self.spawn(self._refresh_all(limit_s), "refresh catalogues")
        await asyncio.wait({self._next_refresh}, timeout=limit_s)

    async def is_frozen(self, node: NodeId) -> bool:
        """Whether requests should stop waiting for the node: silent on two fresh connections.

        Tells the registry. Takes 1.6 s at most with the default settings; callers share one check.
        """
        self._sync()
        watch = self._watches.get(node)
        return watch is not None and await watch.is_frozen()

    def kick(self, node: NodeId) -> None:
        """Have a node probed and its models listed soon. No await."""
        watch = self._watches.get(node)
        if watch is not None:
            watch.kick()

    def set_settings(self, settings: ProbeSettings) -> None:
        """Probe with other limits and pauses; those under way stay. No await."""
        self.settings = settings

    def set_sources(self, sources: StaticSources, found: Found) -> None:
        """Take nodes from other sources, which were read just now. No await."""
        self._sources = sources
        self._apply(found)

    def kick_all(self) -> None:
        """Have everything probed and listed soon. No await."""
        self._poll_soon.set()
        for watch in self._watches.values():
            watch.kick()

    # Tools of the watches

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Resolve a name, a few at a time."""
        async with self._lookups:
            return await self._resolve(host, port)

    def spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Start tracked work in the background. No await."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def learned(self) -> None:
        """Have all watches apply newly learned capabilities. No await."""
        news = self.capabilities.take_news()
        for watch in self._watches.values():
            watch.catalogue.apply_news(news)

    # Inside

    def _wake(self, node: NodeId) -> None:
        watch = self._watches.get(node)
        if watch is not None:
            watch.wake.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed", task.get_name(), exc_info=task.exception())

    def _sync(self) -> None:
        """Watch exactly the nodes there are."""
        current = self.registry.ids()
        for node in current - self._watches.keys():
            self._watches[node] = NodeWatch(node, self)
            if self._awaited:
                # A node of the first round may go on under the name of its kind.
                self._awaited.add(node)
        for node in self._watches.keys() - current:
            self._watches.pop(node).close()
            self._mark_probed(node)

    async def _keep_loops(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._has_changed.clear()
            self._sync()
            for node in self._loops.keys() - self._watches.keys():
                self._loops.pop(node).cancel()
            for node in self._watches.keys() - self._loops.keys():
                work = self._loop(self._watches[node])
                self._loops[node] = group.create_task(work, name=f"probe {node}")
            if not self._awaited:
                self.first_round.set()
            await self._has_changed.wait()

    async def _loop(self, watch: NodeWatch) -> None:
        is_first = True
        while True:
            watch.wake.clear()
            started_s = self.clock()
            await self._round(watch, is_full=is_first)
            is_first = False
            if self._awaited:
                self._sync()
            self._mark_probed(watch.node)
            await self._pause(watch, started_s)

    async def _visit(self, watch: NodeWatch) -> None:
        await self._round(watch, is_full=True)
        await watch.catalogue.settle()

    async def _round(self, watch: NodeWatch, *, is_full: bool) -> None:
        try:
            await watch.round(is_full=is_full)
        except Exception:
            log.exception("probing %s failed here, not there", watch.node)
            failure = ProbeFailed("internal", "the probe itself failed; the log says how")
            self.registry.observe(watch.node, failure)

    async def _pause(self, watch: NodeWatch, started_s: float) -> None:
        target = self.registry.target(watch.node)
        if target is not None and target.is_peer:
            pause_s = self.settings.peer_s
        else:
            pause_s = self.registry.next_probe_in_s(watch.node, self._dice())
        pause_s = max(pause_s, watch.gap_s)
        try:
            async with asyncio.timeout(pause_s):
                await watch.wake.wait()
        except TimeoutError:
            pass
        least_gap_s = max(self.settings.least_gap_s, min(watch.gap_s, self.settings.cloud_retry_s))
        least_s = started_s + least_gap_s - self.clock()
        if least_s > 0:
            await asyncio.sleep(least_s)

    def _mark_probed(self, node: NodeId) -> None:
        if self._awaited is not None:
            self._awaited.discard(node)
            if not self._awaited:
                self.first_round.set()

    async def _tick(self) -> None:
        while True:
            left_s = self.registry.next_change_s - self.clock()
            await asyncio.sleep(min(_TICK_S, max(_LEAST_TICK_S, left_s)))
            self.registry.tick()

    async def _refresh_all(self, limit_s: float) -> None:
        """Ask all nodes at once; a slow one keeps nobody from the next refresh."""
        try:
            gap_s = self._refreshed_s + self.settings.refresh_gap_s - self.clock()
            if gap_s > 0:
                await asyncio.sleep(gap_s)
        finally:
            self._next_refresh = None
        self._refreshed_s = self.clock()
        down = {view.id for view in self.registry.fleet().nodes if view.state is NodeState.DOWN}
        asked = [watch for node, watch in self._watches.items() if node not in down]
        if asked:
            await asyncio.wait([watch.refresh() for watch in asked], timeout=limit_s)

    # Sources

    async def _poll_sources(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.registry.policy.interval_s):
                    await self._poll_soon.wait()
            self._poll_soon.clear()
            await self._read_sources(is_first=False)

    async def _read_sources(self, *, is_first: bool) -> None:
        sources = self._sources
        if sources is None:
            return
        work = sources.read if is_first else sources.poll
        try:
            found = await self._reader.run(work, "reading the hosts file")
        except StuckError as exc:
            log.warning("the nodes of the hosts file stay as they are: %s", exc)
            return
        if found is not None and sources is self._sources:
            self._apply(found)

    def _apply(self, found: Mapping[str, Sequence[Candidate]]) -> None:
        for source, candidates in found.items():
            self.registry.reconcile(source, candidates)
