"""The routes below `/v1` of a fake node: OpenAI's shapes as Ollama prints them."""

from __future__ import annotations

import base64
import struct
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from tests.fakes import decode, native
from tests.fakes.decode import ApiError, Body, DecodeError
from tests.fakes.faults import FaultKind
from tests.fakes.models import openai_entry
from tests.fakes.ollama import FakeOllama, Final, Job, Piece, dump

if TYPE_CHECKING:
    from tests.fakes.httpd import Exchange

SSE = "text/event-stream"
_DONE = b"data: [DONE]\n\n"
_EFFORTS = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}
_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


async def models(ollama: FakeOllama, exchange: Exchange) -> None:
    """`GET /v1/models`; without models the list is null."""
    newest = sorted(ollama.models.values(), key=lambda model: model.modified_at, reverse=True)
    data = [openai_entry(model, model.short) for model in newest]
    await _reply(exchange, {"object": "list", "data": data or None})


async def one_model(ollama: FakeOllama, exchange: Exchange) -> None:
    """`GET /v1/models/{model}`; the name comes back as it was asked for."""
    name = exchange.request.path.removeprefix("/v1/models/")
    model = ollama.wanted(name, f"model '{native.display_name(name)}' not found")
    await _reply(exchange, openai_entry(model, name))


async def chat_completions(ollama: FakeOllama, exchange: Exchange) -> None:
    """`POST /v1/chat/completions`."""
    raw = exchange.request.body
    asked = decode.decode(raw, "openai.ChatCompletionRequest", decode.OPENAI_CHAT, empty_text="EOF")
    if not asked.get("messages"):
        raise DecodeError("[] is too short - 'messages'")
    body = _native_chat(asked)
    model = native.begin_chat(ollama, body)
    native.check_chat(model, body)
    job = ollama.job(model, body, native.prompt_of(body["messages"]))
    await _run(ollama, exchange, job, _ChatShape(asked, ollama.next_id()))


async def completions(ollama: FakeOllama, exchange: Exchange) -> None:
    """`POST /v1/completions`: the chat template applies, an empty prompt loads."""
    asked = decode.decode(
        exchange.request.body,
        "openai.CompletionRequest",
        decode.OPENAI_COMPLETION,
        empty_text="EOF",
    )
    body = asked | {"options": {"num_predict": asked.get("max_tokens")}}
    model = native.begin_generate(ollama, body)
    native.check_generate(model, body)
    shape = _TextShape(asked, ollama.next_id())
    if asked.get("prompt"):
        await _run(ollama, exchange, ollama.job(model, body, asked["prompt"]), shape)
        return
    await ollama.engine.load(model, ollama.load_options({}), None)
    if asked.get("stream"):
        event = shape.chunk("", "load")
        await exchange.reply(200, _event(event) + _DONE, SSE)
    else:
        await _reply(exchange, shape.whole([], "load", None))


