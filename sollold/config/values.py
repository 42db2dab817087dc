"""Durations and sizes as people write them, and how values are shown back to them."""

from __future__ import annotations

import math
import re

import msgspec

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h|d) ?")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")
_UNIT_BYTES = {"": 1, "b": 1} | {
    f"{letter}{suffix}b": base**power
    for power, letter in enumerate("kmgt", start=1)
    for suffix, base in (("", 1000), ("i", 1024))
}
_SHOWN_LENGTH = 60


def parse_duration(text: str) -> float:
    """Read "30s", "5m", "1h30m", "250ms" or plain seconds; the ValueError says what to write."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    position, total_s = 0, 0.0
    while position < len(text):
        part = _DURATION_PART.match(text, position)
        if part is None:
            break
        total_s += float(part[1]) * _UNIT_S[part[2]]
        position = part.end()
    if position != len(text) or not text:
        raise ValueError('write seconds as a number, or a text like "30s", "5m", "1h30m", "250ms"')
    return total_s


def parse_size(text: str) -> int:
    """Read "4 MiB", "512MB" or plain bytes; the ValueError says what to write."""
    match = _SIZE.fullmatch(text.strip())
    factor = _UNIT_BYTES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError('write bytes as a number, or a text like "64 KiB", "4 MiB", "512MB"')
    size_bytes = float(match[1]) * factor
    if not size_bytes.is_integer():
        raise ValueError("is not a whole number of bytes")
    return int(size_bytes)


def size_text(size_bytes: int) -> str:
    """Write a size with the largest binary unit that leaves a whole number."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor} {unit}"
    return str(size_bytes)


def masked(text: str) -> str:
    """Write an address without what may be secret: user and password, query, fragment."""
    head, is_url, rest = text.partition("://")
    if not is_url or any(mark in head for mark in "@?#"):
        head, is_url, rest = "", "", text
    _, has_user, place = rest.rpartition("@")
    mark = next((letter for letter in place if letter in "?#"), "")
    place = place.partition(mark)[0] + f"{mark}***" if mark else place
    return f"{head}{is_url}{'***@' if has_user else ''}{place}"


def toml_text(value: object) -> str:
    """Write a value as TOML would, on one line; of a table only that it is one."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml_text(item) for item in value)}]"
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, bool | int | str):
        return msgspec.json.encode(value).decode()
    return str(value)


def shown(value: object) -> str:
    """Write a value for an error message: as TOML, without secrets of addresses, shortened."""
    text = toml_text(_without_secrets(value))
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 3] + "..."


def _without_secrets(value: object) -> object:
    if isinstance(value, tuple | list):
        return [_without_secrets(item) for item in value]
    return masked(value) if isinstance(value, str) else value
