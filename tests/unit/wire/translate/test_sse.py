"""Events come out the same however the stream was cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.wire.translate.sse import SseSplitter, is_event_stream

_LIMIT_BYTES = 64


def _events(*pieces: bytes, limit_bytes: int = _LIMIT_BYTES) -> tuple[list[bytes], bool]:
    splitter = SseSplitter(limit_bytes)
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events + splitter.finish(), splitter.is_overlong


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data\n\n", []),
        (b":\n\n: ping\n\ndata: a\n\n", [b"a"]),
        (b":\n\n", []),
        (b"event: error\nid: 3\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\n:ping\ndata: b\n\n", [b"a\nb"]),
        (b"\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"data: a\n\ndata: b\ndata: c", [b"a", b"b\nc"]),
        (b"", []),
    ],
)
def test_events(stream: bytes, events: list[bytes]) -> None:
    assert _events(stream) == (events, False)
    assert _events(*[bytes([byte]) for byte in stream]) == (events, False)


def test_an_event_is_there_as_soon_as_it_is_complete() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: a") == []
    assert splitter.feed(b"\n") == []
    assert splitter.feed(b"\n") == [b"a"]
    assert splitter.feed(b"data: b\n\nda") == [b"b"]
    assert splitter.feed(b"ta: c\n\n") == [b"c"]


@pytest.mark.parametrize(
    "tail",
    [
        b"data: " + b"x" * _LIMIT_BYTES,
        b"data: " + b"x" * _LIMIT_BYTES + b"\n\n",
        b":" + b"x" * _LIMIT_BYTES + b"\n\n",
        b"data: xxxxxxxxxxxxxxxxxxxxxxxx\n" * 3 + b"\n",
    ],
)
def test_what_is_too_long_ends_it(tail: bytes) -> None:
    stream = b"data: a\n\n" + tail + b"data: b\n\n"
    assert _events(stream) == ([b"a"], True)
    assert _events(*[bytes([byte]) for byte in stream]) == ([b"a"], True)
    assert _events(stream, b"data: c\n\n") == ([b"a"], True)


_PARTS = st.sampled_from(
    [b"data: a\n", b"data:b\r\n", b"\n", b"\r\n", b": ping\n\n", b"data: {}\n\n", b"x", b"\r", b"d",
     b"data: " + b"y" * 30 + b"\n", b"event: e\n"]
)  # fmt: skip


@given(parts=st.lists(_PARTS, max_size=20), cuts=st.lists(st.integers(0, 300), max_size=8))
def test_every_split_gives_the_same_events(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(places)]
    assert _events(*pieces) == _events(*[bytes([byte]) for byte in stream]) == _events(stream)


@pytest.mark.parametrize(
    ("content_type", "is_one"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("application/json", False),
        ("", False),
    ],
)
def test_content_types(content_type: str, is_one: bool) -> None:
    assert is_event_stream(content_type) is is_one
