"""The routes below `/api` of a fake node, in Ollama's shapes and framing."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from tests.fakes import decode
from tests.fakes.decode import ApiError, Body, DecodeError
from tests.fakes.engine import FOREVER_S, Runner
from tests.fakes.faults import FaultKind
from tests.fakes.models import FakeModel, details, show_body, tags_entry
from tests.fakes.names import parse_name
from tests.fakes.ollama import (
    NO_EMBEDDINGS,
    FakeOllama,
    Final,
    Job,
    Piece,
    dump,
    timestamp,
)

if TYPE_CHECKING:
    from tests.fakes.httpd import Exchange

JSON = "application/json; charset=utf-8"
BARE_JSON = "application/json"
NDJSON = "application/x-ndjson"

Events = AsyncIterator[Piece | Final]

_NO_BODY = "missing request body"


async def chat(ollama: FakeOllama, exchange: Exchange) -> None:
    """`POST /api/chat`."""
    body = decode.decode(exchange.request.body, "api.ChatRequest", decode.CHAT, empty_text=_NO_BODY)
    model = begin_chat(ollama, body)
    if not body.get("messages"):
        await _load_or_unload(ollama, exchange, model, body, {"message": _message()})
        return
    check_chat(model, body)
    await _run(ollama, exchange, ollama.job(model, body, prompt_of(body["messages"])), body)


def begin_chat(ollama: FakeOllama, body: Body) -> FakeModel:
    """The checks of a chat that come before anything else, and its model."""
    _check_early(body)
    name = body.get("model", "")
    if not name:
        raise ApiError(400, "model is required")
    return ollama.wanted(name, f"model '{name}' not found")


def check_chat(model: FakeModel, body: Body) -> None:
    """What the model must be able to do for this chat."""
    name = body["model"]
    if not model.can("completion"):
        raise ApiError(400, f'"{name}" does not support chat')
    if body.get("tools") and not model.can("tools"):
        raise ApiError(400, f"{model.full.qualified()} does not support tools")
    _check_thinking(model, body)


def prompt_of(messages: list[Body]) -> str:
    """All text of a conversation."""
    return "\n".join(f"{m.get('role', '')}: {m.get('content', '')}" for m in messages)


async def generate(ollama: FakeOllama, exchange: Exchange) -> None:
    """`POST /api/generate`."""
    body = decode.decode(
        exchange.request.body, "api.GenerateRequest", decode.GENERATE, empty_text=_NO_BODY
    )
    model = begin_generate(ollama, body)
    prompt = body.get("prompt", "")
    if not prompt and decode.keep_alive_s(body) == 0:
        await _load_or_unload(ollama, exchange, model, body, {"response": ""})
        return
    check_generate(model, body)
    if not prompt:
        await _load_or_unload(ollama, exchange, model, body, {"response": ""})
        return
    await _run(ollama, exchange, ollama.job(model, body, prompt), body)


def begin_generate(ollama: FakeOllama, body: Body) -> FakeModel:
    """The checks of a completion that come before anything else, and its model."""
    _check_early(body)
    name = body.get("model", "")
    return ollama.wanted(name, f"model '{name}' not found")


def check_generate(model: FakeModel, body: Body) -> None:
    """What the model must be able to do for this completion."""
    if body.get("raw") and any(body.get(key) for key in ("template", "system", "context")):
        raise ApiError(400, "raw mode does not support template, system, or context")
    _check_thinking(model, body)
    if not model.can("completion"):
        raise ApiError(400, f'"{body["model"]}" does not support generate')
    if body.get("suffix") and not model.can("insert"):
        raise ApiError(400, f"{model.full.qualified()} does not support insert")


async def embed(ollama: FakeOllama, exchange: Exchange) -> None:
    """`POST /api/embed`."""
    body = decode.decode(
        exchange.request.body, "api.EmbedRequest", decode.EMBED, empty_text=_NO_BODY
    )
    texts = embed_texts(body.get("input"))
    started_s = time.monotonic()
    model = embed_model(ollama, body)
    vectors, load_ns, tokens = await run_embed(ollama, model, body, texts)
    answer: Body = {"model": body["model"], "embeddings": vectors}
    if texts:
        answer["total_duration"] = round((time.monotonic() - started_s) * 1e9)
        answer |= {"load_duration": load_ns, "prompt_eval_count": tokens}
    await reply_json(exchange, answer)


async def embeddings(ollama: FakeOllama, exchange: Exchange) -> None:
    """`POST /api/embeddings`, the older form: one vector, names spelled exactly."""
    body = decode.decode(
        exchange.request.body, "api.EmbeddingRequest", decode.EMBEDDINGS, empty_text=_NO_BODY
    )
    name = body.get("model", "")
    if not name:
        raise ApiError(400, "model is required")
    missing = f'model "{name}" not found, try pulling it first'
    model = ollama.wanted(name, missing)
    if name.rpartition("/")[2].partition(":")[0] != model.full.model:
        raise ApiError(404, missing)
    prompt = body.get("prompt", "")
    vectors, _, _ = await run_embed(ollama, model, body, [prompt] if prompt else [])
    await reply_json(exchange, {"embedding": vectors[0] if vectors else []})


def embed_texts(value: object) -> list[str]:
    """The inputs of an embedding request; no text at all means: load the model."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ApiError(400, "invalid input type")
    return value


