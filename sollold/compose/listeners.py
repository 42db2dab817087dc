"""The sockets this daemon listens on: its own, and those that a service manager keeps open.

A passed socket is used for what its name says (`api`, `console`, `metrics`), else for the address
of the configuration that it is bound to. An address that a passed socket covers is not bound again.
What nobody configured is served all the same, and said: closed here it would still be open in the
manager, and clients would wait there for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from sollold.config import LAN_CONSENT, Address
from sollold.config.address import is_loopback
from sollold.system.dirs import prepare
from sollold.system.listen import ListenError, bind_tcp, bind_unix, remove_unix
from sollold.system.lock import InstanceLock
from sollold.system.netif import normal_literal
from sollold.web.facts import Bound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.config import Config
    from sollold.system.activation import Passed
    from sollold.system.dirs import Dirs

_WILDCARDS = ("0.0.0.0", "::")
_LOCALHOST = ("127.0.0.1", "::1")

_log = logging.getLogger(__name__)


class PassedTooWide(ListenError):
    """A passed socket can be reached from the network, and nobody allowed that."""

    exit_code = 78


class PassedUnasked(ListenError):
    """A passed socket is none that the configuration knows a use for."""

    exit_code = 78


class Listeners:
    """Listening sockets by purpose, and the lock that says we are the only one."""

    def __init__(self, config: Config, dirs: Dirs, passed: Sequence[Passed] = ()) -> None:
        self._stack = contextlib.ExitStack()
        self._passed = tuple(passed)
        control = config.listen.control
        self._control_path = Path(control) if isinstance(control, str) else dirs.control_socket
        self.api: list[socket.socket] = []
        self.console: list[socket.socket] = []
        self.metrics: list[socket.socket] = []
        self.control: list[socket.socket] = []
        self._purposes = {
            "api": (self.api, config.listen.api_addresses(), "listen.api"),
            "console": (self.console, config.listen.console_addresses(), "listen.console"),
            "metrics": (self.metrics, config.metrics.addresses(), "metrics.listen"),
        }
        with contextlib.ExitStack() as stack:
            for item in passed:
                stack.enter_context(item.sock)
            prepare(dirs.runtime)
            stack.enter_context(InstanceLock(dirs.lock_file))
            for item in passed:
                self._sort(item, config)
            for into, addresses, setting in self._purposes.values():
                self._bind(stack, into, addresses, setting)
            self._require_api()
            self._bind_control(stack, config)
            self._stack = stack.pop_all()

    def is_passed(self, sock: socket.socket) -> bool:
        """Whether a service manager keeps this socket open when we close it."""
        return any(item.sock is sock for item in self._passed)

    def bound(self) -> Bound:
        """Return where clients connect."""
        return Bound(
            api=tuple(_name(sock) for sock in self.api),
            console=tuple(_name(sock) for sock in self.console),
            control=os.fsdecode(self.control[0].getsockname()) if self.control else None,
        )

    def names(self) -> frozenset[tuple[str, int]]:
        """Return (address, port) of every TCP listener, as bound."""
        return frozenset(_name(sock) for sock in (*self.api, *self.console, *self.metrics))

    def close(self) -> None:
        """Close the sockets and let go of the lock."""
        self._stack.close()

    def _sort(self, item: Passed, config: Config) -> None:
        """Find what a passed socket is for."""
        if item.sock.family == socket.AF_UNIX:
            self._sort_unix(item, config)
            return
        own = Address(*_name(item.sock))
        _check_reach(own, config)
        named = item.name if item.name in self._purposes else None
        bound = next((name for name in self._purposes if self._is_listed(own, name)), None)
        purpose = named or bound or "api"
        if not self._is_listed(own, purpose):
            setting = self._purposes[purpose][2]
            _log.warning(
                "%s, passed by the service manager, is not in %s; it is served as %s. "
                "Write the same addresses there and in sollold.socket",
                *(item.place, setting, purpose),
            )
        self._purposes[purpose][0].append(item.sock)

    def _sort_unix(self, item: Passed, config: Config) -> None:
        if config.listen.control is False:
            raise PassedUnasked(
                f"{item.place} is passed by the service manager, and listen.control is false; "
                "take it out of sollold.socket, or set listen.control to true"
            )
        if item.place != str(self._control_path):
            _log.warning(
                "%s, passed by the service manager, is not listen.control (%s); it is served like "
                "it. Write the same path there and in sollold.socket",
                *(item.place, self._control_path),
            )
        self.control.append(item.sock)

    def _require_api(self) -> None:
        """Refuse to start as nothing but a console."""
        listeners, addresses, setting = self._purposes["api"]
        if addresses and not listeners:
            raise PassedUnasked(
                f"nothing is left of {setting}: {', '.join(map(str, addresses))} is passed by the "
                "service manager for something else; in sollold.socket take out "
                "FileDescriptorName=, or write api there"
            )

    def _is_listed(self, own: Address, purpose: str) -> bool:
        return any(_is_same(own, address) for address in self._purposes[purpose][1])

    def _bind(
        self,
        stack: contextlib.ExitStack,
        into: list[socket.socket],
        addresses: tuple[Address, ...],
        setting: str,
    ) -> None:
        rest = tuple(address for address in addresses if not self._is_covered(address, setting))
        into += [stack.enter_context(sock) for sock in bind_tcp(rest, setting=setting)]

    def _is_covered(self, address: Address, setting: str) -> bool:
        """Whether a passed socket stands in the way of binding an address, and for it."""
        for item in self._passed:
            if item.sock.family == socket.AF_UNIX:
                continue
            own = Address(*_name(item.sock))
            if _is_same(own, address):
                return True
            if _collide(own, address):
                text = "%s in %s is not listened on: the service manager passes %s instead"
                _log.warning(text, address, setting, own)
                return True
        return False

    def _bind_control(self, stack: contextlib.ExitStack, config: Config) -> None:
        if config.listen.control is False:
            return
        path = self._control_path
        if any(os.fsdecode(sock.getsockname()) == str(path) for sock in self.control):
            return
        self.control.append(stack.enter_context(bind_unix(path)))
        stack.callback(remove_unix, path)


def _check_reach(own: Address, config: Config) -> None:
    if is_loopback(own.host) or config.listen.lan_without_keys == LAN_CONSENT:
        return
    raise PassedTooWide(
        f"{own}, passed by the service manager, can be reached from the network, and there are no "
        f"keys yet; write ListenStream=127.0.0.1:{own.port} in sollold.socket, or "
        f'lan_without_keys = "{LAN_CONSENT}" in [listen]'
    )


def _is_same(own: Address, configured: Address) -> bool:
    if own.port != configured.port:
        return False
    if configured.host == "localhost":
        return own.host in _LOCALHOST
    return normal_literal(own.host) == normal_literal(configured.host)


def _collide(own: Address, configured: Address) -> bool:
    """Whether both cannot be bound: one of them is every address, with the same port."""
    if own.port != configured.port or configured.port == 0:
        return False
    return own.host in _WILDCARDS or configured.host in _WILDCARDS


def _name(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return host, port
