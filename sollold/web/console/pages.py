"""The console page itself: complete HTML, readable without scripts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp_jinja2

from sollold.web.console.hub import Hub
from sollold.web.console.panels import Panels, compile_all, environment_settings
from sollold.web.console.view import View
from sollold.web.pages import page
from sollold.web.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import jinja2
    from aiohttp import web
    from aiohttp.typedefs import Handler

    from sollold.core.model import Fleet
    from sollold.events.bus import EventBus
    from sollold.web.documents import Documents
    from sollold.web.static import StaticFiles

_EVERYWHERE = ("0.0.0.0", "::")
_HTML = "text/html"


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
    ) -> None:
        """Take the listeners of the console as bound."""
        self._documents = documents
        self._fleet = fleet
        self._bus = bus
        self._static = static
        self._listeners = frozenset(listeners)
        self._panels: asyncio.Future[Panels] | None = None
        self._templates: jinja2.Environment
        self.hub = Hub(self.panels, bus)

    def join(self, app: web.Application) -> None:
        """Give the application the templates, and the pages a goodbye when it stops. No await."""
        self._templates = aiohttp_jinja2.setup(app, **environment_settings())
        app.on_shutdown.append(self.hub.close)

    def routes(self) -> list[Route]:
        """Return the routes; `/` belongs to Ollama's API too and is looked up by `root`."""
        page_route = Route(
            method="GET",
            path="/console",
            handler=self.page,
            summary="The console page, on the console's listener at / too",
            tag="Pages",
            media=_HTML,
        )
        return [
            page_route,
            Route(
                method="GET",
                path="/ws/console",
                handler=self.hub.handle,
                summary="Keeps the console page live, over a WebSocket",
                tag="Pages",
                text="A WebSocket. Its messages are for the console page and may change.",
            ),
        ]

    def root(self, ollamas: Handler) -> Handler:
        """Return who answers `/`: the page on the console's listeners, `ollamas` elsewhere."""

        async def answer(request: web.Request) -> web.StreamResponse:
            return await (self.page if self._is_consoles(request) else ollamas)(request)

        return answer

    async def page(self, request: web.Request) -> web.Response:
        """Answer with the whole page as it is at this moment."""
        panels = await self.panels()
        context = panels.page(View.parse(request.query_string)) | {"asset": self._asset}
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
