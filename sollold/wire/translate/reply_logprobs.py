"""Log-probabilities as Ollama prints them, from the two shapes that engines send."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sollold.wire.translate.asked import Asked

IMPOSSIBLE: Final = -9999
"""OpenAI's own log-probability of a token that cannot be."""

_LARGEST: Final = sys.float_info.max
_NUMBERS: Final = frozenset({int})
_WHOLE: Final = 1e15
"""Larger numbers are printed alike by all."""


def logprobs_of(asked: Asked, found: object) -> list[dict[str, object]]:
    """Return the entries of one part; none when they were not asked for or make no sense."""
    if found is None or not asked.wants_logprobs:
        return []
    if isinstance(found, dict):
        entries = found.get("content")
        if entries is None:
            return _from_columns(found, asked.top_logprobs)
    else:
        entries = found
    if not isinstance(entries, list):
        return []
    return [
        _entry(item, asked.top_logprobs)
        for item in entries
        if isinstance(item, dict) and isinstance(item.get("token"), str)
    ]


def _entry(item: dict[str, Any], top: int) -> dict[str, object]:
    entry = _token(item)
    others = item.get("top_logprobs")
    if top > 0 and isinstance(others, list):
        named = [other for other in others if isinstance(other, dict)]
        tokens = [_token(other) for other in named if isinstance(other.get("token"), str)]
        if tokens:
            entry["top_logprobs"] = tokens[:top]
    return entry


def _token(item: dict[str, Any]) -> dict[str, object]:
    return _printed(item["token"], item.get("logprob"), item.get("bytes"))


def _printed(token: str, logprob: object, told: object) -> dict[str, object]:
    entry: dict[str, object] = {"token": token, "logprob": _go_number(logprob)}
    is_told = isinstance(told, list) and set(map(type, told)) <= _NUMBERS
    octets = told if is_told else list(token.encode())
    if octets:
        entry["bytes"] = octets
    return entry


def _from_columns(found: dict[str, Any], top: int) -> list[dict[str, object]]:
    """Read OpenAI's older shape: parallel lists."""
    tokens, values = found.get("tokens"), found.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list):
        return []
    others = found.get("top_logprobs")
    rows = others if isinstance(others, list) else []
    entries = []
    for place, (token, value) in enumerate(zip(tokens, values, strict=False)):
        if not isinstance(token, str):
            continue
        entry = _printed(token, value, None)
        row = rows[place] if place < len(rows) else None
        if top > 0 and isinstance(row, dict):
            ranked = [_printed(str(key), row[key], None) for key in row]
            entry["top_logprobs"] = ranked[:top]
        entries.append(entry)
    return entries


def _go_number(value: object) -> float:
    """Return what prints as Go prints it: without a fraction that is zero."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0
    if not -_LARGEST <= value <= _LARGEST:
        return IMPOSSIBLE if value < 0 else 0
    return int(value) if abs(value) < _WHOLE and value == int(value) else value
