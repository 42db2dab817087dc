"""`/api/v1/config`: the configuration in force, and where each value comes from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from sollold.api_config import ConfigDocument
from sollold.config.document import config_document
from sollold.events.ring import rfc3339
from sollold.web.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.config import LoadedConfig


class ConfigurationApi:
    """Handler of the document about the configuration."""

    def __init__(self, loaded: Callable[[], LoadedConfig]) -> None:
        self._loaded = loaded

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                method="GET",
                path="/api/v1/config",
                handler=self.config,
                summary="The configuration in force with the origin of each value, secrets hidden",
                tag="State",
                answer=ConfigDocument,
            )
        ]

    async def config(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/config`."""
        at = rfc3339(datetime.now(UTC).timestamp())
        response = web.Response(body=msgspec.json.encode(config_document(self._loaded(), at)))
        response.headers["Content-Type"] = "application/json; charset=utf-8"
        return response
