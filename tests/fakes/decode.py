"""Requests decoded as Go's `encoding/json` and Ollama's own checks do, with their error texts."""

from __future__ import annotations

import json
import math
import re
from typing import Any

Body = dict[str, Any]

LOAD_OPTIONS = ("num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")
_OPTION_TYPES = {
    "use_mmap": "boolean",
    "stop": "array",
    **dict.fromkeys(["num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread"], "integer"),
    **dict.fromkeys(["draft_num_predict", "num_keep", "seed", "num_predict"], "integer"),
    **dict.fromkeys(["top_k", "repeat_last_n"], "integer"),
    **dict.fromkeys(["top_p", "min_p", "typical_p", "temperature"], "float32"),
    **dict.fromkeys(["repeat_penalty", "presence_penalty", "frequency_penalty"], "float32"),
}

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")

COMMON = {
    "model": "string",
    "stream": "bool",
    "options": "map[string]interface {}",
    "logprobs": "bool",
    "top_logprobs": "int",
}
CHAT = COMMON | {"messages": "[]api.Message", "tools": "api.Tools", "truncate": "bool"}
GENERATE = COMMON | {
    "prompt": "string",
    "suffix": "string",
    "system": "string",
    "template": "string",
    "context": "[]int",
    "raw": "bool",
    "images": "[]api.ImageData",
    "truncate": "bool",
}
EMBED = {
    "model": "string",
    "truncate": "bool",
    "dimensions": "int",
    "options": COMMON["options"],
}
EMBEDDINGS = {"model": "string", "prompt": "string", "options": COMMON["options"]}
SHOW = {"model": "string", "name": "string", "verbose": "bool", "system": "string"}
OPENAI_CHAT = {
    "model": "string",
    "messages": "[]openai.Message",
    "stream": "bool",
    "max_tokens": "int",
    "temperature": "float64",
    "top_p": "float64",
    "seed": "int",
}
OPENAI_COMPLETION = {
    "model": "string",
    "prompt": "string",
    "stream": "bool",
    "max_tokens": "int",
    "suffix": "string",
}
OPENAI_EMBEDDING = {"model": "string", "dimensions": "int", "encoding_format": "string"}


class ApiError(Exception):
    """A status and a text; each route family gives them its own shape."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class DecodeError(ApiError):
    """The body cannot be understood; found before anything was called."""

    def __init__(self, text: str) -> None:
        super().__init__(400, text)


def decode(raw: bytes, go_type: str, fields: dict[str, str], *, empty_text: str) -> Body:
    """The first JSON object of a body: keys in lower case, nulls gone, types checked."""
    text = raw.decode(errors="replace").lstrip(" \t\r\n")
    if not text:
        raise DecodeError(empty_text)
    value = _first_value(text)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DecodeError(f"json: cannot unmarshal {_kind(value)} into Go value of type {go_type}")
    body = {key.lower(): item for key, item in value.items() if item is not None}
    struct = go_type.rpartition(".")[2]
    for key, wanted in fields.items():
        if key in body and not _fits(body[key], wanted):
            raise _mismatch(body[key], f"{struct}.{key}", wanted)
    _check_messages(body.get("messages"), struct)
    return body


def check_options(options: Body) -> None:
    """Ollama finds these only when it loads the model: a 500."""
    for key, value in options.items():
        wanted = _OPTION_TYPES.get(key)
        if wanted and value is not None and not _fits_option(value, wanted):
            raise ApiError(500, f'option "{key}" must be of type {wanted}')


def keep_alive_s(body: Body) -> float | None:
    """The wish of a request: seconds, infinite for ever, None for no wish."""
    value = body.get("keep_alive")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        kind = {bool: "bool", list: "[]interface {}"}.get(type(value), "map[string]interface {}")
        raise DecodeError(f"Unsupported type: '{kind}'")
    seconds = go_duration_s(value) if isinstance(value, str) else float(value)
    return math.inf if seconds < 0 else seconds


def go_duration_s(text: str) -> float:
    """Seconds of a Go duration such as `1h30m`."""
    sign, rest = (-1.0, text[1:]) if text[:1] == "-" else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    if not rest:
        raise DecodeError(f'time: invalid duration "{text}"')
    total, at = 0.0, 0
    while at < len(rest):
        term = _TERM.match(rest, at)
        if term is None:
            raise DecodeError(f'time: invalid duration "{text}"')
        number, unit = term.groups()
        if not unit:
            raise DecodeError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS_S:
            raise DecodeError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * _UNITS_S[unit]
        at = term.end()
    return sign * total


def check_think(body: Body) -> bool | None:
    """What `think` asks for; None when it is absent."""
    value = body.get("think")
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise DecodeError("think must be a boolean or string")
    if value not in {"high", "medium", "low", "max"}:
        levels = '"high", "medium", "low", "max", true, or false'
        raise DecodeError(f'invalid think value: "{value}" (must be {levels})')
    return True


def check_format(value: object) -> None:
    """The engine refuses other formats than `json` and schemas."""
    if value in (None, "", "json") or isinstance(value, dict):
        return
    quoted = json.dumps(json.dumps(value))
    raise ApiError(500, f'invalid format: {quoted}; expected "json" or a valid JSON Schema object')


def _first_value(text: str) -> object:
    try:
        value: object = json.JSONDecoder().raw_decode(text)[0]
    except json.JSONDecodeError as error:
        if error.pos >= len(text):
            raise DecodeError("unexpected EOF") from None
        where = "object key string" if "property name" in error.msg else "value"
        culprit = text[error.pos]
        raise DecodeError(
            f"invalid character '{culprit}' looking for beginning of {where}"
        ) from None
    return value


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _fits(value: object, go_type: str) -> bool:
    match go_type:
        case "string":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float64":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _ if go_type.startswith("map"):
            return isinstance(value, dict)
        case _:
            return isinstance(value, list)


def _mismatch(value: object, field: str, go_type: str) -> DecodeError:
    found = f"{_kind(value)}"
    if go_type == "int" and isinstance(value, float):
        found = f"number {value}"
    return DecodeError(
        f"json: cannot unmarshal {found} into Go struct field {field} of type {go_type}"
    )


def _check_messages(messages: object, struct: str) -> None:
    if not isinstance(messages, list):
        return
    for message in messages:
        if not isinstance(message, dict):
            raise _mismatch(message, f"{struct}.messages", "api.Message")
        content = message.get("content")
        if struct == "ChatRequest" and content is not None and not isinstance(content, str):
            raise _mismatch(content, f"{struct}.messages.content", "string")


def _fits_option(value: object, wanted: str) -> bool:
    if wanted in {"integer", "float32"}:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, list if wanted == "array" else bool)
