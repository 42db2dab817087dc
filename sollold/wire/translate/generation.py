"""Requests for text: chats, and prompts that stand alone.

Owns which endpoint of an engine does the work, and the body it gets. Must not know how bodies of
clients are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.asked import Asked
from sollold.wire.translate.counting import detokenize, render, tokenize
from sollold.wire.translate.messages import merged_prefill, prefill_of, to_wire
from sollold.wire.translate.native import Chat, Generate, Generation, Message
from sollold.wire.translate.options import checked, for_llama, for_openai
from sollold.wire.translate.plan import Job, Plan, Plans
from sollold.wire.translate.ready import ready
from sollold.wire.translate.seam import Answer, Call, Engine, Mistaken, Unsupported
from sollold.wire.translate.truncate import Setting, fitted, fitted_prompt
from sollold.wire.translate.wants import (
    ANY_OBJECT,
    IMAGE_MODEL_TEXT,
    check_capabilities,
    check_logprobs,
    format_fields,
    has,
    lacks,
    schema,
    thinking,
    thinking_fields,
    tool_fields,
)

if TYPE_CHECKING:
    from collections.abc import Generator

RAW_TEXT: Final = "raw mode does not support template, system, or context"
TEMPLATE_TEXT: Final = "template is not supported by the node of this model, which has its own"
CONTEXT_TEXT: Final = "context is not supported by the node of this model; use /api/chat"
RAW_IMAGES_TEXT: Final = "images are not supported in raw mode by the node of this model"
RAW_FORMAT_TEXT: Final = "format is not supported in raw mode by the node of this model"


def chat(job: Job, request: Chat) -> Plans:
    """Plan what Ollama does on `/api/chat`."""
    check_logprobs(request)
    if not request.messages and request.keep_alive == 0:
        return ready(job, request.model, "unload", is_stream=request.stream)
    check_capabilities(request, job.engine, "chat", "tools" if request.tools else "")
    given = checked(request.options)
    if not request.messages:
        return ready(job, request.model, "load", is_stream=request.stream)
    return (yield from _chat(job, request, given, merged_prefill(request.messages)))


def generate(job: Job, request: Generate) -> Plans:
    """Plan what Ollama does on `/api/generate`."""
    check_logprobs(request)
    if not request.prompt and request.keep_alive == 0:
        return ready(job, request.model, "unload", is_stream=request.stream)
    if has(job.engine, "image"):
        raise Unsupported(400, IMAGE_MODEL_TEXT)
    if request.raw and (request.template or request.system or request.context):
        raise Mistaken(400, RAW_TEXT)
    check_capabilities(request, job.engine, "generate", "insert" if request.suffix else "")
    given = checked(request.options)
    if not request.prompt:
        return ready(job, request.model, "load", is_stream=request.stream)
    if request.raw:
        return (yield from _raw(job, request, given))
    if request.template:
        raise Unsupported(400, TEMPLATE_TEXT)
    if request.suffix:
        return _infill(job, request, given)
    if request.context or _tells_context(job, request):
        return (yield from _with_context(job, request, given))
    return (yield from _chat(job, request, given, _as_messages(request)))


def _chat(job: Job, request: Generation, given: dict[str, Any], messages: list[Message]) -> Plans:
    """Call the engine's chat; a prompt alone is one of a single turn."""
    engine = job.engine
    tools = request.tools if isinstance(request, Chat) else []
    # A template may print both; the format only binds the sampler.
    printed = tool_fields(tools) | thinking_fields(thinking(request, engine), engine)
    constraint = format_fields(request.format, engine)
    if request.truncate:
        messages = yield from fitted(messages, Setting(engine, request.model, printed))
    # llama-server refuses to stream log-probabilities of an answer that may be a tool call.
    is_engine_stream = None
    if tools and request.logprobs and engine.is_llama:
        is_engine_stream = False
    body = {
        "model": engine.model,
        "messages": to_wire(messages, engine, request.model),
        **_samplers(engine, given),
        **printed,
        **constraint,
        **_tool_choice(request),
        **_chat_logprobs(request, engine),
    }
    plan = _plan(job, request, "/v1/chat/completions", body, is_engine_stream=is_engine_stream)
    asked = msgspec.structs.replace(plan.asked, prefill=prefill_of(messages))
    return plan._replace(asked=asked)


def _raw(job: Job, request: Generate, given: dict[str, Any]) -> Plans:
    """Call the engine with the prompt as it is."""
    engine = job.engine
    if request.images:
        raise Unsupported(400, RAW_IMAGES_TEXT)
    if not engine.is_llama:
        return _openai_completion(job, request, given)
    prompt = yield from _cut(request, engine, given, request.prompt)
    return _plan(job, request, "/completion", _completion(job, request, given, prompt=prompt))


def _cut(
    request: Generate, engine: Engine, given: dict[str, Any], text: str
) -> Generator[Call, Answer, str | list[int]]:
    if not request.truncate:
        return text
    return (yield from fitted_prompt(engine, text, given, can_shift=request.shift))


