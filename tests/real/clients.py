"""Both forms of the official clients, used alike."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import ollama

if TYPE_CHECKING:
    from collections.abc import Callable


async def come(value: Any) -> Any:
    """What either form of a client gives."""
    return await value if inspect.isawaitable(value) else value


async def all_of(stream: Any) -> list[Any]:
    """What either form of a stream gives."""
    stream = await come(stream)
    if hasattr(stream, "__aiter__"):
        return [item async for item in stream]
    return list(stream)


async def refusal_of(ask: Callable[[], Any]) -> ollama.ResponseError | None:
    """What either form of Ollama's client is refused with, if it is."""
    try:
        await come(ask())
    except ollama.ResponseError as error:
        return error
    return None


def assert_is_stream(parts: list[Any]) -> None:
    """Check a stream of Ollama's that was cut after three tokens."""
    assert len(parts) > 2
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason == "length"
    assert parts[-1].eval_count == 3
    assert parts[-1].prompt_eval_count > 0
    assert parts[-1].total_duration > 0
