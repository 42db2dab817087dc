"""Replies of servers other than Ollama, recorded from real ones, and what is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.core.model import EngineModel
from sollold.core.names import key_of, parse
from sollold.nodes.llama_parse import facts_of, parse_models, parse_props, routed_facts
from sollold.nodes.look import (
    FOREVER,
    Facts,
    human_number,
    made_up_digest,
    model_view,
    quantization_name,
    resident_view,
)
from sollold.nodes.offer import Offer, Offered, choose, ollama_name
from sollold.nodes.openai import parse_models as parse_openai
from sollold.nodes.parse import ReplyError

REPLIES = Path(__file__).parent / "replies"


def recorded(name: str) -> bytes:
    return (REPLIES / f"{name}.json").read_bytes()


def changed(name: str, **fields: Any) -> bytes:
    return json.dumps({**json.loads(recorded(name)), **fields}).encode()


def names(listed: dict[str, tuple[str, ...]], **fields: Any) -> list[tuple[str, str]]:
    return [(one.name, one.engine_name) for one in choose(listed, Offer(**fields))]


def test_properties_of_a_real_server() -> None:
    props = parse_props(recorded("llama_props"))
    assert (props.slots, props.context_length, props.version) == (2, 2048, "b1-571d0d5")
    assert (props.alias, props.path) == ("/srv/models/chat.gguf", "/srv/models/chat.gguf")
    assert props.file_type == "Q4_K - Medium"
    assert props.modalities == frozenset()
    assert "<|im_start|>" in props.template
    assert not props.is_router
    assert not props.is_sleeping
    assert parse_props(recorded("llama_router_props")).is_router


def test_sleep_alone_is_no_change() -> None:
    awake = recorded("llama_props")
    asleep = awake.replace(b'"is_sleeping":false', b'"is_sleeping":true')
    assert parse_props(asleep).is_sleeping
    assert parse_props(asleep).mark == parse_props(awake).mark
    assert parse_props(recorded("llama_props_tools")).mark != parse_props(awake).mark


def test_the_only_model_of_a_real_server() -> None:
    (listed,) = parse_models(recorded("llama_models"))
    facts = facts_of(parse_props(recorded("llama_props")), listed, is_embedding=False)
    assert facts.engine == EngineModel(
        name="chat",
        context_length=2048,
        train_context_length=32768,
        parameter_count=268_098_176,
        embedding_length=640,
        vocabulary_length=262_144,
        template=facts.engine.template,
    )
    assert facts.aliases == ()
    assert (facts.size_bytes, facts.quantization, facts.format) == (246_587_904, "Q4_K_M", "gguf")
    assert facts.capabilities == frozenset({"completion"})
    (offered,) = choose({"chat": ()}, Offer())
    view = model_view(offered, facts, Offer())
    assert (view.name, view.digest, view.is_synthetic) == ("chat:latest", facts.digest, True)
    assert len(view.digest) == 64
    assert view.entry == {
        "name": "chat:latest",
        "model": "chat:latest",
        "modified_at": view.modified_at,
        "size": 246_587_904,
        "digest": facts.digest,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "",
            "families": None,
            "parameter_size": "268.10M",
            "quantization_level": "Q4_K_M",
            "context_length": 2048,
            "embedding_length": 640,
        },
        "capabilities": ["completion"],
    }
    resident = resident_view(view)
    assert (resident.context_length, resident.expires_at) == (2048, FOREVER)
    assert resident.entry["size"] == 246_587_904
    assert "/srv" not in json.dumps(view.entry) + str(view.engine)


def test_capabilities_as_the_server_tells_them() -> None:
    (listed,) = parse_models(recorded("llama_models"))

    def found(body: bytes, *, is_embedding: bool | None = False) -> frozenset[str] | None:
        return facts_of(parse_props(body), listed, is_embedding=is_embedding).capabilities

    assert found(recorded("llama_props_tools")) == frozenset({"completion", "tools", "thinking"})
    seeing = changed("llama_props", modalities={"vision": True, "audio": True, "video": True})
    assert found(seeing) == frozenset({"completion", "vision", "audio"})
    assert found(recorded("llama_props_embedding"), is_embedding=True) == frozenset({"embedding"})
    assert found(recorded("llama_props"), is_embedding=None) is None
    old = json.loads(recorded("llama_props_tools"))
    del old["chat_template_caps"]
    assert found(json.dumps(old).encode()) == frozenset({"completion", "tools", "thinking"})


def test_equal_facts_give_equal_digests_and_others_do_not() -> None:
    (listed,) = parse_models(recorded("llama_models"))
    (other,) = parse_models(recorded("llama_models").replace(b"268098176", b"268098177"))
    one = parse_props(recorded("llama_props"))
    moved = parse_props(recorded("llama_props").replace(b"/srv/models/", b"/home/x/"))
    renamed = parse_props(recorded("llama_props").replace(b"chat.gguf", b"tuned.gguf"))
    digest = facts_of(one, listed, is_embedding=False).digest
    assert facts_of(moved, listed, is_embedding=False).digest == digest
    assert facts_of(one, other, is_embedding=False).digest != digest
    assert facts_of(renamed, listed, is_embedding=False).digest != digest
    lines = "sollold 1\na\n1\n"
    import hashlib

    assert made_up_digest("a", 1) == hashlib.sha256(lines.encode()).hexdigest()


def test_a_real_router() -> None:
    loaded, other = parse_models(recorded("llama_router_models"))
    props = parse_props(recorded("llama_router_model_props"))
    facts = routed_facts(loaded, props)
    assert (facts.engine.name, facts.is_resident) == ("tiny-chat", True)
    assert facts.capabilities == frozenset({"completion"})
    assert facts.size_bytes == 246_587_904
    unloaded = routed_facts(other, None)
    assert (unloaded.engine.name, unloaded.is_resident) == ("tiny-embed", False)
    assert unloaded.capabilities is None
    # What it is called does not change when it is loaded.
    before = json.loads(recorded("llama_router_models"))
    before["data"][0].pop("meta")
    before["data"][0]["status"]["value"] = "unloaded"
    (then, _) = parse_models(json.dumps(before).encode())
    assert routed_facts(then, None).digest == facts.digest != unloaded.digest
    before["data"][0]["status"]["args"].append("--embeddings")
    (then, _) = parse_models(json.dumps(before).encode())
    assert routed_facts(then, None).capabilities == frozenset({"embedding"})


def test_several_aliases() -> None:
    (listed,) = parse_models(recorded("llama_models_embedding"))
    facts = facts_of(parse_props(recorded("llama_props_embedding")), listed, is_embedding=True)
    assert facts.engine.name == "emb"
    assert facts.aliases == ("emb", "tiny-embed")
    assert names({"emb": facts.aliases}) == [("emb:latest", "emb"), ("tiny-embed:latest", "emb")]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", b'{"total_slots"', b"[" * 100_000, b'{"role":"other"}']
)
def test_what_is_no_llama_server_is_told(body: bytes) -> None:
    with pytest.raises(ReplyError):
        parse_props(body)


def test_hostile_values_are_left_aside() -> None:
    body = changed(
        "llama_props",
        total_slots=10**300,
        default_generation_settings={"n_ctx": -1},
        model_alias=5,
        model_path=["x"],
        modalities="vision",
        chat_template_caps=[1],
        build_info="v" * 999,
        chat_template="t" * 10**6,
    )
    props = parse_props(body)
    assert (props.slots, props.context_length, props.alias, props.path) == (None, None, "", "")
    assert len(props.version or "") == 64
    assert len(props.template) < 300_000
    entries = [5, {"id": 5}, {"id": ""}, {"id": "m", "meta": 5, "status": [], "aliases": [1, "a"]}]
    with pytest.raises(ReplyError):
        parse_models(json.dumps({"data": entries}).encode())
    assert parse_models(b'{"data":null}') == []
    (listed,) = parse_models(json.dumps({"data": entries[1:]}).encode())
    assert (listed.name, listed.aliases, listed.is_loaded) == ("m", ("a",), True)
    facts = facts_of(parse_props(changed("llama_props", model_alias="")), listed, is_embedding=None)
    assert facts.engine.name == "m"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["data", "id", "meta", "size", "status", "args", "aliases", "created", "n_params",
             "total_slots", "default_generation_settings", "n_ctx", "modalities", "ftype",
             "architecture", "supported_parameters", "max_model_len", "object"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=12,
)  # fmt: skip


@given(_json)
def test_no_json_breaks_a_parser(value: object) -> None:
    body = json.dumps(value).encode()
    for parser in (parse_props, parse_models, parse_openai):
        try:
            parser(body)
        except ReplyError:
            continue


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("qwen", "qwen"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M"),
        ("/srv/models/My Model.gguf", "My-Model"),
        ("C:\\models\\a.GGUF", "a"),
        ("~/m/big-00001-of-00003.gguf", "big"),
        ("./x", "x"),
        ("models/a.gguf", "a"),
        ("accounts/fireworks/models/llama-v3", "models/llama-v3"),
        ("01.ai/yi 34b:free", "01-ai/yi-34b:free"),
        ("@cf/meta/llama", "meta/llama"),
        ("a:b:c", "a-b:c"),
        ("", "model"),
        ("///", "model"),
        ("…", "model"),
        ("x" * 200, "x" * 80),
    ],
)
def test_names_become_ollamas(theirs: str, ours: str) -> None:
    assert ollama_name(theirs) == ours


@given(st.text(max_size=200))
def test_every_name_becomes_a_valid_one(text: str) -> None:
    assert parse(ollama_name(text)) is not None


def test_what_is_offered() -> None:
    listed: dict[str, tuple[str, ...]] = {"Qwen/Q": (), "b": ("B", "bee")}
    assert names(listed) == [
        ("Qwen/Q:latest", "Qwen/Q"),
        ("b:latest", "b"),
        ("bee:latest", "b"),
    ]
    mapping = (("q:7b", "Qwen/Q"), ("x", "absent"), ("y", "bee"))
    assert names(listed, names=mapping) == [("q:7b", "Qwen/Q"), ("y:latest", "b")]
    assert names({"b": ()}, name="mine") == [("mine:latest", "b")]
    assert len(names(listed, name="mine")) == 3
    assert names({"b": ()}, names=(("not valid", "b"),)) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (7, "7"),
        (1500, "2K"),
        (22_000_000, "22M"),
        (268_098_176, "268.10M"),
        (8_000_000_000, "8B"),
        (7_615_616_512, "7.6B"),
    ],
)
def test_numbers_are_written_as_ollama_does(number: int, text: str) -> None:
    assert human_number(number) == text


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Q4_K - Medium", "Q4_K_M"),
        ("Q4_K - Small", "Q4_K_S"),
        ("Q3_K - Large", "Q3_K_L"),
        ("Q2_K - Medium", "Q2_K"),
        ("Q2_K - Small", "Q2_K_S"),
        ("Q6_K", "Q6_K"),
        ("IQ4_XS - 4.25 bpw", "IQ4_XS"),
        ("all F32", "F32"),
        ("Q8_0 (guessed)", "Q8_0"),
        ("MXFP4 MoE", "MXFP4"),
        ("", ""),
    ],
)
def test_quantizations_are_named_as_ollama_does(theirs: str, ours: str) -> None:
    assert quantization_name(theirs) == ours


def test_times_that_are_none() -> None:
    offered = Offered(key_of("m") or "", "m:latest", "m")  # type: ignore[arg-type]
    engine = EngineModel(name="m")
    for created_s, text in (
        (0, "0001-01-01T00:00:00Z"),
        (10**15, "0001-01-01T00:00:00Z"),
        (1_700_000_000, "2023-11-14T22:13:20Z"),
    ):
        facts = Facts(engine=engine, digest=made_up_digest("m"), created_s=created_s)
        view = model_view(offered, facts, Offer(same_as_ollama=frozenset({offered.key})))
        assert view.modified_at == text
        assert view.engine is not None
        assert view.engine.is_same_as_ollama
        assert "capabilities" not in view.entry


def test_lists_of_openai_servers() -> None:
    assert [entry["id"] for entry in parse_openai(b'{"object":"list","data":[{"id":"a"},5]}')] == [
        "a"
    ]
    assert parse_openai(b'[{"id":"a"}]') == [{"id": "a"}]
    assert parse_openai(b'{"object":"list","data":null}') == []
    for body in (b'{"data":5}', b"{}", b"5", b"", b'{"error":"x"}'):
        with pytest.raises(ReplyError):
            parse_openai(body)
