"""How answers of `/v1/chat/completions` and `/v1/completions` are printed, as Ollama prints them.

Owns field order and shapes of both. Must not read what engines send.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sollold.core.model import Dialect
from sollold.wire.errors import PLAIN_JSON, error_body, openai_error
from sollold.wire.gojson import go_json
from sollold.wire.translate.reply_logprobs import logprobs_of
from sollold.wire.translate.reply_parts import arguments_text
from sollold.wire.translate.reply_tally import counted

if TYPE_CHECKING:
    from sollold.wire.translate.asked import Asked
    from sollold.wire.translate.reply_errors import Failure
    from sollold.wire.translate.reply_parts import Part, ToolPiece
    from sollold.wire.translate.reply_tally import Tally
    from sollold.wire.translate.seam import Clock

_NS_PER_S: Final = 1_000_000_000
_FINGERPRINT: Final = "fp_ollama"
_ID: Final = re.compile(r"(?:chatcmpl-|cmpl-)?([A-Za-z0-9_-]{1,64})")
_CHAT_ID: Final = "chatcmpl-"
_TEXT_ID: Final = "cmpl-"
_DATA: Final = b"data: "
_END: Final = b"\n\n"
_LAST: Final = b"data: [DONE]\n\n"
_NO_USAGE: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class _Identity:
    """Id and time of one answer, which all its chunks share."""

    __slots__ = ("_clock", "_prefix", "created", "id")

    def __init__(self, prefix: str, clock: Clock) -> None:
        self._prefix = prefix
        self._clock = clock
        self.id = ""
        self.created = 0

    def settle(self, part: Part) -> None:
        """Take what the engine says first."""
        wall_ns = self._clock.wall_ns()
        told = _ID.fullmatch(part.id) if isinstance(part.id, str) else None
        self.id = self._prefix + (told[1] if told else str(wall_ns % _NS_PER_S))
        self.created = counted(part.created) or wall_ns // _NS_PER_S


class ChatForm:
    """Prints the parts of a chat."""

    __slots__ = ("_asked", "_before", "_has_role", "_identity")

    stream_type = "text/event-stream"
    whole_type = PLAIN_JSON
    ends_with_reason = False

    def __init__(self, asked: Asked, clock: Clock) -> None:
        self._asked = asked
        self._identity = _Identity(_CHAT_ID, clock)
        self._before = b""
        self._has_role = False

    def begin_burst(self) -> None:
        """Do nothing: all chunks have one time."""

    def part(self, part: Part) -> bytes:
        """Return the chunks for a part: what was thought, what was said, how it ended."""
        logprobs = logprobs_of(self._asked, part.logprobs)
        out = b""
        if part.thinking:
            thought = b'"","reasoning":' + go_json(part.thinking)
            if not (part.text or part.tool_calls):
                return self._chunk(part, thought, logprobs) + self._finish(part)
            out = self._chunk(part, thought, [])
        if part.tool_calls:
            calls = go_json([_fragment(call) for call in part.tool_calls])
            out += self._chunk(part, go_json(part.text) + b',"tool_calls":' + calls, logprobs)
        elif part.text or logprobs:
            out += self._chunk(part, go_json(part.text), logprobs)
        return out + self._finish(part)

    def ending(self, tally: Tally, *, is_split: bool) -> bytes:
        """Return usage, if asked for, and the end of the stream."""
        del is_split
        if not self._asked.include_usage:
            return _LAST
        head = _head(self._identity, "chat.completion.chunk", self._asked)
        return _event(head | {"choices": [], "usage": _usage(tally)}) + _LAST

    def whole(self, part: Part, tally: Tally, *, is_split: bool) -> bytes:
        """Return the answer as one object; raise `Broken` if a tool call makes no sense."""
        del is_split
        self._identity.settle(part)
        message: dict[str, object] = {"role": "assistant", "content": part.text}
        if part.thinking:
            message["reasoning"] = part.thinking
        if calls := tally.calls(self._identity.created):
            message["tool_calls"] = [call.openai() for call in calls]
        choice: dict[str, object] = {
            "index": 0,
            "message": message,
            "finish_reason": part.finish,
        }
        if logprobs := logprobs_of(self._asked, part.logprobs):
            choice["logprobs"] = {"content": logprobs}
        head = _head(self._identity, "chat.completion", self._asked)
        return go_json(head | {"choices": [choice], "usage": _usage(tally)}) + b"\n"

    def broken(self, failure: Failure) -> bytes:
        """Return the event that tells of an error inside a stream."""
        return _event({"error": openai_error(failure.status, failure.text)})

    def refusal(self, failure: Failure) -> tuple[bytes, str]:
        """Return body and content type of an error that comes instead of an answer."""
        return error_body(Dialect.OPENAI, failure.status, failure.text)

    def _finish(self, part: Part) -> bytes:
        if part.finish is None:
            return b""
        # A message without a word begins, too.
        begun = b"" if self._has_role else self._chunk(part, b'""', [])
        return (
            begun
            + self._opening(part)
            + b'},"finish_reason":'
            + go_json(part.finish)
            + b"}]}"
            + _END
        )

    def _chunk(self, part: Part, said: bytes, logprobs: list[dict[str, object]]) -> bytes:
        role = b"" if self._has_role else b'"role":"assistant",'
        self._has_role = True
        line = self._opening(part) + role + b'"content":' + said + b'},"finish_reason":null'
        if logprobs:
            line += b',"logprobs":' + go_json({"content": logprobs})
        return line + b"}]}" + _END

    def _opening(self, part: Part) -> bytes:
        if not self._before:
            self._identity.settle(part)
            head = go_json(_head(self._identity, "chat.completion.chunk", self._asked))
            self._before = _DATA + head[:-1] + b',"choices":[{"index":0,"delta":{'
        return self._before


class TextForm:
    """Prints the parts of a completion."""

    __slots__ = ("_after", "_asked", "_before", "_identity")

    stream_type = "text/event-stream"
    whole_type = PLAIN_JSON
    ends_with_reason = False

    def __init__(self, asked: Asked, clock: Clock) -> None:
        self._asked = asked
        self._identity = _Identity(_TEXT_ID, clock)
        self._before = self._after = b""

    def begin_burst(self) -> None:
        """Do nothing: all chunks have one time."""

    def part(self, part: Part) -> bytes:
        """Return the chunks for a part; what was thought is left out, as Ollama does."""
        out = self._chunk(part, part.text, b"null") if part.text else b""
        if part.finish is not None:
            out += self._chunk(part, "", go_json(_text_reason(part.finish)))
        return out

    def ending(self, tally: Tally, *, is_split: bool) -> bytes:
        """Return usage, if asked for, and the end of the stream."""
        del is_split
        if not self._asked.include_usage:
            return _LAST
        return _event(self._body([], _usage(tally))) + _LAST

    def whole(self, part: Part, tally: Tally, *, is_split: bool) -> bytes:
        """Return the answer as one object."""
        del is_split
        self._identity.settle(part)
        reason = None if part.finish is None else _text_reason(part.finish)
        choice = {"text": part.text, "index": 0, "finish_reason": reason}
        head = _head(self._identity, "text_completion", self._asked)
        return go_json(head | {"choices": [choice], "usage": _usage(tally)}) + b"\n"

    def broken(self, failure: Failure) -> bytes:
        """Return the event that tells of an error inside a stream."""
        return _event({"error": openai_error(failure.status, failure.text)})

    def refusal(self, failure: Failure) -> tuple[bytes, str]:
        """Return body and content type of an error that comes instead of an answer."""
        return error_body(Dialect.OPENAI, failure.status, failure.text)

    def _chunk(self, part: Part, text: str, reason: bytes) -> bytes:
        if not self._before:
            self._settle(part)
        said = go_json(text) + b',"index":0,"finish_reason":' + reason
        return self._before + said + self._after

    def _settle(self, part: Part) -> None:
        self._identity.settle(part)
        usage = _NO_USAGE if self._asked.include_usage else None
        before, _, after = go_json(self._body([], usage)).partition(b"[]")
        self._before = _DATA + before + b'[{"text":'
        self._after = b"}]" + after + _END

    def _body(self, choices: list[object], usage: dict[str, int] | None) -> dict[str, object]:
        body: dict[str, object] = {
            "id": self._identity.id,
            "object": "text_completion",
            "created": self._identity.created,
            "choices": choices,
            "model": self._asked.model,
            "system_fingerprint": _FINGERPRINT,
        }
        return body if usage is None else body | {"usage": usage}


def _head(identity: _Identity, kind: str, asked: Asked) -> dict[str, object]:
    return {
        "id": identity.id,
        "object": kind,
        "created": identity.created,
        "model": asked.model,
        "system_fingerprint": _FINGERPRINT,
    }


def _event(body: dict[str, object]) -> bytes:
    return _DATA + go_json(body) + _END


def _usage(tally: Tally) -> dict[str, int]:
    prompt, output = tally.prompt_count, tally.output_count
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
    }


def _text_reason(reason: str) -> str:
    return "stop" if reason == "tool_calls" else reason


def _fragment(piece: ToolPiece) -> dict[str, object]:
    """Return a fragment of a call as the engine sent it, which clients put together."""
    out: dict[str, object] = {} if piece.id is None else {"id": piece.id}
    out["index"] = piece.index or 0
    if piece.id is not None:
        out["type"] = "function"
    if piece.function is not None:
        name = {} if piece.function.name is None else {"name": piece.function.name}
        out["function"] = {**name, "arguments": arguments_text(piece.function)}
    return out
