"""`/api/v1/reload`: read the configuration anew."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from sollold.api_reload import ReloadDocument
from sollold.web.answer import json_answer
from sollold.web.route import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_REFUSED = 422


class ReloadApi:
    """Handler of the route that reloads."""

    def __init__(self, reload: Callable[[], Awaitable[ReloadDocument]]) -> None:
        self._reload = reload

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                method="POST",
                path="/api/v1/reload",
                handler=self.reload,
                summary="Read the configuration anew; 422 lists what is wrong with it",
                tag="State",
                answer=ReloadDocument,
                statuses=(200, _REFUSED),
            )
        ]

    async def reload(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/reload` once the new configuration is in force, or refused."""
        _refuse_other_sites(request)
        document = await self._reload()
        status = _REFUSED if document.result == "refused" else 200
        return json_answer(document, status=status)


def _refuse_other_sites(request: web.Request) -> None:
    """Refuse pages of other sites: their readers did not ask for this."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise web.HTTPForbidden(reason="this page may not reload sollold")
