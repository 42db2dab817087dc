"""Embeddings of a fake llama-server: equal texts have equal vectors of length one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import struct
from typing import TYPE_CHECKING, Any

from tests.fakes.faults import FaultKind
from tests.fakes.llama_check import NO_EMBEDDINGS, Body, LlamaError, as_object, decode, prompts_of
from tests.fakes.llama_engine import Plan, pieces_of

if TYPE_CHECKING:
    from tests.fakes.httpd import Exchange
    from tests.fakes.llama import FakeLlama


async def embed(llama: FakeLlama, exchange: Exchange) -> tuple[Body, list[list[float]], int]:
    """The request, its vectors, and how many tokens were read."""
    settings = llama.settings
    if not settings.has_embeddings:
        raise LlamaError(501, NO_EMBEDDINGS)
    body = as_object(decode(exchange.request.body, settings))
    if body.get("encoding_format", "float") not in {"float", "base64"}:
        text = "The format to return the embeddings in. Can be either float or base64"
        raise LlamaError(400, text)
    texts = _texts(llama, body)
    prompts = [("<bos>", *pieces_of(text)) for text in texts]
    for prompt in prompts:
        _check_size(prompt, settings.batch)
    crash = exchange.request.faults.get(FaultKind.ENGINE_ERROR)
    if crash is not None:
        raise LlamaError(crash.status or 500, crash.text or "Compute error.")
    for prompt in prompts:
        async with llama.engine.lease(Plan(prompt, (), "eos")) as slot:
            await asyncio.sleep(llama.engine.prefill_s(slot))
    vectors = [vector_of(text, settings.embedding_length) for text in texts]
    return body, vectors, sum(len(prompt) for prompt in prompts)


def vector_of(text: str, length: int) -> list[float]:
    """A vector of length one that hangs on the text only."""
    seed = hashlib.shake_128(text.encode()).digest(2 * length)
    numbers = [value / 32_768 for value in struct.unpack(f"<{length}h", seed)]
    norm = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / norm for number in numbers]


def pack(vector: list[float]) -> str:
    """A vector in base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _texts(llama: FakeLlama, body: Body) -> list[str]:
    wanted: Any = body.get("input", body.get("content"))
    if wanted is None:
        raise LlamaError(400, '"input" or "content" must be provided')
    try:
        return prompts_of(wanted, llama.vocabulary)
    except LlamaError as error:
        # The same mistake that is 400 of a generation.
        raise LlamaError(400 if llama.settings.is_newer else 500, error.text) from None


def _check_size(prompt: tuple[str, ...], batch: int) -> None:
    if len(prompt) > batch:
        text = (
            f"input ({len(prompt)} tokens) is too large to process. increase the physical batch "
            f"size (current batch size: {batch})"
        )
        raise LlamaError(500, text)
