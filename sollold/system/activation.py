"""Listening sockets that a service manager opened and passes on, so that they outlive a restart."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_FIRST_FD = 3
_MAX_FDS = 64
_MAX_DIGITS = 4
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_log = logging.getLogger(__name__)


class Passed(NamedTuple):
    """One socket that listens already."""

    name: str
    """What the unit calls it; a socket unit's own name when it says nothing."""
    sock: socket.socket

    @property
    def place(self) -> str:
        """Where it listens, in words."""
        name = self.sock.getsockname()
        if self.sock.family == socket.AF_UNIX:
            return os.fsdecode(name)
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def take_passed(environ: MutableMapping[str, str], first_fd: int = _FIRST_FD) -> list[Passed]:
    """Return the sockets passed to this process; no child of it will have them.

    Takes the variables that say so out of `environ`. What is no listening socket is closed.
    """
    pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    # Before it is read as a number: one of thousands of digits cannot be.
    if len(count) > _MAX_DIGITS or int(count) > _MAX_FDS:
        _log.warning("LISTEN_FDS is %.12s: more than %d sockets, none is used", count, _MAX_FDS)
        return []
    found = []
    faults = []
    labels = names.split(":")
    for number in range(int(count)):
        try:
            sock = _take(first_fd + number)
        except OSError as exc:
            faults.append(f"{first_fd + number} {exc.strerror}")
        else:
            found.append(Passed(labels[number] if number < len(labels) else "", sock))
    if faults:
        text = "descriptors that the service manager passes cannot be used, and are closed: %s"
        _log.warning(text, ", ".join(faults))
    return found


def _take(fd: int) -> socket.socket:
    """Return the listening socket that a descriptor is; close any other, with an OSError."""
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise OSError(exc.errno, f"is no socket ({exc.strerror})") from exc
    is_stream = sock.family in _FAMILIES and sock.type == socket.SOCK_STREAM
    if not is_stream or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise OSError(None, "does not listen")
    sock.setblocking(False)
    return sock
