"""`keep_alive` as Ollama reads it, and the requests that only load or unload."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.wire.translate.asking import (
    CHAT,
    EMBED,
    EMBEDDINGS,
    GENERATE,
    HELLO,
    V1_COMPLETIONS,
    done,
    openai,
    refused,
    send,
)

_NATIVE = "application/json; charset=utf-8"
_AT = "2023-11-14T22:13:20.12Z"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("10 m", 'time: unknown unit " m" in duration "10 m"'),
        ("forever", 'time: invalid duration "forever"'),
        (".s", 'time: invalid duration ".s"'),
        ("1h.", 'time: invalid duration "1h."'),
        ("9" * 40 + "s", f'time: invalid duration "{"9" * 40}s"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
        ("\ud800", 'time: invalid duration "\ufffd"'),
        (True, "Unsupported type: 'bool'"),
        ([1], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
@pytest.mark.parametrize("route", [CHAT, GENERATE, EMBED, EMBEDDINGS])
def test_refused(route: Any, value: Any, text: str) -> None:
    assert refused(route, {"keep_alive": value}) == (400, text)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0, "unload"),
        (0.0, "unload"),
        (1e-10, "unload"),
        ("0", "unload"),
        ("-0", "unload"),
        ("+0s", "unload"),
        ("0.1ns", "unload"),
        ("0h0m0.000s", "unload"),
        (-1, "load"),
        (0.5, "load"),
        (10**300, "load"),
        ("-1m", "load"),
        ("1h30m", "load"),
        ("300ms", "load"),
        (".5s", "load"),
        ("1.s", "load"),
        ("1.5\u00b5s", "load"),
        (None, "load"),
    ],
)
def test_taken(value: Any, reason: str) -> None:
    answer = done(CHAT, {"model": "M", "keep_alive": value})
    assert answer.head.content_type == _NATIVE
    assert json.loads(answer.body) == {
        "model": "M",
        "created_at": _AT,
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": reason,
    }
    answer = done(GENERATE, {"model": "M", "keep_alive": value, "stream": True}, openai())
    assert answer.body == (
        b'{"model":"M","created_at":"%b","response":"","done":true,"done_reason":"%b"}'
        % (_AT.encode(), reason.encode())
    )


def test_work_is_done_whatever_follows_it() -> None:
    assert send(CHAT, {"messages": HELLO, "keep_alive": 0}).path == "/v1/chat/completions"


@pytest.mark.parametrize("body", [b"{}", b"null", b'{"input":""}', b'{"input":[]}'])
def test_nothing_to_embed(body: bytes) -> None:
    answer = done(EMBED, body)
    assert json.loads(answer.body) == {"model": "", "embeddings": []}
    assert done(EMBEDDINGS, body).body == b'{"embedding":[]}'


def test_no_prompt_for_the_compatible_route() -> None:
    body = {"model": "M", "prompt": ""}
    answer = done(V1_COMPLETIONS, body)
    assert answer.head.content_type == "application/json"
    assert answer.body.endswith(b"}\n")
    found = json.loads(answer.body)
    assert found["id"].startswith("cmpl-")
    del found["id"]
    assert found == {
        "object": "text_completion",
        "created": 1_700_000_000,
        "model": "M",
        "system_fingerprint": "fp_ollama",
        "choices": [{"text": "", "index": 0, "finish_reason": "load"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


@pytest.mark.parametrize("with_usage", [False, True])
def test_no_prompt_for_the_compatible_stream(with_usage: bool) -> None:
    body = {"model": "M", "stream": True, "stream_options": {"include_usage": with_usage}}
    answer = done(V1_COMPLETIONS, body)
    assert answer.head.content_type == "text/event-stream"
    *events, end, rest = answer.body.split(b"\n\n")
    assert (end, rest) == (b"data: [DONE]", b"")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert [len(chunk["choices"]) for chunk in chunks] == ([1, 0] if with_usage else [1])
    assert all(("usage" in chunk) is with_usage for chunk in chunks)
