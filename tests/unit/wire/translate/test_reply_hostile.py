"""Whatever an engine sends, a reader answers: it never raises, and what it says can be read."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sollold.core.model import NodeKind
from sollold.wire.routes import InferenceRoute
from tests.unit.wire.translate.replying import (
    CHAT_PATH,
    COMPLETION_PATH,
    DONE,
    EMBED_PATH,
    JSON,
    SSE,
    Hands,
    Read,
    Reply,
    chunk,
    read,
    reader,
    recorded,
    single_bytes,
)

_ROUTES = [route for route in InferenceRoute if route.kind is not None]
_PATHS = [CHAT_PATH, COMPLETION_PATH, EMBED_PATH]
_STREAMS = ["chat_stream_usage", "chat_stream_logprobs", "completion_stream", "tools_stream_cut"]

_KEYS = st.sampled_from(
    ["choices", "delta", "message", "content", "text", "tool_calls", "function", "name",
     "arguments", "index", "id", "finish_reason", "logprobs", "token", "logprob", "bytes",
     "top_logprobs", "usage", "timings", "prompt_n", "prompt_ms", "prompt_tokens", "error", "code",
     "type", "stop", "stop_type", "tokens", "completion_probabilities", "data", "embedding",
     "reasoning_content", "created", "model", "n_ctx"]
)  # fmt: skip
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "stop", "length", "x<&>\u2028", '{"a":1}', "AACAPw=="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)
_CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "delta": st.dictionaries(_KEYS, _VALUES, max_size=3),
                    "message": st.dictionaries(_KEYS, _VALUES, max_size=3),
                    "finish_reason": st.sampled_from([None, "stop", "length", "tool_calls", "?"]),
                    "logprobs": _VALUES,
                },
            ),
            max_size=2,
        ),
        "usage": _VALUES,
        "timings": _VALUES,
        "error": st.none() | _VALUES,
        "content": st.text(max_size=3),
        "stop": st.booleans(),
        "completion_probabilities": _VALUES,
        "data": st.lists(st.fixed_dictionaries({"embedding": _VALUES}), max_size=2),
    },
)
_PAYLOADS = (_VALUES | _CHOICES).map(msgspec.json.encode) | st.binary(max_size=20)
_ASKED = st.fixed_dictionaries(
    {
        "is_stream": st.booleans(),
        "path": st.sampled_from(_PATHS),
        "wants_logprobs": st.booleans(),
        "top_logprobs": st.integers(0, 2),
        "dimensions": st.integers(0, 2),
        "is_base64": st.booleans(),
        "include_usage": st.booleans(),
        "prompt_tokens": st.sampled_from([None, (1, 2)]),
        "prefill": st.sampled_from(["", "x"]),
    }
)


def _check(out: Read) -> None:
    """Check that the client can read it: objects, lines or events."""
    if out.head.content_type == SSE:
        assert not out.body or out.events
    elif out.head.content_type == "application/x-ndjson":
        assert not out.body or out.lines
    else:
        assert isinstance(out.document, dict)


@settings(max_examples=300, deadline=None)
@given(
    route=st.sampled_from(_ROUTES),
    fields=_ASKED,
    payloads=st.lists(_PAYLOADS, max_size=4),
    ending=st.sampled_from([b"", DONE]),
    status=st.sampled_from([200, 200, 200, 400, 404, 500, 501, 503]),
)
def test_any_events(
    route: InferenceRoute, fields: dict[str, Any], payloads: list[bytes], ending: bytes, status: int
) -> None:
    body = b"".join(b"data: " + payload + b"\n\n" for payload in payloads) + ending
    reply = Reply(status, SSE, body)
    outs = [
        read(reader(route, hands=Hands(step_ns=0), **fields), reply, pieces)
        for pieces in ([body], single_bytes(body))
    ]
    _check(outs[0])
    assert outs[0] == outs[1]


@settings(max_examples=200, deadline=None)
@given(route=st.sampled_from(_ROUTES), fields=_ASKED, payload=_PAYLOADS)
def test_any_body(route: InferenceRoute, fields: dict[str, Any], payload: bytes) -> None:
    _check(read(reader(route, **fields), Reply(200, JSON, payload)))


@settings(max_examples=200, deadline=None)
@given(
    route=st.sampled_from(_ROUTES),
    kind=st.sampled_from([NodeKind.LLAMA_SERVER, NodeKind.OPENAI]),
    name=st.sampled_from(_STREAMS),
    at=st.integers(0, 9000),
    damage=st.binary(max_size=4),
    lost=st.integers(0, 30),
)
def test_damaged_streams(
    route: InferenceRoute, kind: NodeKind, name: str, at: int, damage: bytes, lost: int
) -> None:
    reply = recorded(name)
    body = reply.body[:at] + damage + reply.body[at + lost :]
    path = COMPLETION_PATH if name.startswith("completion") else CHAT_PATH
    out = read(reader(route, kind, path=path, wants_logprobs=True), reply._replace(body=body))
    if kind is NodeKind.LLAMA_SERVER:
        _check(out)


@pytest.mark.parametrize("field", ["error", "usage", "logprobs", "timings", "id"])
def test_deep_nesting(field: str) -> None:
    for depth in (10, 300, 480, 900, 960, 980, 990, 1000, 5000, 100_000):
        nested = b"[" * depth + b"]" * depth
        inner = b'"logprobs":' + nested if field == "logprobs" else b'"index":0'
        choice = b'{"delta":{"content":"x"},"finish_reason":"stop",' + inner + b"}"
        outer = b"" if field == "logprobs" else b',"' + field.encode() + b'":' + nested
        event = b'data: {"choices":[' + choice + b"]" + outer + b"}\n\n"
        _check(read(reader(wants_logprobs=True), Reply(200, SSE, event + DONE)))
        _check(read(reader(), Reply(500, JSON, nested)))


def test_a_long_stream_takes_no_memory() -> None:
    subject = reader()
    subject.begin(200, SSE)
    event = chunk(content="x" * 100)
    subject.feed(event * 10)
    tracemalloc.start()
    for _ in range(2000):
        subject.feed(event)
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes < 64 * 1024
