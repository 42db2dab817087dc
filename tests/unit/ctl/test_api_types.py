from __future__ import annotations

import json

import msgspec
import pytest

from sollold.api_types import (
    ErrorBody,
    ErrorDocument,
    EventLine,
    EventsDocument,
    Node,
    NodeDocument,
    NodesDocument,
    RequestsDocument,
    StatusDocument,
    decode,
    encode,
)
from sollold.events.ring import Origin, Record, gap_json
from sollold.events.types import NodeLeft
from tests.unit.ctl.documents import (
    AT,
    CONFIG,
    DEGRADED,
    HEALTHY,
    LOADED,
    MODEL_LLAMA,
    MODELS,
    NODE_GPU_2,
    NODES,
    REQUESTS,
)

DOCUMENTS = [
    HEALTHY,
    DEGRADED,
    NODES,
    NODE_GPU_2,
    REQUESTS,
    MODELS,
    MODEL_LLAMA,
    LOADED,
    CONFIG,
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_survives_the_way_to_the_reader(document: msgspec.Struct) -> None:
    assert decode(encode(document), type(document)) == document


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_names_its_schema_and_time_first(document: msgspec.Struct) -> None:
    raw = json.loads(encode(document))

    assert list(raw)[:2] == ["schema", "at"]
    assert raw["schema"].startswith("sollold.")


def test_one_document_is_not_taken_for_another() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(encode(NODES), RequestsDocument)
    with pytest.raises(msgspec.ValidationError):
        decode(encode(NODE_GPU_2), StatusDocument)


def test_fields_of_a_later_daemon_are_skipped() -> None:
    raw = json.loads(encode(NODES)) | {"new": 1}
    raw["nodes"][0]["newer"] = [{}]

    assert decode(json.dumps(raw), NodesDocument) == NODES


def test_whole_numbers_will_do_for_durations() -> None:
    node = decode(
        '{"name":"n","id":"n","state":"up","kind":"ollama","url":"u","first_token_ms":84}', Node
    )
    assert node.first_token_ms == 84


def test_what_is_not_known_is_null_and_never_zero() -> None:
    node = Node(name="n", id="n", state="unknown", kind="ollama", url="http://n:11434")

    raw = json.loads(encode(NodeDocument(at=AT, node=node)))["node"]

    known = {"name", "id", "state", "kind", "url", "found_by"}
    assert {key for key, value in raw.items() if value is not None} == known


def test_events_go_into_their_document_as_they_are() -> None:
    origin = Origin(instance_id="i", hostname="h", pid=1)
    record = Record(1, 0.0, NodeLeft(reason="gone", node="pi-5"), origin)

    body = encode(EventsDocument(at=AT, events=(msgspec.Raw(record.json()),)))

    assert json.loads(body)["events"] == [json.loads(record.json())]
    line = decode(record.json(), EventLine)
    assert (line.kind, line.text, line.seq) == ("node", "pi-5 left: gone", 1)
    assert decode(gap_json(3, 0.0), EventLine).kind == "gap"


def test_an_error_has_code_message_and_hint() -> None:
    document = ErrorDocument(
        error=ErrorBody(code="node_not_found", message="no node 'x'", hint="did you mean 'y'?")
    )

    assert json.loads(encode(document)) == {
        "schema": "sollold.error/1",
        "error": {
            "code": "node_not_found",
            "message": "no node 'x'",
            "hint": "did you mean 'y'?",
        },
    }
    assert decode(encode(document), ErrorDocument) == document
