"""Replies of llama-server on the compatibility routes, and those of OpenAI servers passed on."""

from __future__ import annotations

from typing import Any

import pytest

from sollold.core.model import NodeKind
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.reply_relay import RelayReader
from sollold.wire.translate.sse import MAX_EVENT_BYTES
from tests.unit.wire.streams import event_of
from tests.unit.wire.translate.replying import (
    COMPLETION_PATH,
    DONE,
    JSON,
    SSE,
    TIMINGS,
    USAGE,
    Read,
    Reply,
    chunk,
    pieces_of,
    read,
    reader,
    recorded,
    single_bytes,
    stream,
    whole,
)

_CHAT = InferenceRoute.V1_CHAT
_TEXT = InferenceRoute.V1_COMPLETIONS

_ROLE = chunk(role="assistant", content=None)
_HELLO = chunk(content="Hello")
_STOP = chunk("stop", extra={"timings": TIMINGS})
_USAGE = event_of({"choices": [], "usage": USAGE, "timings": TIMINGS})


def _chat(*events: bytes, **fields: Any) -> Read:
    return read(reader(_CHAT, **fields), stream(*events))


def _deltas(out: Read) -> list[Any]:
    return [event["choices"][0]["delta"] for event in out.events[:-1]]


def test_a_chat() -> None:
    out = _chat(_ROLE, _HELLO, _STOP, _USAGE, DONE)
    assert out.head == (200, SSE)
    assert _deltas(out) == [{"role": "assistant", "content": "Hello"}, {}]
    first, last, end = out.events
    assert end == "[DONE]"
    assert last["choices"][0]["finish_reason"] == "stop"
    assert (first["model"], first["system_fingerprint"]) == ("tiny", "fp_ollama")
    assert (first["id"], first["created"]) == ("chatcmpl-x", 7)
    assert b"timings" not in out.body
    assert b"usage" not in out.body


def test_a_chat_without_a_word_begins_too() -> None:
    out = _chat(_ROLE, _STOP, DONE)
    assert _deltas(out) == [{"role": "assistant", "content": ""}, {}]


def test_usage_when_asked_for() -> None:
    out = _chat(_ROLE, _HELLO, _STOP, _USAGE, DONE, include_usage=True)
    assert out.events[-2]["choices"] == []
    assert out.events[-2]["usage"] == USAGE
    assert _chat(_HELLO, _STOP, DONE, include_usage=True).events[-2]["usage"] == USAGE


def test_thinking_comes_in_chunks_of_its_own() -> None:
    out = _chat(
        chunk(reasoning_content="a"),
        chunk(reasoning_content="b", content="c"),
        chunk("stop", reasoning_content="d"),
        DONE,
    )
    assert _deltas(out) == [
        {"role": "assistant", "content": "", "reasoning": "a"},
        {"content": "", "reasoning": "b"},
        {"content": "c"},
        {"content": "", "reasoning": "d"},
        {},
    ]


