"""What a llama-server prints, ready-made: its properties, its list, the events of a stream.

As llama.cpp prints them: one event in a chunk of its own, everything about the answer in each.
"""

from __future__ import annotations

import json

MODEL = "bench-llama"

_COMMON = {
    "created": 1795282010,
    "id": "chatcmpl-hgC80rgjPHrTPyvnssJN3fRNySpMwJfE",
    "model": MODEL,
    "system_fingerprint": "b1-571d0d5",
    "object": "chat.completion.chunk",
}
_TIMINGS = {
    "cache_n": 0,
    "prompt_n": 12,
    "prompt_ms": 20.0,
    "predicted_n": 1,
    "predicted_ms": 300.0,
}

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def listings() -> dict[str, bytes]:
    """Bodies of the routes by which such a server is known."""
    meta = {"n_ctx": 8192, "n_ctx_train": 8192, "n_params": 8_000_000_000, "size": 4_900_000_000}
    props = {
        "default_generation_settings": {"n_ctx": 8192},
        "total_slots": 512,
        "model_alias": MODEL,
        "model_path": f"/models/{MODEL}.gguf",
        "chat_template": "{{ messages }}",
        "modalities": {"vision": False, "audio": False},
        "build_info": "b1-571d0d5",
    }
    models = {"object": "list", "data": [{"id": MODEL, "created": 1795282010, "meta": meta}]}
    return {"/props": _dump(props), "/v1/models": _dump(models)}


def first_event() -> bytes:
    """The event that comes before any text, in a chunk."""
    return _event(choices=[_choice({"role": "assistant", "content": None})])


def event(text: str) -> bytes:
    """The event of one token, in a chunk."""
    return _event(choices=[_choice({"content": text})])


def last_events(count: int) -> bytes:
    """How it ended, what was counted, and the end of the body."""
    usage = {"prompt_tokens": 12, "completion_tokens": count, "total_tokens": 12 + count}
    counted = _event(choices=[], usage=usage, timings=_TIMINGS | {"predicted_n": count})
    end = _event(choices=[_choice({}, reason="stop")])
    return end + counted + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _choice(delta: dict[str, object], reason: str | None = None) -> dict[str, object]:
    return {"finish_reason": reason, "index": 0, "delta": delta}


def _event(**fields: object) -> bytes:
    return _chunk(b"data: " + _dump(fields | _COMMON) + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
