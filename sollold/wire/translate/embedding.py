"""Requests for embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from sollold.wire.translate.asked import Asked
from sollold.wire.translate.counting import detokenize, tokenize
from sollold.wire.translate.options import checked
from sollold.wire.translate.plan import Job, Plan, Plans
from sollold.wire.translate.ready import ready_embedder
from sollold.wire.translate.seam import Answer, Call, Done, Engine, Mistaken, Refused

if TYPE_CHECKING:
    from collections.abc import Generator

    from sollold.wire.translate.native import Embed, Embeddings

INPUT_TEXT: Final = "invalid input type"

_PATH: Final = "/v1/embeddings"
# A token at either end may be added by the engine.
_END_TOKENS: Final = 2
# Each costs two calls; what comes after these is for the engine to judge.
_MAX_COUNTED: Final = 32


def embed(job: Job, request: Embed, *, is_base64: bool = False) -> Plans:
    """Plan what Ollama does on `/api/embed`."""
    texts = _texts(request.input)
    checked(request.options)
    if not texts:
        return ready_embedder(job, request.model)
    if request.truncate:
        texts = yield from _cut(job.engine, texts)
    return _plan(job, request.model, texts, dimensions=request.dimensions, is_base64=is_base64)


def embeddings(job: Job, request: Embeddings) -> Plan | Done:
    """Plan what Ollama does on `/api/embeddings`."""
    checked(request.options)
    if not request.prompt:
        return ready_embedder(job, request.model)
    return _plan(job, request.model, [request.prompt])


def _texts(value: object) -> list[str]:
    if not value and (value is None or isinstance(value, str)):
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Mistaken(400, INPUT_TEXT)
    return texts


def _cut(engine: Engine, texts: list[str]) -> Generator[Call, Answer, list[str]]:
    """Return the texts, cut at the end where they exceed the context."""
    limit = engine.context_length
    if limit is None or not engine.has_templates or not engine.is_llama:
        return texts
    room = max(1, limit - _END_TOKENS)
    cut = list(texts)
    long = [at for at, text in enumerate(texts) if len(text.encode()) > room]
    for at in long[:_MAX_COUNTED]:
        try:
            tokens = yield from tokenize(engine, texts[at], add_special=False)
            if len(tokens) > room:
                cut[at] = yield from detokenize(engine, tokens[:room])
        except Refused:
            break  # the engine will say what it cannot take
    return cut


def _plan(
    job: Job, model: str, texts: list[str], *, dimensions: int = 0, is_base64: bool = False
) -> Plan:
    body: dict[str, Any] = {
        "model": job.engine.model,
        "input": texts,
        "encoding_format": "float",
    }
    asked = Asked(
        model=model,
        is_stream=False,
        is_engine_stream=False,
        path=_PATH,
        started_ns=job.started_ns,
        dimensions=max(0, dimensions),
        is_base64=is_base64,
        input_count=len(texts),
    )
    return Plan(Call(_PATH, msgspec.json.encode(body)), asked)
