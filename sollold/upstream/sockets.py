"""TCP options that make a vanished peer known: keep-alive probes and the user time-out.

A closed laptop or a node that lost power sends nothing, not even a FIN.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

KEEPALIVE_IDLE_S = 15
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_PROBES = 4

_TCP = socket.IPPROTO_TCP
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_FLUSH_ON_CLOSE = struct.pack("ii", 0, 0)


class Tuner:
    """Sets the options of connections that serve many requests, once each."""

    def __init__(self, *, user_timeout_s: float) -> None:
        self._user_timeout_s = user_timeout_s
        self._tuned: WeakSet[asyncio.BaseTransport] = WeakSet()

    def tune(self, transport: asyncio.BaseTransport) -> None:
        """Set the options of a connection unless that was done; asking the kernel costs more."""
        if transport not in self._tuned:
            self._tuned.add(transport)
            tune(transport, user_timeout_s=self._user_timeout_s)


def tune(transport: asyncio.BaseTransport, *, user_timeout_s: float) -> None:
    """Set the options of a connection, unless its listener already handed them down."""
    with _socket_of(transport) as sock:
        if sock is not None and not sock.getsockopt(_TCP, socket.TCP_USER_TIMEOUT):
            tune_socket(sock, user_timeout_s=user_timeout_s)


def tune_socket(sock: socket.socket, *, user_timeout_s: float) -> None:
    """Set the options of a TCP socket; what a listener accepts inherits them.

    The peer is given up when it acknowledges nothing, or opens no window, for `user_timeout_s`.
    """
    sock.setsockopt(_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setsockopt(_TCP, socket.TCP_USER_TIMEOUT, max(1, round(user_timeout_s * 1000)))


def reset_on_close(transport: asyncio.BaseTransport, *, is_on: bool) -> None:
    """Choose whether closing sends a reset, which no reader takes for a complete message."""
    with _socket_of(transport) as sock:
        if sock is not None:
            option = _RESET_ON_CLOSE if is_on else _FLUSH_ON_CLOSE
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)


def unacknowledged_bytes(transport: asyncio.BaseTransport) -> int:
    """Return what the kernel holds that the peer has not taken; 0 when nobody can tell.

    The transport alone shows a slow peer's progress only after a third of this has gone.
    """
    answer = b""
    with _socket_of(transport) as sock:
        if sock is not None:
            answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


@contextmanager
def _socket_of(transport: asyncio.BaseTransport) -> Iterator[socket.socket | None]:
    # uvloop's stand-in builds a socket for each call; one for all of them is four times cheaper.
    shared = transport.get_extra_info("socket")
    if shared is None or shared.family not in (socket.AF_INET, socket.AF_INET6):
        yield None
        return
    try:
        sock = socket.socket(shared.family, shared.type, shared.proto, fileno=shared.fileno())
    except (OSError, ValueError):
        # Closed already; the transport will say so itself.
        yield None
        return
    try:
        yield sock
    except OSError:
        pass
    finally:
        sock.detach()
