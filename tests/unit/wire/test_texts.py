"""Long texts inside bodies: measured where they are, never copied."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from sollold.wire.peek import BodyProblem, InferenceRoute, Peek, peek
from sollold.wire.texts import LONG_BYTES

MIB = 1024 * 1024
LONG = 16 * MIB
TEXT = "x" * LONG
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PARTS = [
    {"type": "text", "text": "hi"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TEXT}"}},
]

LONG_BODIES: list[tuple[InferenceRoute, dict[str, Any], int]] = [
    (
        InferenceRoute.API_CHAT,
        {"model": "m", "messages": [{"role": "user", "content": TEXT}]},
        LONG,
    ),
    (
        InferenceRoute.API_CHAT,
        {"model": "m", "messages": [{"role": "user", "content": "hi", "images": [TEXT]}]},
        2,
    ),
    (InferenceRoute.API_CHAT, CHAT | {"unknown": TEXT}, 2),
    (InferenceRoute.API_GENERATE, {"model": "m", "prompt": TEXT, "system": TEXT}, 2 * LONG),
    (InferenceRoute.API_GENERATE, {"model": "m", "prompt": "hi", "images": [TEXT]}, 2),
    (InferenceRoute.API_EMBED, {"model": "m", "input": TEXT}, LONG),
    (InferenceRoute.API_EMBED, {"model": "m", "input": [TEXT, "", TEXT]}, 2 * LONG),
    (InferenceRoute.API_EMBEDDINGS, {"model": "m", "prompt": TEXT}, LONG),
    (InferenceRoute.V1_CHAT, {"model": "m", "messages": [{"role": "user", "content": PARTS}]}, 2),
    (InferenceRoute.V1_COMPLETIONS, {"model": "m", "prompt": TEXT}, LONG),
    (InferenceRoute.V1_EMBEDDINGS, {"model": "m", "input": [TEXT]}, LONG),
]


@pytest.mark.parametrize("number", range(len(LONG_BODIES)))
def test_a_look_at_a_long_body_takes_little_memory(number: int) -> None:
    route, document, prompt_bytes = LONG_BODIES[number]
    body = memoryview(json.dumps(document).encode())
    tracemalloc.start()
    try:
        found = peek(route, body)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.model, found.prompt_bytes) == ("m", prompt_bytes)
    assert peak_bytes < LONG_BYTES
    body.release()  # nothing of it is kept


def test_a_long_text_is_measured_like_a_short_one() -> None:
    def size(count: int) -> float:
        text = "a line\n\tand a \u00fc\n" * count
        body = json.dumps({"model": "m", "prompt": text}).encode()
        return peek(InferenceRoute.API_GENERATE, body).prompt_bytes / len(text.encode())

    assert size(10) == 1.0
    assert size(LONG_BYTES // 10) == pytest.approx(size(1000), rel=0.001)
    assert size(LONG_BYTES // 10) == pytest.approx(1.0, rel=0.1)


def test_many_short_messages_are_measured_from_their_start() -> None:
    message = {"role": "user", "content": "ten bytes\n"}
    body = json.dumps({"model": "m", "messages": [message] * (LONG_BYTES // 10)}).encode()
    found = peek(InferenceRoute.API_CHAT, body)
    assert found.prompt_bytes == pytest.approx(10 * found.turns, rel=0.1)


@pytest.mark.parametrize(
    "body",
    [
        {"Model": "m", "prompt": TEXT},
        {"model": "m", "prompt": TEXT, "options": {"num_ctx": "no number"}},
        {"model": 1, "prompt": TEXT},
    ],
    ids=["case", "option", "type"],
)
def test_a_long_body_is_not_read_as_go_reads_it(body: dict[str, Any]) -> None:
    with pytest.raises(BodyProblem, match="too long to say why") as problem:
        peek(InferenceRoute.API_GENERATE, json.dumps(body).encode())
    assert problem.value.kind == "syntax"


def test_a_long_body_without_a_model_is_understood_all_the_same() -> None:
    body = json.dumps({"prompt": TEXT}).encode()
    found = peek(InferenceRoute.API_GENERATE, body)
    assert isinstance(found, Peek)
    assert (found.model, found.prompt_bytes) == ("", LONG)
