"""Watchers see when an answer commits and how it ended, however its bytes were split."""

from __future__ import annotations

import pytest

from sollold.wire.endings import Counters
from sollold.wire.routes import InferenceRoute
from sollold.wire.watch import (
    Ending,
    JsonWatch,
    NdjsonWatch,
    SseWatch,
    Watch,
    interrupt,
    watch_for,
)
from tests.unit.wire.streams import (
    COUNTED,
    DONE,
    EMPTY,
    ERROR,
    FINAL,
    FINISH,
    HELLO,
    METRICS,
    ROLE,
    USAGE,
    WORD,
    as_json,
    chat_event,
    chat_line,
    event_of,
    fed,
    line_of,
)

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE
_V1_CHAT = InferenceRoute.V1_CHAT
_V1_COMPLETIONS = InferenceRoute.V1_COMPLETIONS


def _ndjson(*parts: bytes) -> Watch:
    return fed(NdjsonWatch(_CHAT), *parts)


def _sse(*parts: bytes) -> Watch:
    return fed(SseWatch(_V1_CHAT), *parts)


def _flags(watch: Watch) -> tuple[bool, bool]:
    return watch.has_content, watch.is_decided


# Commit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        HELLO,
        chat_line(thinking="hm"),
        chat_line(tool_calls=[{"function": {"name": "f", "arguments": {}}}]),
        line_of({"message": {"content": ""}, "done": False, "logprobs": [{"token": "a"}]}),
        line_of({"response": "Hello", "done": False}),
        line_of({"response": "", "thinking": "hm", "done": False}),
        line_of({"response": "", "tool_calls": [{}], "done": True}),
        line_of({"response": "all at once", "done": True}),
    ],
)
def test_content_commits_a_native_stream(line: bytes) -> None:
    watch = _ndjson(EMPTY, b"\n", line[:-1])
    assert _flags(watch) == (False, False)
    watch.feed(b"\n")
    assert _flags(watch) == (True, True)
    assert watch.frames == 1


@pytest.mark.parametrize("line", [EMPTY, line_of({"response": "", "done": False}), b"\n", b" \r\n"])
def test_empty_lines_are_held_back(line: bytes) -> None:
    watch = _ndjson(line)
    assert _flags(watch) == (False, False)
    assert watch.frames == 0


@pytest.mark.parametrize(
    "line",
    [
        FINAL,
        ERROR,
        b'{"error":""}\n',
        b'{"error":"broke","response":""}\n',
        b'{"status":"loading"}\n',
        b"not json\n",
        b"[1]\n",
    ],
)
def test_what_is_no_empty_line_is_passed_on_without_committing(line: bytes) -> None:
    watch = _ndjson(line)
    assert _flags(watch) == (False, True)
    watch.feed(HELLO)
    assert _flags(watch) == (True, True)


@pytest.mark.parametrize(
    "event",
    [
        WORD,
        chat_event(reasoning="hm"),
        chat_event(reasoning_content="hm"),
        chat_event(tool_calls=[{"index": 0}]),
        chat_event("stop", content="all at once"),
        event_of({"choices": [{"text": "Hello", "index": 0}]}),
        event_of({"choices": [{"delta": {}, "logprobs": {"content": []}}]}),
        event_of({"choices": [{"delta": {}}, {"delta": {"content": "second"}}]}),
    ],
)
def test_content_commits_an_event_stream(event: bytes) -> None:
    watch = _sse(ROLE, b": ping\n\n", event[:-2])
    assert _flags(watch) == (False, False)
    watch.feed(b"\n")
    assert _flags(watch) == (True, True)
    watch.feed(b"\n")
    assert watch.frames == 1


@pytest.mark.parametrize(
    "event",
    [
        ROLE,
        b": ping\n\n",
        b":\r\n\r\n",
        b"event: message\nid: 1\nretry: 5\n\n",
        chat_event(),
        chat_event(content=""),
        chat_event(content=None),
        USAGE,
        event_of({"choices": [{"text": "", "index": 0, "finish_reason": None}]}),
        event_of({"choices": []}),
    ],
)
def test_empty_events_are_held_back(event: bytes) -> None:
    assert _flags(_sse(event)) == (False, False)


@pytest.mark.parametrize(
    "event",
    [
        FINISH,
        DONE,
        b"data:[DONE]\n\n",
        event_of({"error": {"message": "broke"}}),
        event_of({"error": "broke", "choices": []}),
        event_of({"other": 1}),
        event_of({"choices": [5]}),
        b"data: not json\n\n",
        b'{"error":"no event at all"}\n',
    ],
)
def test_an_end_or_something_unknown_is_passed_on_without_committing(event: bytes) -> None:
    assert _flags(_sse(event)) == (False, True)


def test_a_line_that_never_ends_commits_before_it_fills_the_memory() -> None:
    watch = _ndjson(b"x" * 65_536)
    assert _flags(watch) == (False, False)
    watch.feed(b"x")
    assert _flags(watch) == (True, True)
    whole = _ndjson(b"x" * 65_537 + b"\n")
    assert whole.has_content
    assert whole.frames == 1
    assert not _ndjson(b"x" * 65_536 + b"\n").has_content


