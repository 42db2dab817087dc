"""The objects that an OpenAI-compatible server answers generations with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tests.fakes.cloud_check import CloudError
from tests.fakes.llama_engine import LlamaSettings, Plan, Token, plan_answer
from tests.fakes.llama_replies import random_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.cloud import CloudSettings

Body = dict[str, Any]


class Reply(Protocol):
    """The objects of one answer."""

    is_stream: bool

    def pieces(self) -> Iterator[Token]: ...
    def chunk(self, piece: Token) -> Body: ...
    def end(self) -> list[Body]: ...
    def whole(self) -> Body: ...


class _Base:
    """What the dialects share."""

    kind = ""
    chunk_kind = ""
    prefix = ""

    def __init__(self, body: Body, settings: CloudSettings, prompt_tokens: int) -> None:
        if prompt_tokens >= settings.context_length:
            raise too_long(prompt_tokens, settings)
        self.body = body
        self.is_stream = bool(body.get("stream"))
        self.prompt_tokens = prompt_tokens
        self.plan = _plan(body, settings)
        self._id = f"{self.prefix}{random_id()}"
        self._created = int(time.time())
        options = body.get("stream_options") or {}
        self._tells_usage = bool(options.get("include_usage"))

    def pieces(self) -> Iterator[Token]:
        """The tokens of the answer."""
        yield from self.plan.tokens

    def reason(self) -> str:
        """Why the answer ended."""
        if self.plan.calls_tool:
            return "tool_calls"
        return "length" if self.plan.stop_type == "limit" else "stop"

    def usage(self) -> Body:
        """The counters."""
        done = len(self.plan.tokens)
        total = self.prompt_tokens + done
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": done,
            "total_tokens": total,
        }

    def head(self, kind: str) -> Body:
        """What every object of an answer begins with."""
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self.body["model"],
            "system_fingerprint": "fp_fake",
        }

    def streamed(self, choices: list[Body]) -> Body:
        """A chunk; it has an empty usage when the last one will have a real one."""
        more = {"usage": None} if self._tells_usage else {}
        return self.head(self.chunk_kind) | {"choices": choices} | more

    def usage_chunk(self) -> list[Body]:
        """The chunk after the last, if it was asked for."""
        return [self.streamed([]) | {"usage": self.usage()}] if self._tells_usage else []


class ChatReply(_Base):
    """`/v1/chat/completions`."""

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    prefix = "chatcmpl-"

    def pieces(self) -> Iterator[Token]:
        """An empty piece for the role comes first."""
        if self.is_stream:
            yield Token()
        yield from self.plan.tokens

    def chunk(self, piece: Token) -> Body:
        """One event."""
        delta: Body = {"content": piece.text}
        if piece == Token():
            delta = {"role": "assistant", "content": "", "refusal": None}
        elif piece.thinking:
            delta = {"reasoning_content": piece.thinking}
        elif piece.call_piece:
            delta = {"tool_calls": [_call_piece(piece)]}
        return self.streamed([_choice(delta, None)])

    def end(self) -> list[Body]:
        """The events after the last token."""
        return [self.streamed([_choice({}, self.reason())]), *self.usage_chunk()]

    def whole(self) -> Body:
        """The body of an answer that is not streamed."""
        tokens = self.plan.tokens
        message: Body = {"role": "assistant", "content": "".join(t.text for t in tokens)}
        message["refusal"] = None
        if thinking := "".join(token.thinking for token in tokens):
            message["reasoning_content"] = thinking
        if self.plan.calls_tool:
            arguments = "".join(token.call_piece for token in tokens)
            function = {"name": tokens[0].call_name, "arguments": arguments}
            call = {"id": f"call_{random_id()}", "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.reason()}
        return self.head(self.kind) | {"choices": [choice], "usage": self.usage()}


class TextReply(_Base):
    """`/v1/completions`."""

    kind = chunk_kind = "text_completion"
    prefix = "cmpl-"

    def chunk(self, piece: Token) -> Body:
        """One event."""
        return self.streamed([self._choice(piece.text, None)])

    def end(self) -> list[Body]:
        """The events after the last token."""
        return [self.streamed([self._choice("", self.reason())]), *self.usage_chunk()]

    def whole(self) -> Body:
        """The body of an answer that is not streamed."""
        text = "".join(token.text for token in self.plan.tokens)
        choices = [self._choice(text, self.reason())]
        return self.head(self.kind) | {"choices": choices, "usage": self.usage()}

    def _choice(self, text: str, reason: str | None) -> Body:
        return {"text": text, "index": 0, "logprobs": None, "finish_reason": reason}


def event(value: object) -> bytes:
    """One event of a stream."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def no_model(name: str) -> CloudError:
    """The error of a name that nobody knows."""
    text = f"The model `{name}` does not exist or you do not have access to it."
    return CloudError(404, text, code="model_not_found")


def too_long(tokens: int, settings: CloudSettings) -> CloudError:
    """The error of a prompt that does not fit."""
    text = (
        f"This model's maximum context length is {settings.context_length} tokens. "
        f"However, your messages resulted in {tokens} tokens."
    )
    return CloudError(400, text, param="messages", code="context_length_exceeded")


def _plan(body: Body, settings: CloudSettings) -> Plan:
    sized = LlamaSettings(
        n_ctx=settings.context_length,
        answer_tokens=settings.answer_tokens,
        thinks=settings.thinks,
    )
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or -1
    tools, messages = body.get("tools") or [], body.get("messages") or []
    is_called = settings.calls_tools and tools and messages[-1]["role"] == "user"
    tool = tools[0]["function"]["name"] if is_called else ""
    return plan_answer(sized, (), body, limit=limit, tool=tool)


def _choice(delta: Body, reason: str | None) -> Body:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


def _call_piece(piece: Token) -> Body:
    function: Body = {"arguments": piece.call_piece}
    if not piece.call_name:
        return {"index": 0, "function": function}
    named = {"name": piece.call_name} | function
    return {"index": 0, "id": f"call_{random_id()}", "type": "function", "function": named}