def _infill(job: Job, request: Generate, given: dict[str, Any]) -> Plan:
    """Call the engine for what belongs between two texts."""
    if not job.engine.is_llama:
        return _openai_completion(job, request, given)
    body = _completion(
        job, request, given, input_prefix=request.prompt, input_suffix=request.suffix
    )
    return _plan(job, request, "/infill", body)


def _with_context(job: Job, request: Generate, given: dict[str, Any]) -> Plans:
    """Call the engine with a prompt whose tokens are known, so that the reply can tell them."""
    engine = job.engine
    if not engine.is_llama or not engine.has_templates or request.images:
        raise Unsupported(400, CONTEXT_TEXT)
    body = _completion(job, request, given)
    text, tokens = yield from _remembered(request, engine)
    body["prompt"] = yield from _cut(request, engine, given, text)
    body["return_tokens"] = True
    return _plan(job, request, "/completion", body, prompt_tokens=tuple(tokens))


def _remembered(
    request: Generate, engine: Engine
) -> Generator[Call, Answer, tuple[str, list[int]]]:
    """Return the prompt with what came before it, and its tokens as the client is to keep them.

    Those have nothing that the engine puts in front by itself, or it would be there twice when they
    come back. They are never cut.
    """
    fields = {
        "messages": to_wire(_as_messages(request), engine, request.model),
        **thinking_fields(thinking(request, engine), engine),
    }
    prompt = yield from render(engine, fields)
    tokens = yield from tokenize(engine, prompt, add_special=False)
    if not request.context:
        return prompt, tokens
    before = yield from detokenize(engine, request.context)
    return before + prompt, [*request.context, *tokens]


def _tells_context(job: Job, request: Generate) -> bool:
    """Whether the reply can carry `context` without losing anything else.

    Only the engine's chat splits reasoning off and takes images.
    """
    return (
        job.route is InferenceRoute.API_GENERATE
        and job.engine.is_llama
        and job.engine.has_templates
        and lacks(job.engine, "thinking")
        and not request.images
    )


def _as_messages(request: Generate) -> list[Message]:
    user = Message(role="user", content=request.prompt, images=request.images)
    return [Message(role="system", content=request.system), user] if request.system else [user]


def _openai_completion(job: Job, request: Generate, given: dict[str, Any]) -> Plan:
    if schema(request.format) is not None:
        raise Unsupported(400, RAW_FORMAT_TEXT)
    body: dict[str, Any] = {"model": job.engine.model, "prompt": request.prompt}
    if request.suffix and not request.raw:
        body["suffix"] = request.suffix
    body |= for_openai(given)
    if request.logprobs:
        body["logprobs"] = max(request.top_logprobs, 1)
    return _plan(job, request, "/v1/completions", body)


def _completion(
    job: Job, request: Generate, given: dict[str, Any], **prompt: str | list[int]
) -> dict[str, Any]:
    """Return the body of llama-server's own completion endpoints."""
    body = {"model": job.engine.model, **prompt, **_samplers(job.engine, given)}
    wanted = schema(request.format)
    if wanted is not None:
        body["json_schema"] = ANY_OBJECT if request.format == "json" else wanted
    if request.logprobs:
        body["n_probs"] = max(request.top_logprobs, 1)
    return body


def _plan(
    job: Job,
    request: Generation,
    path: str,
    body: dict[str, Any],
    *,
    is_engine_stream: bool | None = None,
    prompt_tokens: tuple[int, ...] | None = None,
) -> Plan:
    # Only of a stream does llama-server notice at once that nobody waits for it any more.
    is_stream = request.stream or job.engine.is_llama
    if is_engine_stream is not None:
        is_stream = is_engine_stream
    body["stream"] = is_stream
    if is_stream and path.startswith("/v1/"):
        body["stream_options"] = {"include_usage": True}
    think = thinking(request, job.engine)
    asked = Asked(
        model=request.model,
        is_stream=request.stream,
        is_engine_stream=is_stream,
        path=path,
        started_ns=job.started_ns,
        has_tools="tools" in body,
        wants_logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
        include_usage=job.include_usage,
        prompt_tokens=prompt_tokens,
        is_thinking=None if think is None else bool(think),
    )
    return Plan(Call(path, msgspec.json.encode(body)), asked)


def _samplers(engine: Engine, given: dict[str, Any]) -> dict[str, Any]:
    return for_llama(given, engine.context_length) if engine.is_llama else for_openai(given)


def _tool_choice(request: Generation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(request, Chat) and request.tools:
        if request.tool_choice:
            found["tool_choice"] = request.tool_choice
        if request.parallel_tool_calls is not None:
            found["parallel_tool_calls"] = request.parallel_tool_calls
    return found


def _chat_logprobs(request: Generation, engine: Engine) -> dict[str, Any]:
    if not request.logprobs:
        return {}
    # llama-server takes an absent number for its most.
    top = max(request.top_logprobs, 1 if engine.is_llama else 0)
    return {"logprobs": True, "top_logprobs": top}
