"""Models of servers other than Ollama: equality, `/api/show`, and what translations are told."""

from __future__ import annotations

import json
from typing import Any

from sollold.core.model import (
    Digest,
    EngineModel,
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
from sollold.wire.catalogue import merge, preferred_digests
from sollold.wire.engines import engine_for
from sollold.wire.equality import Equality
from sollold.wire.show import show
from sollold.wire.translate.seam import Engine

REAL, NEWER, MADE, OTHER = (Digest(letter * 64) for letter in "abcd")
ENGINE = EngineModel(
    name="Qwen/Qwen2.5-7B",
    context_length=4096,
    train_context_length=32768,
    parameter_count=7_615_616_512,
    embedding_length=3584,
    vocabulary_length=152_064,
    template="{{ <a> }}",
)


def key(name: str) -> ModelKey:
    found = key_of(name)
    assert found is not None
    return found


def model(name: str, digest: Digest, **fields: Any) -> ModelView:
    entry = {"name": name, "model": name, "digest": digest, "size": 5, "modified_at": "t"}
    fields.setdefault("modified_at", "2025-01-01T00:00:00Z")
    fields.setdefault("entry", entry)
    return ModelView(key=key(name), name=name, digest=digest, size_bytes=5, **fields)


def foreign(name: str, digest: Digest = MADE, *, is_same: bool = False, **fields: Any) -> ModelView:
    engine = EngineModel(name=f"engine/{name}", is_same_as_ollama=is_same)
    return model(name, digest, engine=engine, is_synthetic=True, **fields)


def node(
    name: str,
    *models: ModelView,
    kind: NodeKind = NodeKind.OLLAMA,
    state: NodeState = NodeState.UP,
    residents: tuple[ResidentView, ...] = (),
) -> NodeView:
    return NodeView(
        id=NodeId(name),
        kind=kind,
        url="",
        host="",
        port=1,
        state=state,
        reason=None,
        since_s=0.0,
        found_by=(),
        models={view.key: view for view in models},
        residents=residents,
    )


def llama(name: str, *models: ModelView, **fields: Any) -> NodeView:
    return node(name, *models, kind=NodeKind.LLAMA_SERVER, **fields)


def resident(name: str, digest: Digest = MADE) -> ResidentView:
    return ResidentView(
        key=key(name),
        digest=digest,
        context_length=1,
        expires_at="",
        size_bytes=0,
        size_vram_bytes=0,
        entry={"digest": digest, "size": 1},
    )


def digests(*nodes: NodeView) -> list[Digest]:
    return [view.models[key("m")].digest for view in Equality().apply(nodes)]


def test_without_a_word_nothing_is_equal_and_nothing_is_copied() -> None:
    nodes = (node("o", model("m", REAL)), llama("l", foreign("m")))
    assert all(a is b for a, b in zip(Equality().apply(nodes), nodes, strict=True))


def test_what_is_declared_equal_takes_part_under_ollamas_digest() -> None:
    real = model("m", REAL)
    served = llama(
        "l", foreign("m", is_same=True), foreign("x"), residents=(resident("m"), resident("x"))
    )
    first, second = Equality().apply((node("o", real), served))
    taken = second.models[key("m")]
    assert taken.digest == REAL
    assert not taken.is_synthetic
    assert taken.entry is real.entry
    assert taken.engine is not None
    assert taken.engine.name == "engine/m"
    assert second.models[key("x")].digest == MADE
    assert [(item.digest, item.entry["digest"]) for item in second.residents] == [
        (REAL, REAL),
        (MADE, MADE),
    ]
    (listed, _) = merge(Fleet(1, (first, second)))
    assert (listed.view.digest, listed.nodes) == (REAL, ("o", "l"))


def test_it_follows_what_the_name_stands_for() -> None:
    newer = model("m", NEWER, modified_at="2026-01-01T00:00:00Z")
    same = llama("l", foreign("m", is_same=True))
    old = node("o", model("m", REAL))
    assert digests(old, node("n", newer), same)[-1] == NEWER
    assert digests(old, node("n", newer, state=NodeState.DOWN), same)[-1] == REAL
    assert digests(node("n", newer, state=NodeState.DOWN), same)[-1] == NEWER


def test_without_an_ollama_those_declared_equal_are_equal_among_themselves() -> None:
    one = llama("l1", foreign("m", MADE, is_same=True), residents=(resident("m"),))
    two = node("l2", foreign("m", OTHER, is_same=True), kind=NodeKind.OPENAI)
    stub = node("o", model("m", REAL, is_remote=True))
    plain = llama("l3", foreign("m", MADE))
    _, first, second, third = digests(stub, one, two, plain)
    assert first == second
    assert first not in {MADE, OTHER, REAL}
    assert third == MADE
    views = Equality().apply((one,))
    assert views[0].models[key("m")].entry["digest"] == first
    assert views[0].models[key("m")].is_synthetic


def test_an_unchanged_view_stays_the_same_object() -> None:
    equality = Equality()
    same, other = llama("l", foreign("m", is_same=True)), node("x", model("y", OTHER))
    nodes = (node("o", model("m", REAL)), same)
    first = equality.apply(nodes)[1]
    assert equality.apply((*nodes, other))[1] is first
    changed = equality.apply((node("o", model("m", NEWER)), same))[1]
    assert changed is not first
    assert changed.models[key("m")].digest == NEWER
    assert equality.apply((other,)) == (other,)
    again = equality.apply(nodes)[1]
    assert again == first
    assert again is not first


def test_a_name_stands_for_ollamas_model_before_anybody_elses() -> None:
    late = "2030-01-01T00:00:00Z"
    other = llama("l", foreign("m", modified_at=late))
    stub = node("s", model("m", OTHER, is_remote=True, modified_at=late))
    down = node("o", model("m", REAL), state=NodeState.DOWN)
    for nodes in ((other, stub, down), (down, stub, other)):
        assert preferred_digests(Fleet(1, nodes)) == {key("m"): REAL}
    assert preferred_digests(Fleet(1, (stub, other))) == {key("m"): MADE}


def test_show_says_what_is_known() -> None:
    details = {"format": "gguf", "family": "", "context_length": 4096, "embedding_length": 1}
    view = model(
        "m",
        MADE,
        entry={"details": details},
        capabilities=frozenset({"thinking", "completion", "odd"}),
    )
    shown = show(view, ENGINE)
    assert b"\\u003ca\\u003e" in shown
    assert json.loads(shown) == {
        "modelfile": "# This model runs on another server than Ollama; there it is called:\n"
        "# Qwen/Qwen2.5-7B\n",
        "parameters": "",
        "template": "{{ <a> }}",
        "details": {"format": "gguf", "family": ""},
        "model_info": {
            "general.architecture": "unknown",
            "general.parameter_count": 7_615_616_512,
            "unknown.context_length": 4096,
            "unknown.embedding_length": 3584,
            "unknown.vocab_size": 152_064,
        },
        "capabilities": ["completion", "thinking", "odd"],
        "modified_at": "2025-01-01T00:00:00Z",
    }


def test_show_leaves_out_what_is_not_known() -> None:
    shown = json.loads(show(model("m", MADE, modified_at=""), EngineModel(name="a\nFROM b")))
    assert "capabilities" not in shown
    assert shown["details"] == {}
    assert shown["model_info"] == {"general.architecture": "unknown"}
    assert shown["modified_at"] == "0001-01-01T00:00:00Z"
    assert "\nFROM" not in shown["modelfile"]


def test_what_a_translation_is_told() -> None:
    view = model("m", MADE, engine=ENGINE, capabilities=frozenset({"completion"}))
    assert engine_for(llama("l", view), key("m")) == Engine(
        kind=NodeKind.LLAMA_SERVER,
        model="Qwen/Qwen2.5-7B",
        context_length=4096,
        capabilities=frozenset({"completion"}),
        has_templates=True,
    )
    cloud = engine_for(node("c", view, kind=NodeKind.OPENAI), key("m"))
    assert cloud is not None
    assert not cloud.has_templates
    assert engine_for(None, key("m")) is None
    assert engine_for(llama("l"), key("m")) is None
    assert engine_for(node("o", model("m", REAL)), key("m")) is None
