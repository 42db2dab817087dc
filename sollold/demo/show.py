"""The demo from its first check to the last child's end."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sollold import __version__
from sollold.api_types import StatusDocument
from sollold.ctl.client import Client
from sollold.ctl.failure import Failure
from sollold.ctl.main import run as run_ctl
from sollold.ctl.places import control_sockets, endpoints
from sollold.demo import addresses, chat, model, parts, settings
from sollold.demo.children import Child, Children, wait_until
from sollold.demo.failure import EXIT_FAILED, DemoFailed
from sollold.demo.settings import MODEL, EngineNode
from sollold.demo.signals import Interrupted, Signals
from sollold.demo.stage import NobodyWatches, Stage

if TYPE_CHECKING:
    from sollold.demo.addresses import Choice
    from sollold.demo.chat import Answer, Question

EXIT_OK = 0
EXIT_INTERRUPTED = 130

_ENGINES = 2
_LOAD_LIMIT_S = 120.0
_START_LIMIT_S = 30.0
_ASK_LIMIT_S = 2.0
_WATCH_S = 0.5
_ENGINE_GRACE_S = 5.0
_DAEMON_GRACE_S = 10.0
_TAIL_LINES = 8
_NATIVE = chat.native_question("What is the moon?")
_OPENAI = chat.openai_question("What is a lighthouse for?")


class Node(NamedTuple):
    """A llama-server and its process."""

    engine: EngineNode
    child: Child


class Place(NamedTuple):
    """Where clients and browsers find the daemon."""

    api: Choice
    console: Choice


def run(*, port: int | None, is_once: bool) -> int:
    """Run the demo; return the exit code."""
    stage = Stage(os.environ)
    demo = Demo(stage, port, is_once=is_once)
    try:
        with Signals() as signals, tempfile.TemporaryDirectory(prefix="sollold-demo-") as name:
            demo.run(signals, Path(name))
        stage.line("Stopped.")
    except Interrupted:
        _say_last(stage, "Stopped." if demo.is_shown else "Interrupted; nothing is left running.")
    except NobodyWatches:
        _forget_output()
        return EXIT_OK
    except DemoFailed as failure:
        stage.fail(failure.message)
        return failure.exit_code
    except OSError as exc:
        stage.fail(f"the system refused something: {exc}")
        return EXIT_FAILED
    return EXIT_OK if demo.is_shown else EXIT_INTERRUPTED


class Demo:
    """One showing."""

    def __init__(self, stage: Stage, port: int | None, *, is_once: bool) -> None:
        self.is_shown = False
        """Whether everything was shown; an interruption is then the usual end."""
        self._stage = stage
        self._wanted_port = port
        self._is_once = is_once

    def run(self, signals: Signals, folder: Path) -> None:
        """Show everything, and stay until a signal unless it is to be once.

        Raises:
            DemoFailed: something is missing, did not start, or ended.
            Interrupted: a signal came.
        """
        env = settings.own_environment(os.environ, folder)
        parts.check_machine()
        parts.check_extra()
        engine = parts.find_engine(env)
        parts.check_libraries(engine)
        self._stage.line(f"sollold {__version__}: two real llama-servers, one address in front")
        self._stage.line()
        api = addresses.choose_api(self._wanted_port)
        place = Place(api, addresses.choose_console(taken=frozenset({api.port})))
        weights = self._assemble()

        def on_stop() -> None:
            signals.mute()
            with contextlib.suppress(NobodyWatches):
                self._stage.line()
                self._stage.progress("stopping ...")

        with Children(on_stop) as children:
            nodes = self._start_engines(children, folder, engine, weights, place)
            daemon = self._start_daemon(children, folder, env, place, nodes)
            self._ask(place, _NATIVE, "Ollama's API")
            self._ask(place, _OPENAI, "OpenAI's API")
            self._show_status(place)
            self.is_shown = True
            if not self._is_once:
                self._show_next_steps(place, nodes[0])
                self._watch(daemon, nodes)

    def _assemble(self) -> Path:
        stage = self._stage
        found = parts.find_model()
        path = model.assemble(
            found,
            model.cache_dir(os.environ),
            lambda part: stage.progress(f"  putting the model together: {part:.0%}"),
        )
        size = f"{found.size_bytes / 1e6:.0f} MB"
        stage.fact("Model", f'{found.name}, {size}, served as "{MODEL}"')
        return path

    def _start_engines(
        self,
        children: Children,
        folder: Path,
        engine: parts.Engine,
        weights: Path,
        place: Place,
    ) -> tuple[Node, ...]:
        ports = addresses.choose_engines(
            _ENGINES, taken=frozenset({place.api.port, place.console.port})
        )
        threads = settings.threads_for(len(os.sched_getaffinity(0)))
        started_s = time.monotonic()
        nodes: tuple[Node, ...] = ()
        for index, port in enumerate(ports, 1):
            node = EngineNode(f"demo-{index}", port)
            argv = settings.engine_argv(engine.binary, weights, node, threads)
            child = children.start(
                node.name, argv, env=engine.env, folder=folder, grace_s=_ENGINE_GRACE_S
            )
            nodes += (Node(node, child),)
        self._wait_loaded(nodes, started_s)
        passed_s = time.monotonic() - started_s
        for node, child in nodes:
            self._stage.fact(
                "Node", f"{node.name}, llama-server on port {node.port}, pid {child.pid}"
            )
        self._stage.fact("", f"both loaded after {passed_s:.1f} s, {_threads(threads)} each")
        return nodes

    def _wait_loaded(self, nodes: tuple[Node, ...], started_s: float) -> None:
        loaded: set[str] = set()

        def are_loaded() -> bool:
            for engine, child in nodes:
                self._check(child)
                if chat.answers_ok(engine.port, "/health", _ASK_LIMIT_S):
                    loaded.add(engine.name)
            return len(loaded) == len(nodes)

        def on_wait() -> None:
            words = ", ".join(
                f"{engine.name} {'ready' if engine.name in loaded else 'loading'}"
                for engine, _ in nodes
            )
            self._stage.progress(f"  {words} ({time.monotonic() - started_s:.0f} s)")

        if not wait_until(are_loaded, limit_s=_LOAD_LIMIT_S, on_wait=on_wait):
            slow = next(child for engine, child in nodes if engine.name not in loaded)
            raise _with_tail(f"{slow.name} did not load in {_LOAD_LIMIT_S:.0f} s", slow)

    def _start_daemon(
        self,
        children: Children,
        folder: Path,
        env: dict[str, str],
        place: Place,
        nodes: tuple[Node, ...],
    ) -> Child:
        config = folder / "sollold.toml"
        engines = [node.engine for node in nodes]
        config.write_text(settings.daemon_config(place.api.port, place.console.port, engines))
        argv = [sys.executable, "-m", "sollold", "--config", str(config)]
        daemon = children.start("sollold", argv, env=env, folder=folder, grace_s=_DAEMON_GRACE_S)
        self._wait_serving(daemon, place.api, nodes)
        self._stage.fact("sollold", f"{place.api.url}, pid {daemon.pid}")
        for choice in place:
            if choice.note:
                self._stage.fact("", choice.note)
        return daemon

    def _wait_serving(self, daemon: Child, api: Choice, nodes: tuple[Node, ...]) -> None:
        seen: list[StatusDocument] = []

        def is_serving() -> bool:
            self._check(daemon)
            client = Client(endpoints(api.url, {}), timeout_s=_ASK_LIMIT_S)
            with contextlib.suppress(Failure):
                seen[:] = [client.get("/api/v1/status").document(StatusDocument)]
            return bool(seen) and _is_ready(seen[0], len(nodes))

        def on_wait() -> None:
            self._stage.progress("  sollold looks at its nodes")

        if not wait_until(is_serving, limit_s=_START_LIMIT_S, on_wait=on_wait):
            problems = seen[0].problems if seen else ()
            reasons = "".join(f"\n  {item.subject}: {item.reason.text}" for item in problems)
            text = f"sollold does not use both nodes after {_START_LIMIT_S:.0f} s{reasons}"
            raise DemoFailed(text) if reasons else _with_tail(text, daemon)

    def _check(self, child: Child) -> None:
        if not child.is_running:
            raise _with_tail(f"{child.name} {child.ending()}", child)

    def _ask(self, place: Place, question: Question, name: str) -> None:
        self._stage.head(f"{name}: POST {question.path}")
        self._stage.line(f"  > {question.text}")
        typist = self._stage.typist()
        try:
            answer = chat.ask(place.api.port, question, typist.type)
        finally:
            typist.end()
        self._stage.note(f"({_facts(answer)})")

    def _show_status(self, place: Place) -> None:
        self._stage.head(f"$ {_ctl(place.api)} status")
        if run_ctl(["--url", place.api.url, "status"]) != EXIT_OK:
            raise DemoFailed("sollold did not tell its status")

    def _show_next_steps(self, place: Place, node: Node) -> None:
        stage, api = self._stage, place.api
        stage.head("All of this stays up until Ctrl-C. From another terminal:")
        stage.line()
        stage.line(f"  curl {api.url}/api/generate \\")
        stage.line(f'    -d \'{{"model": "{MODEL}", "prompt": "The sea is"}}\'')
        stage.note("  asks it anything; the answer comes token by token")
        if not shutil.which("curl"):
            stage.note("  (curl is missing here; it is in the package curl)")
        stage.line(f"  {_typed()}{_ctl(api)} nodes")
        stage.note("  says how each llama-server is, and how fast")
        stage.line(f"  kill -9 {node.child.pid}")
        stage.note(f"  ends {node.engine.name}; ask again, and the other one answers")
        stage.line(f"  {_typed()}sollold --node HOST")
        stage.note("  after Ctrl-C: the same with an Ollama of your own on HOST")
        stage.line()
        stage.fact("Console", place.console.url)
        stage.note("The model is a very small one that was never taught to chat: it babbles.")

    def _watch(self, daemon: Child, nodes: tuple[Node, ...]) -> None:
        """Say which child ends; return never.

        Raises:
            DemoFailed: the daemon has ended, or the last engine.
        """
        left = [node.child for node in nodes]
        while True:
            self._check(daemon)
            for child in [child for child in left if not child.is_running]:
                left.remove(child)
                others = ", ".join(other.name for other in left)
                if not others:
                    raise DemoFailed(f"{child.name} {child.ending()}, and no llama-server is left")
                self._stage.line()
                self._stage.line(f"{child.name} {child.ending()}; sollold goes on with {others}.")
            time.sleep(_WATCH_S)


def _say_last(stage: Stage, text: str) -> None:
    try:
        stage.line(text)
    except NobodyWatches:
        _forget_output()


def _forget_output() -> None:
    """Let go of a closed output: what is still buffered would fail when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_ready(status: StatusDocument, nodes: int) -> bool:
    return status.nodes.up + status.nodes.slow >= nodes and status.models.known > 0


