"""A node whose listings are in order and whose answers are whatever a test makes of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fakes.raw import RawServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.fakes.raw import Conversation, RawRequest

JSON = b"application/json; charset=utf-8"
NDJSON = b"application/x-ndjson"

_MODEL = {
    "name": "llama3.2:latest",
    "model": "llama3.2:latest",
    "modified_at": "2024-01-01T00:00:00Z",
    "size": 1000,
    "digest": "ab" * 32,
    "details": {"family": "llama", "families": ["llama"], "format": "gguf"},
}
_LOADED = {
    **_MODEL,
    "size_vram": 1000,
    "context_length": 4096,
    "expires_at": "2030-01-01T00:00:00Z",
}
_LISTS = {
    "/api/version": {"version": "0.33.0"},
    "/api/tags": {"models": [_MODEL]},
    "/api/ps": {"models": [_LOADED]},
    "/api/show": {"capabilities": ["completion"], "model_info": {}, "details": {}},
}


def reply(body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> bytes:
    """Return a whole answer with its length."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n"
    return head % (content_type, extra, len(body)) + body


def odd_node(answer: Callable[[Conversation, RawRequest], Awaitable[bool]]) -> RawServer:
    """Return a node; `answer` serves inference and says whether the connection ends."""

    async def talk(connection: Conversation) -> None:
        while True:
            request = await connection.read_request()
            listing = _LISTS.get(request.target)
            if listing is not None:
                await connection.send(reply(json.dumps(listing).encode()))
            elif request.head.startswith(b"GET "):
                await connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            elif await answer(connection, request):
                return

    return RawServer(talk)
