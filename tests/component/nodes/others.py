"""Throw-away servers that are not Ollama, with the replies of real ones."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

REPLIES = Path(__file__).parents[2] / "unit" / "nodes" / "replies"
_SIGNED = {"Server": "llama.cpp"}


def recorded(name: str, **fields: Any) -> dict[str, Any]:
    return {**json.loads((REPLIES / f"{name}.json").read_bytes()), **fields}


class Server:
    """Counts what it is asked; an async context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        self.is_silent = False
        self.wants_key = ""
        self.status = 0
        self.port = 0
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Any:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def count(self, path: str) -> int:
        return self.asked.count(path)

    async def _handle(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path_qs}")
        self.keys.append(request.headers.get("Authorization"))
        if self.is_silent:
            await asyncio.sleep(30)
        return self.answer(request)

    def answer(self, request: web.Request) -> web.Response:
        raise NotImplementedError

    def is_refused(self, request: web.Request) -> bool:
        key = request.headers.get("Authorization")
        return bool(self.wants_key) and key != f"Bearer {self.wants_key}"


class Llama(Server):
    """A llama-server with one model, or a router."""

    def __init__(self, props: str = "llama_props", models: str = "llama_models", **fields: Any):
        super().__init__(fields.pop("tls", None))
        self.props = recorded(props, **fields)
        self.models = recorded(models)
        self.is_loading = False
        self.has_embeddings = False
        self.embedding_status = 0
        self.is_signed = True
        self.headers: dict[str, str] = {}

    def answer(self, request: web.Request) -> web.Response:
        path, model = request.path, request.query.get("model")
        if self.is_loading:
            return self._error(503, "Loading model", "unavailable_error")
        if path == "/v1/models":
            return self._json(self.models)
        if path == "/health":
            return self._json({"status": "ok"})
        if self.is_refused(request):
            return self._error(401, "Invalid API Key", "authentication_error")
        if path == "/props" and model is not None:
            return self._json(recorded("llama_router_model_props"))
        if path == "/props":
            return self._json(self.props)
        if path == "/v1/embeddings" and self.embedding_status:
            return self._error(self.embedding_status, "not now", "unavailable_error")
        if path == "/v1/embeddings" and not self.has_embeddings:
            return self._error(501, "no embeddings", "not_supported_error")
        if path == "/v1/embeddings":
            return self._error(400, "must be provided", "invalid_request_error")
        return self._error(404, "File Not Found", "not_found_error")

    def _json(self, value: object, status: int = 200) -> web.Response:
        headers = {**(_SIGNED if self.is_signed else {}), **self.headers}
        return web.json_response(value, status=status, headers=headers)

    def _error(self, status: int, text: str, kind: str) -> web.Response:
        return self._json({"error": {"message": text, "type": kind, "code": status}}, status)


class Cloud(Server):
    """A server of OpenAI's API."""

    def __init__(self, *models: str | dict[str, Any], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.models = list(models)
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None

    def answer(self, request: web.Request) -> web.Response:
        if self.is_refused(request):
            return web.json_response({"error": {"message": "bad key"}}, status=401)
        if self.status:
            return web.Response(status=self.status, headers=self.headers)
        if request.path != "/v1/models":
            return web.json_response({"error": {"message": "unknown"}}, status=404)
        if self.body is not None:
            return web.Response(body=self.body, headers=self.headers)
        data = [{"id": item, "object": "model"} if isinstance(item, str) else item
                for item in self.models]  # fmt: skip
        return web.json_response({"object": "list", "data": data}, headers=self.headers)


@asynccontextmanager
async def both(*servers: Server) -> AsyncIterator[None]:
    """Run several."""
    for server in servers:
        await server.start()
    try:
        yield
    finally:
        for server in servers:
            await server.stop()
