"""This machine's own addresses and this daemon's own listeners.

Tells which addresses lead back to this daemon, and which two mean the same machine: this one.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

import msgspec

from sollold.system.netif import interfaces, normal_literal

_WILDCARDS = frozenset({"0.0.0.0", "::"})
_USUAL_LOOPBACK = frozenset({"127.0.0.1", "::1", *_WILDCARDS})
_THIS_MACHINE = "this machine"


class OwnAddresses(msgspec.Struct, frozen=True):
    """Where this daemon listens and which addresses its machine has, all as literals."""

    listeners: frozenset[tuple[str, int]] = frozenset()
    """As bound: real ports, wildcards as such."""
    interfaces: frozenset[str] = frozenset()

    def is_local(self, address: str) -> bool:
        """Whether the address leads to this machine."""
        address = normal_literal(address)
        if address in _WILDCARDS or address in self.interfaces:
            return True
        try:
            return ipaddress.ip_address(address.partition("%")[0]).is_loopback
        except ValueError:
            return False

    def machine(self, address: str) -> str:
        """Return one name for all of this machine's addresses, others unchanged.

        Further loopback addresses are servers of their own to those who set them up.
        """
        address = normal_literal(address)
        is_this = address in _USUAL_LOOPBACK or address in self.interfaces
        return _THIS_MACHINE if is_this else address

    def is_daemon(self, address: str, port: int) -> bool:
        """Whether a connection to address and port reaches this daemon."""
        address = normal_literal(address)
        if (address, port) in self.listeners:
            return True
        is_any = any((wildcard, port) in self.listeners for wildcard in _WILDCARDS)
        return is_any and self.is_local(address)


def find_own_addresses(listeners: frozenset[tuple[str, int]]) -> OwnAddresses:
    """Read the interfaces of this machine; `listeners` are literals and ports as bound."""
    return OwnAddresses(frozenset((normal_literal(h), p) for h, p in listeners), interfaces())


@lru_cache(maxsize=1024)
def is_literal(host: str) -> bool:
    """Whether the host is an address rather than a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
