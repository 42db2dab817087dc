"""Error bodies and texts in each dialect's words.

Owns the shapes of errors and the tables of what Ollama says about model names. Must not decide
which error a request deserves.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, assert_never

from sollold.core.model import Dialect
from sollold.core.names import Source, key_of, parse, split_source
from sollold.wire.gojson import go_json
from sollold.wire.routes import InferenceRoute

QUEUE_FULL_TEXT: Final = "server busy, please try again.  maximum pending requests exceeded"
"""What Ollama says with status 503 when its own queue is full."""
CANCELED_TEXT: Final = "request canceled"
"""With status 499."""
MISSING_BODY_TEXT: Final = "missing request body"
MODEL_REQUIRED_TEXT: Final = "model is required"
INVALID_NAME_TEXT: Final = "invalid model name"

NATIVE_JSON: Final = "application/json; charset=utf-8"
PLAIN_JSON: Final = "application/json"


class ErrorFamily(StrEnum):
    """Whose shape an error body has."""

    NATIVE = "native"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


_OPENAI_TYPES: Final = {400: "invalid_request_error", 404: "not_found_error"}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_FAMILY_DEFAULT: Final = "api_error"


def openai_error(status: int, text: str) -> dict[str, object]:
    """Return the inner object of an OpenAI error."""
    kind = _OPENAI_TYPES.get(status, _FAMILY_DEFAULT)
    return {"message": text, "type": kind, "param": None, "code": None}


def error_body(
    family: Dialect | ErrorFamily,
    status: int,
    text: str,
    *,
    is_early: bool = False,
    is_late: bool = False,
    request_id: str = "",
) -> tuple[bytes, str]:
    """Return an error body and its content type.

    On the compatibility routes Ollama ends the errors of a call with a newline and calls them plain
    JSON, unlike those it finds in the request itself: `is_early`. On its own routes those are plain
    that come when a stream would already have begun: `is_late`. `request_id` is printed in the
    Anthropic shape only.
    """
    match family:
        case Dialect.OLLAMA | ErrorFamily.NATIVE:
            return go_json({"error": text}), PLAIN_JSON if is_late else NATIVE_JSON
        case Dialect.OPENAI | ErrorFamily.OPENAI:
            body = go_json({"error": openai_error(status, text)})
        case ErrorFamily.ANTHROPIC:
            kind = _ANTHROPIC_TYPES.get(status, _FAMILY_DEFAULT)
            inner = {"type": kind, "message": text}
            body = go_json({"type": "error", "error": inner, "request_id": request_id})
        case _:
            assert_never(family)
    return (body, NATIVE_JSON) if is_early else (body + b"\n", PLAIN_JSON)


def model_not_found(route: InferenceRoute, name: str) -> str:
    """Return the text, with status 404, for a model that nobody has."""
    match route:
        case (
            InferenceRoute.API_EMBED | InferenceRoute.API_EMBEDDINGS | InferenceRoute.V1_EMBEDDINGS
        ):
            return f"model {_go_quote(name)} not found, try pulling it first"
        case InferenceRoute.API_SHOW:
            parsed = parse(split_source(name)[0])
            return f"model '{parsed.display if parsed else name}' not found"
        case _:
            return f"model '{name}' not found"


def cloud_disabled(route: InferenceRoute) -> str:
    """Return the text, with status 403, for a model that only Ollama's cloud has."""
    what = "model details are" if route is InferenceRoute.API_SHOW else "model is"
    return f"ollama cloud is disabled: remote {what} unavailable"


def missing_or_invalid_name(route: InferenceRoute, name: str) -> tuple[int, str] | None:
    """Return status and text for a name that cannot be looked up, None for one that can."""
    base, source = split_source(name)
    if not name.strip():
        return _missing_name(route, name)
    if source is Source.BOTH:
        return 400, f"use either :local or :cloud, not both: {_go_quote(base)}"
    return (400, INVALID_NAME_TEXT) if key_of(base) is None else None


def _missing_name(route: InferenceRoute, name: str) -> tuple[int, str]:
    match route:
        case (
            InferenceRoute.API_CHAT
            | InferenceRoute.API_EMBEDDINGS
            | InferenceRoute.API_SHOW
            | InferenceRoute.V1_CHAT
        ):
            return 400, MODEL_REQUIRED_TEXT
        case _:
            return 404, f"model '{name}' not found"


def _go_quote(text: str) -> str:
    """Quote a name as Go does; valid names need no escapes, others keep theirs readable."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
