"""`/api/v1/status`, `nodes`, `requests` and `/api/health`: what the daemon says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold import api_types
from sollold.errors import NodeNotFound
from sollold.web.answer import json_answer
from sollold.web.context import CONTEXT
from sollold.web.nearest import nearest
from sollold.web.route import Parameter, Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from sollold.core.model import Fleet
    from sollold.web.documents import Documents
    from sollold.web.turns import Turns


class ControlApi:
    """Handlers of the documents about the daemon, its nodes and its requests."""

    def __init__(self, documents: Documents, *, fleet: Callable[[], Fleet], turns: Turns) -> None:
        self._documents = documents
        self._fleet = fleet
        self._turns = turns

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                method="GET",
                path="/api/health",
                handler=self.health,
                summary="Whether anything can be served; 503 when not",
                tag="State",
                answer=api_types.Health,
                statuses=(200, 503),
            ),
            Route(
                method="GET",
                path="/api/v1/status",
                handler=self.status,
                summary="One screen about the daemon, problems first",
                tag="State",
                answer=api_types.StatusDocument,
            ),
            Route(
                method="GET",
                path="/api/v1/nodes",
                handler=self.nodes,
                summary="All nodes",
                tag="State",
                answer=api_types.NodesDocument,
            ),
            Route(
                method="GET",
                path="/api/v1/nodes/{name}",
                handler=self.node,
                summary="Everything about one node",
                tag="State",
                parameters=(Parameter(name="name", place="path", text="The node's id."),),
                answer=api_types.NodeDocument,
            ),
            Route(
                method="GET",
                path="/api/v1/requests",
                handler=self.requests,
                summary="Requests that run or wait",
                tag="State",
                answer=api_types.RequestsDocument,
            ),
        ]

    async def health(self, request: web.Request) -> web.Response:
        """Answer `/api/health`; 503 when nothing can be served."""
        document = self._documents.health()
        status = 503 if document.status == "unhealthy" else 200
        return json_answer(document, status=status)

    async def status(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/status`."""
        return json_answer(self._documents.status())

    async def nodes(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/nodes`."""
        return json_answer(self._documents.nodes())

    async def node(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/nodes/{name}`."""
        name = request.match_info["name"]
        document = self._documents.node(name)
        if document is None:
            known = [node.id for node in self._fleet().nodes]
            near = await nearest(name, known, self._turns)
            request[CONTEXT].hint = None if near is None else f"did you mean '{near}'?"
            raise NodeNotFound(f"no node '{name[:100]}'")
        return json_answer(document)

    async def requests(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/requests`."""
        return json_answer(self._documents.requests())
