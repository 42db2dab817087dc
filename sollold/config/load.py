"""From files, environment and flags to one checked configuration, or every problem at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import msgspec

from sollold.config.address import Address, parse_listen, parse_node_url
from sollold.config.check import points_at, validate
from sollold.config.decode import DEFAULT, Layer, Merged, Origin, Problem, UnusableConfig
from sollold.config.hosts import read_hosts
from sollold.config.keys import Path, config_keys, node_keys, path_text
from sollold.config.schema import Config, Listen
from sollold.config.sources import (
    Flags,
    environment_layer,
    file_layer,
    flag_layer,
    flag_notes,
    old_environment_layer,
    ollama_layer,
)

if TYPE_CHECKING:
    from sollold.config.node import Node

_ORDER = ("file", "hosts file", "environment", "flag", "default")
"""Problems are told in this order, and by line within a file."""


class LoadArgs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what the configuration is."""

    files: tuple[FilePath, ...] = ()
    """Read in this order where they exist; later ones win."""
    config: FilePath | None = None
    """Read instead of `files`, and has to exist."""
    flags: Flags = Flags()
    environ: Mapping[str, str] = {}
    own_addresses: frozenset[str] = frozenset()
    """This machine's addresses, to notice a node that is this daemon."""


class LoadedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that has passed every check, and where it came from."""

    config: Config
    origins: dict[str, Origin]
    """By key path as text, for instance `nodes[0].url`; keys left at their default are absent."""
    files: tuple[FilePath, ...]
    """The files that were read."""
    notes: tuple[str, ...]
    """What was noticed but does not stand in the way; to be logged."""

    def origin(self, path: str) -> Origin:
        """Say where the value of a key came from; KeyError when there is no such key."""
        found = self.origins.get(path)
        if found is None and path not in self._known():
            raise KeyError(path)
        return found or DEFAULT

    def _known(self) -> set[str]:
        nodes = {
            path_text(("nodes", index, name))
            for index in range(len(self.config.nodes))
            for name in node_keys()
        }
        return nodes | {path_text(path) for path in config_keys()}


def load(args: LoadArgs) -> LoadedConfig:
    """Read, merge and check; UnusableConfig lists every problem of every source."""
    ollama, notes = ollama_layer(args.environ)
    from_files, files = _read_files(args)
    environment, more_notes = environment_layer(args.environ)
    old = old_environment_layer(args.environ)
    layers = [ollama, *from_files, old, environment, flag_layer(args.flags)]
    problems = [problem for layer in layers for problem in layer.problems]
    merged = Merged(layers)
    _change_port(merged, args.flags)
    problems += _expand_paths(merged)
    problems += _add_hosts(merged)
    config = _drop_own_ollama_host(merged, args, notes)
    problems += _faults(config, merged, args)
    problems = _without_keys(problems, config)
    if problems:
        problems.sort(key=lambda problem: (_ORDER.index(problem.origin.source), problem.origin))
        raise UnusableConfig(problems)
    notes += [*more_notes, *flag_notes(args.flags)]
    if not files:
        looked_at = ", ".join(str(path) for path in args.files) or "nowhere"
        notes.append(f"no configuration file, defaults are used (looked at: {looked_at})")
    return LoadedConfig(
        config=_normal(config, notes),
        origins={path_text(path): origin for path, origin in merged.origins.items()},
        files=files,
        notes=tuple(notes),
    )


def _read_files(args: LoadArgs) -> tuple[list[Layer], tuple[FilePath, ...]]:
    named = (args.config,) if args.config is not None else args.files
    read = [(path, file_layer(path, is_required=path == args.config)) for path in named]
    found = [(path, layer) for path, layer in read if layer is not None]
    return [layer for _, layer in found], tuple(path for path, _ in found)


def _change_port(merged: Merged, flags: Flags) -> None:
    """Let --port replace the port of every API address, and nothing else of them."""
    port = flags.old_value("--port")
    path: Path = ("listen", "api")
    if not port or path in merged.failed:
        return
    try:
        old = [parse_listen(text) for text in merged.values.get(path, Listen().api)]
    except ValueError:
        return  # told with the address
    merged.values[path] = tuple(dict.fromkeys(str(Address(host, int(port))) for host, _ in old))
    merged.origins[path] = Origin("flag", "--port")


def _expand_paths(merged: Merged) -> list[Problem]:
    """Make paths absolute: `~` is the home, relative ones start at the file that names them."""
    problems: list[Problem] = []

    def absolute(value: str, path: Path) -> str:
        try:
            return _absolute(value, merged.origins[path])
        except ValueError as exc:
            problems.append(Problem(merged.origins[path], path, str(exc)))
            merged.failed.add(path)
            return ""

    for path, key in config_keys().items():
        value = merged.values.get(path)
        if key.is_path and isinstance(value, str) and value:
            merged.values[path] = absolute(value, path)
            if path in merged.failed:
                del merged.values[path]
    nodes: list[Node] = list(merged.values.get(("nodes",), ()))
    for index, node in enumerate(nodes):
        if node.ca_file:
            ca_file = absolute(node.ca_file, ("nodes", index, "ca_file")) or None
            nodes[index] = msgspec.structs.replace(node, ca_file=ca_file)
    if nodes:
        merged.values[("nodes",)] = tuple(nodes)
    return problems


def _absolute(path: str, origin: Origin) -> str:
    """Return an absolute path; the ValueError says what is wrong and the remedy."""
    if "\0" in path:
        raise ValueError("holds a NUL character; write a path without it")
    try:
        expanded = FilePath(path).expanduser()
    except RuntimeError:
        name = path.partition("/")[0]
        text = f"starts with {name}, and that home cannot be found; write the path from / on"
        raise ValueError(text) from None
    try:
        is_in_file = origin.source == "file"
        base = FilePath(origin.where).absolute().parent if is_in_file else FilePath.cwd()
    except OSError:
        if expanded.is_absolute():
            return str(expanded)
        text = "is relative, and the current folder is gone; write the path from / on"
        raise ValueError(text) from None
    return str(base / expanded)


def _add_hosts(merged: Merged) -> list[Problem]:
    file = merged.values.get(("discovery", "hosts_file"))
    if not file:
        return []
    nodes: tuple[Node, ...] = merged.values.get(("nodes",), ())
    found, problems = read_hosts(FilePath(file), _places(nodes))
    problems = [_named(problem, merged) for problem in problems]
    for index, (_, origin) in enumerate(found, start=len(nodes)):
        merged.origins["nodes", index] = merged.origins["nodes", index, "url"] = origin
    merged.values[("nodes",)] = (*nodes, *(node for node, _ in found))
    return problems


def _named(problem: Problem, merged: Merged) -> Problem:
    """Blame a hosts file that cannot be read on the key that names it."""
    if problem.origin.line:
        return problem
    path: Path = ("discovery", "hosts_file")
    return Problem(merged.origins[path], path, f'"{problem.origin.where}" {problem.text}')


def _places(nodes: tuple[Node, ...]) -> set[tuple[Address, str]]:
    known: set[tuple[Address, str]] = set()
    for node in nodes:
        try:
            url = parse_node_url(node.url)
        except ValueError:
            continue
        known.add((url.address, url.path))
    return known


def _drop_own_ollama_host(merged: Merged, args: LoadArgs, notes: list[str]) -> Config:
    """Build the configuration; an OLLAMA_HOST meant for clients of this daemon is no node."""
    config = merged.config()
    path: Path = ("discovery", "ollama_host")
    origin = merged.origins.get(path)
    if origin is None or origin.where != "OLLAMA_HOST":
        return config
    target = parse_node_url(config.discovery.ollama_host).address
    try:
        listeners = (*config.listen.api_addresses(), *config.listen.console_addresses())
    except ValueError:
        return config
    if not any(points_at(target, listener, args.own_addresses) for listener in listeners):
        return config
    notes.append(f"OLLAMA_HOST is this daemon itself ({target}), so it is not used as a node")
    del merged.values[path], merged.origins[path]
    return merged.config()


def _without_keys(problems: list[Problem], config: Config) -> list[Problem]:
    """Leave alone variables that hold the key of a node, whatever they are called."""
    keys = {node.key_env for node in config.nodes if node.key_env}
    return [problem for problem in problems if problem.path or problem.origin.where not in keys]


def _faults(config: Config, merged: Merged, args: LoadArgs) -> list[Problem]:
    found = validate(config, environ=args.environ, own_addresses=args.own_addresses)
    problems: list[Problem] = []
    for fault in found:
        if merged.failed.isdisjoint(fault.paths):
            origins = [_origin_of(path, merged) for path in fault.paths]
            given = [origin for origin in origins if origin is not DEFAULT]
            problems.append(Problem((given or origins)[0], fault.paths[0], fault.text))
    return problems


def _origin_of(path: Path, merged: Merged) -> Origin:
    while path:
        if path in merged.origins:
            return merged.origins[path]
        path = path[:-1]
    return DEFAULT


def _normal(config: Config, notes: list[str]) -> Config:
    """Write every node's address in its normal form."""
    nodes: list[Any] = []
    for index, node in enumerate(config.nodes):
        url = parse_node_url(node.url)
        if "://" in node.url and not url.is_port_given and url.scheme == "http":
            notes.append(f'nodes[{index}].url: "{node.url}" names no port; {url.address} is used')
        nodes.append(msgspec.structs.replace(node, url=str(url)))
    host = config.discovery.ollama_host
    discovery = config.discovery
    if host:
        discovery = msgspec.structs.replace(discovery, ollama_host=str(parse_node_url(host)))
    return msgspec.structs.replace(config, nodes=tuple(nodes), discovery=discovery)