def test_fragments_of_calls_pass() -> None:
    fragments: list[Any] = [
        {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": "{"}},
        {"index": 0, "function": {"arguments": "}"}},
    ]
    events = [chunk(tool_calls=[fragment]) for fragment in fragments]
    out = _chat(_ROLE, *events, chunk(tool_calls=[{"id": "y"}]), chunk("tool_calls"), DONE)
    assert [delta.get("tool_calls") for delta in _deltas(out)] == [
        *[[fragment] for fragment in fragments],
        [{"id": "y", "index": 0, "type": "function"}],
        None,
    ]
    assert out.events[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_log_probabilities() -> None:
    entry = {"id": 3, "token": "x", "logprob": -0.5, "bytes": [120]}
    choice = {"delta": {"content": "x"}, "logprobs": {"content": [entry]}}
    out = _chat(event_of({"choices": [choice]}), _STOP, DONE, wants_logprobs=True)
    del entry["id"]
    assert out.events[0]["choices"][0]["logprobs"] == {"content": [entry]}


@pytest.mark.parametrize("id", [None, 3, "a b", '"[]', "x" * 99])
def test_an_id_that_is_none_is_made(id: object) -> None:
    extra = {"id": id, "created": "x"}
    for route, prefix in ((_CHAT, "chatcmpl-"), (_TEXT, "cmpl-")):
        out = read(reader(route), stream(chunk(extra=extra, content="x"), DONE))
        event = Read(out.head, out.body).events[0]
        assert event["id"] == f"{prefix}232537801"
        assert event["created"] == 1_795_282_303


def test_errors() -> None:
    error = event_of({"error": {"code": 400, "message": "no"}})
    inner = {"message": "no", "type": "invalid_request_error", "param": None, "code": None}
    for route in (_CHAT, _TEXT):
        out = read(reader(route), stream(_ROLE, error, DONE))
        assert out.head == (400, "application/json")
        assert out.document == {"error": inner}
        assert out.body.endswith(b"}\n")
        out = read(reader(route), stream(_HELLO, error, DONE))
        assert out.head == (200, SSE)
        assert out.events[1:] == [{"error": inner}]


def test_an_answer_that_was_broken_off() -> None:
    for route in (_CHAT, _TEXT):
        out = read(reader(route), stream(_HELLO, chunk("error"), _STOP, DONE))
        told = out.events[1:]
        assert [event["error"]["message"] for event in told] == [
            "the node broke its answer off: error"
        ]


def test_a_filter_keeps_its_name() -> None:
    for route in (_CHAT, _TEXT):
        events = read(reader(route), stream(_HELLO, chunk("content_filter"), DONE)).events
        assert events[-2]["choices"][0]["finish_reason"] == "content_filter"


def test_a_reason_that_nobody_knows_comes_with_the_end() -> None:
    for route in (_CHAT, _TEXT):
        ended = read(reader(route), stream(_HELLO, chunk("tomorrow"), DONE)).events
        assert ended[-2]["choices"][0]["finish_reason"] == "stop"
        assert ended[-1] == "[DONE]"
        cut = read(reader(route), stream(_HELLO, chunk("tomorrow"))).events
        assert [event["choices"][0]["finish_reason"] for event in cut] == [None]


@pytest.mark.parametrize("events", [[_HELLO], [_HELLO, _STOP], [_HELLO, DONE], []])
def test_an_end_is_not_made_up(events: list[bytes]) -> None:
    out = _chat(*events)
    assert out.head == (200, SSE)
    assert DONE not in out.body


def test_a_whole_chat() -> None:
    call = {"id": "x", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = {"content": None, "reasoning_content": "hm", "tool_calls": [call]}
    body = {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": USAGE}
    out = read(reader(_CHAT, is_stream=False), whole(body | {"timings": TIMINGS, "id": "z"}))
    assert out.head == (200, "application/json")
    assert out.document["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "",
                "reasoning": "hm",
                "tool_calls": [
                    {
                        "id": "x",
                        "index": 0,
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a":1}'},
                    }
                ],
            },
            "finish_reason": "tool_calls",
        }
    ]
    assert out.document["usage"] == USAGE
    assert "timings" not in out.document


def test_a_completion_leaves_out_what_was_thought() -> None:
    events = [chunk(reasoning_content="a"), _HELLO, chunk("tool_calls"), DONE]
    first, last, _ = read(reader(_TEXT), stream(*events)).events
    assert first["choices"] == [{"text": "Hello", "index": 0, "finish_reason": None}]
    assert last["choices"] == [{"text": "", "index": 0, "finish_reason": "stop"}]


def test_a_completion_from_the_engines_own_route() -> None:
    events = [{"content": "a"}, {"content": "", "stop": True, "stop_type": "limit"}]
    out = read(reader(_TEXT, path=COMPLETION_PATH), stream(*map(event_of, events)))
    assert out.events[-2:][0]["choices"][0]["finish_reason"] == "length"
    assert out.events[-1] == "[DONE]"


def test_a_whole_completion_without_a_reason() -> None:
    body = {"choices": [{"message": {"content": "x"}}]}
    out = read(reader(_TEXT, is_stream=False), whole(body))
    assert out.document["choices"] == [{"text": "x", "index": 0, "finish_reason": None}]


def _relayed(reply: Reply, pieces: list[bytes] | None = None, **fields: Any) -> Read:
    subject = reader(_CHAT, NodeKind.OPENAI, **fields)
    assert isinstance(subject, RelayReader)
    return read(subject, reply, pieces)


@pytest.mark.parametrize("name", ["chat_stream_usage", "chat", "tools_stream_cut"])
def test_only_the_name_of_an_openai_servers_model_changes(name: str) -> None:
    reply = recorded(name)
    wanted = reply.body.replace(b'"model":"/models/chat.gguf"', b'"model":"tiny\\u0026"')
    assert wanted != reply.body
    assert _relayed(reply, model="tiny&").body == wanted
    assert _relayed(reply, single_bytes(reply.body), model="tiny&").body == wanted
    for seed in range(8):
        out = _relayed(reply, pieces_of(reply.body, seed), model="tiny&")
        assert out == ((200, reply.content_type), wanted)


def test_nothing_changes_when_the_names_are_equal() -> None:
    reply = recorded("chat_stream")
    assert _relayed(reply, engine_model="tiny").body == reply.body


def test_a_name_inside_of_the_text_stays() -> None:
    body = b'{"text": "\\"model\\":\\"x\\"", "model" : "a\\"b", "more": {"model":"c"}}'
    wanted = body.replace(b'"model" : "a\\"b"', b'"model":"tiny"')
    assert _relayed(Reply(200, JSON, body)).body == wanted
    line = b"data: " + body + b"\n\n"
    assert (
        _relayed(stream(line, line)).body == b"data: " + wanted + b"\n\ndata: " + wanted + b"\n\n"
    )


def test_a_reply_without_a_name_passes() -> None:
    for reply in (stream(b"data: {}\n\n", b"data: [DONE]"), Reply(200, JSON, b"{}")):
        assert _relayed(reply).body == reply.body


def test_errors_of_an_openai_server_pass() -> None:
    reply = Reply(429, JSON, b'{"error":{"message":"slow down"},"model":"gpt"}')
    assert _relayed(reply) == ((429, JSON), reply.body)


def test_a_page_instead_of_an_error_does_not_pass() -> None:
    out = _relayed(Reply(502, "text/html", b"<html>502</html>"))
    assert out.head.status == 502
    assert "json" in out.head.content_type
    assert out.document["error"]["message"] == "the node answered 502"
    out = _relayed(Reply(429, "text/plain", b"slow down"), [b"slow ", b"down"])
    assert out.head.status == 429
    assert out.document["error"]["message"] == "slow down"


def test_a_line_without_end_passes_as_it_is() -> None:
    long = b'data: {"model":"gpt","x":"' + b"x" * MAX_EVENT_BYTES
    out = _relayed(stream(), [long, b'"}\n\n', b'data: {"model":"gpt"}\n\n'])
    assert out.body == long + b'"}\n\ndata: {"model":"gpt"}\n\n'
