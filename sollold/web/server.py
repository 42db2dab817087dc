"""The HTTP server below the application: what it answers to requests that never get that far.

Texts and closing follow Go's server, which is what Ollama's clients know. The only module that
derives from aiohttp's classes, because aiohttp has no hook for these answers.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler

from sollold.web.context import CONTEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

    Headers = Sequence[tuple[str, str]]

_BROKEN_TEXT = "the request's framing is broken"


class ServerRunner(web.AppRunner):
    """Runs an application; `headers` are those that every answer carries."""

    __slots__ = ("_headers",)

    def __init__(self, app: web.Application, *, headers: Headers, **settings: Any) -> None:
        super().__init__(app, **settings)
        self._headers = headers

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._headers)


class _Server(web.Server):
    """aiohttp's own server, except for who speaks with a client."""

    def __init__(self, made: web.Server, headers: Headers) -> None:
        self.__dict__.update(made.__dict__)
        self.headers = headers

    def __call__(self) -> RequestHandler:
        return _Connection(self, self.headers, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    """One client's connection."""

    __slots__ = ("_has_broken_body", "_headers")

    def __init__(self, server: web.Server, headers: Headers, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._headers = headers
        self._has_broken_body = False

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note an end that the system made, before handlers hear of it as of any other."""
        request = self._current_request
        if isinstance(exc, TimeoutError) and request is not None and CONTEXT in request:
            request[CONTEXT].is_timed_out = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; who waits for a body hears when it cannot be read any further."""
        super().data_received(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._break_bodies()

    def _break_bodies(self) -> None:
        """End all bodies that are not complete. No await."""
        current = self._current_request
        bodies = [body for _, body in self._messages]
        if current is not None and not current.content.is_eof():
            self._has_broken_body = True
            bodies.append(current.content)
        for body in bodies:
            if not body.is_eof() and body.exception() is None:
                body.set_exception(web.RequestPayloadError(_BROKEN_TEXT))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request, or what went wrong outside of the application."""
        response = super().handle_error(request, status, exc, message)
        if isinstance(exc, HttpProcessingError):
            found = HTTPStatus.BAD_REQUEST
            if isinstance(exc, LineTooLong):
                found = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            text = f"{found.value} {found.phrase}"
            response = web.Response(status=found, text=text)
        return self._closing(response)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer."""
        if isinstance(resp, web.HTTPExpectationFailed):
            resp = self._closing(web.Response(status=resp.status))
        elif self._has_broken_body and not resp.prepared:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def _closing(self, response: web.StreamResponse) -> web.StreamResponse:
        for name, value in (*self._headers, ("X-Sollold-Error", "sollold")):
            response.headers[name] = value
        response.headers["Connection"] = "close"
        response.force_close()
        return response