def embed_model(ollama: FakeOllama, body: Body) -> FakeModel:
    """The model of an embedding request; a missing one has a text of its own there."""
    name = body.get("model", "")
    missing = f'model "{name}" not found, try pulling it first'
    return ollama.wanted(name, missing if name else "model '' not found")


async def run_embed(
    ollama: FakeOllama, model: FakeModel, body: Body, texts: list[str]
) -> tuple[list[list[float]], int, int]:
    """Vectors of the texts, how long the load took, and how many tokens they were."""
    options, keep_alive = ollama.load_options(body), decode.keep_alive_s(body)
    if not texts:
        await ollama.engine.load(model, options, keep_alive)
        return [], 0, 0
    async with ollama.engine.lease(model, options, keep_alive) as lease:
        if not model.can("embedding"):
            raise ApiError(501, NO_EMBEDDINGS)
        words = tuple(word for text in texts for word in text.split())
        await ollama.engine.prefill(lease, words)
        length = body.get("dimensions") or model.embedding_length
        vectors = [_vector(text, model.embedding_length)[:length] for text in texts]
        return [_unit(vector) for vector in vectors], lease.load_ns, len(words) + len(texts)


async def version(ollama: FakeOllama, exchange: Exchange) -> None:
    """`GET /api/version`."""
    await reply_json(exchange, {"version": ollama.version})


async def status(ollama: FakeOllama, exchange: Exchange) -> None:
    """`GET /api/status`."""
    del ollama
    await reply_json(exchange, {"cloud": {"disabled": False, "source": "none"}})


async def tags(ollama: FakeOllama, exchange: Exchange) -> None:
    """`GET /api/tags`."""
    newest = sorted(ollama.models.values(), key=lambda model: model.modified_at, reverse=True)
    await reply_json(exchange, {"models": [tags_entry(model) for model in newest]})


async def ps(ollama: FakeOllama, exchange: Exchange) -> None:
    """`GET /api/ps`: what is loaded, not what is being loaded."""
    await reply_json(exchange, {"models": [_ps_entry(r) for r in ollama.engine.runners]})


async def show(ollama: FakeOllama, exchange: Exchange) -> None:
    """`POST /api/show`."""
    body = decode.decode(exchange.request.body, "api.ShowRequest", decode.SHOW, empty_text=_NO_BODY)
    name = body.get("model") or body.get("name") or ""
    if not name:
        raise ApiError(400, "model is required")
    full = display_name(name)
    model = ollama.wanted(name, f"model '{full}' not found")
    agent = exchange.request.header("user-agent") or ""
    basename = name if agent.startswith("GitHubCopilotChat/") else ""
    answer = show_body(model, basename=basename, verbose=bool(body.get("verbose")))
    await reply_json(exchange, answer)


def display_name(name: str) -> str:
    """The display form of a name that may be wrong."""
    full = parse_name(name)
    return name if full is None else full.short()


async def reply_json(exchange: Exchange, value: object, status_code: int = 200) -> None:
    """A whole native body."""
    await exchange.reply(status_code, dump(value), JSON)


async def reply_error(exchange: Exchange, error: ApiError) -> None:
    """An error that was found before the engine had the request."""
    await reply_json(exchange, {"error": error.text}, error.status)


def _check_early(body: Body) -> None:
    decode.keep_alive_s(body)
    decode.check_think(body)
    if not 0 <= body.get("top_logprobs", 0) <= 20:
        raise DecodeError("top_logprobs must be between 0 and 20")


def _check_thinking(model: FakeModel, body: Body) -> None:
    if decode.check_think(body) and not model.can("thinking"):
        raise ApiError(400, f'"{body["model"]}" does not support thinking')


