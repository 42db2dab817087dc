"""Streams of engines as native streams."""

from __future__ import annotations

from typing import Any

import pytest

from sollold.core.model import NodeKind
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.reply_errors import MAX_ERROR_BYTES
from sollold.wire.translate.sse import MAX_EVENT_BYTES
from tests.unit.wire.streams import event_of
from tests.unit.wire.translate.replying import (
    COMPLETION_PATH,
    DONE,
    NDJSON,
    PLAIN,
    SSE,
    TIMINGS,
    USAGE,
    Hands,
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

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE

_ROLE = chunk(role="assistant", content=None)
_HELLO = chunk(content="Hello")
_STOP = chunk("stop", extra={"timings": TIMINGS})
_ERROR = event_of({"error": {"code": 500, "message": "out of memory", "type": "server_error"}})
_COUNTED = {
    "prompt_eval_count": 15,
    "prompt_eval_duration": 2_500_000,
    "eval_count": 7,
    "eval_duration": 70_000_000,
}


def _chat(*events: bytes, **fields: Any) -> Read:
    return read(reader(**fields), stream(*events))


def _call(
    index: int | None, arguments: str, name: str | None = None, id: str | None = None
) -> bytes:
    piece: dict[str, object] = {"function": {"name": name, "arguments": arguments}}
    if index is not None:
        piece["index"] = index
    if id is not None:
        piece |= {"id": id, "type": "function"}
    return chunk(tool_calls=[piece])


def _calls(out: Read) -> list[Any]:
    calls: list[Any] = out.lines[-1]["message"]["tool_calls"]
    return calls


@pytest.mark.parametrize(
    "closing",
    [
        [_STOP],
        [chunk("stop"), event_of({"choices": [], "usage": USAGE, "timings": TIMINGS})],
        [chunk("stop"), event_of({"choices": [], "timings": TIMINGS}), event_of({"choices": None})],
    ],
    ids=["on the finish chunk", "after it", "without usage"],
)
def test_counters_come_from_timings(closing: list[bytes]) -> None:
    last = _chat(_ROLE, _HELLO, *closing, DONE).lines[-1]
    assert {name: last[name] for name in _COUNTED} == _COUNTED


def test_without_timings_the_clock_counts() -> None:
    hands = Hands(step_ns=0)
    hands.monotonic_ns = 10
    subject = reader(kind=NodeKind.OPENAI, hands=hands)
    subject.begin(200, SSE)
    hands.monotonic_ns = 110
    subject.feed(_ROLE)
    hands.monotonic_ns = 310
    subject.feed(_HELLO)
    hands.monotonic_ns = 1010
    ending = subject.feed(chunk("stop", extra={"usage": USAGE}) + DONE)
    last = Read(subject.head, ending).lines[-1]  # type: ignore[arg-type]
    assert last["load_duration"] == 10
    assert last["prompt_eval_duration"] == 300
    assert last["eval_duration"] == 700
    assert last["total_duration"] == 1010
    assert (last["prompt_eval_count"], last["eval_count"]) == (15, 7)


def test_an_empty_answer_took_all_its_time_for_the_prompt() -> None:
    last = _chat(_ROLE, chunk("stop"), DONE).lines[-1]
    assert last["done"] is True
    assert "eval_duration" not in last
    assert "eval_count" not in last


@pytest.mark.parametrize("value", [None, "x", True, -1, [], {}, 1e300])
def test_counters_of_the_wrong_kind_are_left_out(value: object) -> None:
    timings = dict.fromkeys(TIMINGS, value)
    usage = dict.fromkeys(USAGE, value)
    last = _chat(_HELLO, chunk("stop", extra={"timings": timings, "usage": usage}), DONE).lines[-1]
    assert not _COUNTED.keys() & last.keys()


def test_nothing_goes_on_before_content() -> None:
    subject = reader()
    subject.begin(200, SSE)
    for data in (b":\n\n", _ROLE, chunk(), chunk(content=""), event_of({"choices": []})):
        assert subject.feed(data) == b""
        assert subject.head is None
    assert subject.feed(_HELLO)
    assert subject.head == (200, NDJSON)


@pytest.mark.parametrize(
    ("code", "status"), [(500, 500), (400, 400), (503, 503), ("x", 500), (None, 500), (7, 500)]
)
def test_an_error_before_content_is_the_answer(code: object, status: int) -> None:
    out = _chat(_ROLE, event_of({"error": {"code": code, "message": "it broke"}}), _HELLO)
    assert out == ((status, PLAIN), b'{"error":"it broke"}')


def test_an_error_after_content_is_a_line() -> None:
    out = _chat(_ROLE, _HELLO, _ERROR, _HELLO, _STOP, DONE)
    assert out.head == (200, NDJSON)
    assert out.lines[1:] == [{"error": "out of memory"}]


@pytest.mark.parametrize(
    "events", [[], [_ROLE], [_HELLO], [_HELLO, DONE], [_HELLO, _HELLO[:-9]], [b":\n\n"]]
)
def test_an_end_without_a_reason_is_not_made_up(events: list[bytes]) -> None:
    out = _chat(*events)
    assert out.head == (200, NDJSON)
    assert b"done_reason" not in out.body
    assert b"error" not in out.body
    assert out.body.count(b"\n") == (_HELLO in events)


@pytest.mark.parametrize("events", [[_STOP], [_STOP[:-1]], [_STOP[:-2]]])
def test_a_reason_is_an_end_without_the_last_word(events: list[bytes]) -> None:
    assert _chat(_HELLO, *events).lines[-1]["done"] is True


def test_nothing_follows_the_end() -> None:
    ended = _chat(_HELLO, _STOP, DONE)
    assert _chat(_HELLO, _STOP, DONE, _HELLO, _ERROR, b"data: x\n\n") == ended
    subject = reader()
    assert read(subject, stream(_HELLO, _STOP, DONE)) == ended
    assert subject.feed(_HELLO) == b""


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "stop"),
        ("content_filter", "stop"),
        ("function_call", "stop"),
        ("eos", "stop"),
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("word of tomorrow", "stop"),
    ],
)
def test_reasons(reason: str, told: str) -> None:
    assert _chat(_HELLO, chunk(reason), DONE).lines[-1]["done_reason"] == told


