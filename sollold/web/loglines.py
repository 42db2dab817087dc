"""`/api/v1/logs` and `/ws/logs`: the daemon's own log lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sollold import api_types
from sollold.events.ring import rfc3339
from sollold.logs.hub import sending
from sollold.logs.line import gap_json
from sollold.logs.query import STREAM_FIELDS, LogQuery
from sollold.web.answer import long_answer
from sollold.web.push import Feed, check_origin
from sollold.web.route import NDJSON, Parameter, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiohttp import web

    from sollold.events.subscription import Batch
    from sollold.logs.hub import LogHub
    from sollold.logs.line import Line
    from sollold.web.push import Audience

_STREAM_PARAMETERS = (
    Parameter(name="level", text="From this level up: debug, info, warning, error or critical."),
    Parameter(name="source", text="Only loggers that begin so; several with commas."),
    Parameter(name="grep", text="Only lines with this text, in either case."),
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
        document = api_types.LogsDocument(at=rfc3339(now_s), lines=())
        items = _json(self._hub.last(query))
        return await long_answer(request, document, items, self._audience.turns)

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """Push log lines over a WebSocket: the last ones, then each as it is logged."""
        check_origin(request)
        query = LogQuery.parse(request.query, time.time(), STREAM_FIELDS)
        with sending():
            return await self._audience.socket(request, lambda: self._follow(query))

    def _follow(self, query: LogQuery) -> Feed[Line]:
        """Return the last lines and those to come. No await."""
        first, later = self._hub.follow(query)
        return Feed(_json(first), later, _texts)


def _json(lines: Iterable[Line | None]) -> Iterator[bytes | None]:
    return (None if line is None else line.json() for line in lines)


def _texts(batch: Batch[Line]) -> Iterator[bytes | None]:
    if batch.dropped:
        yield gap_json(batch.dropped, time.time())
    yield from _json(batch.records)
