"""What the last object of an answer says: how it ended and what it counted.

Owns the reading of closing objects, whole or known by their two ends only. Must not hold state.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from sollold.wire.clip import Piece

_MAX_ERROR_CHARS: Final = 500
_NS_PER_S: Final = 1e9
_MS_PER_S: Final = 1e3

# Inside a string a quote is always escaped, so one that follows a comma or a brace directly, with
# a plain name and a colon behind it, opens a key whatever stood before.
_KEY: Final = re.compile(rb',\s*("[A-Za-z_][A-Za-z0-9_]*"\s*:)')
_TOKEN: Final = re.compile(
    rb"""
      "([^"\\]*(?:\\.[^"\\]*)*)"
      (?: \s*:\s* ( "[^"\\]*(?:\\.[^"\\]*)*" | -?[0-9][0-9.eE+-]* | true | false | null )? )?
    | [\[{] | [\]}] | "
    """,
    re.VERBOSE | re.DOTALL,
)
_ERROR_FIRST: Final = re.compile(rb'\s*\{\s*"error"\s*:\s*')
_FINISH: Final = re.compile(rb'[,{]\s*"finish_reason"\s*:\s*(?:"([a-z_]+)"|null)')
_USAGE: Final = re.compile(r',\s*"usage"\s*:\s*(?=\{)')
_TIMINGS: Final = re.compile(r',\s*"timings"\s*:\s*(?=\{)')
_JSON: Final = json.JSONDecoder()
_LONGEST: Final = 2**63
"""Larger numbers are no counters of anything."""


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What a node counted; None where it said nothing."""

    prompt_tokens: int | None = None
    """The whole prompt, what a cache held included."""
    cached_tokens: int | None = None
    """Prompt tokens that a cache held, and that took no part of `prompt_s`."""
    prompt_s: float | None = None
    output_tokens: int | None = None
    output_s: float | None = None
    load_s: float | None = None
    total_s: float | None = None


NOTHING_COUNTED: Final = Counters()


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """What one object says about the end of an answer."""

    is_done: bool = False
    error: str | None = None
    done_reason: str | None = None
    counters: Counters = NOTHING_COUNTED


class _Native(msgspec.Struct, gc=False):
    done: Any = None
    done_reason: Any = None
    error: Any = None
    total_duration: Any = None
    load_duration: Any = None
    prompt_eval_count: Any = None
    prompt_eval_duration: Any = None
    eval_count: Any = None
    eval_duration: Any = None


class _OpenAI(msgspec.Struct, gc=False):
    choices: Any = None
    usage: Any = None
    timings: Any = None
    error: Any = None


_NATIVE: Final = msgspec.json.Decoder(_Native)
_OPENAI: Final = msgspec.json.Decoder(_OpenAI)


def native_closing(piece: Piece) -> Closing | None:
    """Read an object of a native route; None when it is none."""
    found = _decode(_NATIVE, piece.head) if piece.is_whole else _clipped_native(piece)
    if found is None:
        return None
    return Closing(
        # Only final objects carry a total; between two huge fields `done` itself may be lost.
        is_done=found.done is True or (not piece.is_whole and found.total_duration is not None),
        error=_error_text(found.error),
        done_reason=found.done_reason if isinstance(found.done_reason, str) else None,
        counters=Counters(
            prompt_tokens=_count(found.prompt_eval_count),
            prompt_s=_time(found.prompt_eval_duration, _NS_PER_S),
            output_tokens=_count(found.eval_count),
            output_s=_time(found.eval_duration, _NS_PER_S),
            load_s=_time(found.load_duration, _NS_PER_S),
            total_s=_time(found.total_duration, _NS_PER_S),
        ),
    )


def openai_closing(piece: Piece) -> Closing | None:
    """Read an object of a compatibility route; None when it is none."""
    found = _decode(_OPENAI, piece.head) if piece.is_whole else _clipped_openai(piece)
    if found is None:
        return None
    return Closing(
        error=_error_text(found.error),
        done_reason=_finish_reason(found.choices),
        counters=_openai_counters(found.usage, found.timings),
    )


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _clipped_native(piece: Piece) -> _Native:
    members = _outer_members(piece)
    known = {name: members.get(name) for name in _Native.__struct_fields__}
    return _Native(**known | {"error": _clipped_error(piece)})


def _clipped_openai(piece: Piece) -> _OpenAI:
    text = piece.tail.decode("utf-8", "replace")
    return _OpenAI(
        choices=[
            {"finish_reason": found[1].decode()}
            for found in _FINISH.finditer(piece.tail)
            if found[1] is not None
        ],
        usage=_last_object(_USAGE, text),
        timings=_last_object(_TIMINGS, text),
        error=_clipped_error(piece),
    )


def _clipped_error(piece: Piece) -> str | None:
    """Return the start of an error that is too long to be kept."""
    found = _ERROR_FIRST.match(piece.head)
    if found is None:
        return None
    return piece.head[found.end() :].decode("utf-8", "replace").strip('"')[:_MAX_ERROR_CHARS]


def _last_object(member: re.Pattern[str], text: str) -> object:
    found = [match.end() for match in member.finditer(text)]
    if not found:
        return None
    try:
        return _JSON.raw_decode(text, found[-1])[0]
    except (ValueError, RecursionError):
        return None


def _outer_members(piece: Piece) -> dict[str, object]:
    """Collect the plain members of the outermost object that stand near either end of it."""
    members = {key: value for depth, key, value in _scan(piece.head, 0)[0] if depth == 1}
    start = _KEY.search(piece.tail)
    if start is not None:
        found, end_depth = _scan(piece.tail, start.start(1))
        # The last brace closes the outermost object, so its members are one level above the end.
        members |= {key: value for depth, key, value in found if depth == end_depth + 1}
    return members


def _scan(data: bytes, at: int) -> tuple[list[tuple[int, str, object]], int]:
    """Return plain members with their depth from a place outside of strings, and the last depth."""
    found: list[tuple[int, str, object]] = []
    depth = 0
    for token in _TOKEN.finditer(data, at):
        text = token[0]
        if text in (b"{", b"["):
            depth += 1
        elif text in (b"}", b"]"):
            depth -= 1
        elif token[1] is None or token.end() == len(data):
            break  # cut in the middle of a string or a number
        elif token[2] is not None:
            found.append((depth, token[1].decode("utf-8", "replace"), _scalar(token[2])))
    return found, depth


def _scalar(text: bytes) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _error_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(message := value.get("message"), str):
        return message
    return msgspec.json.encode(value).decode()


def _finish_reason(choices: object) -> str | None:
    """Return the last reason that a choice gives."""
    reasons = [
        choice.get("finish_reason")
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict)
    ]
    return next((reason for reason in reversed(reasons) if isinstance(reason, str)), None)


def _openai_counters(usage: object, timings: object) -> Counters:
    if usage is None and timings is None:
        return NOTHING_COUNTED
    used = usage if isinstance(usage, dict) else {}
    timed = timings if isinstance(timings, dict) else {}
    details = used.get("prompt_tokens_details")
    prompt, output = _count(used.get("prompt_tokens")), _count(used.get("completion_tokens"))
    cached, fresh = _count(timed.get("cache_n")), _count(timed.get("prompt_n"))
    if cached is None and isinstance(details, dict):
        cached = _count(details.get("cached_tokens"))
    if not prompt and not output:
        # Some servers put zeros on every chunk and the truth on the last.
        prompt = None if fresh is None else fresh + (cached or 0)
        output = _count(timed.get("predicted_n"))
    return Counters(
        prompt_tokens=prompt,
        cached_tokens=cached,
        prompt_s=_time(timed.get("prompt_ms"), _MS_PER_S),
        output_tokens=output,
        output_s=_time(timed.get("predicted_ms"), _MS_PER_S),
    )


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LONGEST:
        return value
    return None


def _time(value: object, per_s: float) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LONGEST:
        return value / per_s
    return None
