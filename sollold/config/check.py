"""Checks of values that have the right type: addresses, names, and what fits together."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, NamedTuple

from sollold.config.address import (
    Address,
    NodeUrl,
    is_loopback,
    is_wildcard,
    parse_listen,
    parse_node_url,
)
from sollold.config.fault import Fault
from sollold.config.keys import Path, path_text, value_at
from sollold.config.nodecheck import check_nodes
from sollold.config.schema import LAN_CONSENT, Config
from sollold.config.sources import origin_fault
from sollold.config.values import masked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_LISTENERS: tuple[Path, ...] = (("listen", "api"), ("listen", "console"), ("metrics", "listen"))

_ORDERED: tuple[tuple[Path, Path, str], ...] = (
    (("health", "timeout_s"), ("health", "interval_s"), "a probe would overlap the next"),
    (("health", "interval_s"), ("health", "backoff_max_s"), "it is the shortest such pause"),
    (("health", "eject_s"), ("health", "eject_max_s"), "it is the shortest such time"),
    (("limits", "body_bytes"), ("limits", "bodies_bytes"), "one body must fit"),
)
"""Pairs of which the first must not exceed the second, and why."""


class Bound(NamedTuple):
    """One address somebody wants to listen on."""

    path: Path
    address: Address


def validate(
    config: Config,
    *,
    environ: Mapping[str, str],
    own_addresses: frozenset[str] = frozenset(),
) -> list[Fault]:
    """Return everything that is wrong with a configuration whose types are right."""
    bounds, faults = _listeners(config)
    urls, url_faults = _urls(config)
    return [
        *faults,
        *_overlaps(bounds),
        *_lan(config, bounds),
        *_host_rules(config),
        *url_faults,
        *check_nodes(config.nodes, urls, environ),
        *_loops(urls, bounds, own_addresses),
        *_ordered(config),
        *_http(config),
        *_machine(config),
    ]


def points_at(target: Address, listener: Address, own_addresses: frozenset[str]) -> bool:
    """Whether connecting to `target` from this machine reaches `listener`."""
    if target.port != listener.port or listener.port == 0:
        return False
    if is_wildcard(listener.host):
        return is_loopback(target.host) or is_wildcard(target.host) or target.host in own_addresses
    if "localhost" in (target.host, listener.host):
        return is_loopback(target.host) and is_loopback(listener.host)
    return target.host == listener.host or (is_wildcard(target.host) and is_loopback(listener.host))


def _listeners(config: Config) -> tuple[list[Bound], list[Fault]]:
    bounds: list[Bound] = []
    faults: list[Fault] = []
    for path in _LISTENERS:
        for text in value_at(config, path):
            try:
                bounds.append(Bound(path, parse_listen(text)))
            except ValueError as exc:
                faults.append(Fault((path,), f'"{masked(text)}" {exc}'))
    if not config.listen.api:
        text = 'is empty, so no client could connect; write api = "127.0.0.1:11434"'
        faults.append(Fault((("listen", "api"),), text))
    return bounds, faults


def _overlaps(bounds: list[Bound]) -> Iterator[Fault]:
    for index, later in enumerate(bounds):
        for earlier in bounds[:index]:
            if not _collide(earlier.address, later.address):
                continue
            both = f"{later.address} and {earlier.address} ({path_text(earlier.path)})"
            text = f"{both} cannot both be listened on; give each its own port"
            yield Fault((later.path, earlier.path), text)


def _collide(one: Address, other: Address) -> bool:
    if one.port != other.port or one.port == 0:
        return False
    if one.host == other.host:
        return True
    hosts = (one.host, other.host)
    if "0.0.0.0" in hosts:
        return not any(":" in host for host in hosts)
    if "::" in hosts:
        return all(":" in host for host in hosts)
    return "localhost" in hosts and bool({"127.0.0.1", "::1"} & set(hosts))


def _lan(config: Config, bounds: list[Bound]) -> Iterator[Fault]:
    consent = config.listen.lan_without_keys
    if consent == LAN_CONSENT:
        return
    write = f'write lan_without_keys = "{LAN_CONSENT}" in [listen]'
    if consent:
        yield Fault((("listen", "lan_without_keys"),), f"is not the sentence asked for; {write}")
    for bound in bounds:
        if not is_loopback(bound.address.host):
            what = f"{bound.address} can be reached from the network, and there are no keys yet"
            remedy = f"listen on 127.0.0.1, or {write}"
            yield Fault((bound.path, ("listen", "lan_without_keys")), f"{what}; {remedy}")


def _host_rules(config: Config) -> Iterator[Fault]:
    for name in config.listen.allowed_hosts:
        if not name or "/" in name or any(letter.isspace() for letter in name):
            text = (
                f'"{masked(name)}" is not a host name; write the name alone, like "ai.example.org"'
            )
            yield Fault((("listen", "allowed_hosts"),), text)
    for network in config.listen.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            text = f'"{network}" is no address or network; write "192.168.1.2" or "10.0.0.0/8"'
            yield Fault((("listen", "trusted_proxies"),), text)


def _urls(config: Config) -> tuple[dict[Path, NodeUrl], list[Fault]]:
    texts: dict[Path, str] = {("nodes", i, "url"): node.url for i, node in enumerate(config.nodes)}
    if config.discovery.ollama_host:
        texts["discovery", "ollama_host"] = config.discovery.ollama_host
    urls: dict[Path, NodeUrl] = {}
    faults: list[Fault] = []
    for path, text in texts.items():
        try:
            urls[path] = parse_node_url(text)
        except ValueError as exc:
            faults.append(Fault((path,), f'"{masked(text)}" {exc}'))
    return urls, faults


def _loops(
    urls: dict[Path, NodeUrl], bounds: list[Bound], own_addresses: frozenset[str]
) -> Iterator[Fault]:
    for path, url in urls.items():
        for bound in bounds:
            if points_at(url.address, bound.address, own_addresses):
                what = f"{url} is this daemon itself ({path_text(bound.path)} {bound.address})"
                remedy = (
                    "move that Ollama to another port, for example with "
                    "OLLAMA_HOST=127.0.0.1:11436, and name it here"
                )
                yield Fault((path, bound.path), f"{what}; {remedy}")
                break


def _plain(number: float) -> str:
    """Write a number as people write it in the file: no exponents."""
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def _ordered(config: Config) -> Iterator[Fault]:
    for low, high, why in _ORDERED:
        least, most = value_at(config, low), value_at(config, high)
        if least > most:
            what = f"{_plain(least)} is more than {path_text(high)}, {_plain(most)}: {why}"
            text = f"{what}; lower this or raise that"
            yield Fault((low, high), text)


def _http(config: Config) -> Iterator[Fault]:
    for origin in config.http.origins:
        fault = origin_fault(origin)
        if fault is not None:
            yield Fault((("http", "origins"),), f'"{masked(origin)}" {fault}')
    if not _VERSION.fullmatch(config.http.version_floor):
        text = f'"{config.http.version_floor}" is no version; write it like "0.33.0"'
        yield Fault((("http", "version_floor"),), text)


def _machine(config: Config) -> Iterator[Fault]:
    """Check what depends on this machine rather than on the text."""
    spool_dir = config.limits.spool_dir
    if spool_dir and not (FilePath(spool_dir).is_dir() and os.access(spool_dir, os.W_OK | os.X_OK)):
        text = f'"{spool_dir}" is no directory this user may write to; create it'
        yield Fault((("limits", "spool_dir"),), text)
    if config.server.loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        text = 'uvloop is not installed; install sollold[fast], or write loop = "auto"'
        yield Fault((("server", "loop"),), text)
