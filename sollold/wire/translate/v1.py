"""The OpenAI-compatible routes, for engines that do not share Ollama's idea of them.

Owns how such a body reads in Ollama's own words. An engine that speaks OpenAI's API gets the body
as it came, under its own name for the model.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sollold.wire.gojson import BodyProblem, Pairs, go_type, read_lenient
from sollold.wire.peek import peek
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.asked import Asked
from sollold.wire.translate.embedding import embed
from sollold.wire.translate.generation import chat, generate
from sollold.wire.translate.media import media_part
from sollold.wire.translate.native import (
    CallFunction,
    Chat,
    Embed,
    Generate,
    Message,
    ToolCall,
    base64_text,
)
from sollold.wire.translate.plan import Plan
from sollold.wire.translate.reading import read_body
from sollold.wire.translate.seam import Call, Stage, Unsupported
from sollold.wire.translate.splice import with_model
from sollold.wire.translate.v1_bodies import CHAT, COMPLETION, EMBED

if TYPE_CHECKING:
    from sollold.wire.translate.plan import Job, Plans
    from sollold.wire.translate.seam import Engine
    from sollold.wire.translate.v1_bodies import (
        V1Chat,
        V1Completion,
        V1Embed,
        V1Message,
        V1ToolCall,
    )

NO_MESSAGES_TEXT: Final = "[] is too short - 'messages'"
MESSAGE_TEXT: Final = "invalid message format"
ARGUMENTS_TEXT: Final = "invalid tool call arguments"
IMAGE_URL_TEXT: Final = (
    "image URLs are not currently supported, please use base64 encoded data instead"
)
IMAGE_TEXT: Final = "invalid image input"
AUDIO_TEXT: Final = "invalid input_audio format"
INPUT_TEXT: Final = "invalid input"

_EMPTY_TEXT: Final = "EOF"
_IMAGE_STARTS: Final = (
    "data:;base64,", "data:image/jpeg;base64,", "data:image/jpg;base64,",
    "data:image/png;base64,", "data:image/webp;base64,",
)  # fmt: skip
_ENCODINGS: Final = ("", "float", "base64")
_CHOICES: Final = ("auto", "none", "required")
_EFFORTS: Final[dict[str, bool | str | None]] = {
    "": None, "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high",
    "max": "max", "xhigh": "max", "ultra": "max",
}  # fmt: skip
_GO_NAMES: Final = {
    "number": "float64",
    "array": "[]interface {}",
}
_Unread: Final = partial(Unsupported, stage=Stage.READING)


def plans(job: Job, body: bytes) -> Plans:
    """Plan what Ollama does on a route under `/v1`."""
    if not job.engine.is_llama:
        return _passed_on(job, body)
    read = partial(read_body, body=body, empty_text=_EMPTY_TEXT)
    match job.route:
        case InferenceRoute.V1_CHAT:
            return (yield from _chat(job, read(CHAT)))
        case InferenceRoute.V1_COMPLETIONS:
            return (yield from _completion(job, read(COMPLETION)))
        case _:
            return (yield from _embed(job, read(EMBED)))


def _passed_on(job: Job, body: bytes) -> Plan:
    peeked = peek(job.route, body)
    asked = Asked(
        model=peeked.model,
        is_stream=peeked.stream,
        is_engine_stream=peeked.stream,
        path=job.route.path,
        started_ns=job.started_ns,
        has_tools=peeked.has_tools,
        include_usage=peeked.wants_usage,
        input_count=peeked.input_count,
        is_thinking=peeked.wants_thinking,
    )
    return Plan(Call(job.route.path, with_model(body, job.engine.model)), asked)


def _chat(job: Job, body: V1Chat) -> Plans:
    if not body.messages:
        raise _Unread(400, NO_MESSAGES_TEXT)
    asked = job._replace(include_usage=body.stream_options.include_usage)
    request = Chat(
        model=body.model,
        messages=_messages(body, job.engine),
        tools=body.tools,
        tool_choice=body.tool_choice if body.tool_choice in _CHOICES else "",
        parallel_tool_calls=(
            body.parallel_tool_calls if isinstance(body.parallel_tool_calls, bool) else None
        ),
        stream=body.stream,
        format=_format(body),
        think=_effort(body),
        options=_chat_options(body),
        debug_render_only=body.debug_render_only,
        logprobs=body.logprobs,
        top_logprobs=body.top_logprobs,
    )
    return (yield from chat(asked, request))


def _completion(job: Job, body: V1Completion) -> Plans:
    # Log-probabilities are accepted and never answered, so the engine is spared them.
    request = Generate(
        model=body.model,
        prompt=body.prompt,
        suffix=body.suffix,
        stream=body.stream,
        options={
            "stop": _stops(body.stop, is_strict=True),
            "num_predict": body.max_tokens,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "seed": body.seed,
            "frequency_penalty": body.frequency_penalty,
            "presence_penalty": body.presence_penalty,
            "top_p": body.top_p or 1.0,
        },
        debug_render_only=body.debug_render_only,
        top_logprobs=max(0, body.logprobs),
    )
    asked = job._replace(include_usage=body.stream_options.include_usage)
    return (yield from generate(asked, request))


def _embed(job: Job, body: V1Embed) -> Plans:
    encoding = body.encoding_format.lower()
    if encoding not in _ENCODINGS:
        raise _Unread(
            400,
            f"Invalid value for 'encoding_format' = {body.encoding_format}."
            " Supported values: ['float', 'base64'].",
        )
    if body.input in (None, []):
        raise _Unread(400, INPUT_TEXT)
    texts = [""] if body.input == "" else body.input
    request = Embed(model=body.model, input=texts, dimensions=body.dimensions)
    return (yield from embed(job, request, is_base64=encoding == "base64"))


def _chat_options(body: V1Chat) -> dict[str, Any]:
    limit = body.max_completion_tokens if body.max_tokens is None else body.max_tokens
    return {
        "stop": _stops(body.stop, is_strict=False),
        "num_predict": limit,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "seed": body.seed,
        "frequency_penalty": body.frequency_penalty,
        "presence_penalty": body.presence_penalty,
        "top_p": 1.0 if body.top_p is None else body.top_p,
    }


def _stops(stop: object, *, is_strict: bool) -> list[str] | None:
    if isinstance(stop, str):
        return [stop]
    if not isinstance(stop, list):
        return None
    texts = [item for item in stop if isinstance(item, str)]
    if is_strict and len(texts) < len(stop):
        wrong = next(item for item in stop if not isinstance(item, str))
        raise _Unread(400, f"invalid type for 'stop' field: {_go_name(wrong)}")
    return texts


def _format(body: V1Chat) -> object:
    wanted = body.response_format
    match wanted.type.strip().lower():
        case "json_object":
            return "json"
        case "json_schema" if wanted.json_schema is not None:
            return wanted.json_schema.schema
        case _:
            return None


def _effort(body: V1Chat) -> bool | str | None:
    effort = body.reasoning_effort if body.reasoning is None else body.reasoning.effort
    if effort in _EFFORTS:
        return _EFFORTS[effort]
    shown = msgspec.json.encode(effort).decode()
    raise _Unread(
        400,
        f'invalid reasoning value: {shown} (must be "minimal", "low", "medium", "high", "xhigh",'
        ' "ultra", "max", or "none")',
    )


def _messages(body: V1Chat, engine: Engine) -> list[Message]:
    called = {
        call.id: call.function.name
        for message in body.messages
        for call in message.tool_calls or ()
        if call.id
    }
    return [_message(message, called, engine, body.model) for message in body.messages]


def _message(message: V1Message, called: dict[str, str], engine: Engine, model: str) -> Message:
    content, parts = "", None
    if isinstance(message.content, str):
        content = message.content
    elif isinstance(message.content, list):
        parts = [_part(part, engine, model) for part in message.content]
    elif message.tool_calls is None:
        found = _go_name(message.content)
        raise _Unread(400, f"invalid message content type: {found}")
    role = message.role.lower()
    tool_name = message.name or called.get(message.tool_call_id, "")
    return Message(
        role=role,
        content=content,
        parts=parts,
        thinking=message.reasoning,
        tool_calls=[_call(call) for call in message.tool_calls or ()],
        tool_name=tool_name if role == "tool" else "",
        tool_call_id=message.tool_call_id,
    )


def _call(call: V1ToolCall) -> ToolCall:
    try:
        found = read_lenient(call.function.arguments.encode(), empty_text=ARGUMENTS_TEXT)
    except BodyProblem:
        found = None
    if not isinstance(found, Pairs):
        raise _Unread(400, ARGUMENTS_TEXT)
    function = CallFunction(name=call.function.name, arguments=call.function.arguments)
    return ToolCall(id=call.id, function=function)


def _part(part: object, engine: Engine, model: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise _Unread(400, MESSAGE_TEXT)
    match part.get("type"):
        case "text" if isinstance(part.get("text"), str):
            return {"type": "text", "text": part["text"]}
        case "image_url":
            return media_part(_image(part.get("image_url")), engine, model)
        case "input_audio":
            return media_part(_audio(part.get("input_audio")), engine, model)
        case _:
            raise _Unread(400, MESSAGE_TEXT)


def _image(value: object) -> str:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        raise _Unread(400, MESSAGE_TEXT)
    if url.startswith(("http://", "https://")):
        raise _Unread(400, IMAGE_URL_TEXT)
    start = next((start for start in _IMAGE_STARTS if url.startswith(start)), None)
    if start is None:
        raise _Unread(400, IMAGE_TEXT)
    try:
        return base64_text(url.removeprefix(start))
    except BodyProblem:
        raise _Unread(400, IMAGE_TEXT) from None


def _audio(value: object) -> str:
    if not isinstance(value, dict):
        raise _Unread(400, AUDIO_TEXT)
    data = value.get("data")
    if not isinstance(data, str):
        raise _Unread(400, f"{AUDIO_TEXT}: missing data")
    try:
        return base64_text(data)
    except BodyProblem as problem:
        raise _Unread(400, f"invalid input_audio base64 data: {problem.text}") from None


def _go_name(value: object) -> str:
    """Name the type that Go gives to a JSON value of any kind."""
    if value is None:
        return "<nil>"
    if isinstance(value, dict):
        return "map[string]interface {}"
    kind = go_type(value)
    return _GO_NAMES.get(kind, kind)
