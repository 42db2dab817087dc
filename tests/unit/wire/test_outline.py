"""Long bodies: walked over in little memory, and understood as short ones are."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from sollold.wire.peek import BRIEF_BYTES, BodyProblem, InferenceRoute, Peek, peek

if TYPE_CHECKING:
    from collections.abc import Callable

KIB = 1024
MIB = 1024 * KIB
LONG = 16 * MIB
TEXT = "x" * LONG
PAD = "A" * BRIEF_BYTES
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PARTS = [
    {"type": "text", "text": "hi"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TEXT}"}},
]
_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE
_EMBED = InferenceRoute.API_EMBED
_EMBEDDINGS = InferenceRoute.API_EMBEDDINGS
_V1_CHAT = InferenceRoute.V1_CHAT
_V1_COMPLETIONS = InferenceRoute.V1_COMPLETIONS
_V1_EMBEDDINGS = InferenceRoute.V1_EMBEDDINGS


def _traced(work: Callable[[], Peek]) -> tuple[Peek, int]:
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


LONG_BODIES: list[tuple[InferenceRoute, dict[str, Any], int]] = [
    (_CHAT, {"model": "m", "messages": [{"role": "user", "content": TEXT}]}, LONG),
    (
        _CHAT,
        {"model": "m", "messages": [{"role": "user", "content": "hi", "images": [TEXT]}]},
        2,
    ),
    (_CHAT, CHAT | {"unknown": TEXT}, 2),
    (_GENERATE, {"model": "m", "prompt": TEXT, "system": TEXT}, 2 * LONG),
    (_GENERATE, {"model": "m", "prompt": "hi", "images": [TEXT]}, 2),
    (_GENERATE, {"Model": "m", "PROMPT": TEXT}, LONG),
    (_EMBED, {"model": "m", "input": TEXT}, LONG),
    (_EMBED, {"model": "m", "input": [TEXT, "", TEXT]}, 2 * LONG),
    (_EMBEDDINGS, {"model": "m", "prompt": TEXT}, LONG),
    (_V1_CHAT, {"model": "m", "messages": [{"role": "user", "content": PARTS}]}, 2),
    (
        _V1_CHAT,
        {"model": "m", "messages": [{"content": [{"text": TEXT, "type": "text"}]}]},
        LONG,
    ),
    (_V1_CHAT, CHAT | {"response_format": {"type": TEXT}, "tools": [TEXT]}, 2),
    (_V1_COMPLETIONS, {"model": "m", "prompt": TEXT}, LONG),
    (_V1_EMBEDDINGS, {"model": "m", "input": [TEXT]}, LONG),
]


@pytest.mark.parametrize("number", range(len(LONG_BODIES)))
def test_a_look_at_a_long_text_takes_little_memory(number: int) -> None:
    route, document, prompt_bytes = LONG_BODIES[number]
    body = memoryview(json.dumps(document).encode())
    found, peak_bytes = _traced(lambda: peek(route, body))
    assert (found.model, found.prompt_bytes) == ("m", prompt_bytes)
    assert peak_bytes < 512 * KIB
    body.release()  # nothing of it is kept


MANY: dict[str, tuple[InferenceRoute, bytes, bytes, bytes]] = {
    "texts": (_EMBED, b'{"model":"m","input":[', b'"",', b'""]}'),
    "numbers": (_EMBED, b'{"model":"m","input":[', b"0,", b"0]}"),
    "messages": (_CHAT, b'{"model":"m","messages":[', b'{"role":"user"},', b"{}]}"),
    "images": (_GENERATE, b'{"model":"m","prompt":"x","images":[', b'"",', b'""]}'),
    "parts": (_V1_CHAT, b'{"model":"m","messages":[{"content":[', b"{},", b"{}]}]}"),
    "odd-case": (_CHAT, b'{"Model":"m","MESSAGES":[', b'{"Content":"a"},', b"{}]}"),
    "late-name": (_CHAT, b'{"messages":[', b'{"role":"user"},', b'{}],"MODEL":"m"}'),
    "newlines": (_GENERATE, b'{"model":"m","prompt":"', b"\\n", b'"}'),
    "backslashes": (_GENERATE, b'{"model":"m","prompt":"', b"\\\\", b'"}'),
    "thoughts": (_CHAT, b'{"model":"m","think":[', b"{},", b"{}]}"),
    "brackets": (_CHAT, b'{"model":"m","think":[', b"[[[[[[[[[]]]]]]]]],", b"[]]}"),
    "spaces": (_CHAT, b'{"model":"m"', b" ", b"}"),
}


@pytest.mark.parametrize("name", MANY)
def test_a_look_at_many_small_things_takes_little_memory(name: str) -> None:
    route, head, item, tail = MANY[name]
    body = memoryview(head + item * (6 * MIB // len(item)) + tail)
    found, peak_bytes = _traced(lambda: peek(route, body))
    assert found.model == "m"
    assert peak_bytes < 3 * MIB
    body.release()


def test_a_long_text_is_measured_like_a_short_one() -> None:
    def size(count: int) -> float:
        text = "a line\n\tand a \u00fc\n" * count
        body = json.dumps({"model": "m", "prompt": text}).encode()
        return peek(_GENERATE, body).prompt_bytes / len(text.encode())

    assert size(10) == 1.0
    assert size(100_000) == pytest.approx(size(1000), rel=0.001)
    assert size(100_000) == pytest.approx(1.0, rel=0.1)


def test_many_messages_are_measured_from_their_start() -> None:
    message = {"role": "user", "content": "ten bytes\n", "images": ["QQ=="]}
    body = json.dumps({"model": "m", "messages": [message] * 50_000}).encode()
    found = peek(_CHAT, body)
    assert found.turns == pytest.approx(50_000, rel=0.01)
    assert found.media_count == pytest.approx(50_000, rel=0.01)
    assert found.prompt_bytes == pytest.approx(500_000, rel=0.1)


def test_many_texts_are_measured_from_their_start() -> None:
    body = json.dumps({"model": "m", "input": ["ten bytes."] * 50_000}).encode()
    found = peek(_EMBED, body)
    assert found.input_count == pytest.approx(50_000, rel=0.01)
    assert found.prompt_bytes == pytest.approx(500_000, rel=0.01)


def test_a_misspelled_body_that_is_not_short_is_counted_too() -> None:
    body = json.dumps({"Model": "m", "messages": [{"content": "0123"}] * 2000}).encode()
    assert len(body) < BRIEF_BYTES
    found = peek(_CHAT, body)
    assert found.model == "m"
    assert found.turns == pytest.approx(2000, rel=0.01)


def test_what_a_long_body_asks_for_is_found_beside_its_length() -> None:
    body = {
        "pad": PAD,
        "MODEL": "m",
        "messages": [{"role": "system", "content": "Be kind."}, *CHAT["messages"], {}],
        "options": {"stop": [PAD], "num_ctx": 4096, "num_predict": 5, "x": {"num_gpu": 1}},
        "tools": [{"x": PAD}],
        "format": {"properties": PAD},
        "think": "high",
        "shift": False,
        "keep_alive": 0,
        "stream": False,
    }
    assert peek(_CHAT, json.dumps(body).encode()) == Peek(
        model="m",
        stream=False,
        options=(("num_ctx", 4096), ("shift", False)),
        prompt_bytes=10,
        tool_bytes=len(json.dumps(body["tools"])),
        turns=3,
        has_tools=True,
        has_format=True,
        wants_thinking=True,
        num_predict=5,
        first_text=b'"Be kind.""hi"',
    )


def test_a_long_format_keeps_its_kind() -> None:
    schema = {"type": "json_schema", "json_schema": {"type": "text", "x": PAD}}
    found = peek(_V1_CHAT, json.dumps(CHAT | {"response_format": schema}).encode())
    assert found.has_format
    assert peek(_CHAT, json.dumps(CHAT | {"format": PAD}).encode()).has_format


def test_a_conversation_that_grows_long_begins_as_it_did() -> None:
    for text in ("Grüße \U0001f600\n" * 700, "\u00fc" * 5000, "q" * 9000, "\n" * 9000):
        messages = [{"role": "system", "content": text}, {"role": "user", "content": text}]
        for ascii_only in (True, False):
            heads = {
                peek(
                    route,
                    json.dumps({"model": "m", "messages": turns}, ensure_ascii=ascii_only).encode(),
                ).first_text
                for route in (_CHAT, _V1_CHAT)
                for turns in (
                    messages,
                    [*messages, {"role": "assistant", "content": PAD}, {"role": "user"}],
                )
            }
            assert len(heads) == 1
    part = {"type": "text", "text": "\u00fc" * 400}
    turns = [{"role": "user", "content": [part, part]}]
    short = peek(_V1_CHAT, json.dumps({"model": "m", "messages": turns}).encode())
    long = peek(
        _V1_CHAT, json.dumps({"model": "m", "messages": [*turns, {"content": PAD}]}).encode()
    )
    assert short.first_text == long.first_text


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_long_text_is_cut_between_characters(ascii_only: bool) -> None:
    for before in range(20):
        text = "x" * (1900 + before) + "é日\U0001f600\\\n" * 20_000
        body = json.dumps({"Model": "m", "prompt": text}, ensure_ascii=ascii_only).encode()
        assert peek(_GENERATE, body).model == "m"


def test_a_long_load_or_unload_stays_one() -> None:
    assert peek(_CHAT, json.dumps({"model": "m", "pad": PAD, "messages": []}).encode()).is_load
    body = {"model": "m", "pad": PAD, "keep_alive": 0}
    assert peek(_GENERATE, json.dumps(body).encode()).is_unload
    zeros = b'{"model":"m","keep_alive":0.%b5}' % (b"0" * BRIEF_BYTES)
    assert not peek(_GENERATE, zeros).is_unload


def test_a_null_keeps_or_takes_back_in_long_bodies_too() -> None:
    body = b'{"pad":"%b","model":"m","model":null,"prompt":"abc","prompt":null}' % PAD.encode()
    found = peek(_GENERATE, body)
    assert (found.model, found.prompt_bytes) == ("m", 3)
    body = b'{"pad":"%b","model":"m","messages":[{"content":"x"}],"messages":null}' % PAD.encode()
    found = peek(_CHAT, body)
    assert (found.prompt_bytes, found.turns, found.is_load) == (0, 0, True)


ODD = [
    (_CHAT, {"messages": [None]}, 0, 1),
    (_CHAT, {"messages": [{"content": None, "role": None, "tool_calls": [{"a": 1}]}]}, 0, 1),
    (_V1_CHAT, {"messages": [{"content": ["x", {"type": "y"}]}, {"content": 5}]}, 0, 2),
    (_V1_CHAT, {"messages": [{"content": [{"type": "text", "text": 5}]}]}, 0, 1),
    (_V1_CHAT, {"messages": [{"content": [{"type": "text", "text": "a", "x": 1}] * 20}]}, 20, 1),
    (_V1_COMPLETIONS, {"prompt": 5, "suffix": "ab"}, 2, 1),
    (_V1_COMPLETIONS, {"prompt": ["a", 5, [5], "bc"]}, 3, 1),
    (_CHAT, {"messages": [{"content": "a"}], "b\ud800": 1, "options": None}, 1, 1),
]


@pytest.mark.parametrize(("route", "fields", "prompt_bytes", "turns"), ODD)
def test_odd_values_of_long_bodies_are_passed(
    route: InferenceRoute, fields: dict[str, Any], prompt_bytes: int, turns: int
) -> None:
    body = json.dumps({"pad": PAD, "model": "m"} | fields).encode()
    found = peek(route, body)
    assert (found.model, found.prompt_bytes, found.turns) == ("m", prompt_bytes, turns)


PROBLEMS: list[tuple[InferenceRoute, bytes, str]] = [
    (_GENERATE, b'{"model":1,"prompt":"%b"}', "number into Go struct field GenerateRequest.model"),
    (
        _GENERATE,
        b'{"model":"m","prompt":["%b"]}',
        "array into Go struct field GenerateRequest.prompt",
    ),
    (_GENERATE, b'{"model":"m","prompt":{"a":"%b"}}', "object into Go struct field"),
    (
        _GENERATE,
        b'{"model":"m","images":"%b"}',
        "string into Go struct field GenerateRequest.images",
    ),
    (_CHAT, b'{"model":"m","messages":"%b"}', "string into Go struct field ChatRequest.messages"),
    (_CHAT, b'{"model":"m","messages":["%b"]}', "string into Go struct field ChatRequest.messages"),
    (_CHAT, b'["%b"]', "array into Go value of type api.ChatRequest"),
    (_CHAT, b'{"model":"m","x":"%b"', "unexpected EOF"),
    (_CHAT, b'{"model":"m","x":"%b":1}', "no JSON from byte"),
    (_CHAT, b'{"model":"m",5:"%b"}', "no JSON from byte 13 on"),
    (_CHAT, b"%b", "no JSON from byte 0 on"),
]


@pytest.mark.parametrize(("route", "body", "text"), PROBLEMS)
def test_faults_of_long_bodies_are_named(route: InferenceRoute, body: bytes, text: str) -> None:
    with pytest.raises(BodyProblem, match=text):
        peek(route, body % PAD.encode())


def test_nothing_but_white_space_is_an_empty_body_however_long() -> None:
    with pytest.raises(BodyProblem) as caught:
        peek(_CHAT, b" " * (BRIEF_BYTES + 1))
    assert caught.value.kind == "empty"


@pytest.mark.parametrize("member", [b',"a":0', b',"model":"%b"' % (b"m" * 2000)])
def test_more_members_than_any_request_has_are_refused(member: bytes) -> None:
    body = b'{"model":"m"' + member * 100_000 + b"}"

    def look() -> Peek:
        with pytest.raises(BodyProblem, match="too long for the number of its fields"):
            peek(_CHAT, body)
        return Peek(model="", stream=False)

    assert _traced(look)[1] < MIB


def test_a_long_body_without_a_model_is_understood_all_the_same() -> None:
    found = peek(_GENERATE, json.dumps({"prompt": TEXT}).encode())
    assert (found.model, found.prompt_bytes) == ("", LONG)
