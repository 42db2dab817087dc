"""The small files that people name: never read from what is no file, never without end.

A pipe would keep its reader waiting for good, and a device may never end.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1024 * 1024
"""Files of settings that people write are far smaller."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NoFile(OSError):
    """What is named is no regular file, or too large to be one of settings."""

    def __init__(self, reason: str) -> None:
        super().__init__(None, reason)


def require_file(path: Path) -> None:
    """Make sure, without opening it, that a path leads to a regular file.

    Raises:
        OSError: it does not, or cannot be looked at; `strerror` says why.
    """
    _judge(path.stat().st_mode)


def read_small(path: Path) -> bytes:
    """Return what a regular file of at most MAX_BYTES holds.

    Raises:
        OSError: it is none, too large, or closed to this user; `strerror` says why.
    """
    require_file(path)
    # Another may stand there by now: opening it waits for nobody, and it is judged once more.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _judge(os.fstat(fd).st_mode)
        with open(fd, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    finally:
        os.close(fd)
    if len(content) > MAX_BYTES:
        raise NoFile(f"it has more than {MAX_BYTES // 1024} KiB, too much for a file of settings")
    return content


def _judge(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise NoFile(f"it is {kind}, not a regular file")