# Endings ------------------------------------------------------------------------------------------


def test_a_native_stream_that_ended_well() -> None:
    ending = _ndjson(EMPTY, HELLO, HELLO, FINAL).finish()
    assert ending == Ending(is_terminated=True, counters=COUNTED, frames=2, has_content=True)


def test_a_load_answer_on_a_stream() -> None:
    body = line_of({"message": {"content": ""}, "done": True, "done_reason": "load"})
    for sent in (body, body.rstrip()):
        assert _ndjson(sent).finish() == Ending(is_terminated=True, done_reason="load")


def test_an_answer_in_one_line_without_its_newline() -> None:
    body = line_of({"response": "all", "done": True, "done_reason": "stop"}).rstrip()
    watch = _ndjson(body)
    assert not watch.has_content
    assert watch.finish() == Ending(
        is_terminated=True, done_reason="stop", frames=1, has_content=True
    )


def test_a_native_stream_that_told_an_error() -> None:
    ending = _ndjson(HELLO, ERROR).finish()
    assert ending == Ending(
        is_terminated=False, error="an error was encountered", frames=1, has_content=True
    )


@pytest.mark.parametrize("rest", [b"", b"\n", HELLO[:-1], HELLO[:-2], b'{"message":{"con'])
def test_a_native_stream_that_was_cut(rest: bytes) -> None:
    ending = _ndjson(HELLO, HELLO, rest).finish()
    assert not ending.is_terminated
    assert ending.error is None
    assert ending.counters == Counters()
    assert ending.frames == (3 if rest in (b"\n", HELLO[:-1]) else 2)


def test_junk_after_the_final_line_does_not_undo_it() -> None:
    assert _ndjson(HELLO, FINAL, b"\r\n", b"jun").finish().is_terminated


def test_tool_arguments_cannot_end_a_stream() -> None:
    call = {"function": {"name": "f", "arguments": {"done": True, "error": "x"}}}
    assert not _ndjson(chat_line(tool_calls=[call])).finish().is_terminated
    long_call = {"function": {"name": "f", "arguments": {"x": "y" * 20_000, "done": True}}}
    ending = _ndjson(chat_line(tool_calls=[long_call])).finish()
    assert not ending.is_terminated
    assert ending.error is None


def test_a_huge_final_line() -> None:
    final = line_of(
        {"response": "", "done": True, "done_reason": "stop", "context": list(range(60_000))}
        | METRICS
    )
    assert len(final) > 300_000
    said = line_of({"response": "a", "done": False})
    ending = fed(NdjsonWatch(_GENERATE), said, final).finish()
    assert ending.is_terminated
    assert ending.done_reason == "stop"
    assert ending.counters == COUNTED
    cut = fed(NdjsonWatch(_GENERATE), said, final[:-1]).finish()
    assert not cut.is_terminated


def test_an_event_stream_that_ended_well() -> None:
    ending = _sse(ROLE, WORD, WORD, FINISH, USAGE, DONE).finish()
    assert ending == Ending(
        is_terminated=True,
        done_reason="stop",
        counters=Counters(prompt_tokens=5, output_tokens=7),
        frames=2,
        has_content=True,
    )


def test_usage_on_every_chunk_counts_at_the_end() -> None:
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    word = event_of({"choices": [{"text": "a", "finish_reason": None}], "usage": zero})
    last = event_of({"choices": [{"text": "b", "finish_reason": "stop"}], "usage": zero})
    ending = fed(SseWatch(_V1_COMPLETIONS), word, word, last, USAGE, DONE).finish()
    assert ending.counters == Counters(prompt_tokens=5, output_tokens=7)
    assert (ending.done_reason, ending.frames) == ("stop", 3)


def test_an_end_without_its_newlines_is_an_end() -> None:
    assert _sse(WORD, b"data: [DONE]").finish().is_terminated
    assert not _sse(WORD, b"data: [DON").finish().is_terminated
    assert not _sse(WORD, b"datum[DONE]").finish().is_terminated
    assert not _sse(WORD, b": [DONE]\n\n").finish().is_terminated


def test_an_event_stream_that_was_cut() -> None:
    ollama_lost_its_engine = event_of(
        {"model": "", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]}
    )
    ending = _sse(ROLE, WORD, ollama_lost_its_engine).finish()
    assert ending == Ending(is_terminated=False, frames=1, has_content=True)
    finished = _sse(ROLE, WORD, FINISH).finish()
    assert not finished.is_terminated
    assert finished.done_reason == "stop"


def test_an_error_event() -> None:
    told = _sse(WORD, event_of({"error": {"message": "broke", "code": 500}})).finish()
    assert told == Ending(is_terminated=False, error="broke", frames=1, has_content=True)
    first = _sse(event_of({"error": "broke"}), FINISH, DONE).finish()
    assert first == Ending(is_terminated=True, error="broke", done_reason="stop")


