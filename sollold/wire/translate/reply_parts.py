"""What engines send, read into one shape: parts of an answer.

Owns the fields of the engines' replies, streamed and whole. Must not know what is made of them.
Thoughts that a server leaves between tags in the text stay there: only it knows its model's tags.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from sollold.wire.translate.reply_errors import (
    UNREADABLE,
    UNREADABLE_STATUS,
    Broken,
    Failure,
)
from sollold.wire.translate.reply_logprobs import IMPOSSIBLE

if TYPE_CHECKING:
    from collections.abc import Callable

_COMPLETION_PATHS: Final = frozenset({"/completion", "/infill"})
_STOP: Final = "stop"
_WORDS: Final = {
    _STOP: (
        "eos", "eos_token", "stop_token", "stop_sequence", "stop_str", "word", "end_turn",
        "complete", "completed",
    ),
    "length": (
        "limit", "max_tokens", "max_output_tokens", "model_length", "context_length",
        "model_context_window_exceeded",
    ),
    "tool_calls": ("tool_call", "tool_use", "function_call"),
    "content_filter": ("safety", "sensitive", "refusal", "recitation", "prohibited_content"),
}  # fmt: skip
_REASONS: Final = {word: reason for reason, words in _WORDS.items() for word in (reason, *words)}
"""What engines say of the end of an answer that is as they meant it."""
_BREAKS: Final = frozenset(
    ("error", "server_error", "engine_error", "network_error", "abort", "aborted", "cancel",
     "canceled", "cancelled", "failed", "failure", "interrupted", "timeout", "unfinished",
     "insufficient_system_resource")
)  # fmt: skip
"""What they say of one that they did not bring to its end."""


class ToolFunction(msgspec.Struct, gc=False):
    """Name and arguments of a call, or a fragment of them."""

    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw()


class ToolPiece(msgspec.Struct, gc=False):
    """A tool call or a fragment of one."""

    index: int | None = None
    id: str | None = None
    function: ToolFunction | None = None


class Part(msgspec.Struct, gc=False):
    """What one event adds to an answer, or a whole answer."""

    text: str = ""
    thinking: str = ""
    finish: str | None = None
    """`stop`, `length`, `tool_calls` or `content_filter`, once it is known."""
    tool_calls: list[ToolPiece] | None = None
    logprobs: Any = None
    usage: Any = None
    timings: Any = None
    error: Any = None
    id: Any = None
    created: Any = None
    tokens: list[int] | None = None
    """Ids of the output, from engines that tell."""
    ends_itself: bool = False
    """The model's own sign ended the answer; it counts as a token and prints nothing."""
    is_last: bool = False
    """Nothing follows, not even the stream's own end."""
    is_empty: bool = False
    """There is no answer in it at all."""
    is_guess: bool = False
    """Nobody knows the engine's word for its end: `finish` holds if all of the reply came."""
    break_off: Failure | None = None
    """The engine says that it did not bring the answer to its end."""


class _Delta(msgspec.Struct, gc=False):
    content: str | list[Any] | None = None
    refusal: Any = None
    reasoning_content: str | None = None
    reasoning: Any = None
    tool_calls: list[ToolPiece] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: Any = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    error: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    timings: Any = None
    error: Any = None
    id: Any = None
    created: Any = None


class _Completion(msgspec.Struct, gc=False):
    content: str | None = None
    tokens: list[int] | None = None
    stop: bool = False
    stop_type: str | None = None
    completion_probabilities: Any = None
    tokens_evaluated: Any = None
    tokens_predicted: Any = None
    timings: Any = None
    error: Any = None


class _End(NamedTuple):
    """How an answer ended; see `Part`."""

    finish: str | None = None
    is_guess: bool = False
    break_off: Failure | None = None


_NO_END: Final = _End()
_NO_DELTA: Final = _Delta()
_NOTHING: Final = (b"", b"null")
_TEXT: Final = msgspec.json.Decoder(str)
_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_COMPLETION: Final = msgspec.json.Decoder(_Completion)
_MAX_ODD_BYTES: Final = 256 * 1024
_NAN: Final = b"NaN"
_NEVER: Final = b"%d" % IMPOSSIBLE
_ODD: Final = re.compile(
    rb""""(?:[^"\\]|\\.)*+"? | -?Infinity | NaN | -?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?""",
    re.DOTALL | re.VERBOSE,
)
"""Strings, so that nothing is found in them, and numbers."""


