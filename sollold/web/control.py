"""`/api/v1`, `/api/health` and the event stream: what the daemon says about itself."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from sollold import api_types
from sollold.errors import NodeNotFound
from sollold.events.query import EventQuery, Filter
from sollold.events.ring import gap_json, rfc3339
from sollold.web.context import CONTEXT
from sollold.web.route import NDJSON, Parameter, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sollold.core.model import Fleet
    from sollold.events.bus import Batch, EventBus, Subscription
    from sollold.web.documents import Documents

MAX_LISTENERS = 64
"""Readers that follow events, over WebSockets and as lines together."""

_HEARTBEAT_S = 20.0
_SEND_LIMIT_S = 30.0
_GOODBYE_S = 0.5
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

    def __init__(self, *, documents: Documents, bus: EventBus, fleet: Callable[[], Fleet]) -> None:
        self._documents = documents
        self._bus = bus
        self._fleet = fleet
        self._sockets: dict[web.WebSocketResponse, web.Request] = {}
        self._listeners = 0

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
            return await self._follow(request, query)
        records = self._bus.last(query.limit, query.filter, query.since_s, query.until_s)
        document = api_types.EventsDocument(
            at=rfc3339(now_s), events=tuple(msgspec.Raw(record.json()) for record in records)
        )
        return _json(api_types.encode(document))

    async def _follow(self, request: web.Request, query: EventQuery) -> web.StreamResponse:
        with self._listening(request):
            subscription = self._bus.subscribe(query.filter)
            try:
                records = self._bus.last(query.limit, query.filter, query.since_s, query.until_s)
                response = web.StreamResponse(
                    headers={"Content-Type": "application/x-ndjson", "X-Accel-Buffering": "no"}
                )
                _add_headers(response, request)
                await response.prepare(request)
                await response.write(b"".join(record.json() + b"\n" for record in records))
                async for batch in subscription:
                    await response.write(b"".join(line + b"\n" for line in _lines(batch)))
                return response
            finally:
                subscription.close()

    async def routing_events(self, request: web.Request) -> web.StreamResponse:
        """Push events over a WebSocket: the last few, then each as it happens, in JSON arrays."""
        _check_origin(request)
        wanted = Filter.parse(request.query)
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, max_msg_size=4096, timeout=_GOODBYE_S
        )
        _add_headers(socket, request)
        with self._listening(request):
            await socket.prepare(request)
            self._sockets[socket] = request
            try:
                await self._push(socket, wanted)
            except (TimeoutError, ConnectionError):
                pass
            finally:
                await _close(socket, request, WSCloseCode.OK)
                self._sockets.pop(socket, None)
        return socket

    async def _push(self, socket: web.WebSocketResponse, wanted: Filter) -> None:
        subscription = self._bus.subscribe(wanted)
        reader = asyncio.create_task(_read_until_closed(socket, subscription), name="ws-read")
        try:
            recent = self._bus.last(_GREETING_EVENTS, wanted)
            await _send(socket, [item.json() for item in recent])
            async for batch in subscription:
                await _send(socket, _lines(batch))
        finally:
            subscription.close()
            reader.cancel()
            await asyncio.wait({reader})

    @contextlib.contextmanager
    def _listening(self, request: web.Request) -> Iterator[None]:
        """Count a listener; there are only so many."""
        if self._listeners >= MAX_LISTENERS:
            request[CONTEXT].hint = "close some of them, or ask without follow"
            raise web.HTTPServiceUnavailable(reason=f"{MAX_LISTENERS} readers follow events now")
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1

    async def close_sockets(self, app: web.Application) -> None:
        """Say goodbye to every listener; for `on_shutdown`."""
        self._bus.close()
        goodbyes = [
            _close(socket, request, WSCloseCode.GOING_AWAY)
            for socket, request in list(self._sockets.items())
        ]
        await asyncio.gather(*goodbyes)


async def _read_until_closed(socket: web.WebSocketResponse, subscription: Subscription) -> None:
    """Ignore what a listener says; end its subscription when it leaves."""
    async for message in socket:
        if message.type is WSMsgType.ERROR:
            break
    subscription.close()


def _lines(batch: Batch) -> list[bytes]:
    lines = [record.json() for record in batch.records]
    if batch.dropped:
        lines.insert(0, gap_json(batch.dropped, time.time()))
    return lines


async def _send(socket: web.WebSocketResponse, lines: list[bytes]) -> None:
    async with asyncio.timeout(_SEND_LIMIT_S):
        await socket.send_str((b"[" + b",".join(lines) + b"]").decode())


async def _close(socket: web.WebSocketResponse, request: web.Request, code: WSCloseCode) -> None:
    """Say goodbye; a listener that reads no more is cut."""
    text = b"sollold is stopping" if code is WSCloseCode.GOING_AWAY else b""
    try:
        async with asyncio.timeout(_GOODBYE_S):
            await socket.close(code=code, message=text)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()


def _add_headers(response: web.StreamResponse, request: web.Request) -> None:
    """Add what the edge cannot add once an answer has begun."""
    for name, value in request[CONTEXT].headers:
        response.headers[name] = value


def _check_origin(request: web.Request) -> None:
    """Refuse pages of other sites: a browser sends cookies and reads answers over WebSockets."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise web.HTTPForbidden(reason="this page may not listen to events")


def _json(body: bytes, *, status: int = 200) -> web.Response:
    response = web.Response(body=body, status=status)
    response.headers["Content-Type"] = "application/json; charset=utf-8"
    return response
