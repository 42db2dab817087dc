"""Reload: read the configuration anew, change in the running daemon what can change there.

Owns the configuration in force. On any mistake that stays as it is. Callers who come before the
reading begins share it; those who come later share the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from sollold.api_reload import ConfigChange, ReloadDocument
from sollold.api_types import ErrorBody
from sollold.config import (
    ConfigDiff,
    LoadedConfig,
    Origin,
    Problem,
    UnusableConfig,
    diff,
    with_live,
)
from sollold.config.document import problem_document
from sollold.events.ring import rfc3339
from sollold.events.types import ConfigReloaded
from sollold.nodes.sources import Found, StaticSources
from sollold.tasks import Reader, StuckError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sollold.api_config import ConfigProblem
    from sollold.config import Change
    from sollold.events.base import EventBase
    from sollold.web.facts import DaemonFacts

_log = logging.getLogger(__name__)

_GAP_S = 0.25
"""From the end of a reload to the next, at least: those who come meanwhile share that one."""


class Fresh(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that was read and found good, and what its sources of nodes had to say."""

    loaded: LoadedConfig
    """With the old values of what needs a restart."""
    changes: ConfigDiff
    sources: StaticSources
    found: Found


class Reloader:
    """Reads, compares, has it applied, tells."""

    def __init__(
        self,
        loaded: LoadedConfig,
        *,
        read: Callable[[], LoadedConfig],
        apply: Callable[[Fresh], None],
        facts: DaemonFacts,
        publish: Callable[[EventBase], None],
        reader: Reader | None = None,
    ) -> None:
        """`read` may block and raises UnusableConfig; `apply` changes the owners, without await."""
        self.loaded = loaded
        """What is in force."""
        self._read = read
        self._apply = apply
        self._facts = facts
        self._publish = publish
        self._reader = reader or Reader()
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[ReloadDocument] | None = None
        self._tasks: set[asyncio.Task[ReloadDocument]] = set()
        self._begun: Callable[[], object] = _nobody
        self._ended: Callable[[], object] = _nobody
        self._stopped = asyncio.Event()
        self._ended_s = float("-inf")

    def watch(self, begun: Callable[[], object], ended: Callable[[], object]) -> None:
        """Have `begun` called before each reload and `ended` after it."""
        self._begun, self._ended = begun, ended

    def stop(self) -> None:
        """Refuse what comes from now on, and what is under way: the daemon ends. No await."""
        self._stopped.set()

    async def reload(self) -> ReloadDocument:
        """Reload; a caller that gives up does not end it for others."""
        if self._stopped.is_set():
            return _stopped()
        if self._next is None:
            self._next = asyncio.create_task(self._take_turn(), name="reload")
            self._tasks.add(self._next)
            self._next.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take_turn(self) -> ReloadDocument:
        async with self._turn:
            await asyncio.sleep(self._ended_s + _GAP_S - time.monotonic())
            self._next = None
            if self._stopped.is_set():
                return _stopped()
            self._begun()
            try:
                fresh = await self._reader.run(self._look, "reading the configuration")
                return _stopped() if self._stopped.is_set() else self._take(fresh)
            except UnusableConfig as error:
                return self._refuse(error.found)
            except StuckError as error:
                return self._wait_no_more(error)
            except Exception as error:
                _log.exception("configuration not reloaded, the old one stays: a fault of sollold")
                return self._fail(error)
            finally:
                self._ended_s = time.monotonic()
                if not self._stopped.is_set():
                    self._ended()

    def _look(self) -> Fresh:
        """Read everything. May block.

        Raises:
            UnusableConfig: something is wrong, or a file is gone.
        """
        old, new = self.loaded, self._read()
        gone = [path for path in old.files if path not in new.files]
        if gone:
            text = "is gone; put it back, or restart sollold to do without it"
            raise UnusableConfig([Problem(Origin("file", str(path)), (), text) for path in gone])
        changes = diff(old.config, new.config)
        loaded = msgspec.structs.replace(
            new,
            config=with_live(old.config, new.config),
            origins=_origins(old, new, changes.restart),
        )
        sources = StaticSources.of(loaded)
        return Fresh(loaded=loaded, changes=changes, sources=sources, found=sources.read())

    def _take(self, fresh: Fresh) -> ReloadDocument:
        """Put a configuration in force. No await."""
        self._apply(fresh)
        self.loaded = fresh.loaded
        live, restart = fresh.changes.live, fresh.changes.restart
        self._facts.reloaded(fresh.loaded, tuple(change.key for change in restart))
        for note in fresh.loaded.notes:
            _log.info("%s", note)
        _log.info("configuration reloaded: %s", _texts(live) or "nothing changed")
        if restart:
            _log.warning("what needs a restart stays as it was: %s", _texts(restart))
        if live or restart:
            self._publish(
                ConfigReloaded(
                    changed=tuple(str(change) for change in live),
                    restart=tuple(str(change) for change in restart),
                )
            )
        return ReloadDocument(
            at=rfc3339(time.time()),
            result="applied" if live else "unchanged",
            live=tuple(_change(change) for change in live),
            restart=tuple(_change(change) for change in restart),
            notes=fresh.loaded.notes,
            files=tuple(str(path) for path in fresh.loaded.files),
        )

    def _refuse(self, problems: Sequence[Problem]) -> ReloadDocument:
        """Keep the configuration in force. No await."""
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        _log.error("configuration not reloaded, the old one stays: %s", count)
        for problem in problems:
            _log.error("%s", problem)
        self._facts.refused(f"{count}, the first: {problems[0]}")
        message = f"the configuration has {count}; the old one stays in force"
        hint = "mend what is listed, then reload again"
        shown = tuple(problem_document(problem) for problem in problems)
        return _refused(ErrorBody(code="config", message=message, hint=hint), shown)

    def _wait_no_more(self, error: StuckError) -> ReloadDocument:
        """Keep the configuration in force: the new one cannot be had. No await."""
        _log.error("configuration not reloaded, the old one stays: %s", error)
        self._facts.refused(str(error))
        message = f"{error}; the old configuration stays in force"
        hint = "mend what hangs, then reload again"
        return _refused(ErrorBody(code="config", message=message, hint=hint))

    def _fail(self, error: Exception) -> ReloadDocument:
        """Keep the configuration in force: sollold itself could not go on. No await."""
        kind = type(error).__name__
        self._facts.refused(f"a fault of sollold, {kind}; the log has the details")
        message = f"a fault of sollold, {kind}; the old configuration stays in force"
        hint = "the log has the details; please report them"
        return _refused(ErrorBody(code="internal", message=message, hint=hint))


def _stopped() -> ReloadDocument:
    _log.info("configuration not reloaded: sollold is stopping")
    message = "sollold is stopping; its successor reads the configuration"
    return _refused(ErrorBody(code="draining", message=message, hint="start it again"))


def _refused(error: ErrorBody, problems: tuple[ConfigProblem, ...] = ()) -> ReloadDocument:
    return ReloadDocument(at=rfc3339(time.time()), result="refused", problems=problems, error=error)


def _origins(old: LoadedConfig, new: LoadedConfig, waiting: Sequence[Change]) -> dict[str, Origin]:
    """Return where each value came from; what waits for a restart keeps its old value's."""
    origins = dict(new.origins)
    for change in waiting:
        origins.pop(change.key, None)
        if change.key in old.origins:
            origins[change.key] = old.origins[change.key]
    return origins


def _texts(changes: Sequence[Change]) -> str:
    return ", ".join(str(change) for change in changes)


def _change(change: Change) -> ConfigChange:
    return ConfigChange(key=change.key, old=change.old, new=change.new, text=str(change))


def _nobody() -> None:
    pass
