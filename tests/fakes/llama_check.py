"""Requests read as llama-server reads them, with its error texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.llama_engine import LlamaSettings, Vocabulary

Body = dict[str, Any]

NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"
NO_INFILL = (
    "Infill is not supported by this model: prefix token is missing. "
    "suffix token is missing. middle token is missing. "
)
_BAD_PROMPT = (
    '"prompt" elements must be a string, a list of tokens, a JSON object containing a prompt '
    "string, or a list of mixed strings & tokens."
)
_NO_IMAGES = (
    "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
)
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}
_INT_MAX = 2**31 - 1
_NUMBERS = frozenset(
    {
        *("n_predict", "max_tokens", "max_completion_tokens", "n_keep", "n_probs", "n", "seed"),
        *("temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n"),
        *("repeat_penalty", "presence_penalty", "frequency_penalty", "top_logprobs"),
    }
)
_FLAGS = frozenset(
    {
        *("stream", "cache_prompt", "ignore_eos", "return_tokens", "return_progress"),
        *("timings_per_token",),
    }
)
_SCHEMA_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_AT_LEAST_MINUS_ONE = frozenset(
    {"n_predict", "max_tokens", "max_completion_tokens", "repeat_last_n", "n_keep"}
)


class LlamaError(Exception):
    """An error object; `more` are fields of its own."""

    def __init__(self, status: int, text: str, kind: str = "", **more: int) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.kind = kind or _KINDS.get(status, "server_error")
        self.more = more

    def body(self) -> dict[str, Any]:
        """As llama-server prints it."""
        error = {"code": self.status, "message": self.text, "type": self.kind}
        return {"error": error | self.more}


def decode(raw: bytes, settings: LlamaSettings) -> Any:
    """The JSON of a body; a broken one is the server's error in older builds."""
    try:
        return json.loads(raw.removeprefix(b"\xef\xbb\xbf").decode())
    except ValueError as error:
        at = getattr(error, "pos", 0) + 1
        what = "attempting to parse an empty input" if not raw else "syntax error while parsing"
        tail = "; check that your input string or stream contains the expected JSON"
        text = f"[json.exception.parse_error.101] parse error at line 1, column {at}: {what}"
        raise _mistake(settings, text + ("" if raw else tail)) from None


def as_object(value: Any) -> Body:
    """A body that is looked up by key: anything else has no keys."""
    return value if isinstance(value, dict) else {}


def check_fields(body: Body, settings: LlamaSettings) -> None:
    """Types and ranges of what steers a generation."""
    for name, value in body.items():
        if value is None:
            continue
        if name in _NUMBERS:
            _check_number(name, value)
        elif name in _FLAGS and not isinstance(value, bool):
            raise LlamaError(400, f"Field '{name}': {_wrong_type('boolean', value)}")
    count = body.get("n")
    if count is not None and not 1 <= count <= settings.slots:
        raise LlamaError(
            400, f"Field 'n': Value must be between 1 <= value <= {settings.slots}, but got {count}"
        )


def check_constraints(body: Body) -> None:
    """Grammars and schemas, as far as nonsense is told from sense."""
    kind = as_object(body.get("json_schema")).get("type", "object")
    if kind not in _SCHEMA_TYPES:
        shown = json.dumps(body["json_schema"], separators=(",", ":"))
        text = f"JSON schema conversion failed:\nUnrecognized schema: {shown}"
        raise LlamaError(400, f"Field 'json_schema': \"json_schema\": {text}")
    grammar = body.get("grammar")
    if isinstance(grammar, str) and grammar.count("[") != grammar.count("]"):
        raise LlamaError(400, "Failed to initialize samplers: failed to parse grammar")


def limit_of(body: Body) -> int:
    """Tokens that an answer may have; -1: any number."""
    for name in ("n_predict", "max_tokens", "max_completion_tokens"):
        if body.get(name) is not None:
            return int(body[name])
    return -1


def check_chat(body: Body, settings: LlamaSettings) -> None:
    """Everything a chat may get wrong."""
    check_messages(body, settings)
    _check_tools(body, settings)
    form = as_object(body.get("response_format"))
    kind = form.get("type", "text")
    if kind not in {"text", "json_object", "json_schema"}:
        known = '"text" or "json_object"'
        raise LlamaError(400, f"response_format type must be one of {known}, but got: {kind}")
    thinking = as_object(body.get("chat_template_kwargs")).get("enable_thinking")
    if isinstance(thinking, str):
        text = 'invalid type for "enable_thinking" (expected boolean, got string)'
        raise LlamaError(400, text)
    if body.get("logprobs"):
        if body.get("tools") and body.get("stream"):
            raise LlamaError(400, "logprobs is not supported with tools + stream")
    elif body.get("top_logprobs"):
        raise LlamaError(400, "top_logprobs requires logprobs to be set to true")


