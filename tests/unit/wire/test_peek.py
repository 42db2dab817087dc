"""Bodies are understood as Ollama understands them; the tables come from its own decoder."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sollold.wire.peek import InferenceRoute, Peek, peek

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE
_EMBED = InferenceRoute.API_EMBED
_EMBEDDINGS = InferenceRoute.API_EMBEDDINGS
_SHOW = InferenceRoute.API_SHOW
_V1_CHAT = InferenceRoute.V1_CHAT
_V1_COMPLETIONS = InferenceRoute.V1_COMPLETIONS
_V1_EMBEDDINGS = InferenceRoute.V1_EMBEDDINGS

_IMAGE = base64.b64encode(bytes(range(200))).decode()


def _peek(route: InferenceRoute, body: object) -> Peek:
    return peek(route, json.dumps(body, ensure_ascii=False).encode())


def test_a_chat() -> None:
    found = _peek(
        _CHAT,
        {
            "model": "llama3.2",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Grüße", "images": [_IMAGE, _IMAGE]},
                {"role": "assistant", "content": None, "tool_calls": []},
            ],
            "tools": [{"type": "function"}],
            "format": {"type": "object"},
            "think": "high",
            "options": {"num_ctx": 8192, "num_predict": 50, "temperature": 1},
            "shift": False,
            "keep_alive": 0,
            "logprobs": True,
        },
    )
    assert found == Peek(
        model="llama3.2",
        stream=True,
        options=(("num_ctx", 8192), ("shift", False)),
        prompt_bytes=len("Be kind.") + len("Grüße".encode()),
        tool_bytes=len('[{"type": "function"}]'),
        media_count=2,
        turns=3,
        has_tools=True,
        has_format=True,
        wants_thinking=True,
        num_predict=50,
        first_text='"Be kind.""Grüße"'.encode(),
    )


def test_a_generation() -> None:
    found = _peek(
        _GENERATE,
        {
            "model": "m",
            "prompt": "def f(",
            "suffix": "return x",
            "system": "Code.",
            "images": [_IMAGE],
            "stream": False,
            "think": False,
            "format": "json",
            "context": [1, 2, 3],
            "raw": False,
        },
    )
    assert found == Peek(
        model="m",
        stream=False,
        prompt_bytes=6 + 8 + 5,
        media_count=1,
        turns=1,
        has_format=True,
        wants_thinking=False,
        first_text=b'"Code.""def f("',
    )


def test_embeddings_of_every_route() -> None:
    many = _peek(_EMBED, {"model": "m", "input": ["a", "bc"], "options": {"num_ctx": 512}})
    assert many == Peek(
        model="m", stream=False, options=(("num_ctx", 512),), prompt_bytes=3, input_count=2
    )
    one = Peek(model="m", stream=False, prompt_bytes=2, input_count=1)
    assert _peek(_EMBED, {"model": "m", "input": "ab"}) == one
    assert _peek(_EMBEDDINGS, {"model": "m", "prompt": "ab"}) == one
    assert _peek(_V1_EMBEDDINGS, {"model": "m", "input": "ab"}) == one
    assert _peek(_V1_EMBEDDINGS, {"model": "m", "input": [1, 2, "ab"]}).input_count == 3


def test_a_question_about_a_model() -> None:
    assert _peek(_SHOW, {"model": "m", "verbose": True}) == Peek(
        model="m", stream=False, verbose=True
    )
    assert _peek(_SHOW, {"name": "n"}).model == "n"
    assert _peek(_SHOW, {"name": "n", "model": ""}).model == "n"
    assert _peek(_SHOW, {"name": "n", "model": "m"}).model == "m"
    assert _peek(_SHOW, {}).model == ""


def test_an_openai_chat() -> None:
    found = _peek(
        _V1_CHAT,
        {
            "model": "m",
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is"},
                        {"type": "image_url", "image_url": {"url": _IMAGE}},
                        {"type": "input_audio", "input_audio": {"data": _IMAGE}},
                        {"type": "text", "text": " it?"},
                        {"type": "text", "text": 5},
                    ],
                },
                {"role": "assistant", "content": None, "tool_calls": []},
                {"role": "user", "content": "é"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 99,
            "tools": [{}],
            "response_format": {"type": "json_schema", "json_schema": {}},
            "reasoning_effort": "low",
            "temperature": 0.5,
        },
    )
    assert found == Peek(
        model="m",
        stream=True,
        prompt_bytes=8 + 11 + 2,
        tool_bytes=4,
        media_count=2,
        turns=4,
        has_tools=True,
        has_format=True,
        wants_thinking=True,
        num_predict=99,
        wants_usage=True,
        first_text=b'"Be kind.""What is it?"',
    )


def test_an_openai_completion() -> None:
    found = _peek(
        _V1_COMPLETIONS,
        {"model": "m", "prompt": "once", "suffix": "end", "max_tokens": 5, "best_of": 1},
    )
    assert found == Peek(
        model="m",
        stream=False,
        prompt_bytes=7,
        turns=1,
        num_predict=5,
        first_text=b'"once"',
    )
    assert _peek(_V1_COMPLETIONS, {"model": "m", "prompt": ["a", "bc"]}).prompt_bytes == 3


@pytest.mark.parametrize(
    ("route", "body", "is_load"),
    [
        (_CHAT, {}, True),
        (_CHAT, {"messages": None}, True),
        (_CHAT, {"messages": []}, True),
        (_CHAT, {"messages": [{}]}, False),
        (_GENERATE, {}, True),
        (_GENERATE, {"prompt": ""}, True),
        (_GENERATE, {"prompt": None}, True),
        (_GENERATE, {"prompt": " "}, False),
        (_EMBED, {}, True),
        (_EMBED, {"input": None}, True),
        (_EMBED, {"input": ""}, True),
        (_EMBED, {"input": []}, True),
        (_EMBED, {"input": [""]}, False),
        (_EMBED, {"input": 5}, False),
        (_EMBEDDINGS, {}, True),
        (_EMBEDDINGS, {"prompt": ""}, True),
        (_EMBEDDINGS, {"prompt": "x"}, False),
        (_V1_CHAT, {"messages": []}, False),
        (_V1_COMPLETIONS, {}, True),
        (_V1_COMPLETIONS, {"prompt": ""}, True),
        (_V1_COMPLETIONS, {"prompt": 5}, False),
        (_V1_EMBEDDINGS, {"input": ""}, False),
        (_SHOW, {}, False),
    ],
)
def test_load_requests(route: InferenceRoute, body: dict[str, Any], is_load: bool) -> None:
    found = _peek(route, {"model": "m"} | body)
    assert found.is_load is is_load
    assert not found.is_unload
    if is_load:
        assert found.input_count == 0


_UNLOADS = [
    0, 0.0, -0.0, 1e-10, "0", "+0", "-0", "0s", "-0s", "0h0m0.0s", "0.1ns", ".0s", "0.s", "0µs",
]  # fmt: skip
_OTHERS: list[object] = [
    None, 1, 0.5, -1, -1e-10, 1e-9, "5m", "300ms", "-1m", "1h30m", "1ns", "5", "", "1d", "forever",
    "0x", "0s0", ".s", "10 m", True, False, [], {},
]  # fmt: skip


@pytest.mark.parametrize("keep_alive", _UNLOADS)
def test_every_spelling_of_zero_unloads(keep_alive: object) -> None:
    assert _peek(_CHAT, {"model": "m", "keep_alive": keep_alive}).is_unload
    assert _peek(_GENERATE, {"model": "m", "keep_alive": keep_alive}).is_unload
    assert not _peek(_GENERATE, {"model": "m", "prompt": "x", "keep_alive": keep_alive}).is_unload
    assert not _peek(_EMBED, {"model": "m", "keep_alive": keep_alive}).is_unload


@pytest.mark.parametrize("keep_alive", _OTHERS)
def test_no_other_time_unloads(keep_alive: object) -> None:
    assert not _peek(_CHAT, {"model": "m", "keep_alive": keep_alive}).is_unload


@pytest.mark.parametrize(
    ("sent", "options"),
    [
        ({}, ()),
        ({"temperature": 0.5, "num_predict": 7}, ()),
        ({"num_ctx": 4096.7, "num_gpu": -1}, (("num_ctx", 4096),)),
        ({"num_gpu": 0}, (("num_gpu", 0),)),
        ({"use_mmap": False, "num_thread": 0}, (("num_thread", 0), ("use_mmap", False))),
        ({"use_mmap": True}, (("use_mmap", True),)),
        (
            {"num_thread": 8, "num_batch": 64, "main_gpu": 1, "draft_num_predict": 2},
            (("draft_num_predict", 2), ("main_gpu", 1), ("num_batch", 64), ("num_thread", 8)),
        ),
        ({"num_ctx": None}, ()),
        ({"num_ctx": 10**30}, ()),
        # Wrong types are for a node to refuse.
        ({"num_ctx": "big", "num_batch": True, "use_mmap": 1, "main_gpu": 2}, (("main_gpu", 2),)),
        ({"NUM_CTX": 1}, ()),
    ],
)
def test_load_options(sent: dict[str, object], options: object) -> None:
    for route in (_CHAT, _GENERATE, _EMBED, _EMBEDDINGS):
        found = _peek(route, {"model": "m", "options": sent})
        assert found.options == options
    shifted = _peek(_CHAT, {"model": "m", "options": sent, "shift": True})
    assert shifted.options == options
    assert _peek(_SHOW, {"model": "m", "options": {"num_ctx": 5}}).options == ()


def test_refusing_to_shift_is_a_load_option_of_its_own() -> None:
    assert _peek(_GENERATE, {"model": "m", "shift": False}).options == (("shift", False),)


@pytest.mark.parametrize(
    ("route", "body", "wants"),
    [
        (_CHAT, {}, None),
        (_CHAT, {"think": None}, None),
        (_CHAT, {"think": True}, True),
        (_CHAT, {"think": "max"}, True),
        (_CHAT, {"think": False}, False),
        (_CHAT, {"think": "extreme"}, None),
        (_V1_CHAT, {"reasoning_effort": "none"}, False),
        (_V1_CHAT, {"reasoning": {"effort": "minimal"}}, True),
        (_V1_CHAT, {"reasoning": {}, "reasoning_effort": "high"}, True),
        (_V1_CHAT, {"reasoning": "high"}, None),
    ],
)
def test_thinking(route: InferenceRoute, body: dict[str, Any], wants: bool | None) -> None:
    assert _peek(route, {"model": "m"} | body).wants_thinking is wants


@pytest.mark.parametrize(
    ("route", "body", "has_format", "has_tools"),
    [
        (_CHAT, {"format": "", "tools": []}, False, False),
        (_CHAT, {"format": None, "tools": None}, False, False),
        (_CHAT, {"format": "json", "tools": [{}]}, True, True),
        (_V1_CHAT, {"response_format": {"type": "text"}, "tools": None}, False, False),
        (_V1_CHAT, {"response_format": {"type": "json_object"}}, True, False),
        (_V1_CHAT, {"response_format": "json"}, False, False),
    ],
)
def test_formats_and_tools(
    route: InferenceRoute, body: dict[str, Any], has_format: bool, has_tools: bool
) -> None:
    found = _peek(route, {"model": "m"} | body)
    assert (found.has_format, found.has_tools) == (has_format, has_tools)
    assert (found.tool_bytes > 0) is has_tools


@pytest.mark.parametrize("sent", [True, False, None])
def test_streaming(sent: bool | None) -> None:
    assert _peek(_CHAT, {"model": "m", "stream": sent}).stream is (sent is not False)
    assert _peek(_GENERATE, {"model": "m", "stream": sent}).stream is (sent is not False)
    assert _peek(_V1_CHAT, {"model": "m", "stream": sent}).stream is (sent is True)
    assert _peek(_V1_COMPLETIONS, {"model": "m", "stream": sent}).stream is (sent is True)


def test_text_is_counted_as_utf8_however_it_is_escaped() -> None:
    text = 'é"\\/\n日本\U0001f600\t'
    for ascii_only in (True, False):
        body = json.dumps({"model": "m", "prompt": text}, ensure_ascii=ascii_only).encode()
        assert peek(_GENERATE, body).prompt_bytes == len(text.encode())


@pytest.mark.parametrize("ascii_only", [True, False])
def test_long_text_is_counted_closely(ascii_only: bool) -> None:
    text = 'Ein "Käse" für\n\tmorgen: 日本語 C:\\\\temp. ' * 500
    body = json.dumps({"model": "m", "prompt": text}, ensure_ascii=ascii_only).encode()
    assert peek(_GENERATE, body).prompt_bytes == pytest.approx(len(text.encode()), rel=0.05)


def test_the_beginning_is_equal_in_all_turns_and_tells_conversations_apart() -> None:
    system = {"role": "system", "content": "S" * 5000}
    first = {"role": "user", "content": "first " * 100}
    answer = {"role": "assistant", "content": "yes"}
    heads = [
        _peek(_CHAT, {"model": "m", "messages": messages}).first_text
        for messages in ([system, first], [system, first, answer, {**first, "content": "more"}])
    ]
    assert heads[0] == heads[1]
    assert len(heads[0]) == 512
    other = _peek(_CHAT, {"model": "m", "messages": [system, {**first, "content": "else"}]})
    assert other.first_text != heads[0]
    assert _peek(_CHAT, {"model": "m", "messages": [first, answer]}).first_text[:6] == b'"first'
    assert _peek(_CHAT, {"model": "m", "messages": [answer, answer]}).first_text == b'"yes"'
