"""Names to literals, in the background and in the order in which to try them."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from typing import TYPE_CHECKING

from sollold.system.netif import normal_literal

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_ADDRESSES = 8

_SockAddr = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """Return the literals of a name, best first. Raises OSError when it has none."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return order_addresses(_literal(info[4]) for info in found)


def order_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """Drop duplicates, keep the system's order, put link-local addresses last."""
    unique = list(dict.fromkeys(address for address in addresses if address))
    return tuple(sorted(unique, key=_is_link_local)[:_MAX_ADDRESSES])


def _is_link_local(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_link_local


def _literal(sockaddr: _SockAddr) -> str:
    address = sockaddr[0]
    if not isinstance(address, str):  # pragma: no cover - an address family nobody asked for
        return ""
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in address:
        with contextlib.suppress(OSError):
            address = f"{address}%{socket.if_indextoname(sockaddr[3])}"
    return normal_literal(address)
