"""Checks of `[[nodes]]`: names, addresses, certificates, and what is offered under which name."""

from __future__ import annotations

import re
import ssl
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from sollold.config.address import NodeUrl
from sollold.config.fault import Fault
from sollold.config.keys import path_text
from sollold.config.pin import parse_pin
from sollold.config.text import require_file
from sollold.core.names import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sollold.config.address import Address
    from sollold.config.keys import Path
    from sollold.config.node import Node
    from sollold.core.model import ModelKey

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_VARIABLE = re.compile(r"(?=.{1,48}$)[A-Z][A-Z0-9]{0,15}(_[A-Z0-9]{1,15})*")
"""What people call variables. Keys look otherwise, though some could be names."""

_HEADER_VALUE = re.compile(r"[\x20-\x7e\xa0-\xff]+")
"""Latin-1 without control characters."""

_USUAL_PORT = {"llama_server": 8080, "openai": 8000}


def check_nodes(
    nodes: Sequence[Node], urls: Mapping[Path, NodeUrl], environ: Mapping[str, str]
) -> Iterator[Fault]:
    """Return everything that is wrong with nodes whose types and addresses are right."""
    names: dict[str, Path] = {}
    places: dict[tuple[Address, str], Path] = {}
    for index, node in enumerate(nodes):
        path: Path = ("nodes", index)
        url = urls.get((*path, "url"))
        if node.name is not None:
            yield from _name((*path, "name"), node.name, names)
        if url is not None:
            yield from _once((*path, "url"), url, places)
            yield from _port(path, node, url)
        if node.mac is not None and not _MAC.fullmatch(node.mac):
            text = f'"{node.mac}" is no hardware address; write it like "3c:7c:3f:1a:2b:4d"'
            yield Fault(((*path, "mac"),), text)
        if node.key_env is not None:
            yield from _key((*path, "key_env"), node.key_env, environ.get(node.key_env))
        yield from _certificate(path, node, url)
        yield from _offered(path, node)


def _name(path: Path, name: str, seen: dict[str, Path]) -> Iterator[Fault]:
    if not _NAME.fullmatch(name):
        text = f'"{name}" cannot be a name; use letters, digits, ".", "_" and "-", at most 63'
        yield Fault((path,), text)
        return
    first = seen.setdefault(name.casefold(), path)
    if first != path:
        text = f'"{name}" is taken by {path_text(first[:2])}; give each node its own name'
        yield Fault((path, first), text)


def _key(path: Path, name: str, key: str | None) -> Iterator[Fault]:
    """Check where the key comes from; text that may itself be the key is not repeated."""
    if not key:
        if not _VARIABLE.fullmatch(name):
            text = "is no name of a variable; write the name of one that holds the key, not the key"
        elif not _PLAIN_VARIABLE.fullmatch(name):
            text = (
                "names no variable that is set; set it for the daemon, and write its name, no key"
            )
        else:
            text = f'the variable "{name}" is not set; set it for the daemon'
        yield Fault((path,), text)
    elif not _HEADER_VALUE.fullmatch(key):
        what = f'the variable "{name}" holds a line break or another character no header can carry'
        yield Fault((path,), f"{what}; set it to the key alone")


def _once(path: Path, url: NodeUrl, seen: dict[tuple[Address, str], Path]) -> Iterator[Fault]:
    first = seen.setdefault((url.address, url.path), path)
    if first != path:
        text = f"{url.address}{url.path} is {path_text(first[:2])} already; remove one of the two"
        yield Fault((path, first), text)


def _port(path: Path, node: Node, url: NodeUrl) -> Iterator[Fault]:
    """Ask for the port where Ollama's would be a poor guess."""
    usual = _USUAL_PORT.get(node.kind or "")
    if usual is not None and url.scheme == "http" and not url.is_port_given:
        named = NodeUrl(url.scheme, url.address._replace(port=usual), url.path, is_port_given=True)
        text = f'"{node.url}" names no port; write for example "{named}"'
        yield Fault(((*path, "url"), (*path, "kind")), text)


def _certificate(path: Path, node: Node, url: NodeUrl | None) -> Iterator[Fault]:
    given = [name for name in ("ca_file", "pin") if getattr(node, name) is not None]
    if given and url is not None and url.scheme != "https":
        text = f"{url} has no certificate; write https:// in url, or remove this"
        yield Fault(((*path, given[0]), (*path, "url")), text)
    if len(given) > 1:
        text = "a pinned certificate needs no authority; remove ca_file or pin"
        yield Fault(((*path, "pin"), (*path, "ca_file")), text)
    if node.pin is not None:
        try:
            parse_pin(node.pin)
        except ValueError as exc:
            yield Fault(((*path, "pin"),), f'"{node.pin}" {exc}')
    if node.ca_file is not None:
        fault = _ca_fault(FilePath(node.ca_file))
        if fault:
            yield Fault(((*path, "ca_file"),), f'"{node.ca_file}" {fault}')


def _ca_fault(file: FilePath) -> str:
    try:
        require_file(file)
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        return "holds no certificate; name a PEM file with -----BEGIN CERTIFICATE-----"
    except OSError as exc:
        return f"cannot be read: {exc.strerror}; name a file this user may read"
    return ""


def _offered(path: Path, node: Node) -> Iterator[Fault]:
    """Check what is said of the models of servers other than Ollama."""
    said = [name for name in ("model", "models", "same_as_ollama") if getattr(node, name)]
    if said and node.kind in {None, "ollama"}:
        text = 'is for other servers than Ollama; write kind = "llama_server" or kind = "openai"'
        yield Fault(((*path, said[0]), (*path, "kind")), text)
        return
    if node.models == {}:
        text = "offers nothing; write offered names with the engine's own, or remove it"
        yield Fault(((*path, "models"),), text)
    if node.model is not None and (node.kind == "openai" or node.models):
        text = f'cannot say which model is meant; write models = {{ "{node.model}" = "..." }}'
        yield Fault(((*path, "model"), (*path, "models"), (*path, "kind")), text)
    yield from _model_names((*path, "model"), () if node.model is None else (node.model,))
    yield from _model_names((*path, "models"), node.models or ())
    yield from _model_names((*path, "same_as_ollama"), node.same_as_ollama)
    for name, engine_name in (node.models or {}).items():
        if not engine_name.strip():
            text = f'"{name}" stands for nothing; write the name that /v1/models lists'
            yield Fault(((*path, "models"),), text)
    yield from _equals(path, node)


def _model_names(path: Path, names: Iterable[str]) -> Iterator[Fault]:
    seen: dict[ModelKey, str] = {}
    for name in names:
        key = key_of(name)
        if key is None:
            yield Fault((path,), f'"{name}" is no model name; write it like "qwen2.5:7b"')
        elif seen.setdefault(key, name) != name:
            yield Fault((path,), f'"{name}" and "{seen[key]}" are one name; remove one')


def _equals(path: Path, node: Node) -> Iterator[Fault]:
    offered = list(node.models or ()) or ([] if node.model is None else [node.model])
    keys = {key_of(name) for name in offered}
    for name in node.same_as_ollama:
        if offered and key_of(name) not in keys:
            where = "models" if node.models else "model"
            text = f'"{name}" is not offered here; write one of the names in {where}'
            yield Fault(((*path, "same_as_ollama"), (*path, where)), text)
