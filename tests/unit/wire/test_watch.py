"""Watchers see when an answer commits and how it ended, however its bytes were split."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

if TYPE_CHECKING:
    from collections.abc import Callable

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE
_V1_CHAT = InferenceRoute.V1_CHAT
_V1_COMPLETIONS = InferenceRoute.V1_COMPLETIONS

_METRICS = {
    "total_duration": 5_000_000_000,
    "load_duration": 1_000_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 298,
    "eval_duration": 2_000_000_000,
}
_COUNTED = Counters(
    prompt_tokens=26, prompt_s=0.25, output_tokens=298, output_s=2.0, load_s=1.0, total_s=5.0
)


def _json(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _line(body: dict[str, Any]) -> bytes:
    return _json({"model": "m", "created_at": "2026-01-01T00:00:00Z"} | body) + b"\n"


def _chat(**message: object) -> bytes:
    return _line({"message": {"role": "assistant", "content": "", **message}, "done": False})


def _event(body: object) -> bytes:
    return b"data: " + _json(body) + b"\n\n"


def _chunk(finish: str | None = None, **delta: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event({"id": "chatcmpl-1", "model": "m", "choices": [choice]})


_EMPTY = _chat()
_HELLO = _chat(content="Hello")
_FINAL = _line({"message": {"role": "assistant", "content": ""}, "done": True} | _METRICS)
_ERROR = b'{"error":"an error was encountered"}\n'

_ROLE = _chunk(role="assistant", content="")
_WORD = _chunk(content="Hello")
_FINISH = _chunk("stop")
_USAGE = _event(
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}
)
_DONE = b"data: [DONE]\n\n"


def _fed(watch: Watch, *parts: bytes) -> Watch:
    for part in parts:
        watch.feed(part)
    return watch


def _ndjson(*parts: bytes) -> Watch:
    return _fed(NdjsonWatch(_CHAT), *parts)


def _sse(*parts: bytes) -> Watch:
    return _fed(SseWatch(_V1_CHAT), *parts)


def _flags(watch: Watch) -> tuple[bool, bool]:
    return watch.has_content, watch.is_decided


# Commit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        _HELLO,
        _chat(thinking="hm"),
        _chat(tool_calls=[{"function": {"name": "f", "arguments": {}}}]),
        _line({"message": {"content": ""}, "done": False, "logprobs": [{"token": "a"}]}),
        _line({"response": "Hello", "done": False}),
        _line({"response": "", "thinking": "hm", "done": False}),
        _line({"response": "", "tool_calls": [{}], "done": True}),
        _line({"response": "all at once", "done": True}),
    ],
)
def test_content_commits_a_native_stream(line: bytes) -> None:
    watch = _ndjson(_EMPTY, b"\n", line[:-1])
    assert _flags(watch) == (False, False)
    watch.feed(b"\n")
    assert _flags(watch) == (True, True)
    assert watch.frames == 1


@pytest.mark.parametrize("line", [_EMPTY, _line({"response": "", "done": False}), b"\n", b" \r\n"])
def test_empty_lines_are_held_back(line: bytes) -> None:
    watch = _ndjson(line)
    assert _flags(watch) == (False, False)
    assert watch.frames == 0


@pytest.mark.parametrize(
    "line",
    [
        _FINAL,
        _ERROR,
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
    watch.feed(_HELLO)
    assert _flags(watch) == (True, True)


@pytest.mark.parametrize(
    "event",
    [
        _WORD,
        _chunk(reasoning="hm"),
        _chunk(reasoning_content="hm"),
        _chunk(tool_calls=[{"index": 0}]),
        _chunk("stop", content="all at once"),
        _event({"choices": [{"text": "Hello", "index": 0}]}),
        _event({"choices": [{"delta": {}, "logprobs": {"content": []}}]}),
        _event({"choices": [{"delta": {}}, {"delta": {"content": "second"}}]}),
    ],
)
def test_content_commits_an_event_stream(event: bytes) -> None:
    watch = _sse(_ROLE, b": ping\n\n", event[:-2])
    assert _flags(watch) == (False, False)
    watch.feed(b"\n")
    assert _flags(watch) == (True, True)
    watch.feed(b"\n")
    assert watch.frames == 1


@pytest.mark.parametrize(
    "event",
    [
        _ROLE,
        b": ping\n\n",
        b":\r\n\r\n",
        b"event: message\nid: 1\nretry: 5\n\n",
        _chunk(),
        _chunk(content=""),
        _chunk(content=None),
        _USAGE,
        _event({"choices": [{"text": "", "index": 0, "finish_reason": None}]}),
        _event({"choices": []}),
    ],
)
def test_empty_events_are_held_back(event: bytes) -> None:
    assert _flags(_sse(event)) == (False, False)


@pytest.mark.parametrize(
    "event",
    [
        _FINISH,
        _DONE,
        b"data:[DONE]\n\n",
        _event({"error": {"message": "broke"}}),
        _event({"error": "broke", "choices": []}),
        _event({"other": 1}),
        _event({"choices": [5]}),
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
    ending = _ndjson(_EMPTY, _HELLO, _HELLO, _FINAL).finish()
    assert ending == Ending(is_terminated=True, counters=_COUNTED, frames=2, has_content=True)


def test_a_load_answer_on_a_stream() -> None:
    body = _line({"message": {"content": ""}, "done": True, "done_reason": "load"})
    for sent in (body, body.rstrip()):
        assert _ndjson(sent).finish() == Ending(is_terminated=True, done_reason="load")


def test_an_answer_in_one_line_without_its_newline() -> None:
    body = _line({"response": "all", "done": True, "done_reason": "stop"}).rstrip()
    watch = _ndjson(body)
    assert not watch.has_content
    assert watch.finish() == Ending(
        is_terminated=True, done_reason="stop", frames=1, has_content=True
    )


def test_a_native_stream_that_told_an_error() -> None:
    ending = _ndjson(_HELLO, _ERROR).finish()
    assert ending == Ending(
        is_terminated=False, error="an error was encountered", frames=1, has_content=True
    )


@pytest.mark.parametrize("rest", [b"", b"\n", _HELLO[:-1], _HELLO[:-2], b'{"message":{"con'])
def test_a_native_stream_that_was_cut(rest: bytes) -> None:
    ending = _ndjson(_HELLO, _HELLO, rest).finish()
    assert not ending.is_terminated
    assert ending.error is None
    assert ending.counters == Counters()
    assert ending.frames == (3 if rest in (b"\n", _HELLO[:-1]) else 2)


def test_junk_after_the_final_line_does_not_undo_it() -> None:
    assert _ndjson(_HELLO, _FINAL, b"\r\n", b"jun").finish().is_terminated


def test_tool_arguments_cannot_end_a_stream() -> None:
    call = {"function": {"name": "f", "arguments": {"done": True, "error": "x"}}}
    assert not _ndjson(_chat(tool_calls=[call])).finish().is_terminated
    long_call = {"function": {"name": "f", "arguments": {"x": "y" * 20_000, "done": True}}}
    ending = _ndjson(_chat(tool_calls=[long_call])).finish()
    assert not ending.is_terminated
    assert ending.error is None


def test_a_huge_final_line() -> None:
    final = _line(
        {"response": "", "done": True, "done_reason": "stop", "context": list(range(60_000))}
        | _METRICS
    )
    assert len(final) > 300_000
    said = _line({"response": "a", "done": False})
    ending = _fed(NdjsonWatch(_GENERATE), said, final).finish()
    assert ending.is_terminated
    assert ending.done_reason == "stop"
    assert ending.counters == _COUNTED
    cut = _fed(NdjsonWatch(_GENERATE), said, final[:-1]).finish()
    assert not cut.is_terminated


def test_an_event_stream_that_ended_well() -> None:
    ending = _sse(_ROLE, _WORD, _WORD, _FINISH, _USAGE, _DONE).finish()
    assert ending == Ending(
        is_terminated=True,
        done_reason="stop",
        counters=Counters(prompt_tokens=5, output_tokens=7),
        frames=2,
        has_content=True,
    )


def test_usage_on_every_chunk_counts_at_the_end() -> None:
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    word = _event({"choices": [{"text": "a", "finish_reason": None}], "usage": zero})
    last = _event({"choices": [{"text": "b", "finish_reason": "stop"}], "usage": zero})
    ending = _fed(SseWatch(_V1_COMPLETIONS), word, word, last, _USAGE, _DONE).finish()
    assert ending.counters == Counters(prompt_tokens=5, output_tokens=7)
    assert (ending.done_reason, ending.frames) == ("stop", 3)


def test_an_end_without_its_newlines_is_an_end() -> None:
    assert _sse(_WORD, b"data: [DONE]").finish().is_terminated
    assert not _sse(_WORD, b"data: [DON").finish().is_terminated
    assert not _sse(_WORD, b"datum[DONE]").finish().is_terminated
    assert not _sse(_WORD, b": [DONE]\n\n").finish().is_terminated


def test_an_event_stream_that_was_cut() -> None:
    ollama_lost_its_engine = _event(
        {"model": "", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]}
    )
    ending = _sse(_ROLE, _WORD, ollama_lost_its_engine).finish()
    assert ending == Ending(is_terminated=False, frames=1, has_content=True)
    finished = _sse(_ROLE, _WORD, _FINISH).finish()
    assert not finished.is_terminated
    assert finished.done_reason == "stop"


def test_an_error_event() -> None:
    told = _sse(_WORD, _event({"error": {"message": "broke", "code": 500}})).finish()
    assert told == Ending(is_terminated=False, error="broke", frames=1, has_content=True)
    first = _sse(_event({"error": "broke"}), _FINISH, _DONE).finish()
    assert first == Ending(is_terminated=True, error="broke", done_reason="stop")


def test_an_event_without_its_newline_counts_when_it_is_whole() -> None:
    ending = _sse(_ROLE, _WORD.rstrip()).finish()
    assert (ending.frames, ending.has_content) == (1, True)


def test_a_huge_event_is_content() -> None:
    ending = _sse(_ROLE, _chunk(content="x" * 30_000), _FINISH, _DONE).finish()
    assert ending == Ending(is_terminated=True, done_reason="stop", frames=1, has_content=True)


def test_finishing_twice_or_in_between_changes_nothing() -> None:
    for make in (_ndjson, _sse):
        watch = make(_EMPTY[:20])
        assert watch.finish() == watch.finish() == Ending(is_terminated=False)
    watch = _ndjson(_HELLO, _FINAL[:10])
    assert not watch.finish().is_terminated
    watch.feed(_FINAL[10:])
    assert watch.finish() == watch.finish() == _ndjson(_HELLO, _FINAL).finish()


# Single objects -----------------------------------------------------------------------------------


def _json_ending(route: InferenceRoute, *parts: bytes) -> Ending:
    return _fed(JsonWatch(route), *parts).finish()


def test_a_single_answer() -> None:
    body = _line({"message": {"content": "Hi"}, "done": True, "done_reason": "stop"} | _METRICS)
    watch = _fed(JsonWatch(_CHAT), b" ")
    assert _flags(watch) == (False, False)
    assert watch.finish() == Ending(is_terminated=False)
    _fed(watch, body[:30])
    assert _flags(watch) == (True, True)
    assert watch.finish() == Ending(is_terminated=False, frames=1, has_content=True)
    _fed(watch, body[30:], b"")
    assert watch.finish() == Ending(
        is_terminated=True, done_reason="stop", counters=_COUNTED, frames=1, has_content=True
    )


def test_a_single_answer_that_is_not_done_passes() -> None:
    assert _json_ending(_GENERATE, _line({"response": "aaaa", "done": False})).is_terminated


def test_single_openai_answers() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": usage}
    ending = _json_ending(_V1_CHAT, _json(body))
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
    text = _json(body)
    assert len(text) > 300_000
    ending = _json_ending(route, text[:100_000], text[100_000:], b"\n")
    assert ending.is_terminated
    assert ending.counters == Counters(prompt_tokens=8)
    assert _json_ending(route, text[:200_000]) == Ending(
        is_terminated=False, frames=1, has_content=True
    )


# Splits, bounds, boundaries -----------------------------------------------------------------------


def test_a_single_answer_ends_at_a_line_boundary_only_with_its_newline() -> None:
    ends = [_fed(JsonWatch(_CHAT), sent).ends_at_line_boundary for sent in (b"", b"{}", b"{}\n")]
    assert ends == [True, False, True]


_NATIVE_PARTS = st.lists(
    st.sampled_from(
        [
            _EMPTY,
            _HELLO,
            _FINAL,
            _ERROR,
            b"\n",
            b"\r\n",
            b"junk\n",
            _chat(content="\u00e9\n" * 3000),
            _chat(content="long " * 5000),
            _line({"response": "", "done": True, "context": list(range(9000))} | _METRICS),
            _chat(tool_calls=[{"function": {"arguments": {"done": True, "x": "y" * 9000}}}]),
        ]
    ),
    max_size=6,
).map(b"".join)
_EVENT_PARTS = st.lists(
    st.sampled_from(
        [
            _ROLE,
            _WORD,
            _FINISH,
            _USAGE,
            _DONE,
            b": ping\n\n",
            b"event: x\r\n",
            b"\r\n",
            b"data: junk\n\n",
            _event({"error": "broke"}),
            _chunk(content="long " * 5000),
            _WORD.replace(b"\n", b"\r\n"),
        ]
    ),
    max_size=8,
).map(b"".join)
_MAKERS: list[tuple[Callable[[], Watch], st.SearchStrategy[bytes]]] = [
    (lambda: NdjsonWatch(_CHAT), _NATIVE_PARTS),
    (lambda: SseWatch(_V1_CHAT), _EVENT_PARTS),
    (lambda: JsonWatch(_CHAT), _NATIVE_PARTS),
]


def _split(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(places)]


def _state(watch: Watch) -> tuple[object, ...]:
    return (
        watch.has_content,
        watch.is_decided,
        watch.frames,
        watch.ends_at_line_boundary,
        watch.finish(),
    )


@settings(max_examples=200)
@given(st.sampled_from(range(3)), st.data())
def test_any_split_gives_the_same_answer(which: int, data: st.DataObject) -> None:
    make, streams = _MAKERS[which]
    stream = data.draw(streams)
    if data.draw(st.booleans()):
        stream = stream[: data.draw(st.integers(0, len(stream)))]
    cuts = data.draw(st.lists(st.integers(0, 10**6), max_size=20))
    assert _state(_fed(make(), *_split(stream, cuts))) == _state(_fed(make(), stream))


@pytest.mark.parametrize("which", range(3))
def test_byte_by_byte_is_the_same_too(which: int) -> None:
    make, _ = _MAKERS[which]
    stream = (
        (_ROLE + _WORD * 200 + _FINISH + _USAGE + _DONE)
        if which == 1
        else (_EMPTY + _HELLO * 200 + _FINAL)
    )
    watch = make()
    for index in range(len(stream)):
        watch.feed(stream[index : index + 1])
    assert _state(watch) == _state(_fed(make(), stream))
    assert watch.has_content


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("size", [1, 50_000])
def test_memory_is_bounded(which: int, size: int) -> None:
    make, _ = _MAKERS[which]
    watch = _fed(make(), _WORD if which == 1 else _HELLO)
    part = b"x" * size
    tracemalloc.start()
    for _ in range(8_000_000 // 50_000 if size > 1 else 100_000):
        watch.feed(part)
    watch.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize(
    ("sent", "is_boundary"),
    [
        (b"", True),
        (_EMPTY, True),
        (_HELLO, True),
        (_EMPTY[:-1], False),
        (_HELLO[:-1], False),
        (_HELLO + b"{", False),
        (_HELLO + _EMPTY[:-1], False),
    ],
)
def test_line_boundaries(sent: bytes, is_boundary: bool) -> None:
    assert _ndjson(sent).ends_at_line_boundary is is_boundary


@pytest.mark.parametrize(
    ("sent", "is_boundary"),
    [
        (b"", True),
        (_ROLE, True),
        (_WORD, True),
        (_ROLE[:-1], False),
        (_WORD[:-1], False),
        (_WORD + b"data", False),
        (_WORD.replace(b"\n", b"\r\n"), True),
        (_WORD + b": ping\r\n", False),
    ],
)
def test_event_boundaries(sent: bytes, is_boundary: bool) -> None:
    assert _sse(sent).ends_at_line_boundary is is_boundary


# Interruptions ------------------------------------------------------------------------------------


def test_an_interrupted_native_stream_is_told_so() -> None:
    frame = interrupt(_CHAT, is_stream=True, at_line_boundary=True, text="cut <x>")
    assert frame == b'{"error":"cut \\u003cx\\u003e"}\n'
    closed = interrupt(_CHAT, is_stream=True, at_line_boundary=False, text="cut")
    assert closed == b'\n{"error":"cut"}\n'
    assert _ndjson(_HELLO, _HELLO[:9], closed).finish().error == "cut"


def test_an_interrupted_event_stream_is_told_so() -> None:
    frame = interrupt(_V1_CHAT, is_stream=True, at_line_boundary=True, text="cut")
    error = {"message": "cut", "type": "api_error", "param": None, "code": None}
    assert frame == _event({"error": error})
    closed = interrupt(_V1_CHAT, is_stream=True, at_line_boundary=False, text="cut")
    assert closed == b"\n\n" + frame
    assert _sse(_WORD, _WORD[:9], closed).finish().error == "cut"


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
