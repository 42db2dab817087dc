"""Embeddings on the three routes."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest

from sollold.core.model import NodeKind
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.reply_errors import MAX_ERROR_BYTES
from sollold.wire.translate.reply_source import HEAVY_BYTES
from tests.unit.wire.translate.replying import (
    EMBED_PATH,
    JSON,
    Hands,
    Read,
    Reply,
    read,
    reader,
    whole,
)

_EMBED = InferenceRoute.API_EMBED
_LEGACY = InferenceRoute.API_EMBEDDINGS
_V1 = InferenceRoute.V1_EMBEDDINGS


def _read(reply: Reply, route: InferenceRoute = _EMBED, **fields: Any) -> Read:
    return read(reader(route, path=EMBED_PATH, is_stream=False, **fields), reply)


def _reply(*vectors: object, **more: object) -> Reply:
    data = [{"embedding": vector, "index": place} for place, vector in enumerate(vectors)]
    return whole({"data": data, "usage": {"prompt_tokens": 5}, **more})


def _packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def test_vectors_get_unit_length() -> None:
    out = _read(_reply([3, 4.0], [0, 0], [0.6, 0.8], []), hands=Hands(step_ns=5))
    assert out.head == (200, JSON)
    assert out.document == {
        "model": "tiny",
        "embeddings": [[0.6, 0.8], [0, 0], [0.6, 0.8], []],
        "total_duration": 10,
        "load_duration": 5,
        "prompt_eval_count": 5,
    }


@pytest.mark.parametrize("dimensions", [0, 2, 3, 9])
def test_dimensions_are_cut_and_the_rest_gets_unit_length(dimensions: int) -> None:
    (vector,) = _read(_reply([3, 4, 12]), dimensions=dimensions).document["embeddings"]
    assert len(vector) == min(dimensions or 3, 3)
    assert math.hypot(*vector) == pytest.approx(1)


@pytest.mark.parametrize(
    ("indexes", "wanted"),
    [
        ([2, 0, 1], [2.0, 3.0, 1.0]),
        ([0, None, 1], [1.0, 2.0, 3.0]),
        ([0, True, 1], [1.0, 2.0, 3.0]),
        (["0", [], {}], [1.0, 2.0, 3.0]),
    ],
)
def test_order(indexes: list[object], wanted: list[float]) -> None:
    data = [
        {"embedding": [float(number), 0.0], "index": index}
        for number, index in enumerate(indexes, 1)
    ]
    # The legacy route does not change lengths, so the numbers tell who is who.
    first = _read(whole({"data": data}), _LEGACY).document["embedding"]
    assert first == [wanted[0], 0]
    assert len(_read(whole({"data": data})).document["embeddings"]) == 3


def test_the_old_route_has_one_vector_as_it_came() -> None:
    assert _read(_reply([3, 4]), _LEGACY).body == b'{"embedding":[3.0,4.0]}'
    assert _read(_reply(), _LEGACY).body == b'{"embedding":[]}'


def test_the_v1_route() -> None:
    out = _read(_reply([3, 4]), _V1)
    assert out.head == (200, "application/json")
    assert out.body.endswith(b"}\n")
    assert out.document == {
        "object": "list",
        "data": [{"object": "embedding", "embedding": [0.6, 0.8], "index": 0}],
        "model": "tiny",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }


@pytest.mark.parametrize("vector", [[3.0, 4.0], _packed(3, 4)])
def test_base64_both_ways(vector: object) -> None:
    data = _read(_reply(vector), _V1, is_base64=True).document["data"]
    assert data[0]["embedding"] == _packed(0.6, 0.8)
    assert _read(_reply(vector)).document["embeddings"][0] == pytest.approx([0.6, 0.8])


def test_an_openai_servers_reply_of_a_native_request() -> None:
    assert _read(_reply([3, 4]), kind=NodeKind.OPENAI).document["embeddings"] == [[0.6, 0.8]]


@pytest.mark.parametrize("usage", [None, 3, {}, {"prompt_tokens": "x"}])
def test_counts_that_are_none_are_left_out(usage: object) -> None:
    assert "prompt_eval_count" not in _read(_reply([1], usage=usage)).document


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, JSON, b"{"),
        whole([]),
        whole({}),
        whole({"data": 3}),
        whole({"data": [{"index": 0}]}),
        _reply(["x"]),
        _reply([None]),
        _reply([[1.0]]),
        _reply("x"),
        _reply("eHg="),
        _reply(_packed(math.nan)),
        _reply(_packed(math.inf)),
        _reply("\u00e9"),
        Reply(200, JSON, b'{"data":[{"embedding":[1e999]}]}'),
    ],
)
def test_what_cannot_be_read_is_the_nodes_failure(reply: Reply) -> None:
    assert _read(reply) == ((502, JSON), b'{"error":"the node\'s answer cannot be read"}')


def test_many_numbers_are_printed_elsewhere() -> None:
    subject = reader(_EMBED, path=EMBED_PATH, is_stream=False)
    subject.begin(200, JSON)
    subject.feed(b"x" * HEAVY_BYTES)
    found = [subject.is_heavy]
    subject.feed(b"x")
    assert [*found, subject.is_heavy, subject.is_spoiled] == [False, True, False]


def test_too_few_vectors_are_no_answer() -> None:
    assert _read(_reply([1.0]), input_count=2).head.status == 502
    assert _read(_reply([1.0], [1.0]), input_count=2).head.status == 200


def test_numbers_that_no_float_holds() -> None:
    huge = Reply(200, JSON, b'{"data":[{"embedding":[1e300]}]}')
    assert _read(huge).document["embeddings"] == [[1.0]]
    assert _read(Reply(200, JSON, b'{"data":[{"embedding":[1e308,1e308]}]}')).head.status == 200


def test_errors() -> None:
    loading = {"error": {"code": 503, "message": "Loading model"}}
    assert _read(whole(loading, 503)) == ((503, JSON), b'{"error":"Loading model"}')
    assert _read(whole(loading)).head.status == 503
    out = _read(whole(loading, 503), _V1)
    assert out.document["error"]["type"] == "api_error"
    body = b'{"error":"' + b"x" * MAX_ERROR_BYTES
    assert _read(Reply(500, JSON, body)).head.status == 500


def test_a_body_has_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sollold.wire.translate.reply_source.Body.__init__.__defaults__", (9,))
    assert _read(_reply([1.0])).document == {"error": "the node's answer is too long"}
