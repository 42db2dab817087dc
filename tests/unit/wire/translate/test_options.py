"""Ollama's options in other engines' words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.wire.translate.asking import (
    CHAT,
    EMBED,
    EMBEDDINGS,
    GENERATE,
    HELLO,
    llama,
    openai,
    refused,
    send,
)

_DEFAULTS = {
    "temperature": 0.8,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_k": 40,
    "repeat_last_n": 64,
    "n_predict": -1,
    "n_keep": 4,
    "seed": -1,
    "cache_prompt": True,
}
_CHOSEN = {
    "temperature": 0.1,
    "top_p": 0.2,
    "min_p": 0.3,
    "typical_p": 0.4,
    "repeat_penalty": 1.5,
    "presence_penalty": 0.6,
    "frequency_penalty": 0.7,
    "top_k": 8,
    "repeat_last_n": 9,
    "num_predict": 10,
    "num_keep": 11,
    "seed": 12,
    "stop": ["a", "b"],
}


def _chat(options: Any, **fields: Any) -> dict[str, Any]:
    return send(CHAT, {"messages": HELLO, "options": options}, llama(**fields)).body


@pytest.mark.parametrize("options", [None, {}, {"unknown": [1], "mirostat": 2}, {"top_k": None}])
def test_llama_server_gets_every_sampler(options: Any) -> None:
    body = _chat(options)
    assert {name: body[name] for name in _DEFAULTS} == _DEFAULTS
    assert "stop" not in body


def test_llama_server_gets_what_was_chosen() -> None:
    wanted = _DEFAULTS | _CHOSEN | {"n_predict": 10, "n_keep": 11}
    del wanted["num_predict"], wanted["num_keep"]
    for body in (
        _chat(_CHOSEN),
        send(GENERATE, {"prompt": "x", "raw": True, "options": _CHOSEN}).body,
        send(GENERATE, {"prompt": "x", "suffix": "y", "options": _CHOSEN}).body,
    ):
        assert {name: body[name] for name in wanted} == wanted


def test_load_options_are_checked_and_left_out() -> None:
    body = _chat({"num_ctx": 8, "num_gpu": 1, "use_mmap": True, "num_thread": 2, "num_batch": 3})
    assert not {"num_ctx", "num_gpu", "use_mmap", "num_thread", "num_batch"} & set(body)


@pytest.mark.parametrize(
    ("option", "context_length", "name", "value"),
    [
        ({"num_predict": -1}, 100, "n_predict", 1000),
        ({"num_predict": -2}, 100, "n_predict", 1000),
        ({"num_predict": -2}, None, "n_predict", -1),
        ({"num_predict": 0}, 100, "n_predict", 1000),
        ({"num_predict": 999}, 100, "n_predict", 999),
        ({"num_predict": 5000}, 100, "n_predict", 1000),
        ({"num_predict": 2**40}, None, "n_predict", 2**31 - 1),
        ({"num_predict": 7.9}, 100, "n_predict", 7),
        ({"repeat_last_n": -1}, 100, "repeat_last_n", 100),
        ({"repeat_last_n": -9}, 100, "repeat_last_n", 100),
        ({"repeat_last_n": -1}, None, "repeat_last_n", 4096),
        ({"repeat_last_n": 0}, 100, "repeat_last_n", 0),
        ({"num_keep": -1}, 100, "n_keep", -1),
        ({"num_keep": -7}, 100, "n_keep", -1),
        ({"seed": -1}, 100, "seed", -1),
        ({"seed": -2}, 100, "seed", 2**32 - 2),
        ({"seed": 2**32 + 5}, 100, "seed", 5),
        ({"top_k": -(2**70)}, 100, "top_k", -(2**31)),
        ({"temperature": 10**300}, 100, "temperature", 3.4e38),
        ({"temperature": 1}, 100, "temperature", 1.0),
    ],
)
def test_values_that_llama_server_takes(
    option: dict[str, Any], context_length: int | None, name: str, value: float
) -> None:
    assert _chat(option, context_length=context_length)[name] == value


def test_empty_stop_list_is_left_out() -> None:
    assert "stop" not in _chat({"stop": []})


def test_openai_gets_only_what_was_chosen_and_it_knows() -> None:
    assert set(send(CHAT, {"messages": HELLO}, openai()).body) == {
        "model", "messages", "stream", "stream_options",
    }  # fmt: skip
    body = send(CHAT, {"messages": HELLO, "options": _CHOSEN, "stream": False}, openai()).body
    del body["messages"]
    assert body == {
        "model": "gpt",
        "stream": False,
        "temperature": 0.1,
        "top_p": 0.2,
        "presence_penalty": 0.6,
        "frequency_penalty": 0.7,
        "max_tokens": 10,
        "seed": 12,
        "stop": ["a", "b"],
    }


@pytest.mark.parametrize("options", [{"num_predict": -1}, {"num_predict": 0}, {"seed": -1}])
def test_openai_is_not_told_what_means_nothing(options: dict[str, Any]) -> None:
    body = send(CHAT, {"messages": HELLO, "options": options, "stream": False}, openai()).body
    assert set(body) == {"model", "messages", "stream"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_ctx": "big"}, 'option "num_ctx" must be of type integer'),
        ({"seed": True}, 'option "seed" must be of type integer'),
        ({"top_k": []}, 'option "top_k" must be of type integer'),
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"min_p": False}, 'option "min_p" must be of type float32'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": ["x", 1]}, 'option "stop" must be of an array of strings'),
    ],
)
@pytest.mark.parametrize(
    ("route", "fields"),
    [
        (CHAT, {"messages": HELLO}),
        (CHAT, {}),
        (GENERATE, {"prompt": "x"}),
        (GENERATE, {}),
        (EMBED, {"input": "x"}),
        (EMBEDDINGS, {"prompt": "x"}),
    ],
)
def test_wrong_types(route: Any, fields: Any, options: Any, text: str) -> None:
    assert refused(route, fields | {"options": options}) == (500, text)


def test_options_given_twice_add_up() -> None:
    raw = (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],'
        b'"options":{"seed":1,"top_k":2},"OPTIONS":{"seed":3}}'
    )
    body = send(CHAT, raw).body
    assert (body["seed"], body["top_k"]) == (3, 2)


def test_number_beyond_floats() -> None:
    status, text = refused(CHAT, b'{"model":"m","options":{"seed":1e999}}')
    assert (status, text[:33]) == (400, "json: cannot unmarshal number int")
