"""Histories that are longer than the context."""

from __future__ import annotations

from math import ceil, log2
from typing import Any

import pytest

from tests.unit.wire.translate.asking import (
    CHAT,
    PNG,
    V1_CHAT,
    llama,
    openai,
    send,
    words,
)

_ENGINE = llama(has_templates=True, context_length=50)


def _turns(*roles: str, size: int = 9) -> list[dict[str, Any]]:
    """Messages that are worth ten tokens each, the role included."""
    return [
        {"role": role, "content": " ".join([f"{at}"] + ["word"] * (size - 1))}
        for at, role in enumerate(roles)
    ]


def _kept(messages: list[Any], node: Any = words, engine: Any = _ENGINE, **extra: Any) -> list[int]:
    sent = send(CHAT, {"messages": messages, **extra}, engine, node)
    return [int(message["content"].split()[0]) for message in sent.body["messages"]]


def test_short_history_is_not_counted() -> None:
    engine = llama(has_templates=True, context_length=5000)
    assert not send(CHAT, {"messages": _turns("user", "assistant", "user")}, engine).before


def test_history_that_turns_out_to_be_short() -> None:
    messages = _turns("system", "user", "assistant", "user")
    assert _kept(messages) == [0, 1, 2, 3]
    assert len(send(CHAT, {"messages": messages}, _ENGINE, words).before) == 2


@pytest.mark.parametrize(
    ("roles", "kept"),
    [
        # one token more than the context has room for
        ("s u a u a", [0, 3, 4]),
        ("u a u a u a u", [4, 5, 6]),
        ("u s a u s a u s", [1, 3, 4, 5, 6, 7]),
        ("s u a u a u a u", [0, 5, 6, 7]),
        # a long chain of tool calls begins with a call, never with a result
        ("s u a t a t a t", [0, 6, 7]),
        ("u t t t t t t", [6]),
        ("s s s s s u", [0, 1, 2, 3, 4, 5]),
        ("s s s s u u", [0, 1, 2, 3, 5]),
        ("u", [0]),
    ],
)
def test_oldest_turns_go(roles: str, kept: list[int]) -> None:
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    messages = _turns(*(names[role] for role in roles.split()))
    if roles.startswith("u s"):
        engine = llama(has_templates=True, context_length=70)
        assert _kept(messages, engine=engine) == kept
    else:
        assert _kept(messages) == kept


def test_few_calls_for_many_turns() -> None:
    messages = _turns(*(["user", "assistant"] * 300), "user")
    sent = send(CHAT, {"messages": messages}, _ENGINE, words)
    assert len(sent.body["messages"]) == 3
    assert len(sent.before) <= 2 * (ceil(log2(300)) + 1)


@pytest.mark.parametrize("engine", [llama(has_templates=True), llama(context_length=50), openai()])
def test_what_cannot_be_counted_stays(engine: Any) -> None:
    assert len(_kept(_turns(*["user"] * 9), engine=engine)) == 9


def test_what_must_not_be_cut_stays() -> None:
    assert len(_kept(_turns(*["user"] * 9), truncate=False)) == 9


def test_images_and_tools_count() -> None:
    first, last = _turns("user", "user", size=2)
    image = {**first, "images": [PNG]}
    engine = llama(has_templates=True, context_length=700)
    sent = send(CHAT, {"messages": [image, last]}, engine, words)
    assert len(sent.body["messages"]) == 1
    parts = [{"type": "text", "text": "0"}, {"type": "image_url", "image_url": {
        "url": f"data:image/png;base64,{PNG}"}}]  # fmt: skip
    body = {"messages": [{"role": "user", "content": parts}, last], "model": "m"}
    sent = send(V1_CHAT, body, engine, lambda path, body: words(path, _joined(body)))
    assert len(sent.body["messages"]) == 1


def _joined(body: Any) -> Any:
    for message in body.get("messages", ()):
        if isinstance(message["content"], list):
            message["content"] = "".join(part["text"] for part in message["content"])
    return body


def test_template_that_wants_another_beginning() -> None:
    def picky(path: str, body: Any) -> tuple[int, Any]:
        if path == "/apply-template" and body["messages"][0]["content"].startswith("4"):
            return 400, {"error": {"message": "roles must alternate"}}
        return words(path, body)

    messages = _turns("user", "assistant", "user", "assistant", "user", "assistant", "user")
    assert _kept(messages, picky) == [6]


def test_template_that_fails_leaves_the_error_to_the_chat() -> None:
    assert len(_kept(_turns(*["user"] * 9), lambda *_: (500, b"broken"))) == 9
