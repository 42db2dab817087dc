"""Request bodies as Go decodes them: any case, last duplicate wins, null means absent.

Owns the fields of each route that are read here and Go's texts for wrong types. Turns an unusual
body into a plain one that the strict decoders of `sollold.wire.peek` take.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

import msgspec

from sollold.core.model import Dialect
from sollold.wire.errors import MISSING_BODY_TEXT
from sollold.wire.gojson import (
    BodyProblem,
    Pairs,
    clean_text,
    go_type,
    read_lenient,
    without_surrogates,
)
from sollold.wire.routes import InferenceRoute

_INT64: Final = 2**63

LOAD_NUMBERS: Final = (
    "draft_num_predict", "main_gpu", "num_batch", "num_ctx", "num_gpu", "num_thread",
)  # fmt: skip
"""Load-time options that are whole numbers, sorted."""


class _Kind(Enum):
    """How a field is checked and cleaned."""

    TEXT = auto()
    BOOL = auto()
    OPTIONAL_BOOL = auto()
    INT = auto()
    MESSAGES = auto()
    PART_MESSAGES = auto()
    IMAGES = auto()
    OPTIONS = auto()
    ANY = auto()
    """Kept whatever it is; a node is the judge of it."""


_GO_TYPES: Final = {
    _Kind.TEXT: "string",
    _Kind.BOOL: "bool",
    _Kind.OPTIONAL_BOOL: "bool",
    _Kind.INT: "int",
    _Kind.MESSAGES: "[]api.Message",
    _Kind.PART_MESSAGES: "[]openai.Message",
    _Kind.IMAGES: "[]api.ImageData",
    _Kind.OPTIONS: "map[string]interface {}",
}
# A null leaves these as they are; the others it takes back to absent.
_NULL_KEEPS: Final = frozenset({_Kind.TEXT, _Kind.BOOL})


class _Schema(NamedTuple):
    """The fields read from one kind of object, and how Go's errors name it."""

    target: str
    path: str
    fields: dict[str, _Kind]


_MESSAGE: Final = _Schema(
    "api.Alias",
    "ChatRequest.messages",
    {"role": _Kind.TEXT, "content": _Kind.TEXT, "images": _Kind.IMAGES},
)
_PART_MESSAGE: Final = _Schema(
    "openai.Message", "Message.messages", {"role": _Kind.TEXT, "content": _Kind.ANY}
)
_NATIVE: Final = {
    "model": _Kind.TEXT,
    "options": _Kind.OPTIONS,
    "keep_alive": _Kind.ANY,
}
_GENERATION: Final = _NATIVE | {
    "stream": _Kind.OPTIONAL_BOOL,
    "shift": _Kind.OPTIONAL_BOOL,
    "format": _Kind.ANY,
    "think": _Kind.ANY,
}
_OPENAI: Final = {
    "model": _Kind.TEXT,
    "stream": _Kind.BOOL,
    "stream_options": _Kind.ANY,
    "max_tokens": _Kind.INT,
}
_SCHEMAS: Final = {
    InferenceRoute.API_CHAT: _Schema(
        "api.ChatRequest",
        "ChatRequest",
        _GENERATION | {"messages": _Kind.MESSAGES, "tools": _Kind.ANY},
    ),
    InferenceRoute.API_GENERATE: _Schema(
        "api.GenerateRequest",
        "GenerateRequest",
        _GENERATION
        | {
            "prompt": _Kind.TEXT,
            "suffix": _Kind.TEXT,
            "system": _Kind.TEXT,
            "images": _Kind.IMAGES,
        },
    ),
    InferenceRoute.API_EMBED: _Schema(
        "api.EmbedRequest", "EmbedRequest", _NATIVE | {"input": _Kind.ANY}
    ),
    InferenceRoute.API_EMBEDDINGS: _Schema(
        "api.EmbeddingRequest", "EmbeddingRequest", _NATIVE | {"prompt": _Kind.TEXT}
    ),
    InferenceRoute.API_SHOW: _Schema(
        "api.ShowRequest",
        "ShowRequest",
        {"model": _Kind.TEXT, "name": _Kind.TEXT, "verbose": _Kind.BOOL},
    ),
    InferenceRoute.V1_CHAT: _Schema(
        "openai.ChatCompletionRequest",
        "ChatCompletionRequest",
        _OPENAI
        | {
            "messages": _Kind.PART_MESSAGES,
            "tools": _Kind.ANY,
            "response_format": _Kind.ANY,
            "reasoning": _Kind.ANY,
            "reasoning_effort": _Kind.ANY,
        },
    ),
    InferenceRoute.V1_COMPLETIONS: _Schema(
        "openai.CompletionRequest",
        "CompletionRequest",
        _OPENAI | {"prompt": _Kind.ANY, "suffix": _Kind.TEXT},
    ),
    InferenceRoute.V1_EMBEDDINGS: _Schema(
        "openai.EmbedRequest", "EmbedRequest", {"model": _Kind.TEXT, "input": _Kind.ANY}
    ),
}