def test_an_event_without_its_newline_counts_when_it_is_whole() -> None:
    ending = _sse(ROLE, WORD.rstrip()).finish()
    assert (ending.frames, ending.has_content) == (1, True)


def test_a_huge_event_is_content() -> None:
    ending = _sse(ROLE, chat_event(content="x" * 30_000), FINISH, DONE).finish()
    assert ending == Ending(is_terminated=True, done_reason="stop", frames=1, has_content=True)


def test_finishing_twice_or_in_between_changes_nothing() -> None:
    for make in (_ndjson, _sse):
        watch = make(EMPTY[:20])
        assert watch.finish() == watch.finish() == Ending(is_terminated=False)
    watch = _ndjson(HELLO, FINAL[:10])
    assert not watch.finish().is_terminated
    watch.feed(FINAL[10:])
    assert watch.finish() == watch.finish() == _ndjson(HELLO, FINAL).finish()


# Single objects -----------------------------------------------------------------------------------


def _json_ending(route: InferenceRoute, *parts: bytes) -> Ending:
    return fed(JsonWatch(route), *parts).finish()


def test_a_single_answer() -> None:
    body = line_of({"message": {"content": "Hi"}, "done": True, "done_reason": "stop"} | METRICS)
    watch = fed(JsonWatch(_CHAT), b" ")
    assert _flags(watch) == (False, False)
    assert watch.finish() == Ending(is_terminated=False)
    fed(watch, body[:30])
    assert _flags(watch) == (True, True)
    assert watch.finish() == Ending(is_terminated=False, frames=1, has_content=True)
    fed(watch, body[30:], b"")
    assert watch.finish() == Ending(
        is_terminated=True, done_reason="stop", counters=COUNTED, frames=1, has_content=True
    )


def test_a_single_answer_that_is_not_done_passes() -> None:
    assert _json_ending(_GENERATE, line_of({"response": "aaaa", "done": False})).is_terminated


def test_single_openai_answers() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": usage}
    ending = _json_ending(_V1_CHAT, as_json(body))
    assert ending.is_terminated
    assert ending.done_reason == "stop"
    assert ending.counters == Counters(prompt_tokens=5, output_tokens=7)
    error = _json_ending(_V1_CHAT, b'{"error":{"message":"no"}}')
    assert (error.is_terminated, error.error) == (True, "no")


@pytest.mark.parametrize("route", [InferenceRoute.API_EMBED, InferenceRoute.V1_EMBEDDINGS])
def test_huge_single_answers(route: InferenceRoute) -> None:
    vector = [0.123456789] * 30_000
    body: dict[str, object] = {"model": "m", "embeddings": [vector], "prompt_eval_count": 8}
    if route is InferenceRoute.V1_EMBEDDINGS:
        body = {"data": [{"embedding": vector}], "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    text = as_json(body)
    assert len(text) > 300_000
    ending = _json_ending(route, text[:100_000], text[100_000:], b"\n")
    assert ending.is_terminated
    assert ending.counters == Counters(prompt_tokens=8)
    assert _json_ending(route, text[:200_000]) == Ending(
        is_terminated=False, frames=1, has_content=True
    )


# Interruptions ------------------------------------------------------------------------------------


def test_an_interrupted_native_stream_is_told_so() -> None:
    frame = interrupt(_CHAT, is_stream=True, at_line_boundary=True, text="cut <x>")
    assert frame == b'{"error":"cut \\u003cx\\u003e"}\n'
    closed = interrupt(_CHAT, is_stream=True, at_line_boundary=False, text="cut")
    assert closed == b'\n{"error":"cut"}\n'
    assert _ndjson(HELLO, HELLO[:9], closed).finish().error == "cut"


def test_an_interrupted_event_stream_is_told_so() -> None:
    frame = interrupt(_V1_CHAT, is_stream=True, at_line_boundary=True, text="cut")
    error = {"message": "cut", "type": "api_error", "param": None, "code": None}
    assert frame == event_of({"error": error})
    closed = interrupt(_V1_CHAT, is_stream=True, at_line_boundary=False, text="cut")
    assert closed == b"\n\n" + frame
    assert _sse(WORD, WORD[:9], closed).finish().error == "cut"


@pytest.mark.parametrize("route", [_CHAT, _V1_CHAT])
def test_an_object_cannot_be_told(route: InferenceRoute) -> None:
    assert interrupt(route, is_stream=False, at_line_boundary=False, text="cut") == b""


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("text/event-stream", SseWatch),
        ("Text/Event-Stream; charset=utf-8", SseWatch),
        ("application/x-ndjson", NdjsonWatch),
        ("application/json; charset=utf-8", JsonWatch),
        ("", JsonWatch),
    ],
)
def test_the_media_type_chooses_the_watcher(content_type: str, kind: type) -> None:
    assert type(watch_for(_CHAT, content_type)) is kind
