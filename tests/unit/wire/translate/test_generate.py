"""`/api/generate` for other engines."""

from __future__ import annotations

from typing import Any

import pytest

from sollold.wire.translate.generation import TEMPLATE_TEXT
from tests.unit.wire.translate.asking import (
    GENERATE,
    PNG,
    llama,
    openai,
    refused,
    send,
    words,
)

_READY = {"has_templates": True, "context_length": 100}


def _plain(**fields: Any) -> Any:
    """An engine whose model cannot think, so that a reply can tell all of its tokens."""
    return llama("completion", **(_READY | fields))


def test_prompt_becomes_a_chat() -> None:
    sent = send(GENERATE, {"prompt": "p", "system": "s", "images": [PNG], "stream": False})
    assert sent.path == "/v1/chat/completions"
    system, user = sent.body["messages"]
    assert system == {"role": "system", "content": "s"}
    assert user["role"] == "user"
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]
    assert sent.asked.prompt_tokens is None


@pytest.mark.parametrize(
    "engine",
    [
        openai("completion"),
        llama("completion"),
        llama(**_READY),
        llama("completion", "thinking", **_READY),
    ],
)
def test_prompt_becomes_a_chat_where_tokens_cannot_be_told(engine: Any) -> None:
    assert send(GENERATE, {"prompt": "p"}, engine).path == "/v1/chat/completions"


def test_images_go_to_the_chat() -> None:
    sent = send(GENERATE, {"prompt": "p", "images": [PNG]}, llama("completion", "vision", **_READY))
    assert sent.path == "/v1/chat/completions"


@pytest.mark.parametrize("wanted", ["json", {"type": "array"}, {}, None])
def test_raw(wanted: Any) -> None:
    sent = send(GENERATE, {"prompt": "p", "raw": True, "format": wanted, "suffix": "left out"})
    assert sent.path == "/completion"
    assert sent.body["prompt"] == "p"
    assert (sent.body["model"], sent.body["stream"]) == ("engine.gguf", True)
    assert sent.body.get("json_schema") == ({"type": "object"} if wanted == "json" else wanted)
    assert not {"n_probs", "stream_options", "return_tokens"} & set(sent.body)


@pytest.mark.parametrize(("top", "wanted"), [(0, 1), (2, 2)])
def test_raw_with_logprobs(top: int, wanted: int) -> None:
    body = {"prompt": "p", "raw": True, "logprobs": True, "top_logprobs": top}
    assert send(GENERATE, body).body["n_probs"] == wanted
    assert send(GENERATE, body, openai()).body["logprobs"] == wanted


