"""The routes of a fake llama-server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.fakes import llama_info
from tests.fakes.llama_check import (
    NO_INFILL,
    Body,
    LlamaError,
    as_object,
    check_chat,
    check_constraints,
    check_fields,
    check_messages,
    check_room,
    decode,
    limit_of,
    prompts_of,
    tool_to_call,
    wrong_type,
)
from tests.fakes.llama_embed import embed, pack
from tests.fakes.llama_engine import BOS, Plan, pieces_of, plan_answer
from tests.fakes.llama_generate import generate
from tests.fakes.llama_replies import ChatReply, NativeReply, TextReply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.fakes.httpd import Exchange
    from tests.fakes.llama import FakeLlama

    Handler = Callable[[FakeLlama, Exchange], Awaitable[None]]

_SLOT_ACTION = re.compile(r"/slots/\d+")


async def route(llama: FakeLlama, exchange: Exchange) -> None:
    """Answer a request by its method and path."""
    request = exchange.request
    method = "GET" if request.method == "HEAD" else request.method
    handler = ROUTES.get((method, request.path))
    if handler is None and method == "POST" and _SLOT_ACTION.fullmatch(request.path):
        handler = _unsupported("slots action", "--slot-save-path")
    if handler is None:
        error = {"message": "File Not Found", "type": "not_found_error", "code": 404}
        await llama.reply(exchange, 404, {"error": error})
        return
    await handler(llama, exchange)


async def _page(llama: FakeLlama, exchange: Exchange) -> None:
    if "gzip" in (exchange.request.header("accept-encoding") or ""):
        await llama.reply_raw(exchange, 200, b"<!doctype html>", "text/html")
        return
    text = b"Error: gzip is not supported by this browser"
    await llama.reply_raw(exchange, 415, text, "text/plain")


async def _health(llama: FakeLlama, exchange: Exchange) -> None:
    await llama.reply(exchange, 200, {"status": "ok"})


async def _props(llama: FakeLlama, exchange: Exchange) -> None:
    await llama.reply(exchange, 200, llama_info.props(llama.settings))


async def _models(llama: FakeLlama, exchange: Exchange) -> None:
    await llama.reply(exchange, 200, llama_info.models(llama.settings))


async def _slots(llama: FakeLlama, exchange: Exchange) -> None:
    is_full = llama.active >= llama.settings.slots
    if is_full and "fail_on_no_slot=" in exchange.request.query:
        raise LlamaError(503, "no slot available")
    await llama.reply(exchange, 200, llama_info.slots(llama.engine))


async def _metrics(llama: FakeLlama, exchange: Exchange) -> None:
    if not llama.settings.has_metrics:
        await _unsupported("metrics endpoint", "--metrics")(llama, exchange)
    started = (("Process-Start-Time-Unix", "0"),)
    body = llama_info.metrics(llama.engine)
    await llama.reply_raw(exchange, 200, body, "text/plain; version=0.0.4", started)


async def _adapters(llama: FakeLlama, exchange: Exchange) -> None:
    await llama.reply(exchange, 200, [])


async def _chat(llama: FakeLlama, exchange: Exchange) -> None:
    body = as_object(decode(exchange.request.body, llama.settings))
    check_chat(body, llama.settings)
    check_fields(body, llama.settings)
    prompt = _prompt(llama_info.render(body["messages"]))
    plan = _plan(llama, prompt, body)
    reply = ChatReply(body, llama.settings, llama.vocabulary)
    await generate(llama, exchange, body, reply, [plan] * (body.get("n") or 1))


async def _completions(llama: FakeLlama, exchange: Exchange) -> None:
    body = as_object(decode(exchange.request.body, llama.settings))
    plans = _plans(llama, body)
    reply = TextReply(body, llama.settings, llama.vocabulary)
    await generate(llama, exchange, body, reply, plans)


async def _completion(llama: FakeLlama, exchange: Exchange) -> None:
    body = as_object(decode(exchange.request.body, llama.settings))
    plans = _plans(llama, body)
    reply = NativeReply(body, llama.settings, llama.vocabulary)
    await generate(llama, exchange, body, reply, plans)


async def _infill(llama: FakeLlama, exchange: Exchange) -> None:
    if not llama.settings.has_infill:
        raise LlamaError(501, NO_INFILL)
    body = as_object(decode(exchange.request.body, llama.settings))
    for name in ("input_prefix", "input_suffix"):
        if not isinstance(body.get(name), str):
            raise LlamaError(400, f'"{name}" is required')
    body["prompt"] = f"<PRE>{body['input_prefix']}<SUF>{body['input_suffix']}<MID>"
    reply = NativeReply(body, llama.settings, llama.vocabulary)
    await generate(llama, exchange, body, reply, _plans(llama, body))


async def _embeddings(llama: FakeLlama, exchange: Exchange) -> None:
    body, vectors, tokens = await embed(llama, exchange)
    if "input" not in body:
        await _reply_vectors(llama, exchange, vectors)
        return
    is_packed = body.get("encoding_format") == "base64"
    data = [
        {"embedding": pack(vector) if is_packed else vector, "index": index}
        | {"object": "embedding"}
        | ({"encoding_format": "base64"} if is_packed else {})
        for index, vector in enumerate(vectors)
    ]
    answer = {
        "model": body.get("model", llama.settings.model),
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "data": data,
    }
    await llama.reply(exchange, 200, answer)


async def _embedding(llama: FakeLlama, exchange: Exchange) -> None:
    _, vectors, _ = await embed(llama, exchange)
    await _reply_vectors(llama, exchange, vectors)


async def _reply_vectors(llama: FakeLlama, exchange: Exchange, vectors: list[list[float]]) -> None:
    """The older form: each vector in a list of its own."""
    answer = [{"index": index, "embedding": [vector]} for index, vector in enumerate(vectors)]
    await llama.reply(exchange, 200, answer)


async def _tokenize(llama: FakeLlama, exchange: Exchange) -> None:
    body = as_object(decode(exchange.request.body, llama.settings))
    content = body.get("content", "")
    if not isinstance(content, str | list):
        raise wrong_type(llama.settings, "string", content)
    numbers = [BOS] if body.get("add_special") else []
    for item in content if isinstance(content, list) else [content]:
        numbers += llama.vocabulary.encode(item) if isinstance(item, str) else [item]
    tokens: list[Any] = list(numbers)
    if body.get("with_pieces"):
        tokens = [{"id": number, "piece": llama.vocabulary.piece(number)} for number in numbers]
    await llama.reply(exchange, 200, {"tokens": tokens})


async def _detokenize(llama: FakeLlama, exchange: Exchange) -> None:
    body = as_object(decode(exchange.request.body, llama.settings))
    numbers = body.get("tokens", [])
    if not isinstance(numbers, list):
        raise wrong_type(llama.settings, "array", numbers)
    for number in numbers:
        if not isinstance(number, int):
            raise wrong_type(llama.settings, "number", number)
    await llama.reply(exchange, 200, {"content": llama.vocabulary.decode(numbers)})


async def _apply_template(llama: FakeLlama, exchange: Exchange) -> None:
    body = as_object(decode(exchange.request.body, llama.settings))
    check_messages(body, llama.settings)
    await llama.reply(exchange, 200, {"prompt": llama_info.render(body["messages"])})


async def _input_tokens(llama: FakeLlama, exchange: Exchange) -> None:
    body = as_object(decode(exchange.request.body, llama.settings))
    check_messages(body, llama.settings)
    count = len(_prompt(llama_info.render(body["messages"])))
    answer = {"input_tokens": count, "object": "response.input_tokens"}
    await llama.reply(exchange, 200, answer)


def _unsupported(what: str, flag: str) -> Handler:
    async def refuse(llama: FakeLlama, exchange: Exchange) -> None:
        raise LlamaError(501, f"This server does not support {what}. Start it with `{flag}`")

    return refuse


ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/"): _page,
    ("GET", "/health"): _health,
    ("GET", "/v1/health"): _health,
    ("GET", "/props"): _props,
    ("POST", "/props"): _unsupported("changing global properties", "--props"),
    ("GET", "/models"): _models,
    ("GET", "/v1/models"): _models,
    ("GET", "/slots"): _slots,
    ("GET", "/metrics"): _metrics,
    ("GET", "/lora-adapters"): _adapters,
    ("POST", "/chat/completions"): _chat,
    ("POST", "/v1/chat/completions"): _chat,
    ("POST", "/v1/chat/completions/input_tokens"): _input_tokens,
    ("POST", "/v1/completions"): _completions,
    ("POST", "/completion"): _completion,
    ("POST", "/completions"): _completion,
    ("POST", "/infill"): _infill,
    ("POST", "/v1/embeddings"): _embeddings,
    ("POST", "/embedding"): _embedding,
    ("POST", "/embeddings"): _embedding,
    ("POST", "/v1/rerank"): _unsupported("reranking", "--reranking"),
    ("POST", "/tokenize"): _tokenize,
    ("POST", "/detokenize"): _detokenize,
    ("POST", "/apply-template"): _apply_template,
}


def _prompt(text: str) -> list[str]:
    return ["<bos>", *pieces_of(text)]


def _plan(llama: FakeLlama, prompt: list[str], body: Body) -> Plan:
    check_room(len(prompt), llama.settings)
    check_constraints(body)
    tool = tool_to_call(body, llama.settings)
    return plan_answer(llama.settings, prompt, body, limit=limit_of(body), tool=tool)


def _plans(llama: FakeLlama, body: Body) -> list[Plan]:
    if "prompt" not in body:
        raise LlamaError(400, "[json.exception.out_of_range.403] key 'prompt' not found")
    prompts = prompts_of(body["prompt"], llama.vocabulary)
    check_fields(body, llama.settings)
    return [_plan(llama, _prompt(text), body) for text in prompts]
