"""`/api/v1/events` and `/ws/routing_events`: what happened, and what happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sollold import api_types
from sollold.events.query import EventQuery, Filter, newest
from sollold.events.ring import gap_json, rfc3339
from sollold.web.answer import long_answer
from sollold.web.push import Feed, check_origin
from sollold.web.route import NDJSON, Parameter, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiohttp import web

    from sollold.events.bus import EventBus
    from sollold.events.ring import Record
    from sollold.events.subscription import Batch
    from sollold.web.push import Audience

_GREETING_EVENTS = 50

_FILTER_PARAMETERS = (
    Parameter(name="model", text="Only these models; several with commas."),
    Parameter(name="backend", text="Only these kinds of nodes."),
    Parameter(name="node", text="Only these nodes."),
    Parameter(name="event_type", text="Only these types, such as ROUTE_DECISION, or kinds."),
    Parameter(name="instance", text="Only events of these daemons."),
    Parameter(name="request", text="Only these requests; the start of an id will do."),
    Parameter(name="grep", text="Only events with this text in their line, in either case."),
)
_EVENT_PARAMETERS = (
    *_FILTER_PARAMETERS,
    Parameter(name="n", type="integer", text="How many of the last ones; 50."),
    Parameter(name="since", text="From then on: a duration before now, or a time in RFC 3339."),
    Parameter(name="until", text="Up to then."),
    Parameter(name="follow", type="boolean", text="Go on with what happens next, as NDJSON."),
)
_NOT = "A parameter other than `grep` with `!` after its name leaves out what it names: `node!=a`."


class EventApi:
    """Handlers of the events."""

    def __init__(self, bus: EventBus, audience: Audience) -> None:
        self._bus = bus
        self._audience = audience

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                method="GET",
                path="/api/v1/events",
                handler=self.events,
                summary="The last events; with follow=1 those to come, one a line",
                tag="Events",
                text=_NOT,
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
                f"is ignored. {_NOT}",
                parameters=_FILTER_PARAMETERS,
            ),
        ]

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer `/api/v1/events`: the last ones, or with `follow=1` those to come as NDJSON."""
        now_s = time.time()
        query = EventQuery.parse(request.query, now_s)
        if query.is_follow:
            return await self._audience.lines(request, lambda: self._follow(query))
        document = api_types.EventsDocument(at=rfc3339(now_s), events=())
        return await long_answer(request, document, self._last(query), self._audience.turns)

    async def routing_events(self, request: web.Request) -> web.StreamResponse:
        """Push events over a WebSocket: the last few, then each as it happens, in JSON arrays."""
        check_origin(request)
        wanted = Filter.parse(request.query)
        query = EventQuery(wanted, _GREETING_EVENTS, True, None, None)
        return await self._audience.socket(request, lambda: self._follow(query))

    def _follow(self, query: EventQuery) -> Feed[Record]:
        """Return the last events and those to come. No await."""
        subscription = self._bus.subscribe(query.filter)
        return Feed(self._last(query), subscription, _lines)

    def _last(self, query: EventQuery) -> Iterator[bytes | None]:
        """Return the last events, as they are now. No await."""
        records = newest(self._bus.kept(), query.passes, query.limit)
        return _json(records)


def _json(records: Iterable[Record | None]) -> Iterator[bytes | None]:
    return (None if record is None else record.json() for record in records)


def _lines(batch: Batch[Record]) -> Iterator[bytes | None]:
    if batch.dropped:
        yield gap_json(batch.dropped, time.time())
    yield from _json(batch.records)
