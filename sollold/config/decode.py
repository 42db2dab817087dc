"""From raw tables to typed values, one source at a time.

Every value is judged on its own, so that one mistake hides no other.
"""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import msgspec
from msgspec import inspect

from sollold.config.keys import (
    Key,
    Path,
    choices,
    config_keys,
    example,
    expectation,
    node_keys,
    path_text,
    tables,
)
from sollold.config.node import Node
from sollold.config.schema import NOT_YET, Config
from sollold.config.values import parse_duration, parse_size, shown
from sollold.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Source = Literal["default", "file", "hosts file", "environment", "flag"]


class Origin(NamedTuple):
    """Where a value came from."""

    source: Source
    where: str
    """The path of a file, the name of a variable or a flag, or `default`."""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if self.source in ("environment", "flag"):
            return f"{self.source} {self.where}"
        return ":".join([self.where, *(str(number) for number in self[2:] if number)])


DEFAULT = Origin("default", "default")


class Problem(NamedTuple):
    """One mistake, told to the person who has to mend it."""

    origin: Origin
    path: Path
    text: str
    """What is wrong; and after a semicolon, the remedy."""

    @property
    def parts(self) -> tuple[str, str | None]:
        """What is wrong, and the remedy, where the text has one."""
        what, _, remedy = self.text.rpartition("; ")
        return (what, remedy) if what else (remedy, None)

    def __str__(self) -> str:
        name = path_text(self.path)
        return f"{self.origin}: {name}: {self.text}" if name else f"{self.origin}: {self.text}"


class UnusableConfig(ConfigError):
    """The configuration cannot be used; `found` has every mistake in its parts."""

    def __init__(self, found: Sequence[Problem]) -> None:
        super().__init__([str(problem) for problem in found])
        self.found = tuple(found)


class Layer:
    """What one source says: values that could be read, and mistakes."""

    def __init__(self, locate: Callable[[Path], Origin]) -> None:
        self._locate = locate
        self.values: dict[Path, Any] = {}
        self.origins: dict[Path, Origin] = {}
        self.problems: list[Problem] = []
        self.failed: set[Path] = set()
        """Paths that were given but could not be read."""

    def add(self, path: Path, raw: object) -> None:
        """Read one value at the path of a key."""
        key = config_keys()[path]
        self.origins[path] = self._locate(path)
        if key.name == "nodes":
            self.values[path] = self._nodes(raw)
        else:
            self._leaf(path, key, raw, into=self.values)

    def add_table(self, raw: dict[str, Any], path: Path = ()) -> None:
        """Read a table and all below it."""
        for name, value in raw.items():
            below = (*path, name)
            if below in config_keys():
                self.add(below, value)
            elif below in tables():
                self._subtable(below, value)
            else:
                self.refuse(below, unknown_text(below))

    def refuse(self, path: Path, text: str) -> None:
        """Note a mistake at a path."""
        self.problems.append(Problem(self._locate(path), path, text))
        self.failed.add(path)

    def _subtable(self, path: Path, raw: object) -> None:
        if isinstance(raw, dict):
            self.add_table(raw, path)
        else:
            self.refuse(path, f"is a section, got {shown(raw)}; write [{path_text(path)}]")

    def _nodes(self, raw: object) -> tuple[Node, ...]:
        if not isinstance(raw, list):
            remedy = "write [[nodes]] with two brackets on each side, and url = ... below it"
            self.refuse(("nodes",), f"expected a list of nodes, got {shown(raw)}; {remedy}")
            return ()
        return tuple(self._node(index, element) for index, element in enumerate(raw))

    def _node(self, index: int, raw: object) -> Node:
        path: Path = ("nodes", index)
        if not isinstance(raw, dict):
            remedy = "write [[nodes]] and below it url = ..."
            self.refuse((*path, "url"), f"expected a table, got {shown(raw)}; {remedy}")
            return Node(url="")
        self.origins[path] = self._locate(path)
        fields: dict[Path, Any] = {}
        for name, value in raw.items():
            below = (*path, name)
            key = node_keys().get(name)
            if key is None:
                self.refuse(below, unknown_text(below))
            else:
                self.origins[below] = self._locate(below)
                self._leaf(below, key, value, into=fields)
        values = {str(below[-1]): value for below, value in fields.items()}
        if "url" not in raw:
            self.refuse((*path, "url"), f"is missing; write for example url = {_example('url')}")
        return Node(**{"url": "", **values})

    def _leaf(self, path: Path, key: Key, raw: object, *, into: dict[Path, Any]) -> None:
        try:
            into[path] = read_value(key, raw)
        except ValueError as exc:
            self.refuse(path, str(exc))