def parser_for(path: str) -> Callable[[bytes], Part]:
    """Return what reads an object from this path of an engine; it raises `Broken`."""
    return _read_completion if path in _COMPLETION_PATHS else _read_chunk


def _read_chunk(payload: bytes) -> Part:
    chunk: _Chunk = _decode_odd(_CHUNK, payload)
    choices = chunk.choices
    if not choices or choices[0].index:
        # A further choice is nothing that was asked for.
        return Part(usage=chunk.usage, timings=chunk.timings, error=chunk.error, is_empty=True)
    choice = choices[0]
    delta = choice.delta or choice.message or _NO_DELTA
    if choice.delta is None and delta.tool_calls is not None:
        _number_calls(delta.tool_calls)
    end = _NO_END if choice.finish_reason is None else _end_of(choice.finish_reason)
    thinking = delta.reasoning_content or delta.reasoning
    return Part(
        _text_of(delta) or choice.text or "",
        thinking if isinstance(thinking, str) else "",
        end.finish,
        delta.tool_calls,
        choice.logprobs,
        chunk.usage,
        chunk.timings,
        choice.error if chunk.error is None else chunk.error,
        chunk.id,
        chunk.created,
        is_guess=end.is_guess,
        break_off=end.break_off,
    )


def _text_of(delta: _Delta) -> str:
    """Return what was said: as text, in pieces of which some are text, or as a refusal."""
    content = delta.content
    if isinstance(content, list):
        texts = [piece.get("text") for piece in content if isinstance(piece, dict)]
        content = "".join([text for text in texts if isinstance(text, str)])
    if not content and isinstance(delta.refusal, str):
        return delta.refusal
    return content or ""


def _end_of(word: str) -> _End:
    """Return what an engine's word for the end of an answer means; an empty one means nothing."""
    low = word.lower()
    finish = _REASONS.get(low)
    if finish is not None:
        return _End(finish)
    if not low:
        return _NO_END
    if low in _BREAKS:
        text = f"the node broke its answer off: {low}"
        return _End(break_off=Failure(UNREADABLE_STATUS, text))
    return _End(_STOP, is_guess=True)


def _number_calls(calls: list[ToolPiece]) -> None:
    """Give the calls of a whole answer, each of which is complete, an index."""
    for place, call in enumerate(calls):
        call.index = place


def _read_completion(payload: bytes) -> Part:
    found: _Completion = _decode_odd(_COMPLETION, payload)
    part = Part(
        text=found.content or "",
        logprobs=found.completion_probabilities,
        timings=found.timings,
        error=found.error,
        tokens=found.tokens,
        is_empty=found.content is None,
    )
    if found.stop:
        # The object says itself that it is the last, so that any other word is an end, too.
        end = _end_of(found.stop_type or _STOP)
        part.finish, part.break_off = end.finish, end.break_off
        part.ends_itself = found.stop_type == "eos"
        part.is_last = True
        part.usage = {
            "prompt_tokens": found.tokens_evaluated,
            "completion_tokens": found.tokens_predicted,
        }
    return part


def arguments_text(function: ToolFunction) -> str:
    """Return a fragment of arguments as text; some engines send them as an object."""
    raw = bytes(function.arguments)
    if raw.startswith(b'"'):
        text: str = decode(_TEXT, raw)
        return text
    return "" if raw in _NOTHING else raw.decode("utf-8", "replace")


def _decode_odd(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    """Decode, even if there are numbers in it that JSON or a float does not know.

    Log-probabilities are some engines' only such numbers: of what is impossible.
    """
    try:
        return decode(decoder, data)
    except Broken:
        if len(data) > _MAX_ODD_BYTES:
            raise
    return decode(decoder, _ODD.sub(_tamed, data))


def _tamed(found: re.Match[bytes]) -> bytes:
    token = found[0]
    if token.startswith(b'"'):
        return token
    if not math.isinf(float(token)) and token != _NAN:
        return token
    return _NEVER if token.startswith(b"-") else b"0"


def decode(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    """Decode what an engine sent; raise `Broken` if it cannot be read."""
    try:
        return decoder.decode(data)
    except UnicodeDecodeError:
        pass
    except (msgspec.MsgspecError, RecursionError):
        raise Broken(UNREADABLE) from None
    # Half a character, which some engines print where a token ends inside of one.
    return decode(decoder, data.decode("utf-8", "replace").encode())