@pytest.mark.parametrize("reason", ["error", "abort", "cancelled", "ERROR"])
def test_an_answer_that_was_broken_off_is_not_complete(reason: str) -> None:
    failure = {"error": f"the node broke its answer off: {reason.lower()}"}
    out = _chat(_ROLE, _HELLO, chunk(reason, content="x"), _STOP, DONE)
    assert out.head == (200, NDJSON)
    assert [line["message"]["content"] for line in out.lines[:-1]] == ["Hello", "x"]
    assert out.lines[-1] == failure
    early = _chat(_ROLE, chunk(reason), DONE)
    assert early.head == (502, PLAIN)
    assert early.document == failure
    completion = event_of({"content": "x", "stop": True, "stop_type": reason})
    lines = read(reader(_GENERATE, path=COMPLETION_PATH), stream(completion)).lines
    assert lines[1:] == [failure]


@pytest.mark.parametrize("where", ["chunk", "choice"])
def test_an_error_that_comes_with_a_reason_has_the_word(where: str) -> None:
    error = {"error": {"code": 429, "message": "slow down"}}
    choice = {"delta": {"content": ""}, "finish_reason": "error"}
    event = {"choices": [choice]}
    (event if where == "chunk" else choice).update(error)  # type: ignore[arg-type]
    assert _chat(_ROLE, event_of(event), DONE).head == (429, PLAIN)


def test_a_reason_that_nobody_knows_needs_the_streams_own_end() -> None:
    ended = _chat(_HELLO, chunk("tomorrow", content="x"), DONE)
    assert [line["done"] for line in ended.lines] == [False, False, True]
    cut = _chat(_HELLO, chunk("tomorrow", content="x"))
    assert [line["done"] for line in cut.lines] == [False, False]
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "tomorrow"}]}
    assert read(reader(), whole(body)).lines[-1]["done_reason"] == "stop"


def test_an_empty_reason_is_none() -> None:
    out = _chat(chunk("", content="a"), chunk("", content="b"))
    assert [line["done"] for line in out.lines] == [False, False]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("route", [_CHAT, _GENERATE])
def test_thinking(field: str, route: InferenceRoute) -> None:
    subject = reader(route)
    deltas: list[Any] = [{field: "a<b"}, {field: "c", "content": "d"}]
    events = [*[chunk(**delta) for delta in deltas], _STOP, DONE]
    lines = read(subject, stream(*events)).lines
    answers = [line["message"] if route is _CHAT else line for line in lines]
    assert [answer.get("thinking") for answer in answers] == ["a<b", "c", None]
    key = "content" if route is _CHAT else "response"
    assert [answer[key] for answer in answers] == ["", "d", ""]


