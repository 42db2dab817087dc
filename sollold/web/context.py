"""What the edge knows of one HTTP request before any route sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from sollold.core.model import RequestId


class Context:
    """Identity of a request and the headers that every answer to it carries."""

    __slots__ = ("_path", "decorated", "headers", "hint", "id", "is_cut", "is_dispatched",
                 "is_timed_out", "is_uploading")  # fmt: skip

    def __init__(self, request_id: RequestId, headers: list[tuple[str, str]], path: str) -> None:
        self.id = request_id
        self.headers = headers
        self.decorated: web.StreamResponse | None = None
        """A response that was built with these headers in it."""
        self.hint: str | None = None
        """What to do about an error, set before it is raised; shown under `/api/v1`."""
        self.is_dispatched = False
        """Whether the dispatcher has it, which reports how it ends."""
        self.is_uploading = False
        """Whether its body is awaited."""
        self.is_cut = False
        """Whether this daemon ends it before its time."""
        self.is_timed_out = False
        """Whether the system gave the connection up, because the client took nothing of it."""
        self._path = path

    @property
    def is_v1(self) -> bool:
        """Whether the client speaks OpenAI's API."""
        return self._path.startswith("/v1/")

    @property
    def is_control(self) -> bool:
        """Whether the request is for the control API."""
        return self._path.startswith("/api/v1/")

    @property
    def may_outlast(self) -> bool:
        """Whether it may last for ever, as those who listen to events do."""
        return self._path.startswith(("/api/v1/", "/ws/"))


CONTEXT = web.RequestKey("context", Context)
