"""One daemon per runtime directory, ensured by a lock on a file.

The file is never removed: removing it would let two daemons hold a lock of the same name.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Self

from sollold.errors import SollolError
from sollold.system.unit import unit_of

if TYPE_CHECKING:
    from pathlib import Path

_PID_BYTES = 32
_MOVE = "set XDG_RUNTIME_DIR to a local directory of this user"


class AlreadyRunning(SollolError):
    """Another daemon holds the lock; `pid` is None when it could not be read."""

    code = "already_running"
    exit_code = 75

    def __init__(self, path: Path, pid: int | None) -> None:
        who = f"another sollold is running (pid {pid})" if pid else "another sollold is running"
        unit = unit_of(pid) if pid else None
        by_hand = f"kill {pid}" if pid else "end that process"
        stop = by_hand
        if unit is not None and "sollold" in unit.name:
            stop = unit.systemctl("stop")
        super().__init__(f"{who} and holds {path}; stop it first: {stop}")
        self.pid = pid


class LockFailed(SollolError):
    """The lock file cannot be opened or locked."""

    code = "lock_failed"
    exit_code = 75


class InstanceLock:
    """The lock while it is held; as a context manager it is released at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = _open(path)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _read_pid(self._fd)
            os.close(self._fd)
            raise AlreadyRunning(path, pid) from None
        except OSError as exc:
            os.close(self._fd)
            raise LockFailed(f"{path} cannot be locked: {exc.strerror}; {_MOVE}") from exc
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another daemon start. May be called twice."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise LockFailed(f"{path} cannot be opened: {exc.strerror}; {_MOVE}") from exc


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, _PID_BYTES, 0).strip()
    return int(text) if text.isdigit() else None
