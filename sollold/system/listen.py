"""Listening sockets, bound before the event loop starts.

A port that is taken is reported with who holds it and what to do; for an Ollama on its own port,
with the exact steps to move it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from sollold.errors import SollolError
from sollold.system.holder import Holder, find_holder, free_port, moving_steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BACKLOG = 1024
"""Connections that may wait to be accepted; whoever serves a socket must ask for it again."""

_OLLAMA_PORT = 11434
_UNIX_PATH_BYTES = 107
_CONNECT_S = 1.0
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


Resolver = Callable[[str, int, str], list[tuple[int, tuple[object, ...]]]]
"""Host, port and the key to name in an error; returns families and socket addresses."""


class ListenError(SollolError):
    """A listening socket cannot be had."""

    code = "listen"
    exit_code = 75


class AddressTaken(ListenError):
    """Somebody else listens there; `holder` says who, as far as it can be known."""

    code = "address_taken"

    def __init__(self, message: str, holder: Holder | None) -> None:
        super().__init__(message)
        self.holder = holder


def bind_tcp(
    addresses: Sequence[tuple[str, int]],
    *,
    setting: str = "listen.api",
    who: Callable[[str, int], Holder | None] = find_holder,
    resolve: Resolver | None = None,
) -> list[socket.socket]:
    """Listen on every address, or on none and say why; `setting` names the key to change.

    Names are resolved, which may take a moment. "::" takes IPv4 too, unless an IPv4 address with
    the same port is listed.
    """
    v4_ports = {port for host, port in addresses if ":" not in host}
    with contextlib.ExitStack() as opened:
        sockets: list[socket.socket] = []
        for host, port in addresses:
            is_dual = host == "::" and port not in v4_ports
            found = (resolve or _resolve)(host, port, setting)
            bound = _bind_host(host, port, found, is_dual=is_dual, setting=setting, who=who)
            sockets += [opened.enter_context(sock) for sock in bound]
        opened.pop_all()
    return sockets


def bind_unix(path: Path, mode: int = 0o600) -> socket.socket:
    """Listen on a Unix socket; a stale one is removed only when nobody answers there."""
    if len(os.fsencode(path)) > _UNIX_PATH_BYTES:
        raise ListenError(
            f"{path} is too long for a Unix socket, {_UNIX_PATH_BYTES} bytes at most; "
            "set listen.control to a shorter path"
        )
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Before bind, so that there is no moment in which others may connect.
        os.fchmod(sock.fileno(), mode)
        sock.bind(os.fspath(path))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise ListenError(
            f"cannot listen on {path}: {exc.strerror}; set listen.control to another path, or false"
        ) from exc
    return sock


def remove_unix(path: Path) -> None:
    """Remove a control socket of ours after it was closed."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _bind_host(
    host: str,
    port: int,
    found: list[tuple[int, tuple[object, ...]]],
    *,
    is_dual: bool,
    setting: str,
    who: Callable[[str, int], Holder | None],
) -> list[socket.socket]:
    """Listen on all addresses a host has; one of several may be missing on this machine."""
    sockets: list[socket.socket] = []
    refusals: list[OSError] = []
    for family, address in found:
        try:
            sockets.append(_bind(family, address, is_dual=is_dual))
        except OSError as exc:
            if exc.errno not in _ABSENT:
                _close(sockets)
                raise _explain(host, port, exc, setting, who) from exc
            refusals.append(exc)
    if not sockets:
        raise _explain(host, port, refusals[0], setting, who) from refusals[0]
    return sockets


def _resolve(host: str, port: int, setting: str) -> list[tuple[int, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except socket.gaierror as exc:
        raise ListenError(
            f"cannot listen on {_shown(host, port)}: {exc.strerror}; "
            f"write an address of this machine in {setting}"
        ) from exc
    unique = dict.fromkeys((int(family), tuple(address)) for family, *_, address in found)
    ordered = sorted(unique, key=lambda item: item[0] != socket.AF_INET)
    # Port 0 twice would give two ports for one address.
    return ordered if port else ordered[:1]


def _bind(family: int, address: tuple[object, ...], *, is_dual: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if is_dual else 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _explain(
    host: str,
    port: int,
    exc: OSError,
    setting: str,
    who: Callable[[str, int], Holder | None],
) -> ListenError:
    shown = _shown(host, port)
    if exc.errno == errno.EADDRINUSE:
        return _taken(host, port, who(host, port), setting)
    if exc.errno == errno.EACCES:
        reason = "ports below 1024 are for root; write a higher one"
    elif exc.errno in _ABSENT:
        reason = "this machine has no such address; write one it has, or 0.0.0.0 for all"
    else:
        reason = f"{exc.strerror}; write another address"
    return ListenError(f"cannot listen on {shown}: {reason}, in {setting}")


def _taken(host: str, port: int, holder: Holder | None, setting: str) -> AddressTaken:
    shown = _shown(host, port)
    if holder is not None and holder.is_ollama and port == _OLLAMA_PORT:
        return AddressTaken(f"{shown} is taken by {holder}. {moving_steps(holder)}", holder)
    by = f" by {holder}" if holder is not None else ""
    other = _shown(host, free_port(port + 1))
    text = f"{shown} is taken{by}; stop that program, or write another address in {setting}: "
    return AddressTaken(f'{text}"{other}"', holder)


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except OSError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"{path} exists and is no socket; move it, or set listen.control")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(_CONNECT_S)
        try:
            caller.connect(os.fspath(path))
        except ConnectionRefusedError:
            remove_unix(path)
            return
        except FileNotFoundError:
            return
        except OSError as exc:
            # Full, slow or forbidden: somebody is there.
            raise _answered(path) from exc
    raise _answered(path)


def _answered(path: Path) -> AddressTaken:
    text = f"{path} is in use by another program; stop it, or set listen.control to another path"
    return AddressTaken(text, None)


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
