"""The outermost middleware: who may call, what every answer carries, how errors look.

The only place that turns an error into HTTP. Origins and hosts follow Ollama's own rules; unknown
paths, wrong methods and trailing slashes are answered as Ollama's web framework does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from typing import TYPE_CHECKING

from aiohttp import web

from sollold.api_types import ErrorBody, ErrorDocument, encode
from sollold.core.model import Dialect, RequestId
from sollold.errors import Draining, InternalError, LoopDetected, SollolError
from sollold.log import request_id as current_request_id
from sollold.routing.record import Outcome
from sollold.system.unit import unit_of
from sollold.web.context import CONTEXT, Context
from sollold.web.redirect import clean_path, redirect
from sollold.wire.cors import Allowed, Denied
from sollold.wire.errors import error_body
from sollold.wire.headers import (
    new_request_id,
    passed_through,
    valid_request_id,
    via_element,
)
from sollold.wire.routes import InferenceRoute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiohttp.typedefs import Handler

    from sollold.wire.cors import HostPolicy, OriginPolicy

_log = logging.getLogger(__name__)


_CODES = {
    400: "invalid_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "payload_too_large",
    503: "unavailable",
}
"""Codes of errors that come without one."""


def _log_hint() -> str:
    unit = unit_of(None)
    return f"the daemon's log has the details{'' if unit is None else f': {unit.journal()}'}"


_HINTS = {
    "internal": _log_hint(),
    "node_not_found": "sollolctl nodes lists them",
    "not_found": "docs/api.md lists what there is",
}
"""What to do about an error of `/api/v1`, where it itself does not say."""

_ENGINE_ROUTES = {route.path: route for route in InferenceRoute if route.kind is not None}
_CALLERS_5XX = (501, 508)
_CLIENT_GONE = 499

_ATTEMPT = re.compile(r"(\.[0-9]+)+$")
"""What a request's id gets behind it for its second attempt and later ones."""