def _ctl(api: Choice) -> str:
    """Return how to call sollolctl so that it finds this daemon and no other."""
    if api.port == addresses.API_PORT and not control_sockets(os.environ):
        return "sollolctl"
    return f"sollolctl --url {api.url}"


def _typed() -> str:
    """Return what to type before a command's name: its folder, when that is not on the PATH."""
    if shutil.which("sollolctl"):
        return ""
    folder, linked = Path(sys.executable).parent, Path.home() / ".local" / "bin"
    # The shorter one, where install.sh has linked it.
    if (linked / "sollolctl").resolve().parent == folder.resolve():
        folder = linked
    return f"{str(folder).replace(str(Path.home()), '~', 1)}/"


def _facts(answer: Answer) -> str:
    facts = [f"from {answer.node}" if answer.node else "from a node that was not named"]
    if answer.tokens is not None:
        facts.append(f"{answer.tokens} tokens")
    if answer.tokens_per_s is not None:
        facts.append(f"{answer.tokens_per_s:.1f} tokens/s")
    return ", ".join(facts)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _with_tail(text: str, child: Child) -> DemoFailed:
    lines = child.tail(_TAIL_LINES)
    if lines:
        text += "; its last words:" + "".join(f"\n  {line}" for line in lines)
    return DemoFailed(text)
