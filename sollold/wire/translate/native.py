"""The bodies of Ollama's own inference routes, whole and typed.

Owns which fields of them are known. Must not know any engine.
"""

from __future__ import annotations

import re
import string
from typing import Any, Final

import msgspec

from sollold.wire.gojson import BodyProblem, Pairs, without_surrogates
from sollold.wire.translate.duration import keep_alive_ns
from sollold.wire.translate.reading import (
    ANY,
    FLAG,
    MAPPING,
    OPTIONAL_FLAG,
    TEXT,
    WHOLE,
    Kind,
    Shape,
    anything,
    many,
    record,
    wrong_type,
)

LEVELS: Final = ("low", "medium", "high", "max")
"""How much a model is to think."""

_NOT_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]")
_BASE64: Final = (string.ascii_letters + string.digits + "+/").encode()
_PADDINGS: Final = ("", "=", "==")


class CallFunction(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool call names."""

    index: int = 0
    name: str = ""
    arguments: str = "{}"
    """A JSON object."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A model's wish to have a tool run."""

    id: str = ""
    function: CallFunction = CallFunction()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a chat."""

    role: str = ""
    content: str = ""
    parts: list[dict[str, Any]] | None = None
    """The content in pieces, ready to be sent, in place of `content` and `images`."""
    thinking: str = ""
    images: list[str] = []
    """Base64; audio travels here too."""
    tool_calls: list[ToolCall] = []
    tool_name: str = ""
    tool_call_id: str = ""


class ToolFunction(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool is called and takes."""

    name: str = ""
    description: str = ""
    parameters: Any = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the model may call."""

    function: ToolFunction = ToolFunction()


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """What all bodies have in common."""

    model: str = ""
    options: dict[str, Any] = {}
    keep_alive: int | None = None
    """Nanoseconds."""


class Generation(Native, frozen=True, kw_only=True):
    """What is common to requests for text."""

    stream: bool = True
    format: Any = None
    think: bool | str | None = None
    truncate: bool = True
    shift: bool = True
    debug_render_only: bool = False
    logprobs: bool = False
    top_logprobs: int = 0


class Chat(Generation, frozen=True, kw_only=True):
    """Body of `/api/chat`; what has no field in Ollama's comes from `/v1`."""

    messages: list[Message] = []
    tools: list[Tool] = []
    tool_choice: str = ""
    parallel_tool_calls: bool | None = None


class Generate(Generation, frozen=True, kw_only=True):
    """Body of `/api/generate`."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] = []
    raw: bool = False
    images: list[str] = []


class Embed(Native, frozen=True, kw_only=True):
    """Body of `/api/embed`."""

    input: Any = None
    truncate: bool = True
    dimensions: int = 0


class Embeddings(Native, frozen=True, kw_only=True):
    """Body of `/api/embeddings`."""

    prompt: str = ""


def base64_text(value: str) -> str:
    """Return base64 without line ends; raise `BodyProblem` when it is none."""
    text = value
    if "\n" in value or "\r" in value:
        text = value.replace("\n", "").replace("\r", "")
    # Decoding megabytes only to look whether it can be done would hold up the event loop.
    padding = text.encode("ascii", "replace").translate(None, _BASE64).decode()
    if len(text) % 4 == 0 and padding in _PADDINGS and text.endswith(padding):
        return text
    bad = _NOT_BASE64.search(text)
    at = bad.start() if bad else len(text)
    raise BodyProblem("type", f"illegal base64 data at input byte {at}")


def _image(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(value, path, "api.ImageData")
    return base64_text(value)


def _arguments(value: object, path: str) -> str:
    if not isinstance(value, Pairs):
        raise wrong_type(value, path, "api.ToolCallFunctionArguments")
    return msgspec.json.encode(anything(value, path)).decode()


def _think(value: object, _path: str) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value in LEVELS:
            return value
        shown = msgspec.json.encode(without_surrogates(value)).decode()
        raise BodyProblem(
            "type",
            f"invalid think value: {shown}"
            ' (must be "high", "medium", "low", "max", true, or false)',
        )
    raise BodyProblem(
        "type",
        'think must be a boolean or string ("high", "medium", "low", "max", true, or false)',
    )


def _role(value: object, path: str) -> str:
    return str(TEXT.read(value, path)).lower()


IMAGES: Final = many(Kind("api.ImageData", _image, null=str), "[]api.ImageData")
_CALL_FUNCTION: Final = Shape(
    "api.ToolCallFunction",
    CallFunction,
    {
        "index": WHOLE,
        "name": TEXT,
        "arguments": Kind("api.ToolCallFunctionArguments", _arguments),
    },
)
_TOOL_CALL: Final = Shape(
    "api.ToolCall", ToolCall, {"id": TEXT, "function": record(_CALL_FUNCTION)}
)
_MESSAGE: Final = Shape(
    "api.Message",
    Message,
    {
        "role": Kind("string", _role),
        "content": TEXT,
        "thinking": TEXT,
        "images": IMAGES,
        "tool_calls": many(record(_TOOL_CALL)),
        "tool_name": TEXT,
        "tool_call_id": TEXT,
    },
)
_FUNCTION: Final = Shape(
    "api.ToolFunction", ToolFunction, {"name": TEXT, "description": TEXT, "parameters": ANY}
)
TOOLS: Final = many(record(Shape("api.Tool", Tool, {"function": record(_FUNCTION)})), "api.Tools")
_NATIVE: Final = {
    "model": TEXT,
    "options": MAPPING,
    "keep_alive": Kind("api.Duration", keep_alive_ns, null_resets=True),
}
_GENERATION: Final = _NATIVE | {
    "stream": OPTIONAL_FLAG,
    "format": ANY,
    "think": Kind("api.ThinkValue", _think, null_resets=True),
    "truncate": OPTIONAL_FLAG,
    "shift": OPTIONAL_FLAG,
    "_debug_render_only": FLAG,
    "logprobs": FLAG,
    "top_logprobs": WHOLE,
}
CHAT: Final = Shape(
    "api.ChatRequest", Chat, _GENERATION | {"messages": many(record(_MESSAGE)), "tools": TOOLS}
)
GENERATE: Final = Shape(
    "api.GenerateRequest",
    Generate,
    _GENERATION
    | {
        "prompt": TEXT,
        "suffix": TEXT,
        "system": TEXT,
        "template": TEXT,
        "context": many(WHOLE),
        "raw": FLAG,
        "images": IMAGES,
    },
)
EMBED: Final = Shape(
    "api.EmbedRequest",
    Embed,
    _NATIVE | {"input": ANY, "truncate": OPTIONAL_FLAG, "dimensions": WHOLE},
)
EMBEDDINGS: Final = Shape("api.EmbeddingRequest", Embeddings, _NATIVE | {"prompt": TEXT})
