"""This machine's own addresses."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_REFRESH_S = 30.0
_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6})

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_addresses() -> list[str]:
    """Ask the system for the addresses of all interfaces."""
    found = psutil.net_if_addrs().values()
    return [item.address for interface in found for item in interface]


def interfaces() -> frozenset[str]:
    """Return the Internet addresses of all interfaces as literals, with zones where they count."""
    return frozenset(
        normal_literal(entry.address)
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in _FAMILIES
    )


def normal_literal(address: str) -> str:
    """Return one spelling per address; text that is no literal comes back unchanged."""
    bare, _, zone = address.partition("%")
    try:
        parsed = ipaddress.ip_address(bare)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{parsed}%{zone}" if zone and parsed.is_link_local else str(parsed)


class OwnAddresses:
    """Which addresses are this machine's; asks the system at most every `refresh_s`."""

    def __init__(
        self,
        read: Callable[[], Iterable[str]] = read_addresses,
        *,
        refresh_s: float = _REFRESH_S,
    ) -> None:
        self._read = read
        self._refresh_s = refresh_s
        self._known: frozenset[IpAddress] = frozenset()
        self._read_at: float | None = None

    def is_own(self, address: str, now: float) -> bool:
        """Whether connecting to a literal address stays on this machine; a name never does."""
        literal = parse_ip(address)
        if literal is None:
            return False
        return literal.is_loopback or literal.is_unspecified or literal in self._fresh(now)

    def addresses(self, now: float) -> frozenset[str]:
        """Return all own addresses as text, loopback included."""
        return frozenset(str(address) for address in self._fresh(now))

    def _fresh(self, now: float) -> frozenset[IpAddress]:
        if self._read_at is None or now - self._read_at >= self._refresh_s:
            parsed = (parse_ip(address) for address in self._read())
            self._known = frozenset(address for address in parsed if address is not None)
            self._read_at = now
        return self._known


def parse_ip(text: str) -> IpAddress | None:
    """Read a literal address without its zone; an IPv4 address inside IPv6 becomes IPv4."""
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else address
