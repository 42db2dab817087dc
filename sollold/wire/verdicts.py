"""Which lines of a stream bear content.

Owns the judgement on single lines before an answer commits. Must not hold state.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.wire.clip import Piece


class Verdict(Enum):
    """What a line means for an answer that is still held back."""

    HOLD = auto()
    """Nothing of interest to a client yet."""
    PASS = auto()
    """An end, an error, or something unknown: to be passed on now."""
    CONTENT = auto()


class _Frame(msgspec.Struct, gc=False):
    message: Any = None
    response: Any = None
    thinking: Any = None
    tool_calls: Any = None
    logprobs: Any = None
    done: Any = None
    error: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: Any = None
    error: Any = None


DATA: Final = b"data:"
"""What a line of an event stream begins with that bears data."""

DONE: Final = b"[DONE]"
"""The end of an event stream, as data."""

_FRAME: Final = msgspec.json.Decoder(_Frame)
_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_MESSAGE_FIELDS: Final = ("content", "thinking", "tool_calls", "images")
_DELTA_FIELDS: Final = (
    "content", "reasoning", "reasoning_content", "tool_calls", "refusal", "function_call", "audio",
)  # fmt: skip


def judge_frame(line: bytes) -> Verdict:
    """Judge a line of a native stream."""
    if not line.strip():
        return Verdict.HOLD
    try:
        frame = _FRAME.decode(line)
    except _NOT_JSON:
        return Verdict.PASS
    message = frame.message if isinstance(frame.message, dict) else {}
    if (
        frame.response
        or frame.thinking
        or frame.tool_calls
        or frame.logprobs
        or any(message.get(name) for name in _MESSAGE_FIELDS)
    ):
        return Verdict.CONTENT
    is_empty_content = frame.message is not None or frame.response is not None
    is_end = frame.done is True or frame.error is not None
    return Verdict.HOLD if is_empty_content and not is_end else Verdict.PASS


def judge_event_line(line: bytes) -> Verdict:
    """Judge a line of an event stream; fields other than data bear no content."""
    if not line.startswith(DATA):
        is_held = not line.strip() or line.startswith((b":", b"event:", b"id:", b"retry:"))
        return Verdict.HOLD if is_held else Verdict.PASS
    payload = line[len(DATA) :].strip()
    if payload == DONE:
        return Verdict.PASS
    try:
        chunk = _CHUNK.decode(payload)
    except _NOT_JSON:
        return Verdict.PASS
    if chunk.error is not None or not isinstance(chunk.choices, list):
        return Verdict.PASS
    verdicts = {_judge_choice(choice) for choice in chunk.choices}
    if Verdict.CONTENT in verdicts:
        return Verdict.CONTENT
    return Verdict.PASS if Verdict.PASS in verdicts else Verdict.HOLD


def _judge_choice(choice: object) -> Verdict:
    if not isinstance(choice, dict):
        return Verdict.PASS
    delta = choice.get("delta")
    fields = delta if isinstance(delta, dict) else {}
    if (
        choice.get("text")
        or choice.get("logprobs")
        or any(fields.get(name) for name in _DELTA_FIELDS)
    ):
        return Verdict.CONTENT
    return Verdict.HOLD if choice.get("finish_reason") is None else Verdict.PASS


def count_empty(lines: list[Piece], judge: Callable[[bytes], Verdict]) -> int:
    """Count the closing lines without content; a clipped one is full of something."""
    count = 0
    for piece in reversed(lines):
        if not piece.is_whole or judge(piece.head) is Verdict.CONTENT:
            break
        count += 1
    return count
