"""Answers made from memory: lists of models, what is loaded, the version. Waits for no node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from sollold.web.imitated import catalogue_rows
from sollold.wire import catalogue as merge
from sollold.wire.show import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.core.model import Digest, Fleet, ModelKey, ModelView
    from sollold.web.route import Route

NATIVE = "application/json; charset=utf-8"


class Catalogue:
    """Merged views of the fleet, made once per generation."""

    def __init__(self, fleet: Callable[[], Fleet], *, version_floor: str) -> None:
        self._fleet = fleet
        self._version_floor = version_floor
        self._made: dict[str, tuple[int, bytes]] = {}
        self._digests: tuple[int, dict[ModelKey, Digest]] = (-1, {})

    def set_version_floor(self, version_floor: str) -> None:
        """Report another version while no node's is known. No await."""
        self._version_floor = version_floor
        self._made.pop("version", None)

    def routes(self) -> list[Route]:
        """Return the routes."""
        handlers = {
            "/": self.root,
            "/api/version": self.version,
            "/api/tags": self.tags,
            "/api/ps": self.ps,
            "/v1/models": self.v1_models,
        }
        return [row for path, handler in handlers.items() for row in catalogue_rows(path, handler)]

    def _cached(self, name: str, make: Callable[[Fleet], bytes]) -> bytes:
        fleet = self._fleet()
        known = self._made.get(name)
        if known is not None and known[0] == fleet.generation:
            return known[1]
        body = make(fleet)
        self._made[name] = (fleet.generation, body)
        return body

    def digest_of(self, model: ModelKey) -> Digest | None:
        """Return the digest that this name stands for, as listed; None when nobody holds it."""
        fleet = self._fleet()
        if self._digests[0] != fleet.generation:
            self._digests = (fleet.generation, merge.preferred_digests(fleet))
        return self._digests[1].get(model)

    def show(self, model: ModelKey, digest: Digest) -> bytes | None:
        """Return the body of `/api/show`; None where an Ollama node has to be asked."""
        found: ModelView | None = None
        for node in self._fleet().nodes:
            view = node.models.get(model)
            if view is None or view.digest != digest:
                continue
            if view.engine is None and node.is_routable:
                return None
            found = found if view.engine is None else found or view
        return None if found is None or found.engine is None else show(found, found.engine)

    async def root(self, request: web.Request) -> web.Response:
        """Answer `/` on the API listener."""
        return _answer(b"Ollama is running", "text/plain; charset=utf-8")

    async def version(self, request: web.Request) -> web.Response:
        """Answer `/api/version`."""
        body = self._cached("version", lambda fleet: merge.version(fleet, self._version_floor))
        return _answer(body, NATIVE)

    async def tags(self, request: web.Request) -> web.Response:
        """Answer `/api/tags`."""
        return _answer(self._cached("tags", merge.tags), NATIVE)

    async def ps(self, request: web.Request) -> web.Response:
        """Answer `/api/ps`."""
        return _answer(self._cached("ps", merge.ps), NATIVE)

    async def v1_models(self, request: web.Request) -> web.Response:
        """Answer `/v1/models`."""
        return _answer(self._cached("v1_models", merge.v1_models), "application/json")


def _answer(body: bytes, content_type: str) -> web.Response:
    response = web.Response(body=body)
    response.headers["Content-Type"] = content_type
    return response
