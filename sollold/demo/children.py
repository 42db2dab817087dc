"""The demo's child processes. None outlives it, however it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05
_TAIL_BYTES = 4096
_ILLEGAL = "; it was built for another processor than this machine's"

_libc = ctypes.CDLL(None)


class Child:
    """One process in a session of its own: a Ctrl-C at the terminal reaches the demo only."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log_path: Path,
        grace_s: float,
    ) -> None:
        self.name = name
        self._grace_s = grace_s
        self._log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and the engine's
                [str(part) for part in argv],
                env=dict(env),
                # Python looks for modules in the folder it is started in: not in the person's.
                cwd=log_path.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_tie_to(os.getpid()),  # noqa: PLW1509 - no thread runs yet
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ending(self) -> str:
        """Say how it ended."""
        return ending_of(self._process.returncode)

    def tail(self, lines: int) -> list[str]:
        """Return the last lines of what it wrote."""
        try:
            with self._log_path.open("rb") as log:
                size_bytes = log.seek(0, os.SEEK_END)
                log.seek(max(0, size_bytes - _TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return []
        return text.splitlines()[-lines:]

    def stop(self) -> None:
        """Ask it to stop, and kill it when it takes too long."""
        if not self.is_running:
            return
        self._process.terminate()
        try:
            self._process.wait(self._grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Children:
    """All children of a demo; leaving the context stops them, the last started first."""

    def __init__(self, on_stop: Callable[[], None]) -> None:
        self._on_stop = on_stop
        self._started: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._on_stop()
        for child in reversed(self._started):
            child.stop()

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        folder: Path,
        grace_s: float,
    ) -> Child:
        """Start a child with its log in `folder`; it has `grace_s` to stop when asked."""
        log_path = folder / f"{name}.log"
        child = Child(name, argv, env=env, log_path=log_path, grace_s=grace_s)
        self._started.append(child)
        return child


def wait_until(is_so: Callable[[], bool], *, limit_s: float, on_wait: Callable[[], None]) -> bool:
    """Wait for something that nobody tells; return whether it came to be in time."""
    deadline_s = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() >= deadline_s:
            return False
        on_wait()
        time.sleep(_POLL_S)
    return True


def ending_of(code: int | None) -> str:
    """Say how a process with this exit code ended; negative codes are signals."""
    if code is None:
        return "runs"
    if code >= 0:
        return f"ended with exit code {code}"
    name = str(-code)
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
    return f"was ended by {name}" + (_ILLEGAL if code == -signal.SIGILL else "")


def _tie_to(parent_pid: int) -> Callable[[], None]:
    """Return what a child does before it becomes its program: it asks to be killed with us."""

    def tie() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:
            os._exit(1)  # we are gone already, and nobody will tell

    return tie
