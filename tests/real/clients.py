"""Both forms of the official clients, used alike."""

from __future__ import annotations

import inspect
from typing import Any


async def come(value: Any) -> Any:
    """What either form of a client gives."""
    return await value if inspect.isawaitable(value) else value


async def all_of(stream: Any) -> list[Any]:
    """What either form of a stream gives."""
    stream = await come(stream)
    if hasattr(stream, "__aiter__"):
        return [item async for item in stream]
    return list(stream)