async def embeddings(ollama: FakeOllama, exchange: Exchange) -> None:
    """`POST /v1/embeddings`."""
    body = decode.decode(
        exchange.request.body,
        "openai.EmbedRequest",
        decode.OPENAI_EMBEDDING,
        empty_text="EOF",
    )
    encoding = body.get("encoding_format", "float").lower()
    if encoding not in {"float", "base64"}:
        wrong = body["encoding_format"]
        known = "Supported values: ['float', 'base64']."
        raise DecodeError(f"Invalid value for 'encoding_format' = {wrong}. {known}")
    value = body.get("input")
    if value is None or value == []:
        raise DecodeError("invalid input")
    texts = [""] if value == "" else native.embed_texts(value)
    model = native.embed_model(ollama, body)
    vectors, _, tokens = await native.run_embed(ollama, model, body, texts)
    data = [
        {"object": "embedding", "embedding": _encode(vector, encoding), "index": index}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": body["model"], "usage": usage}
    await _reply(exchange, answer)


async def reply_error(exchange: Exchange, error: ApiError) -> None:
    """An error in OpenAI's shape; those found before the call have another frame."""
    body = _error_body(error)
    if isinstance(error, DecodeError):
        await exchange.reply(error.status, body, native.JSON)
    else:
        await exchange.reply(error.status, body + b"\n", native.BARE_JSON)


def _error_body(error: ApiError) -> bytes:
    kind = _TYPES.get(error.status, "api_error")
    inner = {"message": error.text, "type": kind, "param": None, "code": None}
    return dump({"error": inner})


class _ChatShape:
    """Objects of `/v1/chat/completions`."""

    def __init__(self, asked: Body, number: int) -> None:
        self.asked = asked
        self.is_first = True
        self._number = number
        self._has_calls = False

    def pieces(self, piece: Piece) -> list[Body]:
        """The chunks of one piece."""
        delta: Body = {"role": "assistant"} if self.is_first else {}
        self.is_first = False
        if piece.thinking:
            delta |= {"content": "", "reasoning": piece.thinking}
        else:
            delta["content"] = piece.text
        if piece.tool_call:
            self._has_calls = True
            delta["tool_calls"] = [_openai_call(piece.tool_call)]
        return [self._chunk([{"index": 0, "delta": delta, "finish_reason": None}])]

    def broken(self) -> Body:
        """The chunk that Ollama makes of an error it cannot show."""
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
        return self._chunk([choice]) | {"model": ""}

    def end(self, final: Final) -> list[Body]:
        """The chunks after the last piece."""
        choice = {"index": 0, "delta": {}, "finish_reason": self._reason(final.done_reason)}
        chunks = [self._chunk([choice])]
        if _wants_usage(self.asked):
            chunks.append(self._chunk([]) | {"usage": _usage(final)})
        return chunks

    def whole(self, pieces: list[Piece], reason: str | None, final: Final | None) -> Body:
        """The body of an answer that is not streamed."""
        message: Body = {"role": "assistant", "content": "".join(p.text for p in pieces)}
        thinking = "".join(piece.thinking for piece in pieces)
        if thinking:
            message["reasoning"] = thinking
        calls = [_openai_call(piece.tool_call) for piece in pieces if piece.tool_call]
        if calls:
            self._has_calls = True
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": self._reason(reason)}
        return self._head("chat.completion") | {"choices": [choice], "usage": _usage(final)}

    def _reason(self, reason: str | None) -> str | None:
        return "tool_calls" if self._has_calls and reason == "stop" else reason

    def _chunk(self, choices: list[Any]) -> Body:
        return self._head("chat.completion.chunk") | {"choices": choices}

    def _head(self, kind: str) -> Body:
        return {
            "id": f"chatcmpl-{self._number}",
            "object": kind,
            "created": int(time.time()),
            "model": self.asked["model"],
            "system_fingerprint": "fp_ollama",
        }


class _TextShape:
    """Objects of `/v1/completions`."""

    def __init__(self, asked: Body, number: int) -> None:
        self.asked = asked
        self._number = number

    def pieces(self, piece: Piece) -> list[Body]:
        """The chunks of one piece."""
        return [self.chunk(piece.text, None)]

    def broken(self) -> Body:
        """The chunk that Ollama makes of an error it cannot show."""
        return self.chunk("", None) | {"model": ""}

    def end(self, final: Final) -> list[Body]:
        """The chunks after the last piece."""
        chunks = [self.chunk("", final.done_reason)]
        if _wants_usage(self.asked):
            chunks.append(self.chunk("", None) | {"choices": [], "usage": _usage(final)})
        return chunks

    def whole(self, pieces: list[Piece], reason: str | None, final: Final | None) -> Body:
        """The body of an answer that is not streamed."""
        text = "".join(piece.text for piece in pieces)
        choice = {"text": text, "index": 0, "finish_reason": reason}
        tail = {"choices": [choice], "usage": _usage(final)}
        return {
            "id": f"cmpl-{self._number}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.asked["model"],
            "system_fingerprint": "fp_ollama",
        } | tail

    def chunk(self, text: str, reason: str | None) -> Body:
        """One event of a stream."""
        chunk: Body = {
            "id": f"cmpl-{self._number}",
            "object": "text_completion",
            "created": int(time.time()),
            "choices": [{"text": text, "index": 0, "finish_reason": reason}],
            "model": self.asked["model"],
            "system_fingerprint": "fp_ollama",
        }
        return chunk | ({"usage": _usage(None)} if _wants_usage(self.asked) else {})


_Shape = _ChatShape | _TextShape


async def _run(ollama: FakeOllama, exchange: Exchange, job: Job, shape: _Shape) -> None:
    is_stream = bool(shape.asked.get("stream"))
    if is_stream and exchange.request.faults.get(FaultKind.EARLY_HEAD):
        await exchange.start(200, SSE)
    async with ollama.engine.lease(job.model, job.options, job.keep_alive_s) as lease:
        answer = ollama.answer(job, lease, exchange.request.faults)
        async with aclosing(answer) as events:
            if is_stream:
                await _stream(exchange, shape, events)
            else:
                await _collect(exchange, shape, events)


async def _stream(exchange: Exchange, shape: _Shape, events: native.Events) -> None:
    try:
        async for event in events:
            if not exchange.is_started:
                await exchange.strike_if_due()
                await exchange.start(200, SSE)
            if isinstance(event, Final):
                ends = b"".join(_event(chunk) for chunk in shape.end(event))
                await exchange.chunk(ends + _DONE)
                continue
            for chunk in shape.pieces(event):
                await exchange.chunk(_event(chunk))
    except ApiError as error:
        if not exchange.is_started:
            body = _error_body(error) + b"\n"
            await exchange.reply(error.status, body, native.BARE_JSON, flushed=True)
            return
        await exchange.chunk(_event(shape.broken()))
    await exchange.start(200, SSE)
    await exchange.finish()


async def _collect(exchange: Exchange, shape: _Shape, events: native.Events) -> None:
    pieces: list[Piece] = []
    final: Final | None = None
    async for event in events:
        if isinstance(event, Final):
            final = event
        else:
            pieces.append(event)
    reason = None if final is None else final.done_reason
    await _reply(exchange, shape.whole(pieces, reason, final))


async def _reply(exchange: Exchange, value: object) -> None:
    await exchange.reply(200, dump(value) + b"\n", native.BARE_JSON)


def _event(chunk: Body) -> bytes:
    return b"data: " + dump(chunk) + b"\n\n"


def _wants_usage(asked: Body) -> bool:
    options = asked.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _usage(final: Final | None) -> Body:
    prompt, answer = (final.prompt_tokens, final.eval_tokens) if final else (0, 0)
    total = prompt + answer
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": total}


def _openai_call(call: dict[str, Any]) -> Body:
    function = call["function"]
    arguments = dump(function["arguments"]).decode()
    return {
        "id": call["id"],
        "index": function["index"],
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _encode(vector: list[float], encoding: str) -> object:
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _native_chat(asked: Body) -> Body:
    """The chat that Ollama makes of an OpenAI request."""
    effort = asked.get("reasoning_effort")
    if effort is not None and effort not in _EFFORTS:
        known = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'
        raise DecodeError(f'invalid reasoning value: "{effort}" (must be {known})')
    body: Body = {key: asked[key] for key in ("model", "tools") if key in asked}
    body["messages"] = [part for message in asked["messages"] for part in _split(message)]
    body["options"] = {"num_predict": asked.get("max_tokens")}
    wanted = asked.get("response_format") or {}
    if wanted.get("type") == "json_object":
        body["format"] = "json"
    elif wanted.get("type") == "json_schema":
        body["format"] = (wanted.get("json_schema") or {}).get("schema")
    return body | ({} if effort is None else {"think": _EFFORTS[effort]})


def _split(message: Body) -> list[Body]:
    """A native message for each part of an OpenAI one."""
    role, content = message.get("role", ""), message.get("content")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if content is None:
        if not message.get("tool_calls"):
            raise DecodeError("invalid message content type: <nil>")
        return [{"role": role, "content": ""}]
    if not isinstance(content, list):
        kind = {bool: "bool"}.get(type(content), "float64")
        kind = "map[string]interface {}" if isinstance(content, dict) else kind
        raise DecodeError(f"invalid message content type: {kind}")
    return [_part(role, part) for part in content]


def _part(role: str, part: object) -> Body:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"role": role, "content": text}
        case {"type": "image_url", "image_url": {"url": str(url)} | str(url)}:
            if not url.startswith("data:"):
                raise DecodeError("invalid image input")
            return {"role": role, "content": "", "images": [url.partition(",")[2]]}
        case _:
            pass
    raise DecodeError("invalid message format")
