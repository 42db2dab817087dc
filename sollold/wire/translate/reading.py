"""Request bodies as typed values, read the way Go reads them into its own.

Keys match in any case, the last of equal ones wins, null leaves a field as it was, and a value of
the wrong type is refused in Go's words. Owns how values are read. Must not know a route's fields.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sollold.wire.gojson import (
    BodyProblem,
    Pairs,
    clean_text,
    go_type,
    read_lenient,
    without_surrogates,
)
from sollold.wire.lenient import fold, mismatch
from sollold.wire.translate.seam import Stage, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

_INT64: Final = 2**63
_MAX_STRINGS: Final = 250_000
"""Keys and texts of one body. What they cost, in time that nobody else gets, goes by their number
and hardly by their length."""
_COUNTED_BYTES: Final = 1024 * 1024
TOO_MANY_TEXT: Final = (
    f"the request has more than {_MAX_STRINGS} keys and texts, "
    "which is too many for the node of this model"
)


class Kind(NamedTuple):
    """How one field is read."""

    go_type: str
    read: Callable[[object, str], Any]
    """Takes a value other than null and the field's path."""
    null: Callable[[], Any] | None = None
    """What a null in a list stands for."""
    null_resets: bool = False
    """Whether a null takes the field back to absent."""
    is_merged: bool = False
    """Whether a second object adds to the first."""


class Shape(NamedTuple):
    """One kind of object: its name in Go, the type that is made of it, and its fields."""

    go_type: str
    make: Callable[..., Any]
    fields: dict[str, Kind]


def read_body(shape: Shape, body: bytes, *, empty_text: str) -> Any:
    """Return the typed value of a body; raise `BodyProblem`, or `Unsupported` for its size."""
    if _has_too_many_strings(body):
        raise Unsupported(413, TOO_MANY_TEXT, Stage.READING)
    document = read_lenient(body, empty_text=empty_text)
    if document is None:
        return shape.make()
    if not isinstance(document, Pairs):
        raise BodyProblem("type", f"{mismatch(document)} value of type {shape.go_type}")
    return _read_object(shape, document, shape.go_type.rpartition(".")[2])


def _has_too_many_strings(body: bytes) -> bool:
    """Count quotes that are no part of a text, a piece at a time: a count lets nobody else work."""
    quotes = 0
    for begin in range(0, len(body), _COUNTED_BYTES):
        end = begin + _COUNTED_BYTES
        quotes += body.count(b'"', begin, end) - body.count(b'\\"', begin, end)
        if quotes > 2 * _MAX_STRINGS:
            return True
    return False


def record(shape: Shape, *, null_resets: bool = False) -> Kind:
    """Return the kind of a field that holds an object."""

    def read(value: object, path: str) -> Any:
        if not isinstance(value, Pairs):
            raise wrong_type(value, path, shape.go_type)
        return _read_object(shape, value, path)

    return Kind(shape.go_type, read, null=shape.make, null_resets=null_resets)


def many(element: Kind, go_name: str = "") -> Kind:
    """Return the kind of a field that holds a list."""
    name = go_name or f"[]{element.go_type}"

    def read(value: object, path: str) -> list[Any]:
        if not isinstance(value, list) or isinstance(value, Pairs):
            raise wrong_type(value, path, name)
        return [_read_element(element, item, path) for item in value]

    return Kind(name, read, null_resets=True)


def wrong_type(value: object, path: str, wanted: str) -> BodyProblem:
    """Say in Go's words that a field cannot take a value."""
    shown = f"{value} " if wanted == "int" and go_type(value) == "number" else ""
    return BodyProblem("type", f"{mismatch(value, shown)} struct field {path} of type {wanted}")


def _read_object(shape: Shape, pairs: Pairs, path: str) -> Any:
    found: dict[str, Any] = {}
    for key, value in pairs:
        name = fold(key)
        kind = shape.fields.get(name)
        if kind is None:
            continue
        if value is None:
            if kind.null_resets:
                found.pop(name, None)
            continue
        read = kind.read(value, f"{path}.{name}")
        found[name] = {**found.get(name, {}), **read} if kind.is_merged else read
    # Ollama's field for debugging begins with an underscore, which no attribute here may.
    return shape.make(**{name.lstrip("_"): value for name, value in found.items()})


def _read_element(element: Kind, item: object, path: str) -> Any:
    if item is None and element.null is not None:
        return element.null()
    return element.read(item, path)


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(value, path, "string")
    return value if value.isascii() else clean_text(value)


def _flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(value, path, "bool")
    return value


def _whole(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -_INT64 <= value < _INT64:
        raise wrong_type(value, path, "int")
    return value


def _real(value: object, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isinf(value):
        raise wrong_type(value, path, "float64")
    return float(value)


def _mapping(value: object, path: str) -> dict[str, object]:
    if not isinstance(value, Pairs):
        raise wrong_type(value, path, "map[string]interface {}")
    return {key: anything(item, path) for key, item in value}


def anything(value: object, path: str) -> object:
    """Return a value as plain objects; a number that no float holds is refused, as Go does."""
    tree = without_surrogates(value)
    if not _is_finite(tree):
        raise wrong_type(math.inf, path, "float64")
    return tree


def _is_finite(tree: object) -> bool:
    todo = [tree]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, float) and math.isinf(item):
            return False
    return True


TEXT: Final = Kind("string", _text, null=str)
FLAG: Final = Kind("bool", _flag)
OPTIONAL_FLAG: Final = FLAG._replace(null_resets=True)
WHOLE: Final = Kind("int", _whole, null=int)
OPTIONAL_WHOLE: Final = WHOLE._replace(null_resets=True)
REAL: Final = Kind("float64", _real)
OPTIONAL_REAL: Final = REAL._replace(null_resets=True)
MAPPING: Final = Kind("map[string]interface {}", _mapping, null_resets=True, is_merged=True)
ANY: Final = Kind("interface {}", anything, null=lambda: None, null_resets=True)
