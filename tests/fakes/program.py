"""A fake node as a process of its own: the program, and a handle on it for tests that kill it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import msgspec

from tests.fakes.cloud import CloudSettings, FakeCloud
from tests.fakes.engine import Settings
from tests.fakes.llama import FakeLlama
from tests.fakes.llama_engine import LlamaSettings
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode
from tests.fakes.server import ControlServer
from tests.stack.http import wait_until
from tests.stack.logs import tail_text
from tests.stack.processes import ProcessGroup

if TYPE_CHECKING:
    from tests.fakes.faults import Fault
    from tests.fakes.server import FakeServer

_AnySettings = TypeVar("_AnySettings", bound=msgspec.Struct)
_ROOT = Path(__file__).resolve().parents[2]


def main(argv: list[str] | None = None) -> None:
    """Serve Ollama until killed; the first line on standard output tells the addresses as JSON."""
    parser = _parser("node", Settings(rate=50.0))
    parser.add_argument(
        "--models", default="llama3.2", help="names, each with +capability … and =GB"
    )
    parser.add_argument("--version", default="0.33.0")
    options = parser.parse_args(argv)
    models = [_model(text) for text in options.models.split(",") if text]
    where = {"host": options.host, "port": options.port}
    settings = _settings(Settings, options)
    _run(FakeNode(models, version=options.version, settings=settings, **where), options)


def main_llama(argv: list[str] | None = None) -> None:
    """Serve as llama-server does until killed."""
    options = _parser("llama", LlamaSettings(rate=50.0)).parse_args(argv)
    settings = _settings(LlamaSettings, options)
    _run(FakeLlama(host=options.host, port=options.port, settings=settings), options)


def main_cloud(argv: list[str] | None = None) -> None:
    """Serve as a cloud does until killed."""
    options = _parser("cloud", CloudSettings(rate=50.0)).parse_args(argv)
    settings = _settings(CloudSettings, options)
    _run(FakeCloud(host=options.host, port=options.port, settings=settings), options)


def _run(server: FakeServer, options: argparse.Namespace) -> None:
    asyncio.run(_serve(server, ControlServer(server, host=server.host, port=options.control_port)))


async def _serve(server: FakeServer, control: ControlServer) -> None:
    async with server, control:
        ready = {"url": server.url, "control": control.url, "pid": os.getpid()}
        print(json.dumps(ready), flush=True)
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, done.set)
        await done.wait()


def _model(text: str) -> FakeModel:
    """`name` or `name+capability+capability`, with `=5.4` behind it for 5.4 GB."""
    text, _, gigabytes = text.partition("=")
    name, *capabilities = text.split("+")
    model = FakeModel(name=name, capabilities=tuple(capabilities) or ("completion",))
    if not gigabytes:
        return model
    return msgspec.structs.replace(model, size_bytes=round(float(gigabytes) * 1e9))


def _parser(name: str, defaults: msgspec.Struct) -> argparse.ArgumentParser:
    """Where to listen, and one option for each setting."""
    parser = argparse.ArgumentParser(prog=f"tests.fakes.{name}", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control-port", type=int, default=0)
    for field, value in msgspec.to_builtins(defaults).items():
        flag = f"--{field.replace('_', '-')}"
        if isinstance(value, bool):
            action = argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=value)
        else:
            parser.add_argument(flag, type=type(value), default=value)
    return parser


def _settings(kind: type[_AnySettings], options: argparse.Namespace) -> _AnySettings:
    return kind(**{name: getattr(options, name) for name in kind.__struct_fields__})


class FakeProcess:
    """A fake that can be killed and frozen. Blocking; use before or beside a loop."""

    module: ClassVar[str]

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._group: ProcessGroup | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="fake.")
        self.log_path = Path(self._directory.name) / "log"
        self.url = ""
        self.control_url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        self._directory.cleanup()

    @property
    def port(self) -> int:
        """The port, once started."""
        return int(self.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The process id; 0 while there is none."""
        return 0 if self._group is None else self._group.pid

    def start(self) -> None:
        """Start the program, on the port it had before if any; returns once it listens."""
        fixed = ["--port", str(self.port)] if self.url else []
        argv = [sys.executable, "-m", self.module, *self._arguments, *fixed]
        self.log_path.unlink(missing_ok=True)
        self._group = group = ProcessGroup(argv, env=os.environ, log_path=self.log_path, cwd=_ROOT)
        wait_until(
            lambda: self._ready() is not None or not group.is_running(),
            limit_s=20,
            failure=lambda: tail_text(self.log_path, 20),
        )
        ready = self._ready()
        if ready is None:
            raise RuntimeError(tail_text(self.log_path, 20))
        self.url, self.control_url = ready["url"], ready["control"]

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.close()

    def freeze(self) -> None:
        """SIGSTOP: connections are still accepted by the kernel, nothing answers."""
        if self._group is not None:
            self._group.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        if self._group is not None:
            self._group.thaw()

    def close(self) -> None:
        """End the process whatever its state."""
        group, self._group = self._group, None
        if group is not None:
            group.kill()

    def set_faults(self, *faults: Fault) -> dict[str, Any]:
        """Replace all faults; none mends the fake."""
        return self._control("POST", "/_fault", msgspec.json.encode(list(faults)))

    def state(self) -> dict[str, Any]:
        """The fake's counters."""
        return self._control("GET", "/_state", None)

    def _ready(self) -> dict[str, Any] | None:
        for line in self.log_path.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith('{"url"') and line.endswith("\n"):
                ready: dict[str, Any] = json.loads(line)
                return ready
        return None

    def _control(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(self.control_url + path, data=body, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            state: dict[str, Any] = json.load(reply)
        return state


class FakeNodeProcess(FakeProcess):
    """A fake Ollama."""

    module = "tests.fakes.node"


class FakeLlamaProcess(FakeProcess):
    """A fake llama-server."""

    module = "tests.fakes.llama"


class FakeCloudProcess(FakeProcess):
    """A fake cloud, without TLS."""

    module = "tests.fakes.cloud"
