"""Messages of a chat as other engines take them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sollold.wire.translate.media import media_part
from sollold.wire.translate.native import Message, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sollold.wire.translate.seam import Engine
# Nobody calls more tools at once; a search through all would let a body take minutes.
_MAX_SEARCHED: Final = 64


def merged_prefill(messages: list[Message]) -> list[Message]:
    """Join the assistant's messages at the end, of which engines continue only one."""
    start = len(messages)
    while start and messages[start - 1].role == "assistant":
        start -= 1
    last = messages[start:]
    if not last or (len(last) == 1 and last[0].parts is None):
        return messages
    media = [part for message in last for part in message.parts or () if part["type"] != "text"]
    text = _joined(_text(message) for message in last)
    joined = msgspec.structs.replace(
        last[-1],
        content=text,
        parts=[{"type": "text", "text": text}, *media] if media else None,
        thinking=_joined(message.thinking for message in last),
        images=[image for message in last for image in message.images],
        tool_calls=[call for message in last for call in message.tool_calls],
    )
    return [*messages[:start], joined]


def prefill_of(messages: list[Message]) -> str:
    """Return the text that the model is to continue."""
    return messages[-1].content if messages[-1].role == "assistant" else ""


def _text(message: Message) -> str:
    if message.parts is None:
        return message.content
    return "".join(part["text"] for part in message.parts if part["type"] == "text")


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text)


def with_call_ids(messages: list[Message]) -> list[Message]:
    """Give tool calls without an id one, and their results the same."""
    made = 0
    pending: dict[str, str] = {}
    found: list[Message] = []
    for message in messages:
        changed = message
        if message.tool_calls:
            calls = []
            for call in message.tool_calls:
                made += not call.id
                calls.append(ToolCall(id=call.id or f"call_{made:08}", function=call.function))
            pending = {call.id: call.function.name for call in calls}
            changed = msgspec.structs.replace(message, tool_calls=calls)
        elif message.role == "tool":
            changed = _answered(message, pending)
        found.append(changed)
    return found


def _answered(message: Message, pending: dict[str, str]) -> Message:
    """Take the call that a result belongs to out; by id, else by name, else the first."""
    call_id = message.tool_call_id or _call_named(message.tool_name, pending)
    if call_id not in pending:
        return message
    name = pending.pop(call_id)
    return msgspec.structs.replace(
        message, tool_call_id=call_id, tool_name=message.tool_name or name
    )


def _call_named(name: str, pending: dict[str, str]) -> str:
    first = next(iter(pending), "")
    near = itertools.islice(pending.items(), _MAX_SEARCHED)
    return next((call_id for call_id, wanted in near if wanted == name), first)


def to_wire(messages: list[Message], engine: Engine, model: str) -> list[dict[str, Any]]:
    """Return the messages as a chat's body holds them; raise `Unsupported`."""
    return [_to_wire(message, engine, model) for message in with_call_ids(messages)]


def _to_wire(message: Message, engine: Engine, model: str) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role, "content": _content(message, engine, model)}
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        out["tool_calls"] = [_call(call) for call in message.tool_calls]
    if engine.is_llama:
        if message.tool_name:
            out["name"] = message.tool_name
        if message.thinking:
            out["reasoning_content"] = message.thinking
    return out


def _content(message: Message, engine: Engine, model: str) -> str | list[dict[str, Any]]:
    media = [media_part(image, engine, model) for image in message.images]
    if message.parts is not None:
        return [*message.parts, *media]
    if not media:
        return message.content
    return [{"type": "text", "text": message.content}, *media] if message.content else media


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}