def check_messages(body: Body, settings: LlamaSettings) -> None:
    """The messages alone, as a template needs them."""
    if "messages" not in body:
        raise LlamaError(400, "'messages' is required")
    messages = body["messages"]
    if not isinstance(messages, list):
        raise LlamaError(400, "Expected 'messages' to be an array")
    for message in messages:
        _check_message(as_object(message), settings)
    for message in messages:
        if "role" not in message:
            shown = json.dumps(message, separators=(",", ":"))
            text = f"Failed to parse messages: Missing 'role' in message: {shown}"
            raise _mistake(settings, text)
    if [message["role"] for message in messages[-2:]] == ["assistant", "assistant"]:
        text = "Cannot have 2 or more assistant messages at the end of the list."
        raise LlamaError(400, text)


def prompts_of(prompt: Any, vocabulary: Vocabulary) -> list[str]:
    """The texts of a prompt: one, or one for each element of a list of texts."""
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list):
        raise LlamaError(400, _BAD_PROMPT)
    if not prompt:
        raise LlamaError(400, '"prompt" must not be empty')
    if all(isinstance(item, str) for item in prompt):
        return prompt
    if any(isinstance(item, list) for item in prompt):
        return [prompts_of(item, vocabulary)[0] for item in prompt]
    if not all(isinstance(item, int | str) for item in prompt):
        raise LlamaError(400, _BAD_PROMPT)
    return ["".join(i if isinstance(i, str) else vocabulary.piece(i) for i in prompt)]


def check_room(tokens: int, settings: LlamaSettings) -> None:
    """Whether a prompt fits into a slot."""
    room = settings.n_ctx
    if tokens >= room:
        text = (
            f"request ({tokens} tokens) exceeds the available context size "
            f"({room} tokens), try increasing it"
        )
        kind = "exceed_context_size_error"
        raise LlamaError(400, text, kind, n_prompt_tokens=tokens, n_ctx=room)


def tool_to_call(body: Body, settings: LlamaSettings) -> str:
    """Name of the tool that the answer calls; empty: none."""
    tools, messages = body.get("tools") or [], body.get("messages") or []
    if not (settings.calls_tools and tools and messages and messages[-1].get("role") == "user"):
        return ""
    return str(tools[0].get("function", {}).get("name", "tool"))


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise LlamaError(400, f"Field '{name}': {_wrong_type('number', value)}")
    if name in _AT_LEAST_MINUS_ONE and value < -1:
        bounds = f"-1 <= value <= {_INT_MAX}"
        raise LlamaError(400, f"Field '{name}': Value must be between {bounds}, but got {value}")


def _check_tools(body: Body, settings: LlamaSettings) -> None:
    tools = body.get("tools")
    if tools is None:
        return
    shown = json.dumps(tools, indent=2)
    if not isinstance(tools, list):
        text = f"Expected 'tools' to be an array, got {shown}"
        raise _mistake(settings, f"Failed to parse tools: {text}; tools = {shown}")
    for tool in tools:
        if as_object(tool).get("type") != "function":
            one = json.dumps(tool, separators=(",", ":"))
            text = f"Failed to parse tools: Unsupported tool type: {one}; tools = {shown}"
            raise _mistake(settings, text)
    choice = body.get("tool_choice")
    if isinstance(choice, str) and choice not in {"auto", "none", "required"}:
        raise LlamaError(400, f"Invalid tool_choice: {choice}")
    if tools and body.get("grammar"):
        raise LlamaError(400, "Cannot use custom grammar constraints with tools.")


def _check_message(message: Body, settings: LlamaSettings) -> None:
    if message.get("role") != "assistant" and "content" not in message:
        raise LlamaError(400, "All non-assistant messages must contain 'content'")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise LlamaError(400, "Expected 'content' to be a string or an array")
    for part in content:
        kind = as_object(part).get("type")
        if kind == "image_url":
            if not settings.has_vision:
                raise _mistake(settings, _NO_IMAGES)
        elif kind not in {"text", "input_audio"}:
            raise LlamaError(400, "unsupported content[].type")


def _mistake(settings: LlamaSettings, text: str) -> LlamaError:
    """The caller's mistake, which older builds take for their own."""
    return LlamaError(400 if settings.is_newer else 500, text)


def wrong_type(settings: LlamaSettings, wanted: str, value: object) -> LlamaError:
    """An argument of the wrong type that no field's name goes with."""
    return _mistake(settings, _wrong_type(wanted, value))


def _wrong_type(wanted: str, value: object) -> str:
    return f"[json.exception.type_error.302] type must be {wanted}, but is {_name_of(value)}"


def _name_of(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")