class Edge:
    """Checks and decorates every request; `middleware` goes first in the application."""

    def __init__(
        self,
        *,
        instance: str,
        origins: OriginPolicy,
        hosts: Mapping[tuple[str, int], HostPolicy],
        methods: Mapping[str, tuple[str, ...]],
        running: Callable[[], Iterable[str]] = tuple,
        on_undispatched: Callable[[InferenceRoute, int, Outcome], None] | None = None,
    ) -> None:
        """`hosts` by listener, as bound; `running` gives the ids of requests on nodes.

        `on_undispatched` hears of inference requests that ended without the dispatcher.
        """
        self._instance = instance
        self._via = via_element(instance)
        self._origins = origins
        self._hosts = hosts
        self._methods = methods
        self._running = running
        self._on_undispatched = on_undispatched
        self._ids: set[str] = set()
        self._tasks: dict[asyncio.Task[object], Context] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.working = 0
        """Requests under way, those of `/api/v1` and event listeners left out."""
        self.errors = 0

    def set_rules(self, origins: OriginPolicy, hosts: Mapping[tuple[str, int], HostPolicy]) -> None:
        """Check requests from now on by other rules. No await."""
        self._origins, self._hosts = origins, hosts

    @property
    def via(self) -> str:
        """This instance's entry in `Via`."""
        return self._via

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What every answer of this daemon carries, in a list of the caller's own."""
        return [("Via", self._via), ("Server", "sollold")]

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request or turn what went wrong into an answer."""
        headers = self.headers
        refusal = self._admit(request, headers)
        if refusal is not None:
            self._name_methods(request, refusal)
            return _with_headers(refusal, headers)
        request_id, base = self._identify(request.headers.get("X-Request-Id"))
        headers.append(("X-Request-Id", request_id))
        context = Context(request_id, headers, request.path)
        request[CONTEXT] = context
        token = current_request_id.set(request_id)
        task = asyncio.current_task()
        if task is not None:
            self._tasks[task] = context
        self._note_work(context, 1)
        status = _CLIENT_GONE
        try:
            response = await self._answer(request, handler, context)
            status = response.status
        finally:
            self._count(request, context, status)
            self._note_work(context, -1)
            current_request_id.reset(token)
            self._ids.discard(base)
            if task is not None:
                self._tasks.pop(task, None)
        if response is context.decorated or response.prepared:
            return response
        return _with_headers(response, headers)

    async def drained(self, limit_s: float) -> bool:
        """Wait until no request is under way; True when that came true in time."""
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def refuse_uploads(self) -> None:
        """Refuse requests whose bodies are still on their way: nobody will serve them. No await."""
        for task, context in self._tasks.items():
            if context.is_uploading:
                context.is_cut = True
                task.cancel()

    def cut(self) -> None:
        """End every request under way: with a refusal, or in mid-answer by a cut. No await."""
        for task, context in self._tasks.items():
            context.is_cut = True
            task.cancel()

    def _note_work(self, context: Context, step: int) -> None:
        if context.may_outlast:
            return
        self.working += step
        if self.working:
            self._idle.clear()
        else:
            self._idle.set()

    def _count(self, request: web.Request, context: Context, status: int) -> None:
        """Tell of an inference request that nobody else tells of. No await."""
        if context.is_dispatched or self._on_undispatched is None or request.method != "POST":
            return
        route = _ENGINE_ROUTES.get(request.path)
        if route is not None:
            self._on_undispatched(route, status, _outcome(status))

    def _identify(self, sent: str | None) -> tuple[RequestId, str]:
        """Return a request's id and what it is known by among those under way.

        It is the client's own if that is harmless and no other request under way has it.
        """
        if sent is not None and valid_request_id(sent):
            base = _base(sent)
            if base not in self._ids and all(_base(other) != base for other in self._running()):
                self._ids.add(base)
                return RequestId(sent), base
        made = new_request_id(os.urandom(8))
        self._ids.add(made)
        return made, made

    def _admit(self, request: web.Request, headers: list[tuple[str, str]]) -> web.Response | None:
        """Apply the origin and host rules; a response means the request ends here."""
        origin = request.headers.get("Origin")
        host = request.headers.get("Host", "")
        if origin is not None:
            verdict = self._origins.decide(origin, host)
            if isinstance(verdict, Denied):
                return web.Response(status=403)
            if isinstance(verdict, Allowed):
                headers.extend(verdict.headers)
                if request.method == "OPTIONS":
                    headers.extend(self._origins.preflight_headers())
                    return web.Response(status=204)
        return self._check_host(request, host)

    def _name_methods(self, request: web.Request, refusal: web.Response) -> None:
        """Add `Allow` where the path does not take this method; Ollama looks that up first."""
        methods = self._methods.get(request.path)
        if methods is not None and request.method not in methods:
            refusal.headers["Allow"] = ", ".join(methods)

    def _check_host(self, request: web.Request, host: str) -> web.Response | None:
        policy = self._host_policy(request)
        if policy is None or not policy.is_checked:
            return None
        if not policy.accepts(host):
            _log.warning(
                "refused a request for host %r; if a reverse proxy sends it, add the name to "
                "[listen] allowed_hosts",
                host[:200],
            )
            return web.Response(status=403)
        if request.method == "OPTIONS" and policy.is_name(host):
            return web.Response(status=204)
        return None

    def _host_policy(self, request: web.Request) -> HostPolicy | None:
        """Return the rules of the listener that took the request; the control socket has none."""
        name = request.transport.get_extra_info("sockname") if request.transport else None
        if not isinstance(name, tuple):
            return None
        port = name[1]
        for host in (name[0], "0.0.0.0", "::"):
            policy = self._hosts.get((host, port))
            if policy is not None:
                return policy
        return None

    async def _answer(
        self, request: web.Request, handler: Handler, context: Context
    ) -> web.StreamResponse:
        try:
            via = request.headers.getall("Via", ())
            if via and passed_through(via, self._instance):
                raise LoopDetected("this request already passed here: the nodes form a loop")
            return await handler(request)
        except web.HTTPNotFound:
            return self._not_found(request)
        except web.HTTPMethodNotAllowed as error:
            return self._wrong_method(request, error.allowed_methods)
        except web.HTTPException as error:
            return error_response(context, error.status, error.reason)
        except SollolError as error:
            return _refusal(context, error)
        except asyncio.CancelledError:
            if not context.is_cut or not _can_answer(request):
                raise
            # Cut by us before anything was sent: an answer says more than a closed connection.
            _uncancel()
            return _refusal(context, Draining())
        except ConnectionError:
            # Nobody is there to read it; aiohttp would log the error itself.
            return web.Response(status=_CLIENT_GONE)
        except Exception:
            self.errors += 1
            _log.exception(
                "a request failed inside sollold: %s %s", request.method, request.path[:200]
            )
            if not _can_answer(request):
                # Part of an answer is out: nothing may follow that looks like its end.
                if request.transport is not None:
                    request.transport.abort()
                raise
            bug = InternalError("internal error in sollold; its log has the details")
            return _refusal(context, bug)

    def _not_found(self, request: web.Request) -> web.Response:
        if request[CONTEXT].is_control:
            return error_response(request[CONTEXT], 404, f"there is no {request.path[:200]}")
        raw = request.rel_url.raw_path
        clean = clean_path(raw)
        bare = clean.rstrip("/") or "/"
        if raw.startswith("/") and bare in self._methods:
            if clean != raw:
                return redirect(request, clean, 307)
            if bare != raw and request.method in self._methods[bare]:
                return redirect(request, bare, 301 if request.method == "GET" else 307)
        return web.Response(status=404, body=b"404 page not found", content_type="text/plain")

    def _wrong_method(self, request: web.Request, allowed: Iterable[str]) -> web.Response:
        methods = self._methods.get(request.path, tuple(sorted(allowed)))
        context = request[CONTEXT]
        if context.is_control:
            response = error_response(context, 405, f"{request.method} is not for this path")
        else:
            response = web.Response(
                status=405, body=b"405 method not allowed", content_type="text/plain"
            )
        response.headers["Allow"] = ", ".join(methods)
        return response


def _outcome(status: int) -> Outcome:
    """Return how a request ended that the dispatcher never saw."""
    if status < 400:
        return Outcome.OK
    if status == _CLIENT_GONE:
        return Outcome.CANCELED
    if status < 500 or status in _CALLERS_5XX:
        return Outcome.CALLER
    return Outcome.REFUSED if status == 503 else Outcome.FAILED


def _base(request_id: str) -> str:
    return _ATTEMPT.sub("", request_id)


def _can_answer(request: web.Request) -> bool:
    """Whether the client is there and has got nothing yet."""
    transport = request.transport
    return transport is not None and not transport.is_closing() and not request.writer.output_size


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _refusal(context: Context, error: SollolError) -> web.Response:
    return error_response(
        context,
        error.http_status,
        error.message,
        code=error.code,
        retry_after_s=error.retry_after_s,
    )


def _with_headers(
    response: web.StreamResponse, headers: Iterable[tuple[str, str]]
) -> web.StreamResponse:
    for name, value in headers:
        response.headers[name] = value
    return response


def error_response(
    context: Context,
    status: int,
    text: str,
    *,
    code: str = "",
    retry_after_s: int | None = None,
    is_early: bool = False,
) -> web.Response:
    """Return an error in the caller's dialect; `is_early` when the request itself is at fault."""
    dialect = Dialect.OPENAI if context.is_v1 else Dialect.OLLAMA
    if context.is_control:
        code = code or _CODES.get(status, "error")
        hint = context.hint or _HINTS.get(code)
        document = ErrorDocument(error=ErrorBody(code=code, message=text, hint=hint))
        body, content_type = encode(document), "application/json; charset=utf-8"
    else:
        body, content_type = error_body(dialect, status, text, is_early=is_early)
    response = web.Response(status=status, body=body)
    response.headers["Content-Type"] = content_type
    response.headers["X-Sollold-Error"] = "sollold"
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response
