"""What the edge knows of one HTTP request before any route sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from sollold.core.model import RequestId


class Context:
    """Identity of a request and the headers that every answer to it carries."""

    __slots__ = ("headers", "hint", "id", "is_control", "is_v1")

    def __init__(self, request_id: RequestId, headers: list[tuple[str, str]], path: str) -> None:
        self.id = request_id
        self.headers = headers
        self.is_v1 = path.startswith("/v1/")
        self.is_control = path.startswith("/api/v1/")
        self.hint: str | None = None
        """What to do about an error, set before it is raised; shown under `/api/v1`."""


CONTEXT = web.RequestKey("context", Context)
