"""Makes histories and prompts fit into a context, as Ollama does before it asks its engine.

Tokens are counted by the node, and only when a text is so long that its tokens could be too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from sollold.wire.translate.counting import render, tokenize
from sollold.wire.translate.messages import to_wire
from sollold.wire.translate.options import kept_tokens
from sollold.wire.translate.seam import Answer, Call, Engine, Refused, Stage, Unsupported

if TYPE_CHECKING:
    from collections.abc import Generator

    from sollold.wire.translate.native import Message

TOO_LONG_TEXT: Final = (
    "the prompt is longer than the context length currently available to the model;"
    " shorten the prompt, adjust the context length in settings, or use a model with a longer"
    " context length"
)

_IMAGE_TOKENS: Final = 768
# Templates print text of their own, in front of the first message.
_PREAMBLE_BYTES: Final = 512


class Setting(NamedTuple):
    """What a chat's prompt depends on beside its messages."""

    engine: Engine
    model: str
    """As the client sent it."""
    fields: dict[str, Any]
    """The other fields that a template may print."""


def fitted(messages: list[Message], setting: Setting) -> Generator[Call, Answer, list[Message]]:
    """Return the messages without the oldest turns that are too much for the context.

    Messages of the system and the last one always stay, and a history begins with a user's turn
    while there is one.
    """
    limit = setting.engine.context_length
    starts = _starts(messages)
    if limit is None or not setting.engine.has_templates or not starts:
        return messages
    if _most_tokens(messages, setting) < limit:
        return messages
    try:
        if (yield from _count(messages, setting)) < limit:
            return messages
    except Refused:
        return messages  # the engine will say why
    low, high = 0, len(starts) - 1
    while low < high:
        middle = (low + high) // 2
        if (yield from _fits(_from(messages, starts[middle]), setting, limit)):
            high = middle
        else:
            low = middle + 1
    return _from(messages, starts[high])


def fitted_prompt(
    engine: Engine, text: str, given: dict[str, Any], *, can_shift: bool
) -> Generator[Call, Answer, str | list[int]]:
    """Return a prompt, or its tokens without the middle if it fills the context.

    The front stays as far as `num_keep` says, and half of the rest is left free for the answer.

    Raises:
        Refused: the node did not count.
        Unsupported: it may not be cut.
    """
    limit = engine.context_length
    if limit is None or not engine.has_templates or len(text.encode()) < limit:
        return text
    tokens = yield from tokenize(engine, text, add_special=True)
    if len(tokens) < limit:
        return text
    if not can_shift:
        raise Unsupported(400, TOO_LONG_TEXT, Stage.GENERATING)
    # The token that begins every prompt of some models is no part of what is to be kept.
    bare = yield from tokenize(engine, text, add_special=False)
    keep = min(kept_tokens(given, limit - 1) + max(0, len(tokens) - len(bare)), limit - 1)
    room = limit - max((limit - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - (room - keep) :]


def _starts(messages: list[Message]) -> list[int]:
    """Return where a shorter history may begin, in order."""
    last = len(messages) - 1
    talk = [at for at, message in enumerate(messages) if message.role != "system"]
    if not talk or talk[0] == last:
        return []
    users = [at for at in talk[1:] if messages[at].role == "user"]
    if users and users[-1] == last:
        return users
    # A chain of tool calls may be longer than the context; it is cut before a call.
    latest = users[-1] if users else talk[0]
    turns = [at for at in talk if latest < at < last and messages[at].role != "tool"]
    return [*users, *turns, last]


def _from(messages: list[Message], start: int) -> list[Message]:
    system = [message for message in messages[:start] if message.role == "system"]
    return [*system, *messages[start:]]


def _most_tokens(messages: list[Message], setting: Setting) -> int:
    """Return what the tokens cannot exceed: one for each byte."""
    fields = msgspec.json.encode(_text_fields(messages, setting))
    return len(fields) + _PREAMBLE_BYTES + _IMAGE_TOKENS * _media_count(messages)


def _fits(messages: list[Message], setting: Setting, limit: int) -> Generator[Call, Answer, bool]:
    try:
        return (yield from _count(messages, setting)) < limit
    except Refused:
        return False  # a template may want a history to begin otherwise


def _count(messages: list[Message], setting: Setting) -> Generator[Call, Answer, int]:
    prompt = yield from render(setting.engine, _text_fields(messages, setting))
    tokens = yield from tokenize(setting.engine, prompt, add_special=True)
    return len(tokens) + _IMAGE_TOKENS * _media_count(messages)


def _text_fields(messages: list[Message], setting: Setting) -> dict[str, Any]:
    texts = [_without_media(message) for message in messages]
    return {"messages": to_wire(texts, setting.engine, setting.model), **setting.fields}


def _without_media(message: Message) -> Message:
    parts = message.parts and [part for part in message.parts if part["type"] == "text"]
    return msgspec.structs.replace(message, images=[], parts=parts)


def _media_count(messages: list[Message]) -> int:
    return sum(
        len(message.images) + sum(part["type"] != "text" for part in message.parts or ())
        for message in messages
    )
