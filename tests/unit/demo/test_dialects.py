"""Streamed answers, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sollold.demo.dialects import NativeReader, OpenAIReader
from sollold.demo.failure import DemoFailed

if TYPE_CHECKING:
    from sollold.demo.dialects import Reader

_NATIVE = [
    b'{"model":"tiny","message":{"role":"assistant","content":" The"},"done":false}\n',
    b"\n",
    b'{"message":{"role":"assistant","content":" sea"},"done":false}\n',
    (
        b'{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
        b'"eval_count":20,"eval_duration":500000000}\n'
    ),
]
_OPENAI = [
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}\n',
    b"\n",
    b": a remark\n",
    b'data: {"choices":[{"index":0,"delta":{"content":" The"}}],"usage":null}\n',
    b'data:{"choices":[{"index":0,"delta":{"content":" sea"},"finish_reason":"stop"}]}\r\n',
    b'data: {"choices":[],"usage":{"completion_tokens":2}}\n',
    b"data: [DONE]\n",
]


@pytest.mark.parametrize(
    ("reader", "lines", "tokens", "rate"),
    [(NativeReader(), _NATIVE, 20, 40.0), (OpenAIReader(), _OPENAI, 2, None)],
)
def test_an_answer_is_read(
    reader: Reader, lines: list[bytes], tokens: int, rate: float | None
) -> None:
    texts = []
    for line in lines:
        assert not reader.is_complete
        texts.append(reader.feed(line))

    assert "".join(texts) == " The sea"
    assert reader.is_complete
    assert (reader.tokens, reader.tokens_per_s) == (tokens, rate)


@pytest.mark.parametrize(
    ("reader", "line"),
    [
        (NativeReader(), b'{"error":"node is gone"}\n'),
        (OpenAIReader(), b'data: {"error":{"message":"node is gone"}}\n'),
        (OpenAIReader(), b'data: {"error":"node is gone"}\n'),
    ],
)
def test_an_error_in_the_stream_is_told(reader: Reader, line: bytes) -> None:
    with pytest.raises(DemoFailed, match="node is gone"):
        reader.feed(line)
    assert not reader.is_complete


@pytest.mark.parametrize(
    ("reader", "line"),
    [(NativeReader(), b"<html>\n"), (OpenAIReader(), b'data: {"choices": 3}\n')],
)
def test_what_is_no_answer_is_told(reader: Reader, line: bytes) -> None:
    with pytest.raises(DemoFailed, match="cannot be read"):
        reader.feed(line)


def test_a_missing_figure_is_not_made_up() -> None:
    reader = NativeReader()

    reader.feed(b'{"done":true}')

    assert (reader.tokens, reader.tokens_per_s) == (None, None)
