"""`/api/v1/config`: the configuration in force, and where each value comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.api_config import ConfigDocument
from sollold.config.document import config_document
from sollold.web.answer import json_answer, now_text
from sollold.web.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

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
        return json_answer(config_document(self._loaded(), now_text()))
