"""Closing objects are read whole, and by their two ends when they are huge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.wire.clip import END_BYTES, LINE_BYTES, Piece, clipped
from sollold.wire.endings import Closing, Counters, native_closing, openai_closing

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
_HEAD = {"model": "m", "created_at": "2026-01-01T00:00:00Z"}
_USAGE = {"prompt_tokens": 26, "completion_tokens": 298, "total_tokens": 324}


def _native(body: dict[str, Any], *, spaced: bool = False) -> Closing | None:
    separators = (", ", ": ") if spaced else (",", ":")
    return native_closing(clipped(json.dumps(body, separators=separators).encode()))


def _openai(body: dict[str, Any]) -> Closing | None:
    return openai_closing(clipped(json.dumps(body, separators=(",", ":")).encode()))


def test_a_final_line() -> None:
    body = _HEAD | {"response": "", "done": True, "done_reason": "stop"} | _METRICS
    assert _native(body) == Closing(is_done=True, done_reason="stop", counters=_COUNTED)


def test_a_line_that_is_not_final() -> None:
    assert _native(_HEAD | {"response": "a", "done": False}) == Closing()
    assert _native({"status": "success"}) == Closing()


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("broke", "broke"),
        ("", ""),
        ({"message": "inner", "code": 500}, "inner"),
        ({"code": 500}, '{"code":500}'),
        (["x"], '["x"]'),
    ],
)
def test_errors(sent: object, text: str) -> None:
    assert _native({"error": sent}) == Closing(error=text)
    assert _openai({"error": sent}) == Closing(error=text)


@pytest.mark.parametrize("data", [b"", b"null", b"[1]", b"{", b'{"done":tru}', b'"x"', b"\xff"])
def test_what_is_no_object_says_nothing(data: bytes) -> None:
    assert native_closing(Piece(data)) is None
    assert openai_closing(Piece(data)) is None


def test_counters_of_wrong_types_count_as_absent() -> None:
    texts: dict[str, Any] = dict.fromkeys(_METRICS, "x")
    assert _native(texts | {"done": True, "done_reason": 5}) == Closing(is_done=True)
    absurd = dict.fromkeys(_METRICS, -1) | {"eval_count": True, "eval_duration": True}
    assert _native(absurd) == Closing()


# Huge native objects ----------------------------------------------------------------------------

_LONG = 'x, "done":true,"total_duration":1} \\' * 500
_CONTEXT = list(range(20_000))
_ARGUMENTS = {"a": {"done": True, "eval_count": 5}, "text": _LONG}
_CALL = [{"function": {"index": 0, "name": "f", "arguments": _ARGUMENTS}}]
_LOGPROBS = [{"token": "a", "logprob": -0.1, "top_logprobs": [{"token": "b", "logprob": -2}]}] * 400

_HUGE_FINALS = [
    {"response": "", "done": True, "done_reason": "stop", "context": _CONTEXT} | _METRICS,
    {"response": _LONG, "done": True, "done_reason": "stop", "context": _CONTEXT} | _METRICS,
    {"message": {"content": _LONG}, "done": True, "done_reason": "stop"} | _METRICS,
    {"message": {"content": "", "tool_calls": _CALL}, "done": True, "done_reason": "stop"}
    | _METRICS,
    {"message": {"content": "a"}, "done": True, "done_reason": "stop", "logprobs": _LOGPROBS}
    | _METRICS,
]


@pytest.mark.parametrize("spaced", [True, False])
@pytest.mark.parametrize("body", _HUGE_FINALS)
def test_a_huge_final_line(body: dict[str, Any], spaced: bool) -> None:
    found = _native(_HEAD | body, spaced=spaced)
    assert found is not None
    assert found.is_done
    assert found.counters == _COUNTED
    assert found.error is None
    assert found.done_reason in ("stop", None)


def test_the_reason_is_known_where_it_is_near_an_end() -> None:
    reasons = [_native(_HEAD | body) for body in _HUGE_FINALS]
    assert [found and found.done_reason for found in reasons] == [
        "stop", None, "stop", "stop", "stop",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {"message": {"content": _LONG}, "done": False},
        {"message": {"content": "", "tool_calls": _CALL}, "done": False},
        {"done": False, "message": {"content": "", "tool_calls": _CALL}},
        {"response": _LONG, "done": False},
        {"response": "", "context": _CONTEXT, "nested": {"done": True, "total_duration": 1}},
        {"response": "", "done": False, "logprobs": _LOGPROBS},
    ],
)
def test_a_huge_line_that_is_not_final(body: dict[str, Any]) -> None:
    assert _native(_HEAD | body) == Closing()


def test_tool_calls_and_probabilities_after_the_counters_do_not_hide_the_end() -> None:
    body = {"response": "", "done": True} | _METRICS | {"logprobs": _LOGPROBS}
    found = _native(_HEAD | body)
    assert found is not None
    assert found.is_done


def test_a_huge_error() -> None:
    found = _native({"error": "broke " * 5000})
    assert found is not None
    assert found.error is not None
    assert found.error.startswith("broke broke")
    assert len(found.error) == 500


def test_a_huge_line_with_text_that_is_no_utf8_or_ends_strangely() -> None:
    junk = b'{"a":"' + b"\xff" * LINE_BYTES + b'","b":"\xff","done":true}'
    assert native_closing(clipped(junk)) == Closing(is_done=True)
    assert native_closing(clipped(b"x" * (LINE_BYTES + 1))) == Closing()
    assert native_closing(clipped(b'{"n":' + b"1" * LINE_BYTES + b"}")) == Closing()


@pytest.mark.parametrize("shift", range(40))
def test_a_number_that_is_cut_is_not_taken_for_a_shorter_one(shift: int) -> None:
    padding = "p" * (END_BYTES - 40 + shift)
    text = json.dumps({"a": padding, "eval_count": 123456789, "b": _LONG, "c": {}}).encode()
    found = native_closing(clipped(text))
    assert found is not None
    assert found.counters.output_tokens in (123456789, None)


_SCALARS = st.none() | st.booleans() | st.integers(0, 10**6) | st.text(max_size=8)
_TREES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["done", "eval_count", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(_TREES, _TREES, st.booleans(), st.integers(0, 2))
def test_two_ends_tell_what_the_whole_tells(
    first: Any, second: Any, is_done: bool, place: int
) -> None:
    members: list[tuple[str, Any]] = [("first", first), ("second", second)]
    members.insert(place, ("padding", "p" * LINE_BYTES))
    body = dict(members) | {"done": is_done, "eval_count": 7}
    text = json.dumps(body, separators=(",", ":")).encode()
    assert not clipped(text).is_whole
    assert native_closing(clipped(text)) == native_closing(Piece(text))


# OpenAI -------------------------------------------------------------------------------------------


def test_an_openai_answer() -> None:
    body = {"choices": [{"index": 0, "finish_reason": "length"}], "usage": _USAGE}
    assert _openai(body) == Closing(
        done_reason="length", counters=Counters(prompt_tokens=26, output_tokens=298)
    )


def test_chunks_without_counters() -> None:
    zeros = dict.fromkeys(_USAGE, 0)
    assert _openai({"choices": [], "usage": zeros}) == Closing()
    assert _openai({"choices": [{"finish_reason": None}, 5], "usage": None}) == Closing()
    assert _openai({"choices": 5, "usage": 5}) == Closing()


def test_embeddings_count_the_prompt_only() -> None:
    body = {"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    assert _openai(body) == Closing(counters=Counters(prompt_tokens=8))


def test_cached_tokens() -> None:
    usage = _USAGE | {"prompt_tokens_details": {"cached_tokens": 20}}
    assert _openai({"usage": usage}) == Closing(
        counters=Counters(prompt_tokens=26, cached_tokens=20, output_tokens=298)
    )


def test_timings_of_llama_server() -> None:
    timings = {
        "cache_n": 20,
        "prompt_n": 6,
        "prompt_ms": 250.0,
        "predicted_n": 298,
        "predicted_ms": 2000.0,
    }
    counted = Counters(
        prompt_tokens=26, cached_tokens=20, prompt_s=0.25, output_tokens=298, output_s=2.0
    )
    assert _openai({"timings": timings}) == Closing(counters=counted)
    assert _openai({"usage": _USAGE, "timings": timings}) == Closing(counters=counted)
    del timings["cache_n"]
    found = _openai({"timings": timings})
    assert found is not None
    assert found.counters.prompt_tokens == 6


def test_a_huge_openai_answer() -> None:
    message = {"role": "assistant", "content": _LONG, "tool_calls": []}
    body: dict[str, Any] = {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _USAGE,
        "timings": {"prompt_ms": 250.0},
    }
    counted = Counters(prompt_tokens=26, output_tokens=298, prompt_s=0.25)
    assert _openai(body) == Closing(done_reason="stop", counters=counted)
    chunk = {"choices": [{"delta": {"content": _LONG}, "finish_reason": None}]}
    assert _openai(chunk) == Closing()
    assert _openai({"data": [0.123456789] * 2000, "usage": {"prompt_tokens": 8}}) == Closing(
        counters=Counters(prompt_tokens=8)
    )
    found = _openai({"error": _LONG})
    assert found is not None
    assert found.error is not None
    assert found.error.startswith("x, ")


def test_of_several_choices_the_last_reason_counts() -> None:
    reasons: list[str | None] = ["length", "stop", None]
    choices = [{"index": 0, "text": "", "finish_reason": reason} for reason in reasons]
    for padding in ("", _LONG):
        found = _openai({"padding": padding, "choices": choices})
        assert found is not None
        assert found.done_reason == "stop"


def test_a_huge_answer_with_broken_counters() -> None:
    text = b'{"a":"' + b"x" * LINE_BYTES + b'","usage":{"prompt_tokens":'
    assert openai_closing(clipped(text)) == Closing()
