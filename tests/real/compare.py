"""Where two answers to one request differ, apart from clocks, ids and generated words.

Everything else counts: status, headers, framing, the order of keys, numbers, error texts.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.look import Answer

# Bodies have any length; whether they are chunked counts for streams only, and is looked at there.
_FRAMING = frozenset({"date", "content-length", "transfer-encoding"})
_STREAMS = {"application/x-ndjson": b"\n", "text/event-stream": b"\n\n"}

_CLOCKS = frozenset(
    {
        "created_at", "expires_at", "created", "total_duration", "load_duration",
        "prompt_eval_duration", "eval_duration",
    }
)  # fmt: skip
_WORDS = frozenset({"response", "content", "thinking", "reasoning", "text", "token"})
# How much is generated hangs on the words; a token is some bytes with a likelihood.
_COUNTS = frozenset({"eval_count", "completion_tokens", "total_tokens", "logprob"})
_LISTS = frozenset({"context", "bytes", "top_logprobs"})
# Ollama sorts these by the second in which a model was stored; within a second by chance.
_UNORDERED = frozenset({"models", "data"})
_IDS = ("chatcmpl-", "cmpl-", "call_")
_STORE = re.compile(r"FROM \S*/blobs/")
# Vectors of equal nodes differ in the last digits.
_TOLERANCE = 0.01


class Difference(NamedTuple):
    """One thing in which two answers differ; None is absence."""

    place: str
    direct: Any
    through: Any


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys in order."""


def differences(direct: Answer, through: Answer) -> list[Difference]:
    """All in which the answer through the daemon differs from the direct one."""
    found = []
    if direct.status != through.status:
        found.append(Difference("status", direct.status, through.status))
    if direct.end != through.end:
        found.append(Difference("end", direct.end, through.end))
    found += _header_differences(_headers(direct), _headers(through))
    if _is_chunked_stream(direct) and not _is_chunked_stream(through):
        found.append(Difference("framing", "chunked", "not chunked"))
    found += _compare("body", _body(direct), _body(through))
    return found


def _headers(answer: Answer) -> dict[str, list[str]]:
    """Every header field, with all of its values in order."""
    found: dict[str, list[str]] = {}
    for line in answer.raw.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name and name.lower() not in _FRAMING:
            # One field with commas says the same as several.
            values = [item.strip() for item in value.split(",")]
            found.setdefault(name.lower(), []).extend(values)
    return found


def _header_differences(
    direct: dict[str, list[str]], through: dict[str, list[str]]
) -> Iterator[Difference]:
    for name in sorted(direct.keys() | through.keys()):
        ours, theirs = direct.get(name), through.get(name)
        if ours != theirs:
            yield Difference(f"header {name}", ours, theirs)


def _is_chunked_stream(answer: Answer) -> bool:
    return answer.headers.get("content-type") in _STREAMS and answer.chunks is not None


def _body(answer: Answer) -> Any:
    kind = answer.headers.get("content-type", "")
    mark = _STREAMS.get(kind)
    if mark is not None:
        return _frames(answer.body, mark)
    if kind.startswith("application/json") and answer.body:
        tail = answer.body[len(answer.body.rstrip()) :]
        return [_scrub("", _parse(answer.body)), tail]
    return answer.body


def _frames(body: bytes, mark: bytes) -> list[Any]:
    """The frames of a stream; runs of equal ones, whose number hangs on the words, count once."""
    frames: list[Any] = []
    *whole, rest = body.split(mark)
    for text in whole:
        payload = text.removeprefix(b"data: ")
        frame: Any = payload if payload == b"[DONE]" else _scrub("", _parse(payload))
        shown = [text[: len(text) - len(payload)], frame]
        if not frames or frames[-1] != shown:
            frames.append(shown)
    return [*frames, rest]


def _parse(text: bytes) -> Any:
    return json.loads(text, object_pairs_hook=_Pairs)


def _scrub(key: str, value: Any) -> Any:
    """A value without clocks, ids and words."""
    if isinstance(value, _Pairs):
        return _Pairs((name, _scrub(name, item)) for name, item in value)
    if key in _LISTS and isinstance(value, list):
        return "a list"
    if isinstance(value, list):
        return _scrub_list(key, value)
    if isinstance(value, str):
        return _scrub_text(key, value)
    if key in _CLOCKS or key in _COUNTS:
        return type(value).__name__
    return value


def _scrub_list(key: str, value: list[Any]) -> list[Any]:
    shown: list[Any] = []
    if key in _UNORDERED:
        value = sorted(value, key=_label_of)
    for item in value:
        scrubbed = _scrub(key, item)
        # Log-probabilities come as one element per token.
        if not (key in {"logprobs", "content"} and shown and shown[-1] == scrubbed):
            shown.append(scrubbed)
    return shown


def _label_of(item: Any) -> str:
    label = next((value for _, value in item), "") if isinstance(item, _Pairs) else ""
    return str(label)


def _scrub_text(key: str, value: str) -> str:
    if key in _CLOCKS:
        return "a time"
    if key in _WORDS and value:
        return "words"
    if key == "id" and value.startswith(_IDS):
        return value.partition("-")[0]
    if key == "embedding":
        return _decoded(value)
    if key in {"parameters", "modelfile"}:
        # Their lines come in the order of a Go map.
        value = "\n".join(sorted(value.splitlines()))
    return _STORE.sub("FROM blobs/", value)


def _decoded(value: str) -> str:
    """How many numbers a packed vector has."""
    try:
        return f"{len(base64.b64decode(value, validate=True))} bytes"
    except binascii.Error:
        return value


def _compare(place: str, direct: Any, through: Any) -> Iterator[Difference]:
    if isinstance(direct, _Pairs) and isinstance(through, _Pairs):
        yield from _compare_objects(place, direct, through)
    elif isinstance(direct, list) and isinstance(through, list):
        yield from _compare_lists(place, direct, through)
    elif not _is_equal(direct, through):
        yield Difference(place, direct, through)


def _compare_objects(place: str, direct: _Pairs, through: _Pairs) -> Iterator[Difference]:
    ours, theirs = dict(direct), dict(through)
    for name in ours.keys() | theirs.keys():
        if name in ours and name in theirs:
            yield from _compare(f"{place}.{name}", ours[name], theirs[name])
        else:
            yield Difference(f"{place}.{name}", ours.get(name), theirs.get(name))
    common = [name for name, _ in direct if name in theirs]
    if common != [name for name, _ in through if name in ours]:
        yield Difference(f"{place} order", list(ours), list(theirs))


def _compare_lists(place: str, direct: list[Any], through: list[Any]) -> Iterator[Difference]:
    if len(direct) != len(through):
        yield Difference(f"{place}[]", direct, through)
        return
    for ours, theirs in zip(direct, through, strict=True):
        yield from _compare(f"{place}[]", ours, theirs)


def _is_equal(direct: Any, through: Any) -> bool:
    if isinstance(direct, float) and isinstance(through, float):
        return math.isclose(direct, through, abs_tol=_TOLERANCE)
    return type(direct) is type(through) and bool(direct == through)