class Merged:
    """All sources on top of each other, later ones winning key by key."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.values: dict[Path, Any] = {}
        self.origins: dict[Path, Origin] = {}
        self.failed: set[Path] = set()
        for layer in layers:
            for path in config_keys().keys() & layer.values.keys():
                self._forget(path)
            self.values |= layer.values
            self.origins |= layer.origins
            self.failed |= layer.failed

    def _forget(self, path: Path) -> None:
        end = len(path)
        self.values.pop(path, None)
        self.origins = {other: at for other, at in self.origins.items() if other[:end] != path}
        self.failed = {other for other in self.failed if other[:end] != path}

    def config(self) -> Config:
        """Build the configuration; a key that could not be read has its default."""
        return cast("Config", _build(Config, (), self.values))


def read_value(key: Key, raw: object) -> Any:
    """Turn a raw value into the key's type; the ValueError says what is wrong and the remedy."""
    value = raw
    if isinstance(raw, str):
        value = _read_text(key, raw)
    try:
        typed = msgspec.convert(value, key.type)
    except msgspec.ValidationError:
        typed = None
    if typed is None or (isinstance(typed, float) and not math.isfinite(typed)):
        raise ValueError(f"expected {expectation(key)}, {_got(key, raw)}; {_remedy(key, raw)}")
    return typed


def unknown_text(path: Path) -> str:
    """Say that nothing has this name, and which name was probably meant."""
    names = tuple(part for part in path if isinstance(part, str))
    if names in NOT_YET:
        return f"{NOT_YET[names]}; remove it"
    table, name = path[:-1], names[-1]
    known = _names_in(table)
    kind = "unknown key" if table else "unknown section"
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    if close:
        return f"{kind}; did you mean {close[0]}?"
    if name in node_keys():
        return f"{kind}; nodes have it: write [[nodes]] in the line above, once for each node"
    elsewhere = [path_text(other) for other in config_keys() if other[-1] == name]
    if elsewhere:
        return f"{kind}; did you mean {elsewhere[0]}?"
    inside = f"[{path_text(table)}] has" if table else "there are"
    return f"{kind}; remove it: {inside} {', '.join(known)}"


def _names_in(table: Path) -> list[str]:
    if table[:1] == ("nodes",):
        return list(node_keys())
    return [field.name for field in msgspec.structs.fields(tables()[table])]


def _read_text(key: Key, raw: str) -> object:
    if key.is_list:
        return [raw]
    try:
        if key.is_duration:
            return parse_duration(raw)
        if key.is_size:
            return parse_size(raw)
    except ValueError as exc:
        raise ValueError(f"{shown(raw)} cannot be read; {exc}") from None
    return raw


def _got(key: Key, raw: object) -> str:
    if key.name == "key_env":
        return "got another value"
    if isinstance(raw, dict) and any(isinstance(s, inspect.DictType) for s in key.shapes):
        for name, value in raw.items():
            if isinstance(value, dict):
                return f'but "{name}" is a table (a name with a dot needs quotes)'
            if not isinstance(value, str):
                return f'but "{name}" is {shown(value)}'
    return f"got {shown(raw)}"


def _remedy(key: Key, raw: object) -> str:
    if key.path == ("nodes", "kind"):
        plain = raw.strip().lower().replace("-", "_") if isinstance(raw, str) else ""
        if plain in choices(key):
            return f'write "{plain}"'
        return 'llama.cpp\'s own server is "llama_server"; vLLM, LM Studio and clouds are "openai"'
    if isinstance(raw, str):
        close = difflib.get_close_matches(raw.lower(), choices(key), n=1, cutoff=0.5)
        if close:
            return f'did you mean "{close[0]}"?'
    return f"write for example {key.name} = {example(key)}"


def _example(name: str) -> str:
    return example(node_keys()[name])


def _build(table: type[msgspec.Struct], path: Path, values: dict[Path, Any]) -> msgspec.Struct:
    arguments: dict[str, Any] = {}
    for field in msgspec.structs.fields(table):
        below = (*path, field.name)
        if below in tables():
            arguments[field.name] = _build(tables()[below], below, values)
        elif below in values:
            arguments[field.name] = values[below]
    return table(**arguments)
