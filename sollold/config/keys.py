"""The table of keys, read off the schema: paths, types, what may be written."""

from __future__ import annotations

import functools
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast, get_args, get_origin

import msgspec
from msgspec import inspect

from sollold.config.node import Node
from sollold.config.schema import Config
from sollold.config.values import toml_text

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str | int, ...]
"""Where a value stands: names, and indices of list elements."""

REQUIRED = msgspec.NODEFAULT
"""Stands for the default of a key that has to be given."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key of one table."""

    path: tuple[str, ...]
    type: Any
    default: Any
    text: str
    is_live: bool
    """It can change without a restart."""
    is_path: bool
    """Its text names a file or directory."""
    example: str
    """TOML to show where the default says nothing."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path[-1]

    @property
    def shapes(self) -> tuple[inspect.Type, ...]:
        """The types a value may have, without the absence of one."""
        info = inspect.type_info(self.type)
        while isinstance(info, inspect.Metadata):
            info = info.type
        members = info.types if isinstance(info, inspect.UnionType) else (info,)
        return tuple(item for item in members if not isinstance(item, inspect.NoneType))

    @property
    def is_duration(self) -> bool:
        """Whether texts like "30s" are read."""
        return self.name.endswith("_s")

    @property
    def is_size(self) -> bool:
        """Whether texts like "4 MiB" are read."""
        return self.name.endswith("_bytes")

    @property
    def is_list(self) -> bool:
        """Whether a single text stands for a list of one."""
        return any(isinstance(shape, inspect.VarTupleType) for shape in self.shapes)


def path_text(path: Path) -> str:
    """Write a path as people do: `nodes[0].url`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@functools.cache
def config_keys() -> dict[Path, Key]:
    """Return every key outside `[[nodes]]`, and `nodes` itself, in the order of the file."""
    return {key.path: key for key in _keys(Config, ())}


@functools.cache
def node_keys() -> dict[str, Key]:
    """Return the keys of one `[[nodes]]` table by name."""
    return {key.name: key for key in _keys(Node, ("nodes",))}


@functools.cache
def tables() -> dict[Path, type[msgspec.Struct]]:
    """Return every table by its path; the whole file is `()`."""
    return dict(_tables(Config, ()))


def expectation(key: Key) -> str:
    """Say in words what a key takes."""
    return " or ".join(_shape_text(key, shape) for shape in key.shapes)


def choices(key: Key) -> tuple[str, ...]:
    """Return the only texts a key takes; empty when it takes others."""
    pending = [key.type]
    while pending:
        kind = pending.pop(0)
        if get_origin(kind) is Literal:
            return get_args(kind)
        pending += get_args(kind) if get_origin(kind) in (Annotated, Union, UnionType) else ()
    return ()


def example(key: Key) -> str:
    """Return TOML that is valid for a key."""
    return key.example or toml_text(key.default)


def value_at(config: Config, path: Path) -> Any:
    """Return the value at the path of a key or table."""
    value: Any = config
    for part in path:
        value = value[part] if isinstance(part, int) else getattr(value, part)
    return value


def _tables(table: type[msgspec.Struct], path: Path) -> Iterator[tuple[Path, type[msgspec.Struct]]]:
    yield path, table
    for field in msgspec.structs.fields(table):
        if _is_table(field.type):
            yield from _tables(field.type, (*path, field.name))


def _keys(table: type[msgspec.Struct], path: tuple[str, ...]) -> list[Key]:
    found: list[Key] = []
    for field in msgspec.structs.fields(table):
        if _is_table(field.type):
            found += _keys(field.type, (*path, field.name))
        else:
            found.append(_key(field, (*path, field.name)))
    return found


def _key(field: msgspec.structs.FieldInfo, path: tuple[str, ...]) -> Key:
    info = inspect.type_info(field.type)
    if not isinstance(info, inspect.Metadata):
        raise TypeError(f"{path_text(path)} has no description")
    schema, extra = info.extra_json_schema or {}, info.extra or {}
    return Key(
        path=path,
        type=field.type,
        default=field.default,
        text=schema["description"],
        is_live=extra["live"],
        is_path=extra["path"],
        example=extra["example"],
    )


def _is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _shape_text(key: Key, shape: inspect.Type) -> str:
    match shape:
        case inspect.LiteralType():
            listed = ", ".join(f'"{value}"' for value in choices(key))
            return listed if len(choices(key)) == 1 else f"one of {listed}"
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return "a path" if key.is_path else "a text in quotes"
        case inspect.VarTupleType():
            return "a text or a list of texts"
        case inspect.DictType():
            return "a table of texts"
        case inspect.IntType() | inspect.FloatType():
            return _number_text(key, shape) + _bounds_text(shape)
        case _:
            raise TypeError(f"{path_text(key.path)} has a type without a name: {shape}")


def _number_text(key: Key, shape: inspect.IntType | inspect.FloatType) -> str:
    if key.is_duration:
        return 'seconds or a text like "30s", "5m"'
    if key.is_size:
        return 'bytes or a text like "4 MiB"'
    return "a whole number" if isinstance(shape, inspect.IntType) else "a number"


def _bounds_text(shape: inspect.IntType | inspect.FloatType) -> str:
    bounds = [
        f"{word} {cast('float', bound):g}"
        for word, bound in (("at least", shape.ge), ("above", shape.gt), ("at most", shape.le))
        if bound is not None
    ]
    return f", {' and '.join(bounds)}" if bounds else ""
