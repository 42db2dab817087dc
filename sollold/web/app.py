"""Puts the routes together. Building an application has no side effects."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from sollold.web.imitated import Elsewhere
from sollold.web.openapi import Description

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.web.catalogue import Catalogue
    from sollold.web.console.pages import Console
    from sollold.web.control import ControlApi
    from sollold.web.edge import Edge
    from sollold.web.inference import InferenceApi
    from sollold.web.metrics import Metrics
    from sollold.web.push import Audience
    from sollold.web.route import Routed

_MAX_HEADER_BYTES = 64 * 1024
"""One header field: browsers send every cookie that any program on this host ever set."""


def make_app(
    *,
    edge: Edge,
    catalogue: Catalogue,
    inference: InferenceApi,
    control: ControlApi,
    audience: Audience,
    console: Console,
    parts: Sequence[Routed] = (),
    metrics: Metrics | None,
    body_limit_bytes: int,
) -> web.Application:
    """Return the application that every listener serves; `parts` answer routes of their own."""
    app = web.Application(
        middlewares=[edge.middleware],
        client_max_size=body_limit_bytes,
        handler_args=_server_settings(),
    )
    served: list[Routed] = [catalogue, Elsewhere(), inference, control, console, *parts]
    if metrics is not None:
        served.append(metrics)
    rows = [console.over(row) for part in served for row in part.routes()]
    rows += Description(rows).routes()
    app.router.add_routes([row.definition() for row in rows])
    app.on_shutdown.append(audience.say_goodbye)
    console.join(app)
    return app


def make_metrics_app(metrics: Metrics) -> web.Application:
    """Return the application of the listener that serves metrics only."""
    app = web.Application(handler_args=_server_settings())
    app.router.add_routes([row.definition() for row in metrics.routes()])
    return app


def _server_settings() -> dict[str, Any]:
    """Return what aiohttp's server is told, wherever the application runs."""
    return {
        "logger": _ServerLog(logging.getLogger(__name__), {}),
        "auto_decompress": False,  # `sollold.web.body` does it, within its limits
        "max_line_size": _MAX_HEADER_BYTES,
        "max_field_size": _MAX_HEADER_BYTES,
    }


class _ServerLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's complaints, without the bytes of requests it cannot read: they may be prompts."""

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log what went wrong in a connection."""
        error = _error_in(kwargs)
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            self.logger.info("a client's request cannot be read: %s", type(error).__name__)
        else:
            self.logger.error(msg, *args, **({"exc_info": True} | kwargs))

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log what may go wrong, without its details."""
        error = _error_in(kwargs)
        if error is None:
            self.logger.debug(msg, *args)
        else:
            self.logger.debug("a client's request cannot be read: %s", type(error).__name__)


def _error_in(kwargs: dict[str, Any]) -> BaseException | None:
    found = kwargs.get("exc_info")
    return found if isinstance(found, BaseException) else sys.exc_info()[1]
