"""A real server that a test starts, freezes, kills and starts again on the same port."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from tests.stack.http import answers, wait_until
from tests.stack.logs import tail_text
from tests.stack.ports import free_port
from tests.stack.processes import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_READY_WITHIN_S = 30.0


class RealServer(ABC):
    """One server with a directory and a port of its own; not started yet."""

    name: str
    """What failures call it."""
    ready_path: str
    """Answers 200 as soon as the server serves."""

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = directory / "server.log"
        self._group: ProcessGroup | None = None

    @abstractmethod
    def argv(self) -> list[str]:
        """The command."""

    @abstractmethod
    def env(self) -> Mapping[str, str]:
        """All of its environment."""

    @property
    def is_running(self) -> bool:
        """Whether the process runs, frozen or not."""
        return self._group is not None and self._group.is_running()

    @property
    def group(self) -> ProcessGroup:
        """The processes of the running server, engines included."""
        if self._group is None:
            raise RuntimeError(f"this {self.name} was never started")
        return self._group

    def start(self) -> None:
        """Start and wait until it answers. Does nothing when it runs already."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start without waiting."""
        if not self.is_running:
            self._group = ProcessGroup(self.argv(), env=self.env(), log_path=self.log_path)

    def wait_ready(self, *, limit_s: float = _READY_WITHIN_S) -> None:
        """Wait until it answers; raises with the end of its log when it does not."""
        wait_until(self._has_settled, limit_s=limit_s, failure=self._describe)
        if not self.is_running:
            raise RuntimeError(self._describe())

    def stop(self) -> None:
        """End it as a service manager would."""
        if self._group is not None:
            self._group.terminate()

    def kill(self) -> None:
        """End it with its engines, without warning."""
        if self._group is not None:
            self._group.kill()

    def restart(self) -> None:
        """End it, start it on the same port, wait until it answers."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop it and its engines where they stand: connections open, nothing answered."""
        self.group.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self.group.thaw()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen inside the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def log_tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return tail_text(self.log_path, lines)

    def _has_settled(self) -> bool:
        return not self.is_running or answers(self.url + self.ready_path)

    def _describe(self) -> str:
        tail = self.log_tail()
        return f"{self.name} on port {self.port} does not answer; its log ends:\n{tail}"


def mend(servers: tuple[RealServer, ...]) -> None:
    """Have all of these run again, whatever a test did to them."""
    for server in servers:
        if server.is_running:
            server.thaw()
        server.launch()
    for server in servers:
        server.wait_ready()
