"""Messages to the service manager: ready, status, reloading, stopping, watchdog.

Does nothing when no manager listens. A message that cannot be sent is dropped: the manager is
informed, never relied upon.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_MICRO = 1_000_000
_STATUS_LENGTH = 500


VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""Meant for this process, and for no child of it."""


class Notifier:
    """Speaks to the socket that `NOTIFY_SOCKET` names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self.watchdog_s = _watchdog_s(environ)
        """How often the manager wants to hear `watchdog()`, at the latest; None: not at all."""

    @property
    def is_active(self) -> bool:
        """Whether a manager listens."""
        return self._socket is not None

    def ready(self, status: str = "") -> bool:
        """Tell that clients can connect. Like all messages, returns whether it was sent."""
        return self._send("READY=1", *_status(status))

    def reloading(self) -> bool:
        """Tell that the configuration is being read; `ready` ends that."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, text: str) -> bool:
        """Tell in one sentence how things are."""
        return self._send(*_status(text))

    def stopping(self, status: str = "") -> bool:
        """Tell that the daemon ends."""
        return self._send("STOPPING=1", *_status(status))

    def watchdog(self) -> bool:
        """Tell that the daemon is alive."""
        return self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for this much more time to start or stop."""
        return self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * _MICRO)}")

    def close(self) -> None:
        """Stop speaking. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, *lines: str) -> bool:
        if self._socket is None or not lines:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False
        return True


def _address(text: str) -> str:
    """Return what to send to; anything but a path or an abstract name is left alone."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _status(text: str) -> list[str]:
    line = " ".join(text.split())[:_STATUS_LENGTH]
    return [f"STATUS={line}"] if line else []


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    pid, period = environ.get("WATCHDOG_PID", ""), environ.get("WATCHDOG_USEC", "")
    if not period.isdecimal() or int(period) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(period) / _MICRO
