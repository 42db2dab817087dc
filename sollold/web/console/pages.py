"""The console page itself: complete HTML, readable without scripts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp_jinja2
import msgspec

from sollold.web.console.hub import Hub
from sollold.web.console.panels import Panels, compile_all, environment_settings
from sollold.web.console.view import View
from sollold.web.pages import page
from sollold.web.route import Parameter, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import jinja2
    from aiohttp import web

    from sollold.core.model import Fleet
    from sollold.events.bus import EventBus
    from sollold.web.documents import Documents
    from sollold.web.static import StaticFiles

_EVERYWHERE = ("0.0.0.0", "::")
_HTML = "text/html"
_SCRIPTS = (
    "vendor/idiomorph/idiomorph.min.js",
    "console/base.js",
    "console/merging.js",
    "console/connection.js",
    "console/view.js",
    "console/keys.js",
    "log.js",
)
"""In the order in which they run; each builds on those before it."""

_VIEW = (
    Parameter(name="sort", text="The column that nodes sort by; with a minus, the other way."),
    Parameter(name="filter", text="Only nodes whose name, address, state or models have this."),
    Parameter(name="request", text="Only decisions about this request; its start will do."),
)


class Console:
    """`/` of the console's listeners, `/console` everywhere, and what keeps the page live."""

    def __init__(
        self,
        *,
        documents: Documents,
        fleet: Callable[[], Fleet],
        bus: EventBus,
        static: StaticFiles,
        listeners: Collection[tuple[str, int]],
        is_stopping: Callable[[], bool],
    ) -> None:
        """Take the listeners of the console as bound."""
        self._documents = documents
        self._fleet = fleet
        self._bus = bus
        self._static = static
        self._listeners = frozenset(listeners)
        self._panels: asyncio.Future[Panels] | None = None
        self._templates: jinja2.Environment
        self.hub = Hub(self.panels, bus, is_stopping)

    def join(self, app: web.Application) -> None:
        """Give the application the templates, and the pages a goodbye when it stops. No await."""
        self._templates = aiohttp_jinja2.setup(app, **environment_settings())
        app.on_shutdown.append(self.hub.close)

    def routes(self) -> list[Route]:
        """Return the routes; `over` adds `/`, which belongs to Ollama's API too."""
        page_route = Route(
            method="GET",
            path="/console",
            handler=self.page,
            summary="The console page, on the console's listener at / too",
            tag="Pages",
            media=_HTML,
            parameters=_VIEW,
        )
        return [
            page_route,
            Route(
                method="GET",
                path="/ws/console",
                handler=self.hub.handle,
                summary="Keeps the console page live, over a WebSocket",
                tag="Pages",
                text="A WebSocket for the page that came from the same daemon: panels as HTML in "
                "JSON objects whose form may change with any version.",
                parameters=_VIEW,
            ),
        ]

    def over(self, row: Route) -> Route:
        """Return a row of another part; what answers `/` leaves the console's listeners to us."""
        if row.path != "/":
            return row
        elsewhere = row.handler

        async def top(request: web.Request) -> web.StreamResponse:
            return await (self.page if self._is_consoles(request) else elsewhere)(request)

        return msgspec.structs.replace(row, handler=top)

    async def page(self, request: web.Request) -> web.Response:
        """Answer with the whole page as it is at this moment."""
        panels = await self.panels()
        context = panels.page(View.parse(request.query_string))
        context |= {"asset": self._asset, "scripts": _SCRIPTS, "full": self.hub.full}
        response = page(aiohttp_jinja2.render_string("page.html", request, context))
        response.enable_compression()
        return response

    async def panels(self) -> Panels:
        """Return what renders; made when the first page is asked for."""
        if self._panels is None:
            self._panels = asyncio.ensure_future(self._prepare())
        return await asyncio.shield(self._panels)

    async def _prepare(self) -> Panels:
        await asyncio.to_thread(compile_all, self._templates)
        return Panels(
            documents=self._documents,
            fleet=self._fleet,
            bus=self._bus,
            templates=self._templates,
        )

    def _asset(self, name: str) -> str | None:
        try:
            return self._static.url(name)
        except KeyError:
            return None

    def _is_consoles(self, request: web.Request) -> bool:
        name = request.transport.get_extra_info("sockname") if request.transport else None
        if not isinstance(name, tuple):
            return False
        return any((host, name[1]) in self._listeners for host in (name[0], *_EVERYWHERE))