def test_raw_for_openai() -> None:
    sent = send(GENERATE, {"prompt": "p", "raw": True, "suffix": "left out"}, openai())
    assert sent.path == "/v1/completions"
    assert sent.body == {
        "model": "gpt",
        "prompt": "p",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert refused(GENERATE, {"prompt": "p", "raw": True, "format": "json"}, openai())[0] == 400


@pytest.mark.parametrize("extra", [{"template": "t"}, {"system": "s"}, {"context": [1]}])
def test_raw_conflicts(extra: dict[str, Any]) -> None:
    assert refused(GENERATE, {"prompt": "p", "raw": True, **extra}) == (
        400,
        "raw mode does not support template, system, or context",
    )


def test_raw_with_images() -> None:
    assert refused(GENERATE, {"prompt": "p", "raw": True, "images": [PNG]})[0] == 400


def test_raw_that_is_long() -> None:
    engine = llama(context_length=20, has_templates=True)
    text = " ".join("x" * size for size in range(1, 31))
    sent = send(GENERATE, {"prompt": text, "raw": True}, engine, words)
    # 4 and the node's own in front stay, 7 of the other 15 are left free
    assert sent.body["prompt"] == [1, 1, 2, 3, 4, 23, 24, 25, 26, 27, 28, 29, 30]
    assert [call.path for call in sent.before] == ["/tokenize", "/tokenize"]
    short = send(GENERATE, {"prompt": "y" * 50, "raw": True}, engine, words)
    assert short.body["prompt"] == "y" * 50
    for extra in ({"truncate": False}, {"prompt": "short"}):
        assert not send(GENERATE, {"prompt": text, "raw": True, **extra}, engine).before
    assert not send(GENERATE, {"prompt": text, "raw": True}, llama(has_templates=True)).before


@pytest.mark.parametrize(
    ("keep", "front", "rest"),
    [(0, [1], 10), (2, [1, 1, 2], 9), (-1, [1, *range(1, 19)], 0), (99, [1, *range(1, 19)], 0)],
)
def test_front_of_a_long_prompt(keep: int, front: list[int], rest: int) -> None:
    engine = llama(context_length=20, has_templates=True)
    text = " ".join("x" * size for size in range(1, 31))
    body = {"prompt": text, "raw": True, "options": {"num_keep": keep}}
    tokens = send(GENERATE, body, engine, words).body["prompt"]
    assert tokens == [*front, *range(31 - rest, 31)]


def test_long_prompt_without_shift() -> None:
    engine = llama(context_length=20, has_templates=True)
    status, text = refused(
        GENERATE, {"prompt": "x " * 40, "raw": True, "shift": False}, engine, words
    )
    assert status == 400
    assert text.startswith("the prompt is longer than the context length currently available")


@pytest.mark.parametrize(
    ("status", "answer", "wanted"),
    [
        (400, {"error": {"message": "no"}}, (400, "no")),
        (503, {"error": {"message": "Loading model"}}, (503, "Loading model")),
        (500, {"error": "broken"}, (500, "broken")),
        (404, {"error": {"message": "File Not Found"}}, (502, "File Not Found")),
        (302, b"", (502, "")),
        (200, b"\xff", (502, "the node of this model answered with something else than JSON")),
        (
            200,
            {"tokens": "x"},
            (502, "the node of this model answered with something else than JSON"),
        ),
    ],
)
def test_node_that_does_not_count(status: int, answer: Any, wanted: tuple[int, str]) -> None:
    def node(path: str, _body: Any) -> tuple[int, Any]:
        return (200, {"prompt": "x"}) if path == "/apply-template" else (status, answer)

    engine = _plain(context_length=20)
    assert refused(GENERATE, {"prompt": "x " * 40, "raw": True}, engine, node) == wanted
    assert refused(GENERATE, {"prompt": "x"}, engine, node) == wanted


def test_infill() -> None:
    sent = send(GENERATE, {"prompt": "a", "suffix": "b", "stream": False}, llama(**_READY))
    assert sent.path == "/infill"
    assert (sent.body["input_prefix"], sent.body["input_suffix"]) == ("a", "b")
    assert sent.body["stream"] is True
    assert sent.asked.is_stream is False
    assert "prompt" not in sent.body
    sent = send(GENERATE, {"prompt": "a", "suffix": "b"}, openai())
    assert (sent.path, sent.body["prompt"], sent.body["suffix"]) == ("/v1/completions", "a", "b")


@pytest.mark.parametrize(
    ("capabilities", "body", "text"),
    [
        (["embedding"], {}, '"m" does not support generate'),
        (["completion"], {"think": True}, '"m" does not support thinking'),
        (
            ["completion"],
            {"suffix": "s"},
            "registry.ollama.ai/library/m:latest does not support insert",
        ),
        (["image"], {}, "image generation models are not currently supported"),
        (
            [],
            {"template": "t"},
            TEMPLATE_TEXT,
        ),
        ([], {"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
    ],
)
def test_refused(capabilities: list[str], body: dict[str, Any], text: str) -> None:
    assert refused(GENERATE, {"prompt": "p", **body}, llama(*capabilities)) == (400, text)


def test_tokens_are_told() -> None:
    body = {"prompt": "be fair", "system": "nice", "format": "json", "logprobs": True}
    sent = send(GENERATE, body, _plain(), words)
    assert [call.path for call in sent.before] == ["/apply-template", "/tokenize"]
    assert sent.path == "/completion"
    assert sent.body["prompt"] == "<system> nice <user> be fair"
    assert sent.body["return_tokens"] is True
    assert sent.body["json_schema"] == {"type": "object"}
    assert sent.body["n_probs"] == 1
    assert sent.asked.prompt_tokens == (8, 4, 6, 2, 4)


def test_tokens_go_on() -> None:
    sent = send(GENERATE, {"prompt": "more", "context": [7, 8]}, _plain(), words)
    assert sent.asked.prompt_tokens == (7, 8, 6, 4)
    sent = send(GENERATE, {"prompt": "x", "context": [7, None]}, llama(**_READY), words)
    assert sent.asked.prompt_tokens == (7, 0, 6, 1)
    assert sent.body["prompt"] == "xxxxxxx <user> x"
    assert [call.path for call in sent.before] == ["/apply-template", "/tokenize", "/detokenize"]
    sent = send(GENERATE, {"prompt": "x", "context": [9], "think": "low"}, llama(**_READY), words)
    assert sent.asked.is_thinking is True


def test_long_context_is_cut() -> None:
    body = {"prompt": "x", "context": list(range(200))}
    sent = send(GENERATE, body, _plain(), words)
    # the first token is the node's own, and kept beside the 4
    assert sent.body["prompt"][:6] == [1, 1, 2, 3, 4, 153]
    assert len(sent.body["prompt"]) == 53
    assert sent.asked.prompt_tokens == (*range(200), 6, 1)
    whole = send(GENERATE, {**body, "truncate": False}, _plain(), words)
    assert isinstance(whole.body["prompt"], str)


@pytest.mark.parametrize("engine", [openai(), llama(), llama(has_templates=True)])
def test_context_that_cannot_go_on(engine: Any) -> None:
    images = {"images": [PNG]} if engine.has_templates else {}
    assert refused(GENERATE, {"prompt": "x", "context": [1], **images}, engine) == (
        400,
        "context is not supported by the node of this model; use /api/chat",
    )


def test_context_of_something_else() -> None:
    status, text = refused(GENERATE, {"prompt": "x", "context": [1.5]})
    assert status == 400
    assert text.startswith("json: cannot unmarshal number 1.5 into Go struct field")
