"""Lists of all nodes are merged into what one Ollama would say."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.core.model import (
    Digest,
    Fleet,
    ModelKey,
    ModelView,
    NodeId,
    NodeKind,
    NodeState,
    NodeView,
    ResidentView,
)
from sollold.core.names import key_of
from sollold.wire.catalogue import (
    lowest_version,
    merge,
    preferred_digests,
    ps,
    tags,
    v1_models,
    version,
)

_A, _B, _C = (Digest(letter * 64) for letter in "abc")
_OLD, _NEW = "2025-01-01T10:00:00.123456789+02:00", "2025-01-01T08:00:00.123456790Z"
_DETAILS = {"family": "llama"}


def _key(name: str) -> ModelKey:
    key = key_of(name)
    assert key is not None
    return key


def _model(
    name: str, digest: Digest = _A, modified_at: str = _OLD, *, is_remote: bool = False
) -> ModelView:
    entry: dict[str, object] = {
        "name": name,
        "model": name,
        "modified_at": modified_at,
        "size": 5,
        "digest": digest,
        "details": _DETAILS,
        "capabilities": ["completion"],
    }
    return ModelView(
        key=_key(name),
        name=name,
        digest=digest,
        size_bytes=5,
        modified_at=modified_at,
        is_remote=is_remote,
        entry=entry,
    )


def _resident(name: str, expires_at: str, entry: dict[str, object] | None = None) -> ResidentView:
    return ResidentView(
        key=_key(name),
        digest=_A,
        context_length=4096,
        expires_at=expires_at,
        size_bytes=7,
        size_vram_bytes=6,
        entry=entry or {},
    )


def _node(
    name: str,
    *models: ModelView,
    state: NodeState = NodeState.UP,
    kind: NodeKind = NodeKind.OLLAMA,
    residents: tuple[ResidentView, ...] = (),
    version: str | None = None,
) -> NodeView:
    return NodeView(
        id=NodeId(name),
        kind=kind,
        url=f"http://{name}",
        host=name,
        port=11434,
        state=state,
        reason=None,
        since_s=0.0,
        found_by=(),
        version=version,
        models={model.key: model for model in models},
        residents=residents,
    )


def _fleet(*nodes: NodeView) -> Fleet:
    return Fleet(1, nodes)


def _tags(*nodes: NodeView) -> list[dict[str, Any]]:
    found = json.loads(tags(_fleet(*nodes)))["models"]
    assert isinstance(found, list)
    return found


# Tags ---------------------------------------------------------------------------------------------


def test_no_models() -> None:
    assert tags(_fleet()) == b'{"models":[]}'
    assert v1_models(_fleet()) == b'{"object":"list","data":[]}\n'
    assert ps(_fleet()) == b'{"models":[]}'
    assert preferred_digests(_fleet()) == {}


def test_the_same_model_on_two_nodes_is_one_entry_with_the_newest_time() -> None:
    entries = _tags(_node("n1", _model("m:8b")), _node("n2", _model("m:8b", modified_at=_NEW)))
    assert entries == [
        {
            "name": "m:8b",
            "model": "m:8b",
            "modified_at": _NEW,
            "size": 5,
            "digest": _A,
            "details": _DETAILS,
            "capabilities": ["completion"],
            "nodes": ["n1", "n2"],
        }
    ]


def test_an_element_keeps_its_order_and_escapes() -> None:
    body = tags(_fleet(_node("<n>", _model("m:8b"))))
    assert body.startswith(b'{"models":[{"name":"m:8b","model":"m:8b","modified_at":"2025-')
    assert body.endswith(b'"capabilities":["completion"],"nodes":["\\u003cn\\u003e"]}]}')


def test_names_that_differ_in_case_only_are_one() -> None:
    assert len(_tags(_node("n1", _model("M:8B")), _node("n2", _model("m:8b")))) == 1


def test_of_different_digests_the_most_recent_is_listed_with_its_holders() -> None:
    fleet = _fleet(
        _node("n1", _model("m:8b", _A, _OLD)),
        _node("n2", _model("m:8b", _B, _NEW)),
        _node("n3", _model("m:8b", _B, _OLD)),
    )
    entry = json.loads(tags(fleet))["models"][0]
    assert (entry["digest"], entry["modified_at"], entry["nodes"]) == (_B, _NEW, ["n2", "n3"])
    assert preferred_digests(fleet) == {_key("m:8b"): _B}


def test_what_absent_nodes_hold_is_listed_but_does_not_win() -> None:
    down = _node("down", _model("m:8b", _B, _NEW), _model("only:1b", _C), state=NodeState.DOWN)
    fleet = _fleet(down, _node("up", _model("m:8b", _A, _OLD)))
    entries = {entry["name"]: entry for entry in json.loads(tags(fleet))["models"]}
    assert (entries["m:8b"]["digest"], entries["m:8b"]["nodes"]) == (_A, ["up"])
    assert (entries["only:1b"]["digest"], entries["only:1b"]["nodes"]) == (_C, ["down"])
    assert preferred_digests(fleet) == {_key("m:8b"): _A, _key("only:1b"): _C}


def test_absent_holders_of_the_listed_digest_are_named_too() -> None:
    down = _node("down", _model("m:8b", _A, _NEW), state=NodeState.DOWN)
    assert _tags(down, _node("up", _model("m:8b", _A, _OLD)))[0]["nodes"] == ["down", "up"]


@pytest.mark.parametrize("state", [NodeState.UP, NodeState.DOWN])
def test_a_real_copy_drops_remote_stubs(state: NodeState) -> None:
    stub = _node("stub", _model("m:8b", _B, _NEW, is_remote=True))
    fleet = _fleet(stub, _node("real", _model("m:8b", _A, _OLD), state=state))
    entry = json.loads(tags(fleet))["models"][0]
    assert (entry["digest"], entry["nodes"]) == (_A, ["real"])
    assert preferred_digests(fleet) == {_key("m:8b"): _A}
    assert _tags(stub)[0]["nodes"] == ["stub"]


def test_newest_come_first_and_equal_ones_by_name() -> None:
    entries = _tags(
        _node("n1", _model("b:1"), _model("a:1"), _model("c:1", modified_at=_NEW)),
    )
    assert [entry["name"] for entry in entries] == ["c:1", "a:1", "b:1"]


def test_a_node_that_says_little_is_filled_in() -> None:
    bare = ModelView(
        key=_key("hf.co/o/r"), name="hf.co/o/r", digest=_A, size_bytes=0, modified_at=""
    )
    odd = ModelView(key=_key("x"), name="!x", digest=_A, size_bytes=0, modified_at="soon")
    details = {
        "parent_model": "",
        "format": "",
        "family": "",
        "families": None,
        "parameter_size": "",
        "quantization_level": "",
    }
    entries = _tags(_node("n1", bare, odd))
    assert entries[0] == {
        "name": "hf.co/o/r:latest",
        "model": "hf.co/o/r:latest",
        "modified_at": "0001-01-01T00:00:00Z",
        "size": 0,
        "digest": _A,
        "details": details,
        "nodes": ["n1"],
    }
    assert (entries[1]["name"], entries[1]["modified_at"]) == ("!x", "soon")


_VIEWS = st.builds(
    lambda name, digest, at, remote: _model(name, digest, at, is_remote=remote),
    st.sampled_from(["m:1", "M:1", "n:2"]),
    st.sampled_from([_A, _B, _C]),
    st.sampled_from([_OLD, _NEW, "2024-05-05T05:05:05Z"]),
    st.booleans(),
)
_NODES = st.lists(
    st.tuples(st.lists(_VIEWS, max_size=3), st.sampled_from([NodeState.UP, NodeState.DOWN])),
    max_size=4,
)


@given(_NODES)
def test_lists_and_routing_agree_in_any_order_of_nodes(
    specs: list[tuple[list[ModelView], NodeState]],
) -> None:
    nodes = [_node(f"n{i}", *views, state=state) for i, (views, state) in enumerate(specs)]
    expected = preferred_digests(_fleet(*nodes))
    for order in list(permutations(nodes))[:6]:
        fleet = _fleet(*order)
        assert preferred_digests(fleet) == expected
        assert {item.view.key: item.view.digest for item in merge(fleet)} == expected
        for item in merge(fleet):
            holders = {n.id for n in nodes if _holds(n, item.view)}
            assert set(item.nodes) == holders
            assert len(item.nodes) == len(holders)


def _holds(node: NodeView, listed: ModelView) -> bool:
    view = node.models.get(listed.key)
    return view is not None and view.digest == listed.digest and view.is_remote == listed.is_remote


# Other lists --------------------------------------------------------------------------------------


def test_openai_models() -> None:
    body = v1_models(_fleet(_node("n1", _model("User/M:8b", modified_at="2025-01-01T00:00:00.9Z"))))
    assert json.loads(body) == {
        "object": "list",
        "data": [{"id": "User/M:8b", "object": "model", "created": 1735689600, "owned_by": "user"}],
    }
    assert body.endswith(b"}\n")


def test_openai_models_have_short_names() -> None:
    body = v1_models(_fleet(_node("n1", _model("library/m"), _model("n:8b"))))
    cards = json.loads(body)["data"]
    assert [(card["id"], card["owned_by"]) for card in cards] == [
        ("m:latest", "library"),
        ("n:8b", "library"),
    ]


def test_loaded_models_are_one_row_per_node_and_model() -> None:
    soon, late = "2025-01-01T10:00:00Z", "2317-01-01T10:00:00.5+02:00"
    full: dict[str, object] = {
        "name": "m:8b",
        "model": "m:8b",
        "size": 1,
        "digest": _A,
        "details": _DETAILS,
        "expires_at": soon,
        "size_vram": 1,
        "context_length": 4096,
    }
    fleet = _fleet(
        _node("n1", residents=(_resident("m:8b", soon, full),)),
        _node("n2", residents=(_resident("m:8b", late), _resident("x", ""))),
        _node("n3", residents=(_resident("m:8b", late),), state=NodeState.DOWN),
        _node("n4", residents=(_resident("m:8b", late),), state=NodeState.UNKNOWN),
        _node("n5", residents=(_resident("m:8b", soon, full),), state=NodeState.DRAINING),
    )
    rows = json.loads(ps(fleet))["models"]
    assert [(row["name"], row["node"]) for row in rows] == [
        ("m:8b", "n2"),
        ("m:8b", "n1"),
        ("m:8b", "n5"),
        ("x:latest", "n2"),
    ]
    assert rows[1] == full | {"node": "n1"}
    assert {key: rows[0][key] for key in ("size", "size_vram", "digest", "context_length")} == {
        "size": 7,
        "size_vram": 6,
        "digest": _A,
        "context_length": 4096,
    }
    assert rows[3]["expires_at"] == "0001-01-01T00:00:00Z"


def test_a_resident_with_an_odd_key_is_shown_by_it() -> None:
    odd = ResidentView(
        key=ModelKey("!odd"),
        digest=_A,
        context_length=None,
        expires_at=_OLD,
        size_bytes=0,
        size_vram_bytes=0,
    )
    row = json.loads(ps(_fleet(_node("n1", residents=(odd,)))))["models"][0]
    assert (row["name"], row["context_length"]) == ("!odd", 0)


@pytest.mark.parametrize(
    ("versions", "lowest"),
    [
        ([], "0.99.0"),
        (["0.33.0"], "0.33.0"),
        (["0.33.0", "0.9.10", "0.30.1"], "0.9.10"),
        (["v0.33.0", "0.40.0"], "0.33.0"),
        (["0.33.0", "0.33.0-rc2"], "0.33.0-rc2"),
        (["0.33.0-rc2", "0.33.0-rc1+build"], "0.33.0-rc1+build"),
        (["0.0.0", "0.33.0"], "0.33.0"),
        (["0.0.0"], "0.99.0"),
        (["0.0", "nightly", "1.2"], "1.2"),
    ],
)
def test_the_lowest_version_is_told(versions: list[str], lowest: str) -> None:
    fleet = _fleet(
        *(_node(f"n{i}", version=text) for i, text in enumerate(versions)),
        _node("none"),
        _node("down", version="0.1.0", state=NodeState.DOWN),
        _node("unknown", version="0.1.0", state=NodeState.UNKNOWN),
        _node("engine", version="0.1.0", kind=NodeKind.LLAMA_SERVER),
    )
    assert lowest_version(fleet, "0.99.0") == lowest
    assert version(fleet, "0.99.0") == b'{"version":"%s"}' % lowest.encode()
