"""Puts the routes together. Building an application has no side effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from sollold.wire.routes import InferenceRoute

if TYPE_CHECKING:
    from sollold.web.catalogue import Catalogue
    from sollold.web.control import ControlApi
    from sollold.web.edge import Edge
    from sollold.web.inference import InferenceApi
    from sollold.web.metrics import Metrics

CATALOGUE_METHODS: dict[str, tuple[str, ...]] = {
    "/": ("HEAD", "GET"),
    "/api/version": ("HEAD", "GET"),
    "/api/tags": ("HEAD", "GET"),
    "/api/ps": ("GET",),
    "/v1/models": ("GET",),
}
"""Lists and the methods Ollama takes on them, in the order its `Allow` header has."""


def known_methods() -> dict[str, tuple[str, ...]]:
    """Return every path that imitates Ollama with the methods it takes."""
    return CATALOGUE_METHODS | {route.path: ("POST",) for route in InferenceRoute}


def make_app(
    *,
    edge: Edge,
    catalogue: Catalogue,
    inference: InferenceApi,
    control: ControlApi,
    metrics: Metrics | None,
    body_limit_bytes: int,
) -> web.Application:
    """Return the application that every listener serves."""
    app = web.Application(middlewares=[edge.middleware], client_max_size=body_limit_bytes)
    handlers = {
        "/": catalogue.root,
        "/api/version": catalogue.version,
        "/api/tags": catalogue.tags,
        "/api/ps": catalogue.ps,
        "/v1/models": catalogue.v1_models,
    }
    for path, methods in CATALOGUE_METHODS.items():
        for method in methods:
            app.router.add_route(method, path, handlers[path])
    app.router.add_routes(inference.routes())
    app.router.add_routes(control.routes())
    if metrics is not None:
        app.router.add_get("/metrics", metrics.page, allow_head=False)
    app.on_shutdown.append(control.close_sockets)
    return app


def make_metrics_app(metrics: Metrics) -> web.Application:
    """Return the application of the listener that serves metrics only."""
    app = web.Application()
    app.router.add_get("/metrics", metrics.page, allow_head=False)
    return app
