"""`/api/v1/logs` and `/ws/logs`: the daemon's own log lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiohttp import web

from sollold import api_types
from sollold.events.ring import rfc3339
from sollold.logs.hub import sending
from sollold.logs.line import gap_json
from sollold.logs.query import STREAM_FIELDS, LogQuery
from sollold.web.push import Feed, check_origin
from sollold.web.route import NDJSON, Parameter, Route

if TYPE_CHECKING:
    from sollold.events.subscription import Batch
    from sollold.logs.hub import LogHub
    from sollold.logs.line import Line
    from sollold.web.push import Audience

_STREAM_PARAMETERS = (
    Parameter(name="level", text="From this level up: debug, info, warning, error or critical."),
    Parameter(name="source", text="Only loggers that begin so; several with commas."),
    Parameter(name="n", type="integer", text="How many of the last ones; 100."),
    Parameter(name="since", text="From then on: a duration before now, or a time in RFC 3339."),
)
_PARAMETERS = (
    *_STREAM_PARAMETERS,
    Parameter(name="follow", type="boolean", text="Go on with what is logged next, as NDJSON."),
)


class LogApi:
    """Handlers of the log lines."""

    def __init__(self, hub: LogHub, audience: Audience) -> None:
        self._hub = hub
        self._audience = audience

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                method="GET",
                path="/api/v1/logs",
                handler=self.logs,
                summary="The daemon's last log lines; with follow=1 those to come, one a line",
                tag="Events",
                parameters=_PARAMETERS,
                answer=api_types.LogsDocument,
                stream=NDJSON,
                piece=api_types.LogLine,
            ),
            Route(
                method="GET",
                path="/ws/logs",
                handler=self.socket,
                summary="The daemon's log lines over a WebSocket, in JSON arrays",
                tag="Events",
                text="A WebSocket. First the last lines, then each as it is logged; several in one "
                "message where they come together. What a listener says is ignored.",
                parameters=_STREAM_PARAMETERS,
            ),
        ]

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Answer `/api/v1/logs`: the last lines, or with `follow=1` those to come as NDJSON."""
        now_s = time.time()
        query = LogQuery.parse(request.query, now_s)
        if query.is_follow:
            with sending():
                return await self._audience.lines(request, lambda: self._follow(query))
        lines = tuple(line.document() for line in self._hub.last(query))
        document = api_types.LogsDocument(at=rfc3339(now_s), lines=lines)
        return web.Response(
            body=api_types.encode(document),
            headers={"Content-Type": "application/json; charset=utf-8"},
        )

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """Push log lines over a WebSocket: the last ones, then each as it is logged."""
        check_origin(request)
        query = LogQuery.parse(request.query, time.time(), STREAM_FIELDS)
        with sending():
            return await self._audience.socket(request, lambda: self._follow(query))

    def _follow(self, query: LogQuery) -> Feed[Line]:
        """Return the last lines and those to come. No await."""
        first, later = self._hub.follow(query)
        return Feed([line.json() for line in first], later, _texts)


def _texts(batch: Batch[Line]) -> list[bytes]:
    texts = [line.json() for line in batch.records]
    if batch.dropped:
        texts.insert(0, gap_json(batch.dropped, time.time()))
    return texts
