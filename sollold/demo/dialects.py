"""Reads streamed answers in both dialects, line by line. Pure."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import msgspec

from sollold.demo.failure import DemoFailed

_T = TypeVar("_T")


class Reader(Protocol):
    """Takes the lines of one streamed answer."""

    is_complete: bool
    """Whether the answer's own end was seen."""
    tokens: int | None
    tokens_per_s: float | None

    def feed(self, line: bytes) -> str:
        """Return the text a line adds."""


class _Message(msgspec.Struct):
    content: str | None = None


class _NativeLine(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)
    done: bool = False
    eval_count: int | None = None
    eval_duration: int | None = None
    error: str | None = None


class _Choice(msgspec.Struct):
    delta: _Message = msgspec.field(default_factory=_Message)


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class NativeReader:
    """Ollama's own: one JSON object a line, the last one is `done` and has the figures."""

    def __init__(self) -> None:
        self.is_complete = False
        self.tokens: int | None = None
        self.tokens_per_s: float | None = None

    def feed(self, line: bytes) -> str:
        """Return the text a line adds."""
        if not line.strip():
            return ""
        part = _decode(line, _NativeLine)
        if part.error is not None:
            raise DemoFailed(f"the answer ended with an error: {part.error}")
        if part.done:
            self.is_complete = True
            self.tokens = part.eval_count
            if part.eval_count and part.eval_duration:
                self.tokens_per_s = part.eval_count / part.eval_duration * 1e9
        return part.message.content or ""


class OpenAIReader:
    """OpenAI's: server-sent events, ended by `[DONE]`."""

    def __init__(self) -> None:
        self.is_complete = False
        self.tokens: int | None = None
        self.tokens_per_s: float | None = None

    def feed(self, line: bytes) -> str:
        """Return the text a line adds."""
        field, _, data = line.partition(b":")
        data = data.strip()
        if field != b"data":
            return ""
        if data == b"[DONE]":
            self.is_complete = True
            return ""
        part = _decode(data, _Chunk)
        if part.error is not None:
            raise DemoFailed(f"the answer ended with an error: {part.error}")
        if part.usage is not None:
            self.tokens = part.usage.completion_tokens
        return "".join(choice.delta.content or "" for choice in part.choices)


def _decode(data: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as exc:
        raise DemoFailed(f"the answer cannot be read: {exc}") from exc