def test_thinking_that_is_no_text_is_passed_over() -> None:
    assert len(_chat(chunk(reasoning={"a": 1}, content="x"), _STOP, DONE).lines) == 2


def test_text_that_comes_with_the_reason() -> None:
    first, last = _chat(chunk("stop", content="x"), DONE).lines
    assert first["message"]["content"] == "x"
    assert last["done"] is True


def test_another_choice_is_nothing_that_was_asked_for() -> None:
    other = event_of({"choices": [{"index": 1, "delta": {"content": "no"}}]})
    assert [line["message"]["content"] for line in _chat(_HELLO, other, _STOP, DONE).lines] == [
        "Hello",
        "",
    ]


def test_fragments_of_two_calls_become_two_calls() -> None:
    out = _chat(
        _ROLE,
        _call(0, '{"ci', "weather", "a1"),
        _call(1, "", "time", "b2"),
        _call(0, 'ty": "<Paris>",'),
        _call(1, '{"zone": 1.5}'),
        _call(0, ' "z": 1, "a": [ 2 ]}'),
        chunk("tool_calls", extra={"timings": TIMINGS}),
        DONE,
    )
    assert out.body.count(b"\n") == 1
    assert b'{"city":"\\u003cParis\\u003e","z":1,"a":[2]}' in out.body
    assert _calls(out) == [
        {"id": "a1", "function": {"index": 0, "name": "weather",
                                  "arguments": {"city": "<Paris>", "z": 1, "a": [2]}}},
        {"id": "b2", "function": {"index": 1, "name": "time", "arguments": {"zone": 1.5}}},
    ]  # fmt: skip
    assert out.lines[-1]["done_reason"] == "stop"


@pytest.mark.parametrize("index", [None, 0])
def test_calls_are_told_apart_by_id_where_the_index_does_not(index: int | None) -> None:
    out = _chat(
        _call(index, '{"a"', "one", "x"),
        _call(index, ":1}"),
        _call(index, '{"b"', "two", "y"),
        _call(index, ":2}", id="y"),
        chunk("tool_calls"),
        DONE,
    )
    assert [call["function"]["arguments"] for call in _calls(out)] == [{"a": 1}, {"b": 2}]
    assert [call["function"]["index"] for call in _calls(out)] == [0, 1]


def test_a_call_without_an_id_gets_one() -> None:
    out = _chat(_call(0, "{}", "f"), _call(1, "", "g"), chunk("tool_calls"), DONE)
    ids = [call["id"] for call in _calls(out)]
    assert len(set(ids)) == 2
    assert {len(id) for id in ids} == {len("call_") + 8}
    assert [call["function"]["arguments"] for call in _calls(out)] == [{}, {}]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ({"name": "f", "arguments": {"a": [1]}}, {"a": [1]}),
        ({"name": "f", "arguments": None}, {}),
        ({"name": "f"}, {}),
        (None, {}),
    ],
)
def test_arguments_in_other_shapes(function: object, arguments: object) -> None:
    event = chunk(tool_calls=[{"index": 0, "id": "x", "function": function}])
    assert _calls(_chat(event, chunk("stop"), DONE))[0]["function"]["arguments"] == arguments


@pytest.mark.parametrize("arguments", ['{"a', "[1]", "x", '"\\ud800"', "[" * 5000, '{"a":NaN}'])
def test_senseless_arguments_are_an_error(arguments: str) -> None:
    out = _chat(_call(0, arguments, "f"), chunk("tool_calls"), DONE)
    assert out.head == (500, PLAIN)
    assert out.document == {"error": "the arguments of the call to 'f' are not a JSON object"}
    after = _chat(_HELLO, _call(0, arguments, "f"), chunk("tool_calls"), DONE)
    assert after.head.status == 200
    assert "error" in after.lines[-1]
    cut = _chat(_HELLO, _call(0, arguments, "f"), chunk("length"), DONE)
    assert cut.lines[-1]["done_reason"] == "length"
    assert "tool_calls" not in cut.lines[-1]["message"]


