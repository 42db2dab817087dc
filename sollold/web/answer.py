"""Our own documents as answers: whole, or a long list in pieces."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from sollold.events.ring import rfc3339
from sollold.web.context import CONTEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sollold.web.turns import Turns

JSON_UTF8 = "application/json; charset=utf-8"

SEND_LIMIT_S = 30.0
"""How long a reader may take nothing before it is cut."""

_WHOLE_BYTES = 256 * 1024


def json_answer(document: msgspec.Struct, *, status: int = 200) -> web.Response:
    """Return a document as JSON."""
    return web.Response(
        body=msgspec.json.encode(document), status=status, headers={"Content-Type": JSON_UTF8}
    )


def now_text() -> str:
    """Return the time as documents have it."""
    return rfc3339(datetime.now(UTC).timestamp())


async def long_answer(
    request: web.Request, document: msgspec.Struct, items: Iterator[bytes | None], turns: Turns
) -> web.StreamResponse:
    """Answer with a document whose last field is an empty list, filled with `items`.

    What is long is sent as it is made, and never in memory as a whole.
    """
    body = msgspec.json.encode(document)
    if not body.endswith(b"[]}"):
        raise AssertionError("the list is the last field")
    waiting, is_first = body[:-2], True
    response: web.StreamResponse | None = None
    async for portion in turns.portions(items):
        if portion:
            waiting += (b"" if is_first else b",") + b",".join(portion)
            is_first = False
        if len(waiting) > _WHOLE_BYTES:
            response = response or await begin(request, JSON_UTF8)
            if not await send(response, request, waiting):
                return response
            waiting = b""
    waiting += b"]}"
    if response is None:
        return web.Response(body=waiting, headers={"Content-Type": JSON_UTF8})
    await send(response, request, waiting)
    return response


async def begin(request: web.Request, content_type: str) -> web.StreamResponse:
    """Send the head of an answer that comes in pieces."""
    response = web.StreamResponse(headers={"Content-Type": content_type, "X-Accel-Buffering": "no"})
    add_headers(response, request)
    await response.prepare(request)
    return response


def add_headers(response: web.StreamResponse, request: web.Request) -> None:
    """Add what the edge cannot add once an answer has begun."""
    for name, value in request[CONTEXT].headers:
        response.headers[name] = value


async def send(
    response: web.StreamResponse,
    request: web.Request,
    data: bytes,
    limit_s: float = SEND_LIMIT_S,
) -> bool:
    """Send a piece; a reader that takes none of it in time is cut, and False returned."""
    try:
        async with asyncio.timeout(limit_s):
            await response.write(data)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        return False
    return True