async def _load_or_unload(
    ollama: FakeOllama, exchange: Exchange, model: FakeModel, body: Body, shape: Body
) -> None:
    reason = "load"
    if decode.keep_alive_s(body) == 0:
        ollama.engine.unload(model)
        reason = "unload"
    else:
        options = ollama.load_options(body)
        await ollama.engine.load(model, options, decode.keep_alive_s(body))
    head = {"model": body["model"], "created_at": timestamp()}
    await reply_json(exchange, head | shape | {"done": True, "done_reason": reason})


async def _run(ollama: FakeOllama, exchange: Exchange, job: Job, body: Body) -> None:
    is_stream = body.get("stream") is not False
    if is_stream and exchange.request.faults.get(FaultKind.EARLY_HEAD):
        await exchange.start(200, NDJSON)
    async with ollama.engine.lease(job.model, job.options, job.keep_alive_s) as lease:
        answer = ollama.answer(job, lease, exchange.request.faults)
        async with aclosing(answer) as events:
            if is_stream:
                await _stream(exchange, body, events)
            else:
                await _collect(exchange, body, events)


async def _stream(exchange: Exchange, body: Body, events: Events) -> None:
    try:
        async for event in events:
            if not exchange.is_started:
                await exchange.strike_if_due()
                await exchange.start(200, NDJSON)
            await exchange.chunk(dump(_line(body, event)) + b"\n")
    except ApiError as error:
        if not exchange.is_started:
            text = dump({"error": error.text})
            await exchange.reply(error.status, text, BARE_JSON, flushed=True)
            return
        await exchange.chunk(dump({"error": error.text}) + b"\n")
    await exchange.start(200, NDJSON)
    await exchange.finish()


async def _collect(exchange: Exchange, body: Body, events: Events) -> None:
    pieces: list[Piece] = []
    last = _line(body, Piece())
    logprobs: list[Body] = []
    async for event in events:
        last = _line(body, event)
        if isinstance(event, Piece):
            pieces.append(event)
            logprobs += last.pop("logprobs", [])
    text = "".join(piece.text for piece in pieces)
    thinking = "".join(piece.thinking for piece in pieces)
    calls = [piece.tool_call for piece in pieces if piece.tool_call]
    if "message" in last:
        last["message"] = _message(text, thinking, calls)
    else:
        last["response"] = text
        if thinking:
            last["thinking"] = thinking
    if logprobs:
        last["logprobs"] = logprobs
    await reply_json(exchange, last)


def _line(body: Body, event: Piece | Final) -> Body:
    is_final = isinstance(event, Final)
    piece = Piece() if isinstance(event, Final) else event
    line: Body = {"model": body["model"], "created_at": timestamp()}
    if "messages" in body:
        calls = [piece.tool_call] if piece.tool_call else []
        line["message"] = _message(piece.text, piece.thinking, calls)
    else:
        line["response"] = piece.text
        if piece.thinking:
            line["thinking"] = piece.thinking
    line["done"] = is_final
    if isinstance(event, Final):
        line["done_reason"] = event.done_reason
        if "messages" not in body and not body.get("raw"):
            line["context"] = list(range(1, event.prompt_tokens + event.eval_tokens + 1))
        line |= event.counters()
    elif body.get("logprobs") and piece.text:
        line["logprobs"] = [_logprob(piece.text, body.get("top_logprobs", 0))]
    return line


def _logprob(token: str, top: int) -> Body:
    own: Body = {"token": token, "logprob": -0.25, "bytes": list(token.encode())}
    return own | ({"top_logprobs": [dict(own) for _ in range(top)]} if top else {})


def _message(text: str = "", thinking: str = "", calls: list[Any] | None = None) -> Body:
    message: Body = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = calls
    return message


def _ps_entry(runner: Runner) -> Body:
    model = runner.model
    expires_s = min(runner.expires_s, time.time() + FOREVER_S)
    vram = model.size_bytes if model.vram_bytes is None else model.vram_bytes
    return {
        "name": model.short,
        "model": model.short,
        "size": model.size_bytes,
        "digest": model.id,
        "details": details(model),
        "expires_at": timestamp(round(expires_s * 1e9)),
        "size_vram": vram,
        "context_length": min(runner.options.num_ctx, model.context_length),
    }


def _vector(text: str, length: int) -> list[float]:
    values: list[float] = []
    block = 0
    while len(values) < length:
        seed = hashlib.sha256(f"{block} {text}".encode()).digest()
        values += [byte / 127.5 - 1 for byte in seed]
        block += 1
    return values[:length]


def _unit(vector: list[float]) -> list[float]:
    norm = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [round(value / norm, 8) for value in vector]
