"""A watcher's answer and memory do not depend on how a stream was split."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sollold.wire.routes import InferenceRoute
from sollold.wire.watch import JsonWatch, NdjsonWatch, SseWatch, Watch
from tests.unit.wire.streams import (
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
    chat_event,
    chat_line,
    event_of,
    fed,
    line_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_CHAT = InferenceRoute.API_CHAT
_V1_CHAT = InferenceRoute.V1_CHAT


def _ndjson(*parts: bytes) -> Watch:
    return fed(NdjsonWatch(_CHAT), *parts)


def _sse(*parts: bytes) -> Watch:
    return fed(SseWatch(_V1_CHAT), *parts)


def test_a_single_answer_ends_at_a_line_boundary_only_with_its_newline() -> None:
    ends = [fed(JsonWatch(_CHAT), sent).ends_at_line_boundary for sent in (b"", b"{}", b"{}\n")]
    assert ends == [True, False, True]


_NATIVE_PARTS = st.lists(
    st.sampled_from(
        [
            EMPTY,
            HELLO,
            FINAL,
            ERROR,
            b"\n",
            b"\r\n",
            b"junk\n",
            chat_line(content="\u00e9\n" * 3000),
            chat_line(content="long " * 5000),
            line_of({"response": "", "done": True, "context": list(range(9000))} | METRICS),
            chat_line(tool_calls=[{"function": {"arguments": {"done": True, "x": "y" * 9000}}}]),
        ]
    ),
    max_size=6,
).map(b"".join)
_EVENT_PARTS = st.lists(
    st.sampled_from(
        [
            ROLE,
            WORD,
            FINISH,
            USAGE,
            DONE,
            b": ping\n\n",
            b"event: x\r\n",
            b"\r\n",
            b"data: junk\n\n",
            event_of({"error": "broke"}),
            chat_event(content="long " * 5000),
            WORD.replace(b"\n", b"\r\n"),
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
    assert _state(fed(make(), *_split(stream, cuts))) == _state(fed(make(), stream))


@pytest.mark.parametrize("which", range(3))
def test_byte_by_byte_is_the_same_too(which: int) -> None:
    make, _ = _MAKERS[which]
    stream = (
        (ROLE + WORD * 200 + FINISH + USAGE + DONE) if which == 1 else (EMPTY + HELLO * 200 + FINAL)
    )
    watch = make()
    for index in range(len(stream)):
        watch.feed(stream[index : index + 1])
    assert _state(watch) == _state(fed(make(), stream))
    assert watch.has_content


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("size", [1, 50_000])
def test_memory_is_bounded(which: int, size: int) -> None:
    make, _ = _MAKERS[which]
    watch = fed(make(), WORD if which == 1 else HELLO)
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
        (EMPTY, True),
        (HELLO, True),
        (EMPTY[:-1], False),
        (HELLO[:-1], False),
        (HELLO + b"{", False),
        (HELLO + EMPTY[:-1], False),
    ],
)
def test_line_boundaries(sent: bytes, is_boundary: bool) -> None:
    assert _ndjson(sent).ends_at_line_boundary is is_boundary


@pytest.mark.parametrize(
    ("sent", "is_boundary"),
    [
        (b"", True),
        (ROLE, True),
        (WORD, True),
        (ROLE[:-1], False),
        (WORD[:-1], False),
        (WORD + b"data", False),
        (WORD.replace(b"\n", b"\r\n"), True),
        (WORD + b": ping\r\n", False),
    ],
)
def test_event_boundaries(sent: bytes, is_boundary: bool) -> None:
    assert _sse(sent).ends_at_line_boundary is is_boundary