def is_misspelled(route: InferenceRoute, key: str) -> bool:
    """Whether Go would take this key for a field although it is spelled otherwise."""
    folded = fold(key)
    return folded != key and folded in _SCHEMAS[route].fields


def field_of(route: InferenceRoute, key: str) -> str:
    """Return the field that Go takes a key for; nothing for one that is not read here."""
    folded = fold(key)
    return folded if folded in _SCHEMAS[route].fields else ""


def normalise(route: InferenceRoute, body: bytes) -> bytes:
    """Rewrite a body with the fields read here, plainly spelled; raise `BodyProblem` otherwise."""
    is_native = route.dialect is Dialect.OLLAMA
    document = read_lenient(body, empty_text=MISSING_BODY_TEXT if is_native else "EOF")
    schema = _SCHEMAS[route]
    if document is None:
        return b"{}"
    if not isinstance(document, Pairs):
        raise BodyProblem("type", f"{mismatch(document)} value of type {schema.target}")
    return msgspec.json.encode(_clean_object(schema, document))


def fold(key: str) -> str:
    """Return a key as Go compares it with the names of fields."""
    return key.lower().replace("\u017f", "s")


def mismatch(value: object, literal: str = "") -> str:
    """Begin Go's sentence about a value of the wrong type."""
    return f"json: cannot unmarshal {go_type(value)} {literal}into Go"


def _clean_object(schema: _Schema, document: Pairs) -> dict[str, object]:
    out: dict[str, object] = {}
    for key, value in document:
        name = fold(key)
        kind = schema.fields.get(name)
        if kind is None:
            continue
        if value is None:
            if kind not in _NULL_KEEPS:
                out.pop(name, None)
            continue
        cleaned = _clean(schema, name, kind, value)
        if isinstance(cleaned, dict) and kind is _Kind.OPTIONS:
            out[name] = {**_as_dict(out.get(name)), **cleaned}
        else:
            out[name] = cleaned
    return out


def _as_dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _clean(schema: _Schema, name: str, kind: _Kind, value: object) -> object:
    """Return the value as the strict decoders want it, or raise what Go would."""
    match kind, value:
        case _Kind.ANY, _:
            return without_surrogates(value)
        case _Kind.TEXT, str():
            return clean_text(value)
        case ((_Kind.BOOL | _Kind.OPTIONAL_BOOL), bool()):
            return value
        case _Kind.INT, int() if _is_whole(value):
            return value
        case _Kind.OPTIONS, Pairs():
            return _clean_options(value)
        case ((_Kind.MESSAGES | _Kind.PART_MESSAGES | _Kind.IMAGES), list()) if not isinstance(
            value, Pairs
        ):
            return [_clean_element(schema, name, kind, item) for item in value]
    got = f"{value} " if kind is _Kind.INT and go_type(value) == "number" else ""
    path, wanted = f"{schema.path}.{name}", _GO_TYPES[kind]
    raise BodyProblem("type", f"{mismatch(value, got)} struct field {path} of type {wanted}")


def _is_whole(value: int) -> bool:
    return not isinstance(value, bool) and -_INT64 <= value < _INT64


def _clean_element(schema: _Schema, name: str, kind: _Kind, item: object) -> object:
    if kind is _Kind.IMAGES:
        return ""  # only counted
    inner = _MESSAGE if kind is _Kind.MESSAGES else _PART_MESSAGE
    if item is None:
        return {}
    if not isinstance(item, Pairs):
        raise BodyProblem(
            "type", f"{mismatch(item)} struct field {schema.path}.{name} of type {inner.target}"
        )
    message = _clean_object(inner, item)
    if isinstance(content := message.get("content"), list):
        message["content"] = [part for part in content if isinstance(part, dict)]
    return message


def _clean_options(options: Pairs) -> dict[str, object]:
    """Keep the options that are read here; a node is the judge of their types."""
    out: dict[str, object] = {}
    for key, value in options:
        if (key in LOAD_NUMBERS or key == "num_predict") and isinstance(value, int | float):
            if not isinstance(value, bool) and abs(value) < _INT64:
                out[key] = int(value)
        elif key == "use_mmap" and isinstance(value, bool):
            out[key] = value
    return out
