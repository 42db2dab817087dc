"""Answers that are one object."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from sollold.core.model import NodeKind
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.reply_source import HEAVY_BYTES
from tests.unit.wire.streams import event_of
from tests.unit.wire.translate.replying import (
    COMPLETION_PATH,
    DONE,
    JSON,
    SSE,
    TIMINGS,
    USAGE,
    Hands,
    Read,
    Reply,
    chunk,
    read,
    reader,
    stream,
    whole,
)

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE


def _read(reply: Reply, route: InferenceRoute = _CHAT, **fields: Any) -> Read:
    return read(reader(route, is_stream=False, **fields), reply)


def _message(finish: str | None = "stop", **message: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "finish_reason": finish, "message": message}]}


def test_counters_come_from_timings() -> None:
    out = _read(whole(_message(content="x") | {"timings": TIMINGS}))
    assert out.document["prompt_eval_count"] == 15
    assert out.document["eval_duration"] == 70_000_000


def test_without_timings_all_time_is_the_answers() -> None:
    reply = whole(_message(content="x") | {"usage": USAGE})
    document = _read(reply, kind=NodeKind.OPENAI, hands=Hands(step_ns=5)).document
    assert "prompt_eval_duration" not in document
    assert document["eval_duration"] == document["total_duration"] - document["load_duration"]


@pytest.mark.parametrize("route", [_CHAT, _GENERATE])
def test_thinking_and_calls(route: InferenceRoute) -> None:
    calls = [{"function": {"name": name, "arguments": "{}"}} for name in ("f", "g")]
    reply = whole(_message("tool_calls", content=None, reasoning="hm", tool_calls=calls))
    document = _read(reply, route).document
    answer = document["message"] if route is _CHAT else document
    assert answer["thinking"] == "hm"
    assert [call["function"]["name"] for call in answer["tool_calls"]] == ["f", "g"]
    assert document["done_reason"] == "stop"


def test_an_answer_without_a_reason_is_not_done() -> None:
    document = _read(whole(_message(None, content="x"))).document
    assert document["done"] is False
    assert "done_reason" not in document


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b"null", b'{"choices":[]}', b'{"choices":[{"message":1}]}',
             b"<html></html>", b"[" * 9000, b'"\\ud800"'],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", COMPLETION_PATH])
def test_what_cannot_be_read_is_the_nodes_failure(body: bytes, path: str) -> None:
    out = _read(Reply(200, JSON, body), path=path)
    assert out == ((502, JSON), b'{"error":"the node\'s answer cannot be read"}')


def test_an_error_with_status_200() -> None:
    out = _read(whole({"error": {"code": 503, "message": "Loading model"}}))
    assert out == ((503, JSON), b'{"error":"Loading model"}')


def test_senseless_arguments_are_an_error() -> None:
    call = {"function": {"name": "f", "arguments": "x"}}
    assert _read(whole(_message("stop", tool_calls=[call]))).head == (500, JSON)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [DONE],
        [chunk(content="x")],
        [chunk(content="x"), DONE],
        [chunk(content="x"), b"data: {"],
        [chunk("tomorrow", content="x")],
    ],
)
def test_a_stream_that_was_cut_is_no_answer(parts: list[bytes]) -> None:
    assert _read(stream(*parts)).head == (502, JSON)
    v1 = _read(stream(*parts), InferenceRoute.V1_CHAT)
    assert v1.head.status == 502
    assert v1.document["error"]["message"] == "the node's answer cannot be read"


@pytest.mark.parametrize("reason", ["error", "abort", "cancelled"])
def test_an_answer_that_was_broken_off_is_no_answer(reason: str) -> None:
    for reply in (
        whole(_message(reason, content="half")),
        stream(chunk(content="half"), chunk(reason), DONE),
    ):
        out = _read(reply)
        assert out.head == (502, JSON)
        assert out.document == {"error": f"the node broke its answer off: {reason}"}


def test_a_filter_leaves_out_a_call_without_its_end() -> None:
    call = {"function": {"name": "f", "arguments": '{"a":'}}
    document = _read(whole(_message("content_filter", content="x", tool_calls=[call]))).document
    assert document["done_reason"] == "stop"
    assert "tool_calls" not in document["message"]


def test_a_stream_is_gathered() -> None:
    def lettered(letter: str) -> bytes:
        entry = {"token": letter, "logprob": -1, "bytes": [ord(letter)]}
        choice = {"delta": {"content": letter}, "logprobs": {"content": [entry]}}
        return event_of({"choices": [choice]})

    parts = [chunk(reasoning_content="h"), lettered("a"), lettered("b")]
    ended = [chunk("length", extra={"timings": TIMINGS}), DONE]
    document = _read(stream(*parts, *ended), wants_logprobs=True).document
    assert document["message"] == {"role": "assistant", "content": "ab", "thinking": "h"}
    assert [entry["token"] for entry in document["logprobs"]] == ["a", "b"]
    assert document["done_reason"] == "length"
    completion = [
        {"content": "a", "completion_probabilities": [{"token": "a", "logprob": -1}]},
        {"content": "", "stop": True},
    ]
    out = _read(
        stream(*map(event_of, completion)), _GENERATE, path=COMPLETION_PATH, wants_logprobs=True
    )
    assert [entry["token"] for entry in out.document["logprobs"]] == ["a"]


def test_a_stream_has_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    event = chunk(content="a")
    for name, wants_logprobs in (("_MAX_BYTES", False), ("_MAX_BYTES_OF_NUMBERS", True)):
        monkeypatch.setattr(f"sollold.wire.translate.reply_whole.{name}", 2 * len(event))
        subject = reader(is_stream=False, wants_logprobs=wants_logprobs)
        out = read(subject, stream(), [event, event, chunk("stop") + DONE, event])
        assert out == ((502, JSON), b'{"error":"the node\'s answer is too long"}')
        assert subject.is_spoiled
    monkeypatch.undo()
    monkeypatch.setattr("sollold.wire.translate.reply_whole._MAX_PARTS", 1)
    assert _read(stream(event, event, chunk("stop"), DONE)).head.status == 502
    calls = chunk(tool_calls=[{"index": index} for index in range(2000)])
    monkeypatch.undo()
    subject = reader(is_stream=False)
    assert read(subject, stream(calls, chunk("stop"), DONE)).head.status == 502
    assert subject.is_spoiled


def test_what_nobody_asked_for_is_not_kept() -> None:
    rows = [{"token": "a", "logprob": -0.5, "bytes": [97]}] * 200
    event = event_of({"choices": [{"delta": {"content": "a"}, "logprobs": {"content": rows}}]})
    subject = reader(is_stream=False)
    subject.begin(200, SSE)
    tracemalloc.start()
    for _ in range(100):
        subject.feed(event)
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes < 100 * len(event) / 10


def test_much_is_printed_elsewhere() -> None:
    subject = reader(is_stream=False)
    subject.begin(200, SSE)
    subject.feed(chunk(content="a"))
    found = [subject.is_heavy]
    subject.feed(chunk(content="a" * HEAVY_BYTES))
    assert [*found, subject.is_heavy, subject.is_spoiled] == [False, True, False]


def test_a_body_has_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sollold.wire.translate.reply_source.Body.__init__.__defaults__", (9,))
    assert _read(whole(_message(content="x"))).document == {
        "error": "the node's answer is too long"
    }


_ENTRY = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [
    {"token": "a", "logprob": 0.0, "bytes": [97]}, {"token": "\n", "logprob": -2.0}, 7, {"x": 1},
]}  # fmt: skip
_TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97]}
_TOP = [{"token": "a", "logprob": 0, "bytes": [97]}, {"token": "\n", "logprob": -2, "bytes": [10]}]


@pytest.mark.parametrize(
    ("found", "top", "wanted"),
    [
        ({"content": [_ENTRY]}, 0, [_TOKEN]),
        ({"content": [_ENTRY]}, 1, [{**_TOKEN, "top_logprobs": _TOP[:1]}]),
        ({"content": [_ENTRY]}, 5, [{**_TOKEN, "top_logprobs": _TOP}]),
        ({"content": [{**_TOKEN, "top_logprobs": []}]}, 5, [_TOKEN]),
        ({"content": [{**_TOKEN, "top_logprobs": 7}]}, 5, [_TOKEN]),
        ({"content": [{"token": "", "logprob": None}]}, 0, [{"token": "", "logprob": 0}]),
        ({"content": [{"token": "a", "logprob": -0.5, "bytes": ["x"]}]}, 0, [_TOKEN]),
        ({"content": [3, {}, {"token": 5}]}, 0, None),
        ({"content": 3}, 0, None),
        ({"content": [{**_TOKEN, "logprob": -1e300}]}, 0, [{**_TOKEN, "logprob": -1e300}]),
        ({"content": [{**_TOKEN, "logprob": "x"}]}, 0, [{**_TOKEN, "logprob": 0}]),
        ([_ENTRY], 0, [_TOKEN]),
        (3, 0, None),
        (
            {"tokens": ["a", 3], "token_logprobs": [-0.5, 1], "top_logprobs": [{"a": -0.5, "b": 1}]}
            | {"text_offset": [0, 1]},
            1,
            [{**_TOKEN, "top_logprobs": [_TOKEN]}],
        ),
        ({"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": None}, 1, [_TOKEN]),
        ({"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [3]}, 1, [_TOKEN]),
        ({"tokens": ["a"]}, 1, None),
        ({"tokens": 1, "token_logprobs": []}, 1, None),
    ],
)  # fmt: skip
def test_log_probabilities(found: object, top: int, wanted: object) -> None:
    body = {"choices": [{"finish_reason": "stop", "message": {"content": "a"}, "logprobs": found}]}
    document = _read(whole(body), wants_logprobs=True, top_logprobs=top).document
    assert document.get("logprobs") == wanted


@pytest.mark.parametrize("path", ["/v1/chat/completions", COMPLETION_PATH])
@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("-1e999", -9999),
        ("-Infinity", -9999),
        ("Infinity", 0),
        ("NaN", 0),
        ("1E+999", 0),
        ("-" + "9" * 400, -9999),
        ('-1.5, "top_logprobs": [{"token": "b", "logprob": -1e999}]', -1.5),
    ],
)
def test_numbers_that_are_none_do_not_spoil_an_answer(path: str, number: str, shown: float) -> None:
    text = 'NaN -1e999 \\" Infinity'
    rows = '[{"token": "a", "logprob": ' + number + "}]"
    if path == COMPLETION_PATH:
        body = '{"content": "' + text + '", "stop": true, "completion_probabilities": ' + rows + "}"
    else:
        choice = '{"finish_reason": "stop", "message": {"content": "' + text + '"}, "logprobs": '
        body = '{"choices": [' + choice + '{"content": ' + rows + "}}]}"
    out = _read(Reply(200, JSON, body.encode()), path=path, wants_logprobs=True)
    assert out.document["message"]["content"] == 'NaN -1e999 " Infinity'
    assert out.document["logprobs"] == [{"token": "a", "logprob": shown, "bytes": [97]}]


def test_numbers_are_not_looked_for_in_what_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sollold.wire.translate.reply_parts._MAX_ODD_BYTES", 9)
    body = b'{"choices":[{"message":{"content":"a"},"logprobs":-1e999}]}'
    assert _read(Reply(200, JSON, body)).head == (502, JSON)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": [{"type": "image_url"}, 3, {"text": 5}, {"text": "a"}]}, "a"),
        ({"content": []}, ""),
        ({"content": None, "refusal": "no"}, "no"),
        ({"content": "yes", "refusal": None}, "yes"),
        ({"content": "", "refusal": 3}, ""),
    ],
)
def test_content_in_other_shapes(message: dict[str, object], said: str) -> None:
    assert _read(whole(_message(**message))).document["message"]["content"] == said  # type: ignore[arg-type]
    events = [event_of({"choices": [{"delta": message}]}), chunk("stop"), DONE]
    assert _read(stream(*events)).document["message"]["content"] == said
