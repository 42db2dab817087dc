"""The composition root: what exists, in which order it starts, in which order it stops.

The only module that builds objects of every layer and wires them.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from sollold import __version__, log
from sollold.compose.build import Built, build
from sollold.compose.doors import Doors
from sollold.compose.listeners import Listeners
from sollold.config import Address, LoadArgs, load
from sollold.errors import ConfigError, SollolError
from sollold.logs.hub import LogHub
from sollold.nodes.own import find_own_addresses
from sollold.system import notify, watchdog
from sollold.system.activation import Passed, take_passed
from sollold.system.netif import interfaces
from sollold.system.notify import Notifier
from sollold.tasks import Loops

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.config import Config, LoadedConfig
    from sollold.system.dirs import Dirs

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 78

_LAG_STEP_S = 0.5
_STATUS_STEP_S = 1.0
_FIRST_LOOK_S = 1.0
_SPARE_S = 20.0
"""For what a stop takes besides waiting."""

_log = logging.getLogger(__name__)


def main(args: LoadArgs, dirs: Dirs, *, is_check: bool) -> int:
    """Run the daemon until it is told to stop; return the exit code."""
    try:
        loaded = load(args)
    except ConfigError as error:
        for problem in error.problems:
            print(f"sollold: {problem}", file=sys.stderr)  # noqa: T201 - logging does not run yet
        return EXIT_CONFIG
    if is_check:
        files = ", ".join(str(path) for path in loaded.files) or "defaults"
        print(f"configuration is good: {files}")  # noqa: T201 - this is the answer
        return EXIT_OK
    # A watchdog ends a process by SIGABRT: where every thread stood is to be seen in the log.
    faulthandler.enable()
    hub = LogHub()
    logs = log.setup(loaded.config.log.level, loaded.config.log.format, also=hub.take)
    environment = _Environment(
        args=args,
        notifier=Notifier(os.environ),
        passed=take_passed(os.environ),
        logs=logs,
        hub=hub,
    )
    for name in notify.VARIABLES:
        os.environ.pop(name, None)
    try:
        return _run_locked(loaded, dirs, environment)
    finally:
        environment.notifier.close()
        logs.shutdown()


class _Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What a running daemon has from outside besides its configuration."""

    args: LoadArgs
    notifier: Notifier
    passed: list[Passed]
    logs: log.Logging
    hub: LogHub

    def read(self) -> LoadedConfig:
        """Read the configuration as at the start. May block."""
        return load(msgspec.structs.replace(self.args, own_addresses=interfaces()))


def _run_locked(loaded: LoadedConfig, dirs: Dirs, environment: _Environment) -> int:
    for note in loaded.notes:
        _log.info("%s", note)
    try:
        listeners = Listeners(loaded.config, dirs, environment.passed)
    except SollolError as error:
        for line in error.message.splitlines():
            _log.error("%s", line)
        return int(getattr(error, "exit_code", EXIT_FAILED))
    try:
        factory = _loop_factory(loaded.config.server.loop)
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(_run(loaded, listeners, environment))
    finally:
        listeners.close()


