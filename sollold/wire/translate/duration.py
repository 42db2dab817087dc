"""`keep_alive` as Ollama reads it."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sollold.wire.gojson import BodyProblem, clean_text, go_type

_FOREVER_NS: Final = 2**63 - 1
_S: Final = 1_000_000_000
_UNITS_NS: Final = {
    "ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 1_000_000, "s": _S, "m": 60 * _S,
    "h": 3600 * _S,
}  # fmt: skip
# Matches anywhere, at the very end an empty text.
_TERM: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
_GO_NAMES: Final = {
    "bool": "bool", "array": "[]interface {}", "object": "map[string]interface {}",
}  # fmt: skip
_MAX_DIGITS: Final = 30


def keep_alive_ns(value: object, _path: str = "") -> int:
    """Return nanoseconds, forever being many; raise `BodyProblem`."""
    if isinstance(value, str):
        return _forever_if_negative(_duration_ns(clean_text(value)))
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = min(float(value), _FOREVER_NS / _S)
        return _FOREVER_NS if seconds < 0 else int(seconds * _S)
    raise BodyProblem("type", f"Unsupported type: '{_GO_NAMES[go_type(value)]}'")


def _forever_if_negative(duration_ns: int) -> int:
    return _FOREVER_NS if duration_ns < 0 else duration_ns


def _duration_ns(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise _invalid(text, "invalid duration")
    total_ns = 0
    for whole, part, unit in _TERM.findall(rest)[:-1]:
        if not (whole or part) or len(whole) > _MAX_DIGITS:
            raise _invalid(text, "invalid duration")
        if unit not in _UNITS_NS:
            raise _unknown(text, unit)
        unit_ns, digits = _UNITS_NS[unit], part[:_MAX_DIGITS]
        total_ns += int(whole or 0) * unit_ns + int(digits or 0) * unit_ns // 10 ** len(digits)
    if total_ns > _FOREVER_NS:
        raise _invalid(text, "invalid duration")
    return sign * total_ns


def _unknown(text: str, unit: str) -> BodyProblem:
    if not unit:
        return _invalid(text, "missing unit in duration")
    return _invalid(text, f"unknown unit {_quoted(unit)} in duration")


def _invalid(text: str, what: str) -> BodyProblem:
    return BodyProblem("type", f"time: {what} {_quoted(text)}")


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
