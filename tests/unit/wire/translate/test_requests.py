"""Translating as the rest of the daemon sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sollold.core.model import NodeKind
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.requests import steps
from sollold.wire.translate.seam import Answer, Clock, Done, Engine, Stage, Translation, Unsupported
from sollold.wire.translate.stamps import created_at
from tests.unit.wire.translate.asking import CHAT, EMBED, HELLO, SHOW, V1_CHAT, llama, openai, words

_CLOCK = Clock(wall_ns=lambda: 1_700_000_000_000_000_001, monotonic_ns=lambda: 5)
_ENGINES = [llama(), llama("completion", has_templates=True, context_length=64), openai()]


def _ask(route: InferenceRoute, body: bytes, engine: Engine) -> Translation | Done | Unsupported:
    todo = steps(route, body, engine, _CLOCK)
    try:
        call = next(todo)
        while True:
            status, answer = words(call.path, json.loads(call.body))
            call = todo.send(Answer(status, json.dumps(answer).encode()))
    except StopIteration as stop:
        found: Translation | Done = stop.value
        return found
    except Unsupported as problem:
        return problem


@pytest.mark.parametrize("kind", NodeKind)
def test_only_a_server_like_openais_is_no_llama(kind: NodeKind) -> None:
    assert Engine(kind=kind, model="m").is_llama is (kind is not NodeKind.OPENAI)


def test_work() -> None:
    found = _ask(CHAT, json.dumps({"model": "m", "messages": HELLO}).encode(), llama())
    assert isinstance(found, Translation)
    assert found.call.path == "/v1/chat/completions"
    assert found.reader is not None


def test_no_work() -> None:
    found = _ask(CHAT, b'{"model":"m"}', llama())
    assert isinstance(found, Done)
    assert b'"created_at":"2023-11-14T22:13:20.000000001Z"' in found.body


def test_problem() -> None:
    found = _ask(CHAT, b"{", llama())
    assert isinstance(found, Unsupported)
    assert (found.status, found.text) == (400, "unexpected EOF")


def test_route_without_an_engine() -> None:
    found = _ask(SHOW, b'{"model":"m"}', llama())
    assert isinstance(found, Unsupported)
    assert found.status == 501


@pytest.mark.parametrize(
    ("wall_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_000_000_010, "1970-01-01T00:00:01.00000001Z"),
    ],
)
def test_stamps(wall_ns: int, text: str) -> None:
    assert created_at(wall_ns) == text


@pytest.mark.parametrize(
    ("route", "body", "stage"),
    [
        (CHAT, {"messages": 5}, Stage.READING),
        (V1_CHAT, {"messages": []}, Stage.READING),
        (V1_CHAT, {"messages": HELLO, "top_logprobs": 21}, Stage.CHECKING),
        (CHAT, {"messages": HELLO, "format": "xml"}, Stage.GENERATING),
    ],
)
def test_when_a_fault_is_found(route: InferenceRoute, body: dict[str, Any], stage: Stage) -> None:
    with pytest.raises(Unsupported) as caught:
        next(steps(route, json.dumps({"model": "m", **body}).encode(), llama(), _CLOCK))
    assert caught.value.stage is stage


_DEEP = b"[" * 900 + b"]" * 900
_DEEPER = b"[" * 100_000
_VALUES = [
    b"null", b"true", b"0", b"-1", b"1e999", b"-0.0", b"9" * 400, b"-" + b"9" * 305, b'""',
    b'"x"', b'"\\ud800"', b"[]", b"[null]", b'["x"]', b"[1]", b"{}", b'{"type":"object"}',
    b'{"effort":1}', b'[{"function":{"name":1}}]', b'[{"content":{}}]', b"NaN", b"-Infinity",
    _DEEP, _DEEPER,
]  # fmt: skip
_FIELDS = [
    "model", "messages", "prompt", "suffix", "system", "template", "context", "raw", "images",
    "stream", "format", "think", "truncate", "shift", "logprobs", "top_logprobs", "options",
    "keep_alive", "tools", "input", "dimensions", "_debug_render_only", "stream_options",
    "max_tokens", "max_completion_tokens", "seed", "stop", "temperature", "top_p",
    "response_format", "reasoning", "reasoning_effort", "encoding_format", "tool_choice",
]  # fmt: skip


@pytest.mark.parametrize("value", _VALUES)
@pytest.mark.parametrize("route", list(InferenceRoute))
def test_hostile_values(route: InferenceRoute, value: bytes) -> None:
    for engine in _ENGINES:
        for field in _FIELDS:
            body = (
                b'{"model":"m","messages":[{"role":"user","content":"hello"}],"prompt":"p",'
                b'"input":"i","%b":%b}'
            ) % (field.encode(), value)
            found = _ask(route, body, engine)
            if isinstance(found, Translation):
                assert json.loads(found.call.body)


@pytest.mark.parametrize("value", _VALUES)
@pytest.mark.parametrize("name", ["seed", "temperature", "stop", "use_mmap", "num_predict"])
def test_hostile_options(name: str, value: bytes) -> None:
    body = b'{"model":"m","messages":[{}],"options":{"%b":%b}}' % (name.encode(), value)
    for engine in _ENGINES:
        _ask(CHAT, body, engine)


@pytest.mark.parametrize("body", [_DEEPER, b'{"format":' + b'{"a":' * 950 + b"1" + b"}" * 951])
def test_depth(body: bytes) -> None:
    for engine in _ENGINES:
        assert _ask(CHAT, body, engine)


_JSON = st.recursive(
    st.sampled_from([None, True, 0, -1, 2**70, 0.5, 1e300, "", "x", "low", "json", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "role", "content", "function", "name", "arguments"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    route=st.sampled_from(list(InferenceRoute)),
    engine=st.sampled_from(_ENGINES),
    fields=st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=6),
)
def test_any_body_is_translated_or_refused(
    route: InferenceRoute, engine: Engine, fields: dict[str, Any]
) -> None:
    found = _ask(route, json.dumps({"model": "m", **fields}).encode(), engine)
    if isinstance(found, Translation):
        assert json.loads(found.call.body)


@settings(deadline=None)
@given(body=st.binary(max_size=40))
def test_any_bytes_are_translated_or_refused(body: bytes) -> None:
    for route in (CHAT, V1_CHAT, EMBED):
        for engine in _ENGINES:
            _ask(route, body, engine)
