"""Addresses as people write them: listeners, nodes, `OLLAMA_HOST`.

Pure text work: nothing is resolved or opened.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

OLLAMA_PORT = 11434

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")
_NUMBERS = re.compile(r"[0-9.]+")
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Address(NamedTuple):
    """A host (name or literal, without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class NodeUrl(NamedTuple):
    """Where a node answers; `str()` is the normal form."""

    scheme: str
    address: Address
    path: str
    """Empty, or a slash and more, without a slash at the end."""
    is_port_given: bool

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}{self.path}"


def parse_listen(text: str) -> Address:
    """Read `host:port`, both required; the ValueError says what to write instead."""
    if any(mark in text for mark in "@?#"):
        raise ValueError('has more than host and port; write "127.0.0.1:PORT", for example')
    host, port = _split(text.strip())
    if not host:
        raise ValueError(
            'names no host; write "127.0.0.1:PORT" for this machine only, '
            '"0.0.0.0:PORT" or "[::]:PORT" for the network'
        )
    if port is None:
        raise ValueError(f'names no port; write "{Address(host, OLLAMA_PORT)}", for example')
    return Address(host, port)


def parse_node_url(text: str) -> NodeUrl:
    """Read a node's address in any usual form; the ValueError says what is wrong."""
    # First, so that no other fault repeats a piece of a secret.
    if "@" in text:
        raise ValueError("carries a user or password; put a key in a variable and name it: key_env")
    if "?" in text or "#" in text:
        raise ValueError("has a query or fragment; write scheme, host, port and path only")
    scheme, is_url, rest = text.strip().partition("://")
    if not is_url:
        scheme, rest = "http", text.strip()
    scheme = scheme.lower()
    if scheme not in ("http", "https"):
        raise ValueError(f'has the scheme "{scheme}"; write http:// or https://')
    authority, _, path = rest.partition("/")
    host, port = _split(authority)
    if not host:
        raise ValueError('names no host; write "host", "host:port" or "http://host:port"')
    if port == 0:
        raise ValueError(f'has port 0; write "{Address(host, OLLAMA_PORT)}", for example')
    default = 443 if scheme == "https" else OLLAMA_PORT
    path = _without_version(path.strip("/"))
    address = Address(host, default if port is None else port)
    return NodeUrl(scheme, address, f"/{path}" if path else "", port is not None)


def parse_ollama_host(text: str) -> NodeUrl:
    """Read `OLLAMA_HOST` as Ollama's own client does: 80 for http://, wildcards mean loopback."""
    scheme, is_url, rest = text.strip().strip("\"'").strip().rpartition("://")
    authority = rest.partition("/")[0]
    head, colon, port = authority.rpartition(":")
    is_port = colon and not head.endswith(":") and not port.endswith("]")
    if is_port and not _is_port(port):
        authority = head
    if is_port and not head:
        authority = f"127.0.0.1{authority}"
    url = parse_node_url(f"{scheme}{is_url}{authority}")
    host = _WILDCARDS.get(url.address.host, url.address.host)
    port_number = url.address.port
    if url.scheme == "http" and is_url and not url.is_port_given:
        port_number = 80
    return url._replace(address=Address(host, port_number))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether a listener on `host` takes every address of this machine."""
    return host in _WILDCARDS


def _without_version(path: str) -> str:
    """Cut what OpenAI's clients want at the end of an address: requests bring it along."""
    return path[:-2].rstrip("/") if path == "v1" or path.endswith("/v1") else path


def _split(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError('has a bracket too many or too few; write "[::1]:PORT"')
        port: str | None = rest[1:] if rest else None
        if not _is_ipv6(host):
            raise ValueError(f'has "{host}" in brackets, no IPv6 address; leave the brackets out')
    elif text.count(":") > 1:
        if not _is_ipv6(text):
            raise ValueError('is no address; an IPv6 address with a port is written "[::1]:PORT"')
        host, port = text, None
    else:
        host, colon, rest = text.partition(":")
        port = rest if colon else None
    _check_host(host)
    return _short(host), None if port is None else _port(port)


def _check_host(host: str) -> None:
    if not host or _is_ipv6(host):
        return
    if _NUMBERS.fullmatch(host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError("is no IPv4 address; write four numbers up to 255") from None
    elif len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise ValueError('has a host that is neither name nor address; write "host:port"')


def _short(host: str) -> str:
    """Return the one usual spelling of an IPv6 address, which is compared; all else as it is."""
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return host if address.ipv4_mapped else str(address)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 65536


def _port(text: str) -> int:
    if not _is_port(text):
        raise ValueError(f'has the port "{text}"; write a number from 0 to 65535')
    return int(text)
