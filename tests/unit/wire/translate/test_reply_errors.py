"""What engines say when they refuse, in Ollama's words."""

from __future__ import annotations

from typing import Any

import pytest

from sollold.core.model import NodeKind
from sollold.core.outcome import Fault, judge_status
from sollold.wire.routes import InferenceRoute
from tests.unit.wire.translate.replying import CHAT_PATH, JSON, Read, Reply, read, reader, whole

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE
_TOO_LONG = "the prompt is longer than the context length currently available to the model"


def _refused(reply: Reply, route: InferenceRoute = _CHAT, **fields: Any) -> tuple[int, str]:
    out: Read = read(reader(route, **fields), reply)
    return out.head.status, out.document["error"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":{"message":"m"}}', "m"),
        (b'{"error":"m"}', "m"),
        (b'{"object":"error","message":"m","code":400}', "m"),
        (b'{"detail":"m"}', "m"),
        (b'{"detail":[{"loc":["body"]}]}', "the node answered 418"),
        (b'{"error":[1]}', "the node answered 418"),
        (b'{"error":{"code":null}}', "the node answered 418"),
        (b"[]", "[]"),
        (b"plain words\n", "plain words"),
        (b"\xff", "\ufffd"),
        (b"<html>no</html>", "the node answered 418"),
        (b"", "the node answered 418"),
    ],
)
def test_texts(body: bytes, text: str) -> None:
    assert _refused(Reply(418, JSON, body)) == (418, text)


def test_a_huge_text_is_cut() -> None:
    status, text = _refused(Reply(500, JSON, b'{"error":"' + b"x" * 50_000 + b'"}'))
    assert (status, len(text)) == (500, 4096)
    status, text = _refused(Reply(500, JSON, b"x" * 500_000))
    assert (status, len(text)) == (500, 4096)


def test_deep_nesting_is_no_text() -> None:
    for depth in range(100, 1400, 20):
        nested = b'{"error":{"message":' + b"[" * depth + b"]" * depth + b"}}"
        status, _ = _refused(Reply(500, JSON, nested))
        assert status == 500


@pytest.mark.parametrize(
    ("status", "text", "fault"),
    [
        (401, "Invalid API Key", Fault.MISCONFIGURED),
        (403, "no", Fault.DENIED),
        (429, "slow down", Fault.SATURATED),
        (503, "Loading model", Fault.WARMING),
        (503, "no slot available", Fault.SATURATED),
        (500, "compute error", Fault.NODE),
        (400, "bad request", Fault.CLIENT),
    ],
)
def test_routing_can_judge_what_passes(status: int, text: str, fault: Fault) -> None:
    for is_stream in (True, False):
        reply = whole({"error": {"code": status, "message": text, "type": "x"}}, status)
        assert _refused(reply, is_stream=is_stream) == (status, text)
        assert judge_status(status, text, is_ollama=False).fault is fault


@pytest.mark.parametrize(("status", "told"), [(302, 302), (204, 502), (101, 502)])
def test_statuses_that_are_no_errors(status: int, told: int) -> None:
    assert _refused(Reply(status, "", b""))[0] == told


@pytest.mark.parametrize(
    ("route", "path", "status", "text"),
    [
        (_CHAT, CHAT_PATH, 400, '"x y" does not support chat'),
        (_GENERATE, CHAT_PATH, 400, '"x y" does not support generate'),
        (InferenceRoute.API_EMBED, "/v1/embeddings", 501, "no"),
        (InferenceRoute.API_EMBEDDINGS, "/v1/embeddings", 500, "no"),
        (_GENERATE, "/infill", 400, "x y does not support insert"),
    ],
)
def test_what_is_not_supported(route: InferenceRoute, path: str, status: int, text: str) -> None:
    reply = whole({"error": {"code": 501, "message": "no", "type": "not_supported_error"}}, 501)
    assert _refused(reply, route, path=path, model="x y") == (status, text)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ({"type": "exceed_context_size_error", "message": "m"}, _TOO_LONG),
        (
            {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4},
            f"{_TOO_LONG} (9 tokens, 4 available)",
        ),
        ({"type": "exceed_context_size_error", "n_prompt_tokens": "9", "n_ctx": True}, _TOO_LONG),
        ({"code": "context_length_exceeded", "message": "m"}, _TOO_LONG),
        ({"message": "This model's maximum context length is 9 tokens."}, _TOO_LONG),
    ],
)
def test_prompts_that_are_too_long(error: object, text: str) -> None:
    assert _refused(whole({"error": error}, 400)) == (400, text)
    embed = _refused(whole({"error": error}, 400), InferenceRoute.API_EMBED)
    assert embed == (400, "the input length exceeds the context length")
    legacy = _refused(whole({"error": error}, 400), InferenceRoute.API_EMBEDDINGS)
    assert legacy == (500, "the input length exceeds the context length")


def test_a_batch_that_is_too_large_is_the_inputs_length_only_for_embeddings() -> None:
    reply = whole({"error": {"message": "input is too large to process"}}, 500)
    assert _refused(reply, InferenceRoute.API_EMBED)[0] == 400
    assert _refused(reply)[0] == 500


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [
        ("The model `x` does not exist.", 404, "model 'tiny' not found"),
        ("model not found", 404, "model 'tiny' not found"),
        ("File Not Found", 502, f"the node does not serve {CHAT_PATH}"),
    ],
)
def test_a_missing_model_is_told_from_a_missing_route(text: str, status: int, told: str) -> None:
    reply = whole({"error": {"message": text}}, 404)
    assert _refused(reply, kind=NodeKind.OPENAI) == (status, told)
