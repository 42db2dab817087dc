"""`/api/v1/reload`: read the configuration anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.api_reload import ReloadDocument
from sollold.web.answer import json_answer
from sollold.web.push import check_origin
from sollold.web.route import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

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
        check_origin(request)
        document = await self._reload()
        status = _REFUSED if document.result == "refused" else 200
        return json_answer(document, status=status)
