"""What a request for text wants of a model, checked and said in the words of each engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from sollold.core.names import parse, split_source
from sollold.wire.translate.seam import Engine, Mistaken, Stage, Unsupported

if TYPE_CHECKING:
    from sollold.wire.translate.native import Generation, Tool

TOP_LOGPROBS_TEXT: Final = "top_logprobs must be between 0 and 20"
IMAGE_MODEL_TEXT: Final = "image generation models are not currently supported"
RENDER_ONLY_TEXT: Final = "_debug_render_only is not supported by the node of this model"

_MAX_TOP_LOGPROBS: Final = 20
ANY_OBJECT: Final = {"type": "object"}
"""A schema for what `format: "json"` means."""

_NO_FORMAT: Final = (None, "")
_NO_PARAMETERS: Final = {"type": "object", "properties": {}}
_EFFORTS: Final = {"low": "low", "medium": "medium", "high": "high", "max": "high"}


def has(engine: Engine, capability: str) -> bool:
    """Whether the model is known to have a capability."""
    return engine.capabilities is not None and capability in engine.capabilities


def lacks(engine: Engine, capability: str) -> bool:
    """Whether the model is known not to have a capability."""
    return engine.capabilities is not None and capability not in engine.capabilities


def full_name(model: str) -> str:
    """Return a name as Ollama's texts about tools and insertion print it."""
    name = parse(split_source(model)[0])
    return name.full if name else model


def check_logprobs(request: Generation) -> None:
    """Raise `Unsupported` for what Ollama refuses before it looks at the model."""
    if not 0 <= request.top_logprobs <= _MAX_TOP_LOGPROBS:
        raise Mistaken(400, TOP_LOGPROBS_TEXT)


def check_capabilities(request: Generation, engine: Engine, verb: str, needed: str) -> None:
    """Raise `Unsupported` for what the model cannot do; `needed` may be empty."""
    quoted = msgspec.json.encode(request.model).decode()
    if request.think and lacks(engine, "thinking"):
        raise Unsupported(400, f"{quoted} does not support thinking")
    if lacks(engine, "completion"):
        raise Unsupported(400, f"{quoted} does not support {verb}")
    if needed and lacks(engine, needed):
        raise Unsupported(400, f"{full_name(request.model)} does not support {needed}")
    if request.debug_render_only:
        raise Unsupported(400, RENDER_ONLY_TEXT)


def thinking(request: Generation, engine: Engine) -> bool | str | None:
    """Return how the model is to think; one that can does unless told otherwise."""
    if request.think is None and has(engine, "thinking"):
        return True
    return request.think


def thinking_fields(think: bool | str | None, engine: Engine) -> dict[str, Any]:
    """Return the fields of a chat that say how to think."""
    effort = _EFFORTS[think] if isinstance(think, str) else None
    if not engine.is_llama:
        return {"reasoning_effort": effort} if effort else {}
    if think is None:
        return {}
    kwargs: dict[str, Any] = {"enable_thinking": bool(think)}
    if effort:
        kwargs["reasoning_effort"] = effort
    return {"chat_template_kwargs": kwargs}


def schema(wanted: object) -> dict[str, Any] | None:
    """Return the JSON schema of a `format`, an empty one for any object; raise `Mistaken`."""
    if wanted in _NO_FORMAT:
        return None
    if wanted == "json":
        return {}
    if isinstance(wanted, dict):
        return wanted
    raw = msgspec.json.encode(wanted).decode()
    shown = msgspec.json.encode(raw).decode()
    raise Mistaken(
        500,
        f'invalid format: {shown}; expected "json" or a valid JSON Schema object',
        Stage.GENERATING,
    )


def format_fields(wanted: object, engine: Engine) -> dict[str, Any]:
    """Return the fields of a chat that constrain its answer."""
    found = schema(wanted)
    if found is None:
        return {}
    if wanted == "json":
        # llama-server constrains nothing without a schema.
        bound = {"schema": ANY_OBJECT} if engine.is_llama else {}
        return {"response_format": {"type": "json_object", **bound}}
    named = {"name": "schema", "schema": found}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def tool_fields(tools: list[Tool]) -> dict[str, Any]:
    """Return the fields of a chat that offer tools."""
    return {"tools": [_tool(tool) for tool in tools]} if tools else {}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.function.name}
    if tool.function.description:
        function["description"] = tool.function.description
    function["parameters"] = tool.function.parameters or _NO_PARAMETERS
    return {"type": "function", "function": function}
