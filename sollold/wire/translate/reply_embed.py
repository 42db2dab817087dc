"""Reads embeddings and prints them as Ollama does on its three routes."""

from __future__ import annotations

import binascii
import math
import struct
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sollold.core.model import Dialect
from sollold.wire.errors import NATIVE_JSON, PLAIN_JSON, error_body
from sollold.wire.gojson import go_json
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.reply_errors import (
    MAX_ERROR_BYTES,
    OVERLONG,
    UNREADABLE,
    Broken,
    Errors,
    Failure,
)
from sollold.wire.translate.reply_parts import decode
from sollold.wire.translate.reply_source import HEAVY_BYTES, Body
from sollold.wire.translate.reply_tally import counted
from sollold.wire.translate.seam import ReplyHead

if TYPE_CHECKING:
    from sollold.wire.translate.asked import Asked
    from sollold.wire.translate.seam import Clock

_FLOAT_BYTES: Final = 4
_UNIT_TOLERANCE: Final = 1e-6
"""Within what a sum of so many rounded numbers is one anyway."""


class _Item(msgspec.Struct, gc=False):
    embedding: list[float] | str
    index: Any = None


class _Embeddings(msgspec.Struct, gc=False):
    data: list[_Item] | None = None
    usage: Any = None
    error: Any = None


_REPLY: Final = msgspec.json.Decoder(_Embeddings)


class EmbedReader:
    """Keeps the reply and prints it at its end (`sollold.wire.translate.seam.ReplyReader`).

    `finish` works on all numbers at once: up to half a second for a million of them.
    """

    __slots__ = ("_asked", "_begun_ns", "_body", "_clock", "_errors", "_route", "_status", "head")

    def __init__(self, route: InferenceRoute, asked: Asked, errors: Errors, clock: Clock) -> None:
        self.head: ReplyHead | None = None
        self._route = route
        self._asked = asked
        self._errors = errors
        self._clock = clock
        self._begun_ns = clock.monotonic_ns()
        self._status = 200
        self._body = Body()

    @property
    def is_spoiled(self) -> bool:
        """Whether what follows is not worth waiting for."""
        return self._body.is_overlong

    @property
    def is_heavy(self) -> bool:
        """Whether there are many numbers."""
        return self._body.size_bytes > HEAVY_BYTES

    def begin(self, status: int, content_type: str) -> None:
        """Take the head of the engine's reply; embeddings are JSON whatever it says."""
        del content_type
        self._status = status
        if status != 200:
            self._body = Body(MAX_ERROR_BYTES)

    def feed(self, data: bytes) -> bytes:
        """Take a piece of its body; nothing goes on before the end."""
        self._body.add(data)
        return b""

    def finish(self) -> bytes:
        """Take the clean end of its body; return the answer."""
        try:
            body = self._translated()
        except Broken as broken:
            return self._refuse(broken.failure)
        is_native = self._route.dialect is Dialect.OLLAMA
        self.head = ReplyHead(200, NATIVE_JSON if is_native else PLAIN_JSON)
        return body if is_native else body + b"\n"

    def _translated(self) -> bytes:
        if self._status != 200:
            raise Broken(self._errors.of_body(self._status, self._body.take()))
        if self._body.is_overlong:
            raise Broken(OVERLONG)
        reply: _Embeddings = decode(_REPLY, self._body.take())
        if reply.error is not None:
            raise Broken(self._errors.of_event(reply.error))
        if reply.data is None or len(reply.data) < self._asked.input_count:
            raise Broken(UNREADABLE)
        vectors = [_numbers(item.embedding) for item in _ordered(reply.data)]
        tokens = reply.usage.get("prompt_tokens") if isinstance(reply.usage, dict) else None
        return go_json(self._printed(vectors, counted(tokens)))

    def _printed(self, vectors: list[list[float]], tokens: int) -> dict[str, object]:
        if self._route is InferenceRoute.API_EMBEDDINGS:
            return {"embedding": vectors[0] if vectors else []}
        vectors = [_fitted(vector, self._asked.dimensions) for vector in vectors]
        if self._route is InferenceRoute.V1_EMBEDDINGS:
            return self._as_openai(vectors, tokens)
        now_ns = self._clock.monotonic_ns()
        figures = {
            "total_duration": now_ns - self._asked.started_ns,
            "load_duration": self._begun_ns - self._asked.started_ns,
            "prompt_eval_count": tokens,
        }
        known = {name: value for name, value in figures.items() if value > 0}
        return {"model": self._asked.model, "embeddings": vectors, **known}

    def _as_openai(self, vectors: list[list[float]], tokens: int) -> dict[str, object]:
        data = [
            {
                "object": "embedding",
                "embedding": _base64(vector) if self._asked.is_base64 else vector,
                "index": place,
            }
            for place, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": self._asked.model, "usage": usage}

    def _refuse(self, failure: Failure) -> bytes:
        body, content_type = error_body(self._route.dialect, failure.status, failure.text)
        self.head = ReplyHead(failure.status, content_type)
        return body


def _ordered(items: list[_Item]) -> list[_Item]:
    """Return the items in the order of the inputs, if they tell it."""
    places = [item.index for item in items]
    if all(type(place) is int for place in places):
        return sorted(items, key=lambda item: item.index)
    return items


def _numbers(embedding: list[float] | str) -> list[float]:
    """Return a vector that came as numbers, or as base64 of little-endian floats."""
    if isinstance(embedding, list):
        return embedding
    try:
        packed = binascii.a2b_base64(embedding, strict_mode=True)
        vector = list(struct.unpack(f"<{len(packed) // _FLOAT_BYTES}f", packed))
    except (binascii.Error, struct.error, ValueError):
        raise Broken(UNREADABLE) from None
    if not all(map(math.isfinite, vector)):
        raise Broken(UNREADABLE)
    return vector


def _fitted(vector: list[float], dimensions: int) -> list[float]:
    """Return a vector of unit length and of at most so many dimensions."""
    if 0 < dimensions < len(vector):
        vector = vector[:dimensions]
    norm = math.hypot(*vector)
    if norm == 0 or abs(norm - 1) <= _UNIT_TOLERANCE:
        return vector
    return [value / norm for value in vector]


def _base64(vector: list[float]) -> str:
    packed = struct.pack(f"<{len(vector)}f", *vector)
    return binascii.b2a_base64(packed, newline=False).decode()
