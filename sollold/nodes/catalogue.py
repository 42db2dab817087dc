"""The list of one node's models: when it was read, and what its models can do.

Asks one question at a time. Publishes through the registry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING

from sollold.nodes.parse import Shown, Tags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.core.model import Digest, ModelKey, ModelView, NodeId
    from sollold.nodes.ask import Failure, Target
    from sollold.nodes.tools import Tools

log = logging.getLogger(__name__)

_SHOW_TRIES = 3
_SHOW_BATCH = 10


class CatalogueWatch:
    """Lists one node's models. `place` and `version` are set by who found the node."""

    def __init__(self, node: NodeId, tools: Tools) -> None:
        self.node = node
        self.place: Target | None = None
        self.version = ""
        self.due_s = 0.0
        """When the list should be read again; 0: at the next occasion."""
        self._tools = tools
        self._tags: Tags | None = None
        self._digests: frozenset[Digest] = frozenset()
        self._problem = ""
        self._failures: Counter[Digest] = Counter()
        self._listing: asyncio.Task[None] | None = None
        self._showing: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def start(self) -> asyncio.Task[None]:
        """Have the models listed; callers at the same time share one question. No await."""
        if self._listing is None or self._listing.done():
            self._listing = self._tools.spawn(self._list(), f"list {self.node}")
        return self._listing

    async def listed(self) -> None:
        """Wait until the list that is being read has been read."""
        if self._listing is not None:
            await join(self._listing)

    async def settle(self) -> None:
        """Wait until what is being asked about models has been answered."""
        if self._showing is not None:
            self._hurry.set()
            await join(self._showing)

    def apply(self) -> None:
        """Publish the catalogue with all that is known of its models' capabilities."""
        if self._tags is None:
            return
        models: dict[ModelKey, ModelView] = {}
        for model in self._tags.models:
            models.setdefault(model.key, self._tools.capabilities.apply(model, self.version))
        self._tools.registry.set_catalogue(self.node, models)

    def apply_news(self, news: frozenset[Digest]) -> None:
        """Publish the catalogue if what was learned of these models says more than the list."""
        if self._tags is None or news.isdisjoint(self._digests):
            return
        apply, version = self._tools.capabilities.apply, self.version
        listed = (model for model in self._tags.models if model.digest in news)
        if any(apply(model, version) is not model for model in listed):
            self.apply()

    def forget(self) -> None:
        """Start anew: somebody else was there meanwhile. No await."""
        self._tags = None
        self._hurry.set()

    def close(self) -> None:
        """End the work in the background. No await."""
        for task in (self._listing, self._showing):
            if task is not None:
                task.cancel()

    async def _list(self) -> None:
        tools, place = self._tools, self.place
        if place is None:
            return
        known = self._tags
        tags = await tools.client.tags(place, tools.settings.catalogue_limit_s, known)
        self.due_s = tools.clock() + tools.settings.catalogue_s
        if not isinstance(tags, Tags):
            self._complain(tags)
            return
        self._problem = ""
        if tags is not known:
            self._tags = tags
            self._digests = frozenset(model.digest for model in tags.models)
            self.apply()
        self._start_showing()

    def _complain(self, failure: Failure) -> None:
        if failure.text != self._problem:
            self._problem = failure.text
            log.warning("node %s: its list of models is not read: %s", self.node, failure.text)

    def _start_showing(self) -> None:
        is_running = self._showing is not None and not self._showing.done()
        if self._tags is None or is_running:
            return
        unknown = self._tools.capabilities.unknown(self._tags.models, self.version)
        if unknown:
            self._hurry.clear()
            work = self._show_all(unknown, self.version)
            self._showing = self._tools.spawn(work, f"show {self.node}")

    async def _show_all(self, models: Sequence[ModelView], version: str) -> None:
        """Ask for each model's capabilities, one after the other; stop when the node struggles.

        A real node spends most of a second of work on each answer, so it rests as long after it,
        and longer where the answer only confirms what the list says.
        """
        capabilities, clock = self._tools.capabilities, self._tools.clock
        for number, model in enumerate(models, start=1):
            if not capabilities.unknown((model,), version):
                continue
            if number > 1 and model.capabilities is not None:
                await self._take_time()
            if version != self.version:
                break
            if not capabilities.begin(model, version):
                continue
            started_s = clock()
            try:
                is_fine = await self._show(model, version)
            finally:
                capabilities.finish(model, version)
            if not is_fine:
                break
            if number % _SHOW_BATCH == 0:
                self._tools.learned()
            await asyncio.sleep(clock() - started_s)
        self._tools.learned()

    async def _take_time(self) -> None:
        """Pause, unless somebody waits for the answers or they would be out of date."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._tools.settings.confirm_s):
                await self._hurry.wait()

    async def _show(self, model: ModelView, version: str) -> bool:
        tools, place = self._tools, self.place
        if place is None:
            return False
        shown = await tools.client.show(place, model.name, tools.settings.show_limit_s)
        if shown is None or isinstance(shown, Shown):
            found = None if shown is None else shown.capabilities
            tools.capabilities.learn(model, version, found)
            if found not in (None, model.capabilities):
                self.apply()
            return True
        self._failures[model.digest] += 1
        if self._failures[model.digest] >= _SHOW_TRIES:
            del self._failures[model.digest]
            tools.capabilities.learn(model, version, None)
        return False


async def join(task: asyncio.Task[None]) -> None:
    """Wait for shared work without becoming its owner."""
    await asyncio.wait({task})
