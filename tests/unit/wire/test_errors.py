"""Errors have the shape and the words of the dialect that is spoken."""

from __future__ import annotations

import json

import pytest

from sollold.core.model import Dialect
from sollold.wire.errors import (
    ErrorFamily,
    cloud_disabled,
    error_body,
    missing_or_invalid_name,
    model_not_found,
)
from sollold.wire.routes import InferenceRoute

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE
_EMBED = InferenceRoute.API_EMBED
_EMBEDDINGS = InferenceRoute.API_EMBEDDINGS
_SHOW = InferenceRoute.API_SHOW
_V1_CHAT = InferenceRoute.V1_CHAT
_V1_COMPLETIONS = InferenceRoute.V1_COMPLETIONS
_V1_EMBEDDINGS = InferenceRoute.V1_EMBEDDINGS

_CHARSET = "application/json; charset=utf-8"


@pytest.mark.parametrize("family", [Dialect.OLLAMA, ErrorFamily.NATIVE])
@pytest.mark.parametrize("is_early", [True, False])
def test_native_errors(family: Dialect | ErrorFamily, is_early: bool) -> None:
    assert error_body(family, 404, "model '<m>' not found", is_early=is_early) == (
        b'{"error":"model \'\\u003cm\\u003e\' not found"}',
        _CHARSET,
    )


def test_errors_that_come_late() -> None:
    assert error_body(Dialect.OLLAMA, 400, "x", is_late=True)[1] == "application/json"


@pytest.mark.parametrize("family", [Dialect.OPENAI, ErrorFamily.OPENAI])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (500, "api_error"),
        (503, "api_error"),
    ],
)
def test_openai_errors(family: Dialect | ErrorFamily, status: int, kind: str) -> None:
    text = b'{"error":{"message":"x","type":"%s","param":null,"code":null}}' % kind.encode()
    assert error_body(family, status, "x") == (text + b"\n", "application/json")
    assert error_body(family, status, "x", is_early=True) == (text, _CHARSET)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (503, "overloaded_error"),
        (529, "overloaded_error"),
        (502, "api_error"),
    ],
)
def test_anthropic_errors(status: int, kind: str) -> None:
    body, content_type = error_body(ErrorFamily.ANTHROPIC, status, "x", request_id="req_1")
    assert content_type == "application/json"
    assert json.loads(body) == {
        "type": "error",
        "error": {"type": kind, "message": "x"},
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("route", "name", "text"),
    [
        (_CHAT, "Foo", "model 'Foo' not found"),
        (_GENERATE, "foo", "model 'foo' not found"),
        (_V1_CHAT, "foo:8b", "model 'foo:8b' not found"),
        (_V1_COMPLETIONS, "foo", "model 'foo' not found"),
        (_EMBED, "foo", 'model "foo" not found, try pulling it first'),
        (_EMBEDDINGS, "foo", 'model "foo" not found, try pulling it first'),
        (_V1_EMBEDDINGS, "foo", 'model "foo" not found, try pulling it first'),
        (_SHOW, "foo", "model 'foo:latest' not found"),
        (_SHOW, "library/foo:8b:local", "model 'foo:8b' not found"),
        (_SHOW, "-foo", "model '-foo' not found"),
    ],
)
def test_a_missing_model_is_worded_as_on_that_route(
    route: InferenceRoute, name: str, text: str
) -> None:
    assert model_not_found(route, name) == text


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
@pytest.mark.parametrize(
    ("route", "status"),
    [
        (_GENERATE, 404),
        (_EMBED, 404),
        (_V1_COMPLETIONS, 404),
        (_V1_EMBEDDINGS, 404),
        (_CHAT, 400),
        (_EMBEDDINGS, 400),
        (_SHOW, 400),
        (_V1_CHAT, 400),
    ],
)
def test_no_name(route: InferenceRoute, name: str, status: int) -> None:
    text = "model is required" if status == 400 else f"model '{name}' not found"
    assert missing_or_invalid_name(route, name) == (status, text)


@pytest.mark.parametrize("route", list(InferenceRoute))
def test_names_that_cannot_be_looked_up(route: InferenceRoute) -> None:
    for name in ("m:", "-m", "a/b/c/d", "host:5000/m", "x y", "m:-cloud"):
        assert missing_or_invalid_name(route, name) == (400, "invalid model name")
    assert missing_or_invalid_name(route, ' m"\\:cloud:local') == (
        400,
        'use either :local or :cloud, not both: "m\\"\\\\:cloud:local"',
    )


@pytest.mark.parametrize("name", ["m", " m:8b ", "m:cloud", "m:8b-cloud", "m:local", "h/n/m:t"])
def test_names_that_can_be_looked_up(name: str) -> None:
    assert missing_or_invalid_name(_CHAT, name) is None


def test_models_of_the_cloud() -> None:
    text = "ollama cloud is disabled: remote model is unavailable"
    assert cloud_disabled(_CHAT) == text
    details = "ollama cloud is disabled: remote model details are unavailable"
    assert cloud_disabled(InferenceRoute.API_SHOW) == details
