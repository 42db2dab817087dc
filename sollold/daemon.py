"""The composition root: what exists, in which order it starts, in which order it stops.

The only module that builds objects of every layer and wires them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from aiohttp import web

from sollold import __version__, log
from sollold.build import Built, build
from sollold.config import Address, load
from sollold.errors import ConfigError, SollolError
from sollold.logs.hub import LogHub
from sollold.nodes.own import find_own_addresses
from sollold.system.dirs import prepare
from sollold.system.listen import BACKLOG, bind_tcp, bind_unix, remove_unix
from sollold.system.lock import InstanceLock
from sollold.system.notify import Notifier
from sollold.tasks import Loops
from sollold.upstream.sockets import tune_socket
from sollold.web.app import make_metrics_app
from sollold.web.facts import Bound
from sollold.web.server import ServerRunner

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from sollold.config import Config, LoadArgs, LoadedConfig
    from sollold.system.dirs import Dirs

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 78

_LAG_STEP_S = 0.5
_STATUS_STEP_S = 1.0
_FIRST_LOOK_S = 1.0
_CLIENT_USER_TIMEOUT_S = 120.0
_KEEPALIVE_S = 75.0

_log = logging.getLogger(__name__)


class Listeners:
    """Bound sockets by purpose, and the lock that says we are the only one."""

    def __init__(self, config: Config, dirs: Dirs) -> None:
        self._stack = contextlib.ExitStack()
        self._control_path: Path | None = None
        with contextlib.ExitStack() as stack:
            prepare(dirs.runtime)
            stack.enter_context(InstanceLock(dirs.lock_file))
            self.api = self._bind(stack, config.listen.api_addresses(), "listen.api")
            self.console = self._bind(stack, config.listen.console_addresses(), "listen.console")
            self.metrics = self._bind(stack, config.metrics.addresses(), "metrics.listen")
            self.control = self._bind_control(stack, config, dirs)
            self._stack = stack.pop_all()

    @staticmethod
    def _bind(
        stack: contextlib.ExitStack, addresses: tuple[tuple[str, int], ...], setting: str
    ) -> list[socket.socket]:
        bound = bind_tcp(addresses, setting=setting)
        for sock in bound:
            stack.enter_context(sock)
        return bound

    def _bind_control(
        self, stack: contextlib.ExitStack, config: Config, dirs: Dirs
    ) -> socket.socket | None:
        if config.listen.control is False:
            return None
        path = dirs.control_socket
        if isinstance(config.listen.control, str):
            path = type(path)(config.listen.control)
        sock = stack.enter_context(bind_unix(path))
        stack.callback(remove_unix, path)
        self._control_path = path
        return sock

    def bound(self) -> Bound:
        """Return where clients connect."""
        return Bound(
            api=tuple(_name(sock) for sock in self.api),
            console=tuple(_name(sock) for sock in self.console),
            control=None if self._control_path is None else str(self._control_path),
        )

    def names(self) -> frozenset[tuple[str, int]]:
        """Return (address, port) of every TCP listener, as bound."""
        return frozenset(_name(sock) for sock in (*self.api, *self.console, *self.metrics))

    def close(self) -> None:
        """Close the sockets and let go of the lock."""
        self._stack.close()


def _name(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return host, port


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
    hub = LogHub()
    logs = log.setup(loaded.config.log.level, loaded.config.log.format, also=hub.take)
    try:
        return _run_locked(loaded, dirs, hub)
    finally:
        logs.shutdown()


def _run_locked(loaded: LoadedConfig, dirs: Dirs, hub: LogHub) -> int:
    for note in loaded.notes:
        _log.info("%s", note)
    try:
        listeners = Listeners(loaded.config, dirs)
    except SollolError as error:
        for line in error.message.splitlines():
            _log.error("%s", line)
        return int(getattr(error, "exit_code", EXIT_FAILED))
    try:
        factory = _loop_factory(loaded.config.server.loop)
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(_run(loaded, listeners, hub))
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


class Stopper:
    """Turns signals into a stop; a second one skips the waiting."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def on_signal(self) -> None:
        """Take one signal. No await."""
        (self.hurried if self.asked.is_set() else self.asked).set()


