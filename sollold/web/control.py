"""`/api/v1`, `/api/health` and the event stream: what the daemon says about itself."""

from __future__ import annotations

import difflib
import time
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from sollold import api_types
from sollold.errors import NodeNotFound
from sollold.events.query import EventQuery, Filter
from sollold.events.ring import gap_json, rfc3339
from sollold.web.context import CONTEXT
from sollold.web.push import Feed, check_origin
from sollold.web.route import NDJSON, Parameter, Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.core.model import Fleet
    from sollold.events.bus import EventBus
    from sollold.events.ring import Record
    from sollold.events.subscription import Batch
    from sollold.web.documents import Documents
    from sollold.web.push import Audience

_GREETING_EVENTS = 50

_FILTER_PARAMETERS = (
    Parameter(name="model", text="Only these models; several with commas."),
    Parameter(name="backend", text="Only these kinds of nodes."),
    Parameter(name="node", text="Only these nodes."),
    Parameter(name="event_type", text="Only these types, such as ROUTE_DECISION, or kinds."),
    Parameter(name="instance", text="Only events of these daemons."),
    Parameter(name="request", text="Only these requests; the start of an id will do."),
)
_EVENT_PARAMETERS = (
    *_FILTER_PARAMETERS,
    Parameter(name="n", type="integer", text="How many of the last ones; 50."),
    Parameter(name="since", text="From then on: a duration before now, or a time in RFC 3339."),
    Parameter(name="until", text="Up to then."),
    Parameter(name="follow", type="boolean", text="Go on with what happens next, as NDJSON."),
)


class ControlApi:
    """Handlers of the daemon's own documents and streams."""

    def __init__(
        self,
        *,
        documents: Documents,
        bus: EventBus,
        fleet: Callable[[], Fleet],
        audience: Audience,
    ) -> None:
        self._documents = documents
        self._bus = bus
        self._fleet = fleet
        self._audience = audience

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
            Route(
                method="GET",
                path="/api/v1/events",
                handler=self.events,
                summary="The last events; with follow=1 those to come, one a line",
                tag="Events",
                parameters=_EVENT_PARAMETERS,
                answer=api_types.EventsDocument,
                stream=NDJSON,
            ),
            Route(
                method="GET",
                path="/ws/routing_events",
                handler=self.routing_events,
                summary="Events over a WebSocket, in JSON arrays",
                tag="Events",
                text=f"A WebSocket. First the last {_GREETING_EVENTS} events, then each as it "
                "happens; several in one message where they come together. What a listener says "
                "is ignored.",
                parameters=_FILTER_PARAMETERS,
            ),
        ]

    async def health(self, request: web.Request) -> web.Response:
        """Answer `/api/health`; 503 when nothing can be served."""
        document = self._documents.health()
        status = 503 if document.status == "unhealthy" else 200
        return _json(api_types.encode(document), status=status)

    async def status(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/status`."""
        return _json(api_types.encode(self._documents.status()))

    async def nodes(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/nodes`."""
        return _json(api_types.encode(self._documents.nodes()))

    async def node(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/nodes/{name}`."""
        name = request.match_info["name"]
        document = self._documents.node(name)
        if document is None:
            known = [node.id for node in self._fleet().nodes]
            near = difflib.get_close_matches(name, known, n=1)
            if near:
                request[CONTEXT].hint = f"did you mean '{near[0]}'?"
            raise NodeNotFound(f"no node '{name[:100]}'")
        return _json(api_types.encode(document))

    async def requests(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/requests`."""
        return _json(api_types.encode(self._documents.requests()))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer `/api/v1/events`: the last ones, or with `follow=1` those to come as NDJSON."""
        now_s = time.time()
        query = EventQuery.parse(request.query, now_s)
        if query.is_follow:
            return await self._audience.lines(request, lambda: self._follow(query))
        records = self._bus.last(query.limit, query.filter, query.since_s, query.until_s)
        document = api_types.EventsDocument(
            at=rfc3339(now_s), events=tuple(msgspec.Raw(record.json()) for record in records)
        )
        return _json(api_types.encode(document))

    async def routing_events(self, request: web.Request) -> web.StreamResponse:
        """Push events over a WebSocket: the last few, then each as it happens, in JSON arrays."""
        check_origin(request)
        wanted = Filter.parse(request.query)
        query = EventQuery(wanted, _GREETING_EVENTS, True, None, None)
        return await self._audience.socket(request, lambda: self._follow(query))

    def _follow(self, query: EventQuery) -> Feed[Record]:
        """Return the last events and those to come. No await."""
        subscription = self._bus.subscribe(query.filter)
        records = self._bus.last(query.limit, query.filter, query.since_s, query.until_s)
        return Feed([record.json() for record in records], subscription, _lines)


def _lines(batch: Batch[Record]) -> list[bytes]:
    lines = [record.json() for record in batch.records]
    if batch.dropped:
        lines.insert(0, gap_json(batch.dropped, time.time()))
    return lines


def _json(body: bytes, *, status: int = 200) -> web.Response:
    response = web.Response(body=body, status=status)
    response.headers["Content-Type"] = "application/json; charset=utf-8"
    return response
