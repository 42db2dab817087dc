"""The bodies of the OpenAI-compatible routes, as far as Ollama reads them.

Owns which fields of them are known. Must not interpret them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sollold.wire.translate.native import TOOLS, Tool
from sollold.wire.translate.reading import (
    ANY,
    FLAG,
    OPTIONAL_FLAG,
    OPTIONAL_REAL,
    OPTIONAL_WHOLE,
    REAL,
    TEXT,
    WHOLE,
    Kind,
    Shape,
    many,
    record,
)


class V1Function(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool call names."""

    name: str = ""
    arguments: str = ""


class V1ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A model's wish to have a tool run."""

    id: str = ""
    function: V1Function = V1Function()


class V1Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a chat."""

    role: str = ""
    content: Any = None
    reasoning: str = ""
    tool_calls: list[V1ToolCall] | None = None
    name: str = ""
    tool_call_id: str = ""


class V1StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the client wants of a stream."""

    include_usage: bool = False


class V1Schema(msgspec.Struct, frozen=True, kw_only=True):
    """A schema and its name, which nobody reads."""

    schema: Any = None


class V1Format(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer has to look like."""

    type: str = ""
    json_schema: V1Schema | None = None


class V1Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """How much the model is to think."""

    effort: str = ""


class V1Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What is common to requests for text."""

    model: str = ""
    stream: bool = False
    stream_options: V1StreamOptions = V1StreamOptions()
    max_tokens: int | None = None
    seed: int | None = None
    stop: Any = None
    temperature: float | None = None
    debug_render_only: bool = False


class V1Chat(V1Generation, frozen=True, kw_only=True):
    """Body of `/v1/chat/completions`."""

    messages: list[V1Message] = []
    max_completion_tokens: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    top_p: float | None = None
    response_format: V1Format = V1Format()
    tools: list[Tool] = []
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    reasoning: V1Reasoning | None = None
    reasoning_effort: str = ""
    logprobs: bool = False
    top_logprobs: int = 0


class V1Completion(V1Generation, frozen=True, kw_only=True):
    """Body of `/v1/completions`."""

    prompt: str = ""
    suffix: str = ""
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    top_p: float = 0.0
    logprobs: int = 0


class V1Embed(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `/v1/embeddings`."""

    model: str = ""
    input: Any = None
    dimensions: int = 0
    encoding_format: str = ""


_FUNCTION: Final = Shape("openai.Function", V1Function, {"name": TEXT, "arguments": TEXT})
_TOOL_CALL: Final = Shape(
    "openai.ToolCall", V1ToolCall, {"id": TEXT, "function": record(_FUNCTION)}
)
_MESSAGE: Final = Shape(
    "openai.Message",
    V1Message,
    {
        "role": TEXT,
        "content": ANY,
        "reasoning": TEXT,
        "tool_calls": many(record(_TOOL_CALL)),
        "name": TEXT,
        "tool_call_id": TEXT,
    },
)
_STREAM_OPTIONS: Final = Shape("openai.StreamOptions", V1StreamOptions, {"include_usage": FLAG})
_SCHEMA: Final = Shape("openai.JsonSchema", V1Schema, {"schema": ANY})
_FORMAT: Final = Shape(
    "openai.ResponseFormat",
    V1Format,
    {"type": TEXT, "json_schema": record(_SCHEMA, null_resets=True)},
)
_REASONING: Final = Shape("openai.Reasoning", V1Reasoning, {"effort": TEXT})
_GENERATION: Final[dict[str, Kind]] = {
    "model": TEXT,
    "stream": FLAG,
    "stream_options": record(_STREAM_OPTIONS, null_resets=True),
    "max_tokens": OPTIONAL_WHOLE,
    "seed": OPTIONAL_WHOLE,
    "stop": ANY,
    "temperature": OPTIONAL_REAL,
    "_debug_render_only": FLAG,
}
CHAT: Final = Shape(
    "openai.ChatCompletionRequest",
    V1Chat,
    _GENERATION
    | {
        "messages": many(record(_MESSAGE)),
        "max_completion_tokens": OPTIONAL_WHOLE,
        "frequency_penalty": OPTIONAL_REAL,
        "presence_penalty": OPTIONAL_REAL,
        "top_p": OPTIONAL_REAL,
        "response_format": record(_FORMAT, null_resets=True),
        "tools": TOOLS,
        "tool_choice": ANY,
        "parallel_tool_calls": ANY,
        "reasoning": record(_REASONING, null_resets=True),
        "reasoning_effort": TEXT._replace(null_resets=True),
        "logprobs": OPTIONAL_FLAG,
        "top_logprobs": WHOLE,
    },
)
COMPLETION: Final = Shape(
    "openai.CompletionRequest",
    V1Completion,
    _GENERATION
    | {
        "prompt": TEXT,
        "suffix": TEXT,
        "frequency_penalty": REAL,
        "presence_penalty": REAL,
        "top_p": REAL,
        "logprobs": OPTIONAL_WHOLE,
    },
)
EMBED: Final = Shape(
    "openai.EmbedRequest",
    V1Embed,
    {"input": ANY, "model": TEXT, "dimensions": WHOLE, "encoding_format": TEXT},
)
