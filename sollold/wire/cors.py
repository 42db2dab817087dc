"""Who may ask: origins of web pages, and names a browser may know this daemon by.

Owns the rules that keep foreign web pages out. Must not build responses.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_network
from typing import Final

import msgspec

_BUILT_IN: Final = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")
        for port in ("", ":*")
        for scheme in ("http", "https")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
_METHODS: Final = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_MAX_AGE_S: Final = 43200
_STAINLESS: Final = (
    "Arch", "Async", "Custom-Poll-Interval", "Helper-Method", "Lang", "Os", "Package-Version",
    "Poll-Helper", "Retry-Count", "Runtime", "Runtime-Version", "Timeout",
)  # fmt: skip
_HEADERS: Final = ",".join(
    (
        "Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With", "Openai-Beta",
        *(f"X-Stainless-{name}" for name in _STAINLESS),
    )
)  # fmt: skip
_PREFLIGHT: Final = (
    ("Access-Control-Allow-Methods", _METHODS),
    ("Access-Control-Allow-Headers", _HEADERS),
    ("Access-Control-Max-Age", str(_MAX_AGE_S)),
)
_PREFLIGHT_VARY: Final = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"

_LOCAL_TOP_LEVELS: Final = (".localhost", ".local", ".internal")
_PRIVATE: Final = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_MAX_HOST_CHARS: Final = 300
_MAX_VERDICTS: Final = 64


class NotCors(msgspec.Struct, frozen=True):
    """No web page asks, or one of our own: no header is added."""


class Denied(msgspec.Struct, frozen=True):
    """A foreign web page asks: 403 with an empty body."""


class Allowed(msgspec.Struct, frozen=True):
    """A web page may ask: these headers go with the answer."""

    headers: tuple[tuple[str, str], ...]


class OriginPolicy:
    """The origins that may ask: those configured, and those Ollama always allows."""

    __slots__ = ("_allows_all", "_exact", "_wildcards")

    def __init__(self, allow: tuple[str, ...] = ()) -> None:
        entries = [text for entry in allow if (text := entry.strip())]
        self._allows_all = "*" in entries
        entries += _BUILT_IN
        self._exact = frozenset(entry.lower() for entry in entries if "*" not in entry)
        self._wildcards = tuple(
            (prefix, suffix)
            for prefix, star, suffix in (entry.partition("*") for entry in entries)
            if star
        )

    def decide(self, origin: str | None, host: str) -> NotCors | Denied | Allowed:
        """Judge a request by its `Origin` and `Host`."""
        if not origin or origin in (f"http://{host}", f"https://{host}"):
            return NotCors()
        if self._allows_all:
            return Allowed((("Access-Control-Allow-Origin", "*"),))
        if not self._is_listed(origin):
            return Denied()
        return Allowed((("Access-Control-Allow-Origin", origin), ("Vary", "Origin")))

    def preflight_headers(self) -> tuple[tuple[str, str], ...]:
        """Return what an allowed preflight gets besides, with status 204; it has its own `Vary`."""
        return _PREFLIGHT if self._allows_all else (*_PREFLIGHT, ("Vary", _PREFLIGHT_VARY))

    def _is_listed(self, origin: str) -> bool:
        return origin in self._exact or any(
            origin.startswith(prefix) and origin.endswith(suffix)
            for prefix, suffix in self._wildcards
        )


class HostPolicy:
    """The names a client may address a listener by; it keeps DNS rebinding out.

    Ollama checks only on loopback, where a web page could otherwise reach it under a foreign name.
    """

    __slots__ = ("_addresses", "_allows_all", "_names", "_suffixes", "_verdicts", "is_checked")

    def __init__(
        self,
        *,
        is_loopback_bind: bool,
        allowed: tuple[str, ...] = (),
        own_names: tuple[str, ...] = (),
        own_addresses: tuple[str, ...] = (),
    ) -> None:
        entries = tuple(_without_port(entry.strip()) for entry in allowed)
        self.is_checked = is_loopback_bind
        self._allows_all = "*" in entries
        self._names = frozenset((*entries, *(name.lower() for name in own_names), "localhost", ""))
        self._suffixes = (
            *_LOCAL_TOP_LEVELS,
            *(entry.removeprefix("*") for entry in entries if entry.startswith((".", "*."))),
        )
        self._addresses = frozenset(_address(text) for text in (*own_addresses, *entries)) - {None}
        self._verdicts: dict[str, bool] = {}

    def accepts(self, host: str) -> bool:
        """Whether a request with this `Host` may be answered; 403 with an empty body if not."""
        if not self.is_checked or self._allows_all:
            return True
        verdict = self._verdicts.get(host)
        if verdict is None:
            name = _without_port(host)
            address = _address(name)
            verdict = self._knows_name(name) if address is None else self._knows_address(address)
            if len(self._verdicts) < _MAX_VERDICTS and len(host) < _MAX_HOST_CHARS:
                self._verdicts[host] = verdict
        return verdict

    def is_name(self, host: str) -> bool:
        """Whether this `Host` is accepted as a name; such `OPTIONS` get 204 even without origin."""
        name = _without_port(host)
        return _address(name) is None and self._knows_name(name)

    def _knows_name(self, name: str) -> bool:
        return self._allows_all or name in self._names or name.endswith(self._suffixes)

    def _knows_address(self, address: IPv4Address | IPv6Address) -> bool:
        return (
            address.is_loopback
            or address.is_unspecified
            or address in self._addresses
            or any(address in network for network in _PRIVATE)
        )


def _without_port(host: str) -> str:
    """Return the name or address of a `Host` field, folded; absurdly long ones as no name."""
    folded = host[:_MAX_HOST_CHARS].lower()
    if folded.startswith("["):
        return folded[1:].partition("]")[0]
    name, colon, rest = folded.partition(":")
    return folded if colon and ":" in rest else name


def _address(text: str) -> IPv4Address | IPv6Address | None:
    bare = text.partition("%")[0]
    try:
        return IPv4Address(bare)
    except AddressValueError:
        pass
    try:
        address = IPv6Address(bare)
    except AddressValueError:
        return None
    return address.ipv4_mapped or address
