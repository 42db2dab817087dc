"""Embeddings of other engines."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.wire.translate.asking import (
    EMBED,
    EMBEDDINGS,
    V1_EMBEDDINGS,
    llama,
    openai,
    refused,
    send,
    words,
)

_ENGINE = llama(has_templates=True, context_length=5)


@pytest.mark.parametrize(("given", "texts"), [("x", ["x"]), (["x", ""], ["x", ""])])
def test_embed(given: Any, texts: list[str]) -> None:
    for engine in (llama(), openai()):
        sent = send(EMBED, {"input": given, "dimensions": 8}, engine)
        assert sent.path == "/v1/embeddings"
        assert sent.body == {"model": engine.model, "input": texts, "encoding_format": "float"}
        assert (sent.asked.dimensions, sent.asked.input_count) == (8, len(texts))
        assert not sent.asked.is_stream


@pytest.mark.parametrize("given", [0, False, 1.5, {}, {"a": 1}, [1], ["x", None], [["x"]]])
def test_input_of_something_else(given: Any) -> None:
    assert refused(EMBED, {"input": given}) == (400, "invalid input type")


def test_embeddings() -> None:
    sent = send(EMBEDDINGS, {"prompt": "x " * 50}, _ENGINE)
    assert sent.body["input"] == ["x " * 50]


def test_long_input_is_cut() -> None:
    sent = send(EMBED, {"input": ["a b", "a bb ccc dddd", "aaaaaaaaa"]}, _ENGINE, words)
    assert sent.body["input"] == ["a b", "x xx xxx", "aaaaaaaaa"]
    assert [call.path for call in sent.before] == ["/tokenize", "/detokenize", "/tokenize"]


@pytest.mark.parametrize(
    ("engine", "extra"),
    [
        (_ENGINE, {"truncate": False}),
        (llama(context_length=5), {}),
        (llama(has_templates=True), {}),
    ],
)
def test_long_input_stays(engine: Any, extra: Any) -> None:
    assert send(EMBED, {"input": "a b c d e f", **extra}, engine).body["input"] == ["a b c d e f"]


def test_calls_are_few() -> None:
    sent = send(EMBED, {"input": ["a b c d e f"] * 100}, _ENGINE, words)
    assert len(sent.before) == 64
    assert len(sent.body["input"]) == 100


def test_node_that_does_not_count() -> None:
    sent = send(EMBED, {"input": ["a b c d e f"] * 2}, _ENGINE, lambda *_: (404, b""))
    assert len(sent.before) == 1
    assert sent.body["input"] == ["a b c d e f"] * 2


@pytest.mark.parametrize(
    ("body", "texts", "is_base64"),
    [
        ({"input": ""}, [""], False),
        ({"input": "x", "encoding_format": "FLOAT"}, ["x"], False),
        ({"input": ["x"], "encoding_format": "Base64", "dimensions": 3}, ["x"], True),
    ],
)
def test_compatible_route(body: Any, texts: list[str], is_base64: bool) -> None:
    sent = send(V1_EMBEDDINGS, body)
    assert (sent.body["input"], sent.body["encoding_format"]) == (texts, "float")
    assert sent.asked.is_base64 is is_base64
    assert sent.asked.dimensions == body.get("dimensions", 0)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "invalid input"),
        ({"input": None}, "invalid input"),
        ({"input": []}, "invalid input"),
        ({"input": [1]}, "invalid input type"),
        (
            {"input": "x", "encoding_format": "hex"},
            "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64'].",
        ),
    ],
)
def test_compatible_route_refuses(body: Any, text: str) -> None:
    assert refused(V1_EMBEDDINGS, body) == (400, text)