def _loop_factory(wanted: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if wanted == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if wanted == "uvloop":
            _log.warning("uvloop is not installed, asyncio is used: pip install 'sollold[fast]'")
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class Signals:
    """Turns signals into a stop, which a second one hurries, and into reloads."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self.reload = asyncio.Event()
        self._terminals = _terminals()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the signals from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.on_stop)
        # Under nohup, the end of the terminal is not to be noticed.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self.on_hangup)

    def on_stop(self) -> None:
        """Take a signal to stop. No await."""
        (self.hurried if self.asked.is_set() else self.asked).set()

    def on_hangup(self) -> None:
        """Reload; or stop, when the terminal that the daemon was started in is gone. No await."""
        if self._terminals - _terminals():
            self.on_stop()
        else:
            self.reload.set()


def _terminals() -> set[str]:
    """Return what a terminal is to this process; one that hung up is nothing any more."""
    found = {"input"} if os.isatty(0) else set()
    with contextlib.suppress(OSError):
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
        found.add("control")
    return found


async def _run(loaded: LoadedConfig, listeners: Listeners, environment: _Environment) -> int:
    config = loaded.config
    code = EXIT_OK
    signals = Signals()
    signals.listen(asyncio.get_running_loop())
    own = find_own_addresses(listeners.names())
    async with contextlib.AsyncExitStack() as stack:
        built = await stack.enter_async_context(
            build(
                loaded,
                own,
                listeners.bound(),
                environment.hub,
                read=environment.read,
                set_level=environment.logs.set_level,
            )
        )
        doors = Doors(built, listeners)
        stack.push_async_callback(doors.close)
        await doors.prepare()
        try:
            await _serve(doors, built, environment.notifier, signals, config)
        except* SollolError as failures:
            _log.critical("sollold stops: %s", failures.exceptions[0])
            code = EXIT_FAILED
    _log.info("sollold stopped")
    return code


async def _serve(
    doors: Doors, built: Built, notifier: Notifier, signals: Signals, config: Config
) -> None:
    """Run the background loops and the listeners until a stop is asked for and drained."""
    async with asyncio.TaskGroup() as group:
        loops = Loops(group)
        _start_loops(loops, built)
        await _look_once(built)
        await doors.open()
        _say_ready(built, notifier, doors.names())
        _start_telling(loops, built, notifier)
        loops.start("reload", lambda: _reload_on_signal(built, signals))
        gc.collect()
        gc.freeze()
        await signals.asked.wait()
        built.reloader.stop()
        notifier.stopping("finishing running requests")
        await doors.leave_to_successor()
        await _drain(built, notifier, signals, config)
        loops.cancel()


async def _reload_on_signal(built: Built, signals: Signals) -> None:
    while True:
        await signals.reload.wait()
        signals.reload.clear()
        await built.reloader.reload()


def _start_loops(loops: Loops, built: Built) -> None:
    loops.start("probes", built.prober.run)
    loops.start("lag", lambda: _watch_lag(built))


def _start_telling(loops: Loops, built: Built, notifier: Notifier) -> None:
    """Keep the service manager informed; it first has to hear that the daemon is ready."""
    if notifier.is_active:
        loops.start("status", lambda: _tell_status(built, notifier))
        built.reloader.watch(notifier.reloading, lambda: notifier.ready(_sentence(built)))
    watchdog_s = notifier.watchdog_s
    if watchdog_s is not None:
        loops.start("watchdog", lambda: watchdog.feed(notifier, watchdog_s))


async def _watch_lag(built: Built) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + _LAG_STEP_S
        await asyncio.sleep(_LAG_STEP_S)
        built.metrics.note_lag(max(0.0, loop.time() - due_s))


async def _tell_status(built: Built, notifier: Notifier) -> None:
    told = ""
    while True:
        sentence = _sentence(built)
        if sentence != told and notifier.status(sentence):
            told = sentence
        await asyncio.sleep(_STATUS_STEP_S)


def _sentence(built: Built) -> str:
    status = built.documents.status()
    if built.facts.is_stopping:
        return f"finishing {status.requests.running} running requests"
    usable = status.nodes.up + status.nodes.slow
    refused = "; last reload refused, the log says why" if built.facts.refusal else ""
    return (
        f"{usable} of {status.nodes.total} nodes usable, "
        f"{status.requests.running} running, {status.requests.queued} queued{refused}"
    )


async def _look_once(built: Built) -> None:
    """Let the first probes end, so that the first request finds nodes; not for long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_LOOK_S):
            await built.prober.first_round.wait()


def _say_ready(built: Built, notifier: Notifier, names: frozenset[tuple[str, int]]) -> None:
    addresses = ", ".join(str(Address(*name)) for name in sorted(names))
    _log.info("sollold %s serves on %s", __version__, addresses)
    notifier.ready(_sentence(built))


async def _drain(built: Built, notifier: Notifier, signals: Signals, config: Config) -> None:
    """Refuse what is new, let what runs finish for a while, cut the rest."""
    limit_s = config.server.drain_s
    notifier.extend_timeout(limit_s + 2 * config.server.cancel_after_s + _SPARE_S)
    built.facts.is_stopping = True
    _log.info("stopping: running requests get %.0f s", limit_s)
    started_s = time.monotonic()
    drain = asyncio.ensure_future(_finish_requests(built, limit_s))
    hurry = asyncio.ensure_future(signals.hurried.wait())
    try:
        await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (drain, hurry):
            task.cancel()
    passed_s = time.monotonic() - started_s
    if drain.done() and not drain.cancelled() and drain.result():
        _log.info("drained in %.1f s", passed_s)
        return
    _log.warning("stopping: cut after %.1f s, requests=%d", passed_s, built.edge.working)
    built.dispatcher.cut()
    built.edge.cut()


async def _finish_requests(built: Built, limit_s: float) -> bool:
    """Wait for what runs on nodes, then for answers that are still on their way to clients."""
    until_s = time.monotonic() + limit_s
    built.edge.refuse_uploads()
    if not await built.dispatcher.drain(limit_s):
        return False
    return await built.edge.drained(max(0.0, until_s - time.monotonic()))