async def _run(loaded: LoadedConfig, listeners: Listeners, hub: LogHub) -> int:
    config = loaded.config
    code = EXIT_OK
    loop = asyncio.get_running_loop()
    stopper = Stopper()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Under nohup, the end of the terminal is not to be noticed.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stopper.on_signal)
    own = find_own_addresses(listeners.names())
    async with contextlib.AsyncExitStack() as stack:
        notifier = stack.enter_context(Notifier(os.environ))
        built = await stack.enter_async_context(build(loaded, own, listeners.bound(), hub))
        runner = _app_runner(built.app, config, built.edge.headers)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        extra = _app_runner(make_metrics_app(built.metrics), config, built.edge.headers)
        stack.push_async_callback(extra.cleanup)
        await extra.setup()
        try:
            await _serve(runner, extra, built, listeners, notifier, stopper, config)
        except* SollolError as failures:
            _log.critical("sollold stops: %s", failures.exceptions[0])
            code = EXIT_FAILED
    _log.info("sollold stopped")
    return code


async def _serve(
    runner: web.AppRunner,
    extra: web.AppRunner,
    built: Built,
    listeners: Listeners,
    notifier: Notifier,
    stopper: Stopper,
    config: Config,
) -> None:
    """Run the background loops and the listeners until a stop is asked for and drained."""
    async with asyncio.TaskGroup() as group:
        loops = Loops(group)
        _start_loops(loops, built)
        await _look_once(built)
        await _listen(runner, extra, listeners)
        _say_ready(built, notifier, listeners)
        _start_telling(loops, built, notifier)
        gc.collect()
        gc.freeze()
        await stopper.asked.wait()
        await _drain(built, notifier, stopper, config.server.drain_s)
        loops.cancel()


def _app_runner(
    app: web.Application, config: Config, headers: list[tuple[str, str]]
) -> web.AppRunner:
    return ServerRunner(
        app,
        headers=headers,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=config.server.cancel_after_s,
        keepalive_timeout=_KEEPALIVE_S,
    )


def _start_loops(loops: Loops, built: Built) -> None:
    loops.start("probes", built.prober.run)
    loops.start("lag", lambda: _watch_lag(built))


def _start_telling(loops: Loops, built: Built, notifier: Notifier) -> None:
    """Keep the service manager informed; it first has to hear that the daemon is ready."""
    if notifier.is_active:
        loops.start("status", lambda: _tell_status(built, notifier))
    watchdog_s = notifier.watchdog_s
    if watchdog_s is not None:
        loops.start("watchdog", lambda: _feed_watchdog(notifier, watchdog_s))


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


async def _feed_watchdog(notifier: Notifier, limit_s: float) -> None:
    while True:
        notifier.watchdog()
        await asyncio.sleep(limit_s / 2)


def _sentence(built: Built) -> str:
    status = built.documents.status()
    usable = status.nodes.up + status.nodes.slow
    return (
        f"{usable} of {status.nodes.total} nodes usable, "
        f"{status.requests.running} running, {status.requests.queued} queued"
    )


async def _look_once(built: Built) -> None:
    """Let the first probes end, so that the first request finds nodes; not for long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_LOOK_S):
            await built.prober.first_round.wait()


async def _listen(runner: web.AppRunner, extra: web.AppRunner, listeners: Listeners) -> None:
    for sock in (*listeners.api, *listeners.console):
        # Connections inherit this: a laptop that was closed says nothing.
        tune_socket(sock, user_timeout_s=_CLIENT_USER_TIMEOUT_S)
        await web.SockSite(runner, sock, backlog=BACKLOG).start()
    if listeners.control is not None:
        await web.SockSite(runner, listeners.control, backlog=BACKLOG).start()
    for sock in listeners.metrics:
        await web.SockSite(extra, sock, backlog=BACKLOG).start()


def _say_ready(built: Built, notifier: Notifier, listeners: Listeners) -> None:
    addresses = ", ".join(str(Address(*name)) for name in sorted(listeners.names()))
    _log.info("sollold %s serves on %s", __version__, addresses)
    notifier.ready(_sentence(built))


async def _drain(built: Built, notifier: Notifier, stopper: Stopper, limit_s: float) -> None:
    """Refuse what is new, let what runs finish for a while, cut the rest."""
    notifier.stopping("finishing running requests")
    notifier.extend_timeout(limit_s + 30.0)
    built.facts.is_stopping = True
    _log.info("stopping: running requests get %.0f s", limit_s)
    started_s = time.monotonic()
    drain = asyncio.ensure_future(_finish_requests(built, limit_s))
    hurry = asyncio.ensure_future(stopper.hurried.wait())
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
