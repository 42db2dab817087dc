"""Requests as OpenAI checks them: which arguments it knows, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.cloud import CloudSettings

Body = dict[str, Any]

_COMMON = frozenset(
    {
        *("model", "stream", "stream_options", "temperature", "top_p", "n", "stop", "max_tokens"),
        *("presence_penalty", "frequency_penalty", "logit_bias", "seed", "user"),
    }
)
_KNOWN = {
    "/v1/chat/completions": _COMMON
    | {
        *("messages", "max_completion_tokens", "tools", "tool_choice", "parallel_tool_calls"),
        *("response_format", "logprobs", "top_logprobs", "reasoning_effort", "modalities"),
        *("audio", "prediction", "store", "metadata", "service_tier", "verbosity"),
        *("functions", "function_call", "web_search_options", "prompt_cache_key"),
        *("safety_identifier",),
    },
    "/v1/completions": _COMMON | {"prompt", "suffix", "echo", "best_of", "logprobs"},
    "/v1/embeddings": frozenset({"model", "input", "encoding_format", "dimensions", "user"}),
}
_REQUIRED = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
}
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_BOUNDS = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "top_logprobs": (0, 20),
    "max_tokens": (1, 1_000_000),
    "max_completion_tokens": (1, 1_000_000),
}
_KINDS = {401: "invalid_request_error", 429: "requests"}


class CloudError(Exception):
    """An error object as OpenAI prints it."""

    def __init__(
        self,
        status: int,
        text: str,
        *,
        kind: str = "",
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        default = "server_error" if status >= 500 else "invalid_request_error"
        self.kind = kind or _KINDS.get(status, default)
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    def body(self) -> Body:
        """The body of the answer."""
        told = {"message": self.text, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": told}


def check(path: str, raw: bytes, settings: CloudSettings) -> Body:
    """The body of a request that is in order."""
    try:
        body = json.loads(raw)
    except ValueError:
        raise CloudError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise CloudError(400, "The JSON body of your request is not an object.")
    if settings.is_strict:
        _check_known(path, body)
    for name in ("model", _REQUIRED[path]):
        if body.get(name) in (None, ""):
            raise CloudError(400, f"Missing required parameter: '{name}'.", param=name)
    if body.get("input") == []:
        raise CloudError(400, "'$.input' is invalid.")
    _check_model(path, body, settings)
    _check_bounds(body)
    if path == "/v1/chat/completions":
        _check_messages(body["messages"])
    if body.get("stream_options") is not None and not body.get("stream"):
        text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise CloudError(400, text, param="stream_options")
    return body


def _check_known(path: str, body: Body) -> None:
    strange = [name for name in body if name not in _KNOWN[path]]
    if len(strange) == 1:
        raise CloudError(400, f"Unrecognized request argument supplied: {strange[0]}")
    if strange:
        raise CloudError(400, f"Unrecognized request arguments supplied: {', '.join(strange)}")


def _check_model(path: str, body: Body, settings: CloudSettings) -> None:
    name = body["model"]
    chat, embedding = settings.models.split(","), settings.embedding_models.split(",")
    if not isinstance(name, str) or name not in {*chat, *embedding}:
        text = f"The model `{name}` does not exist or you do not have access to it."
        raise CloudError(404, text, code="model_not_found")
    if (path == "/v1/embeddings") != (name in embedding):
        what = "generate embeddings" if path == "/v1/embeddings" else "sample"
        raise CloudError(403, f"You are not allowed to {what} from this model")


def _check_bounds(body: Body) -> None:
    for name, (lowest, highest) in _BOUNDS.items():
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool):
            text = f"Invalid type for '{name}': expected a number."
            raise CloudError(400, text, param=name, code="invalid_type")
        if not lowest <= value <= highest:
            text = f"Invalid '{name}': expected a value from {lowest} to {highest}, got {value}."
            raise CloudError(400, text, param=name, code="invalid_value")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise CloudError(400, "Invalid 'messages': expected some.", param="messages")
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _ROLES:
            place = f"messages[{index}].role"
            raise CloudError(400, f"Invalid value: '{role}'.", param=place, code="invalid_value")
        strange = message.keys() - {
            *("role", "content", "name", "tool_calls", "tool_call_id", "refusal", "audio"),
            "function_call",
        }
        if strange:
            place = f"messages[{index}].{min(strange)}"
            text = f"Unknown parameter: '{place}'."
            raise CloudError(400, text, param=place, code="unknown_parameter")
