"""A child process with everything it starts, as one group: started, frozen, ended together.

A group never outlives the process that made it, however that one ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The guard reads from a pipe that only its maker holds open for writing: end of file means that
# the maker is gone, whatever ended it.
_GUARD = 'read -r _; kill -s KILL -- "-$1"'
_ENDED = frozenset({"Z", "X"})
_KILLED_WITHIN_S = 10.0
_FROZEN_WITHIN_S = 5.0
_POLL_EVERY_S = 0.005


class ProcessGroup:
    """One command in a process group of its own, with both outputs in one log file."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log_path: Path,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        with log_path.open("ab") as log:
            self._leader = subprocess.Popen(
                [str(part) for part in argv],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self._leader.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._exit_fd = os.pidfd_open(self._leader.pid)
        self.leftover_pids: tuple[int, ...] = ()
        """What the leader left running when it ended; killed with the group."""

    @property
    def pid(self) -> int:
        """The leader's process id, which is the group's id too."""
        return self._leader.pid

    @property
    def exit_code(self) -> int | None:
        """The leader's exit code, once the group has ended."""
        return self._leader.returncode

    def is_running(self) -> bool:
        """Whether the leader runs; a frozen one does."""
        return self.exit_code is None and not self._leader_ends_within(0.0)

    def member_pids(self) -> tuple[int, ...]:
        """The live processes of the group."""
        return tuple(pid for pid in _all_pids() if _live_group_of(pid) == self.pid)

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the leader only."""
        if self.exit_code is None:
            os.kill(self.pid, signum)

    def freeze(self) -> None:
        """Stop every process of the group where it stands; sockets stay open."""
        self._send_group(signal.SIGSTOP)
        # A thread that is computing stops a moment after the signal was sent.
        deadline = time.monotonic() + _FROZEN_WITHIN_S
        while not all(map(_is_stopped, self.member_pids())) and time.monotonic() < deadline:
            time.sleep(_POLL_EVERY_S)

    def thaw(self) -> None:
        """Let a frozen group go on."""
        self._send_group(signal.SIGCONT)

    def terminate(self, *, grace_s: float = 15.0) -> int:
        """Ask the leader to end, wait, then kill what is left; the leader's exit code."""
        if self.exit_code is None:
            self.thaw()
            self.send(signal.SIGTERM)
            self._leader_ends_within(grace_s)
        return self.kill()

    def wait(self, *, limit_s: float) -> int:
        """Wait for the leader to end by itself, then kill what it left; its exit code."""
        if self.exit_code is None and not self._leader_ends_within(limit_s):
            raise TimeoutError(f"process {self.pid} still runs after {limit_s} s")
        return self.kill()

    def kill(self) -> int:
        """Kill the whole group at once; the leader's exit code."""
        if self.exit_code is not None:
            return self.exit_code
        if self._leader_ends_within(0.0):
            self.leftover_pids = self.member_pids()
        # The leader is not reaped yet, so its number cannot belong to somebody else.
        self._send_group(signal.SIGKILL)
        self._leader_ends_within(_KILLED_WITHIN_S)
        self._await_empty()
        exit_code = self._leader.wait(timeout=_KILLED_WITHIN_S)
        self._dismiss_guard()
        os.close(self._exit_fd)
        return exit_code

    def _leader_ends_within(self, limit_s: float) -> bool:
        poll = select.poll()
        poll.register(self._exit_fd, select.POLLIN)
        return bool(poll.poll(limit_s * 1000))

    def _await_empty(self) -> None:
        deadline = time.monotonic() + _KILLED_WITHIN_S
        while self.member_pids() and time.monotonic() < deadline:
            time.sleep(_POLL_EVERY_S)

    def _send_group(self, signum: signal.Signals) -> None:
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signum)

    def _dismiss_guard(self) -> None:
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _live_group_of(pid: int) -> int | None:
    state, group = _state_and_group(Path(f"/proc/{pid}/stat"))
    return None if state in _ENDED else group


def _is_stopped(pid: int) -> bool:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return True
    return all(_state_and_group(thread / "stat")[0] in {"T", *_ENDED} for thread in threads)


def _state_and_group(path: Path) -> tuple[str, int]:
    try:
        stat = path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    # The command name may hold spaces and brackets; the fixed fields follow its last bracket.
    state, _parent, group = stat.rpartition(")")[2].split()[:3]
    return state, int(group)