def test_calls_have_their_limits() -> None:
    big = _call(0, "x" * (MAX_EVENT_BYTES // 2))
    out = _chat(_HELLO, big, big, big, _STOP, DONE)
    assert out.lines[1:] == [{"error": "the node's answer is too long"}]
    many = [{"index": index} for index in range(2000)]
    out = _chat(_HELLO, chunk(tool_calls=many), _STOP, DONE)
    assert out.lines[1:] == [{"error": "the node's answer is too long"}]
    assert _chat(chunk(tool_calls=many), _HELLO).head.status == 502
    assert _chat(_HELLO, chunk(tool_calls=many), b"data: {\n\n").lines == out.lines


def test_calls_of_a_generation() -> None:
    last = read(
        reader(_GENERATE), stream(_call(0, "{}", "f", "x"), chunk("tool_calls"), DONE)
    ).lines[-1]
    assert last["tool_calls"][0]["function"]["name"] == "f"


_EOS = {"content": "", "stop": True, "stop_type": "eos"}


@pytest.mark.parametrize(
    ("events", "context"),
    [
        ([{"content": "a", "tokens": [3]}, {"content": "", "stop": True}], [1, 2, 3]),
        ([{"content": "a"}, {"content": "", "stop": True, "tokens_predicted": 1}], None),
        ([{"content": "", "stop": True}], [1, 2]),
        (
            [{"content": "a", "tokens": [3]}, {"tokens": [9]}, _EOS | {"tokens_predicted": 2}],
            [1, 2, 3],
        ),
        ([{"content": "a", "tokens": [3]}, _EOS | {"tokens_predicted": 2}], [1, 2, 3]),
        ([{"content": "a", "tokens": [3]}, {"stop": True, "tokens_predicted": 1}], [1, 2, 3]),
    ],
    ids=["told", "not told", "nothing said", "ended", "ended without a word", "cut"],
)
def test_context_needs_the_ids_of_the_output(events: list[Any], context: object) -> None:
    subject = reader(_GENERATE, path=COMPLETION_PATH, prompt_tokens=(1, 2))
    last = read(subject, stream(*map(event_of, events))).lines[-1]
    assert last.get("context") == context


def test_ids_have_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sollold.wire.translate.reply_tally._MAX_TOKENS", 3)
    subject = reader(_GENERATE, path=COMPLETION_PATH, prompt_tokens=())
    out = read(subject, stream(event_of({"content": "a", "tokens": [1] * 4})))
    assert out.head.status == 502


@pytest.mark.parametrize("reason", ["eos", "word", "limit", None])
def test_reasons_of_a_completion(reason: str | None) -> None:
    subject = reader(_GENERATE, path=COMPLETION_PATH)
    last = read(
        subject, stream(event_of({"content": "", "stop": True, "stop_type": reason}))
    ).lines[-1]
    assert last["done_reason"] == ("length" if reason == "limit" else "stop")


def test_log_probabilities_only_when_asked_for() -> None:
    entry = {"token": "x", "logprob": -0.5, "bytes": [120]}
    choice = {"delta": {"content": "x"}, "logprobs": {"content": [entry]}}
    event = event_of({"choices": [choice]})
    assert "logprobs" not in _chat(event, _STOP, DONE).lines[0]
    assert _chat(event, _STOP, DONE, wants_logprobs=True).lines[0]["logprobs"] == [entry]
    silent = event_of({"choices": [{"delta": {}, "logprobs": {"content": [entry]}}]})
    assert len(_chat(silent, _STOP, DONE).lines) == 1
    assert _chat(silent, _STOP, DONE, wants_logprobs=True).lines[0]["logprobs"] == [entry]


def test_what_the_history_ended_with_is_taken_off_however_it_comes() -> None:
    for texts, said in (
        (["one two", " three"], " three"),
        (["one ", "two", " three"], " three"),
        (["o", "n", "e two three"], " three"),
        (["other"], "other"),
        (["one", " day"], "one day"),
        (["one"], "one"),
        (["one two", ""], ""),
    ):
        events = [_ROLE, *[chunk(content=text) for text in texts], _STOP, DONE]
        lines = _chat(*events, prefill="one two").lines
        assert "".join(line["message"]["content"] for line in lines) == said


def test_other_servers_repeat_nothing_of_the_history() -> None:
    lines = _chat(chunk(content="1"), chunk(content="0"), _STOP, DONE,
                  kind=NodeKind.OPENAI, prefill="1").lines  # fmt: skip
    assert [line["message"]["content"] for line in lines] == ["1", "0", ""]


@pytest.mark.parametrize(
    "payload",
    [b"{", b"[]", b"1", b'{"choices":1}', b'{"choices":[{"delta":{"content":1}}]}', b"[" * 9000,
     b'{"choices":[{"delta":{"content":"\\ud800"}}]}', b'{"choices":[{"finish_reason":{}}]}'],
)  # fmt: skip
def test_what_cannot_be_read_is_the_nodes_failure(payload: bytes) -> None:
    event = b"data: " + payload + b"\n\n"
    assert _chat(_ROLE, event, _HELLO) == (
        (502, PLAIN), b'{"error":"the node\'s answer cannot be read"}',
    )  # fmt: skip
    assert _chat(_HELLO, event, _HELLO).lines[1:] == [{"error": "the node's answer cannot be read"}]


def test_half_a_character_is_replaced() -> None:
    out = _chat(_HELLO.replace(b"Hello", b"H\xe2\x82"), _STOP, DONE)
    assert out.lines[0]["message"]["content"] == "H\ufffd"


def test_a_line_without_end_is_not_kept() -> None:
    subject = reader()
    subject.begin(200, SSE)
    out = subject.feed(_HELLO)
    for _ in range(9):
        out += subject.feed(b"data: " + b"x" * (MAX_EVENT_BYTES // 8))
    assert Read(subject.head, out).lines[1:] == [{"error": "the node's answer is too long"}]  # type: ignore[arg-type]
    assert subject.feed(_HELLO) + subject.finish() == b""


def test_nothing_is_waited_for_after_what_spoils_a_reply() -> None:
    subject = reader()
    subject.begin(200, SSE)
    for data in (_ROLE, _HELLO):
        subject.feed(data)
        assert subject.is_spoiled is False
    subject.feed(b"data: {\n\n")
    assert subject.is_spoiled
    assert subject.is_heavy is False
    told = reader()
    read(told, stream(_HELLO, _ERROR))
    assert told.is_spoiled is False
    calls = reader()
    calls.begin(200, SSE)
    calls.feed(chunk(tool_calls=[{"index": index} for index in range(2000)]))
    assert calls.is_spoiled


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        (_CHAT, NodeKind.LLAMA_SERVER),
        (InferenceRoute.API_EMBED, NodeKind.LLAMA_SERVER),
        (InferenceRoute.V1_CHAT, NodeKind.OPENAI),
    ],
)
@pytest.mark.parametrize("is_stream", [True, False])
def test_nobody_reads_a_page_to_its_end(
    route: InferenceRoute, kind: NodeKind, is_stream: bool
) -> None:
    subject = reader(route, kind, is_stream=is_stream)
    subject.begin(500, "text/html")
    subject.feed(b"x" * MAX_ERROR_BYTES)
    found = [subject.is_spoiled]
    subject.feed(b"x")
    assert [*found, subject.is_spoiled, subject.is_heavy] == [False, True, False]
    assert subject.finish()
    assert subject.head is not None
    assert subject.head.status == 500


@pytest.mark.parametrize("body", [b"", b"<html>hi</html>", b"{}", b"[]", b'{"choices":[]}'])
def test_a_body_instead_of_a_stream(body: bytes) -> None:
    out = read(reader(), Reply(200, "text/html", body))
    assert out.head == (502, PLAIN)


def test_an_error_with_status_200() -> None:
    assert read(reader(), whole({"error": {"code": 400, "message": "no"}})).head == (400, PLAIN)


def test_a_body_without_a_reason_does_not_end_the_stream() -> None:
    out = read(reader(), whole({"choices": [{"message": {"content": "x"}}]}))
    assert [line["done"] for line in out.lines] == [False]


_REPLIES = {
    "recorded": recorded("chat_stream_usage"),
    "error": stream(_ROLE, _HELLO, _ERROR, _STOP, DONE),
    "early error": stream(_ROLE, _ERROR, _HELLO),
    "garbage": stream(_HELLO, b"data: {\n\n", _HELLO, DONE),
    "cut": stream(_HELLO, _HELLO[:-20]),
    "tools": recorded("tools_stream_cut"),
    "windows": stream(_ROLE, b": ping\r\n\r\n", _HELLO.replace(b"\n", b"\r\n"), _STOP, DONE),
    "refused": recorded("overlong_prompt"),
}


@pytest.mark.parametrize("name", _REPLIES)
@pytest.mark.parametrize("route", [_CHAT, _GENERATE, InferenceRoute.V1_CHAT])
@pytest.mark.parametrize("is_stream", [True, False])
def test_every_split_gives_the_same_answer(
    name: str, route: InferenceRoute, is_stream: bool
) -> None:
    reply = _REPLIES[name]

    def put(pieces: list[bytes]) -> Read:
        subject = reader(route, hands=Hands(step_ns=0), is_stream=is_stream, include_usage=True)
        return read(subject, reply, pieces)

    wanted = put([reply.body])
    assert put(single_bytes(reply.body)) == wanted
    for seed in range(12):
        assert put(pieces_of(reply.body, seed)) == wanted
