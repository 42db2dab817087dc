"""The table of routes: what the router, the OpenAPI document and the tests of both read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

if TYPE_CHECKING:
    from collections.abc import Sequence


JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may say beside its body."""

    name: str
    text: str
    place: Literal["query", "path", "header"] = "query"
    type: Literal["string", "integer", "number", "boolean"] = "string"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path: who answers, and what is to be known about it."""

    method: str
    path: str
    handler: Handler
    summary: str
    """One sentence without a full stop."""
    tag: str
    """The group it is shown in."""
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    """The struct a request's JSON body is decoded into; None: there is none of ours."""
    answer: Any = None
    """The struct of a good answer; None: it is described by `media` and `link` only."""
    media: str = JSON
    """Content type of a good answer."""
    link: str = ""
    """Where the format is described, when it is not ours."""
    text: str = ""
    """More about it, in Markdown."""
    stream: str = ""
    """Content type of an answer that comes piece by piece, where one may be asked for."""
    piece: Any = None
    """The struct of one line of it; None: it is not described, or by the answer."""
    statuses: tuple[int, ...] = (200,)
    """What a good answer comes with; empty: there is none."""
    is_routed: bool = False
    """Whether a node does the work; then the answer says which one, and why."""
    hidden: str = ""
    """Why the OpenAPI document leaves it out; empty: it does not."""

    @property
    def is_socket(self) -> bool:
        """Whether it is a WebSocket."""
        return self.path.startswith("/ws/")

    def definition(self) -> web.RouteDef:
        """Return what aiohttp's router takes."""
        options = {"allow_head": False} if self.method == "GET" else {}
        return web.RouteDef(self.method, self.path, self.handler, options)


class Routed(Protocol):
    """Something that answers routes."""

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        ...
