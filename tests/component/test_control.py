"""What the daemon says about itself: documents, the event stream, its listeners."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.component.lab import Lab

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


QUICK = {"interval_s": 0.1, "timeout_s": 0.2, "backoff_max_s": 0.2}


async def get(lab: Lab, path: str, status: int = 200) -> Any:
    async with lab.session.get(path) as answer:
        body = await answer.read()
        assert answer.status == status, body
        return json.loads(body)


async def document[T](lab: Lab, path: str, kind: type[T]) -> T:
    raise NotImplementedError


@contextlib.asynccontextmanager
async def busy(lab: Lab, count: int, **fields: Any) -> AsyncIterator[list[aiohttp.ClientResponse]]:
    """So many streams that last; the first is running when this begins, the others wait."""
    answers: list[aiohttp.ClientResponse] = [await lab.chat(stream=True, **fields)]
    await answers[0].content.readline()
    calls = [asyncio.create_task(lab.chat(stream=True, **fields)) for _ in range(count - 1)]
    dispatcher = lab.built.dispatcher
    await lab.until(lambda: len(list(dispatcher.runs)) == count)
    yield answers
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    answers[0].close()
    await lab.until(lambda: not list(dispatcher.runs))
