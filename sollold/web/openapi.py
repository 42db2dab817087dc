"""`/openapi.json`: the OpenAPI document, made of the same rows as the router."""

from __future__ import annotations

import asyncio
import hashlib
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiohttp import web

from sollold import __version__
from sollold.api_types import EventsDocument
from sollold.core.model import RequestId
from sollold.web.context import Context
from sollold.web.route import EVENT_STREAM, JSON, NDJSON, Route
from sollold.web.schemas import EVENT, OLLAMA_ERROR, OPENAI_ERROR, OUR_ERROR, ref, schemas
from sollold.web.static import is_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.web.route import Parameter
    from sollold.web.schemas import Schema

_ABOUT = """\
One address for many inference servers. `/api/…` speaks Ollama's API and `/v1/…` OpenAI's; their \
formats are described by those who made them, and linked. `/api/v1/…` is the daemon's own.

Requests of foreign web pages and under foreign host names are refused with 403 and no body.
"""

_TAGS = {
    "State": "What the daemon, its nodes and its requests do.",
    "Events": "What happened and what happens.",
    "Ollama": "As Ollama answers, whichever node does the work.",
    "OpenAI": "As Ollama's OpenAI-compatible routes answer.",
    "Pages": "For people.",
}

_STREAMS = {
    NDJSON: "One JSON object a line, as it comes.",
    EVENT_STREAM: "Server-sent events, ended by `data: [DONE]`.",
}

_HEADERS: dict[str, Schema] = {
    "X-Request-Id": {
        "description": "What the request is called in events and logs: the client's own id where "
        "it sent a good one.",
        "schema": {"type": "string"},
    },
    "X-Sollold-Error": {
        "description": "Set when the daemon itself found the error; the texts are Ollama's.",
        "schema": {"enum": ["sollold"]},
    },
    "X-Sollold-Node": {"description": "Who did the work.", "schema": {"type": "string"}},
    "X-Sollold-Attempts": {
        "description": "On how many nodes it was tried.",
        "schema": {"type": "integer"},
    },
    "X-Sollold-Queue-Ms": {
        "description": "How long it waited for a node.",
        "schema": {"type": "integer"},
    },
    "X-Sollold-Reason": {"description": "Why this node.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds after which to ask again.",
        "schema": {"type": "integer"},
    },
}
_ALWAYS = ("X-Request-Id",)
_ROUTED = ("X-Sollold-Node", "X-Sollold-Attempts", "X-Sollold-Queue-Ms", "X-Sollold-Reason")
_FAILED = ("X-Sollold-Error",)
_BODILESS = frozenset({101, 204, 304})
_LATER = 503
_NOT_OFFERED = 501

_VARIABLE = re.compile(r"\{(\w+)(?::[^}]*)?\}")


class _Made(NamedTuple):
    body: bytes
    tag: str


class Description:
    """Answers with the document of these rows and its own; it is made when first asked for."""

    def __init__(self, rows: Sequence[Route]) -> None:
        self._rows = (*rows, *self.routes())
        self._made: _Made | None = None

    def routes(self) -> list[Route]:
        """Return the route."""
        return [
            Route(
                method="GET",
                path="/openapi.json",
                handler=self.document,
                summary="This document",
                tag="Pages",
                statuses=(200, 304),
                link="https://spec.openapis.org/oas/v3.1.1.html",
            )
        ]

    async def document(self, request: web.Request) -> web.Response:
        """Answer `/openapi.json`."""
        if self._made is None:
            self._made = await asyncio.to_thread(self._make)
        body, tag = self._made
        response = web.Response(status=304) if is_known(request, tag) else web.Response(body=body)
        if response.status == 200:
            response.headers["Content-Type"] = "application/json; charset=utf-8"
        response.headers["ETag"] = f'"{tag}"'
        response.headers["Cache-Control"] = "no-cache"
        return response

    def _make(self) -> _Made:
        body = msgspec.json.encode(make_document(self._rows))
        return _Made(body, hashlib.sha256(body).hexdigest()[:16])


def make_document(rows: Sequence[Route]) -> Schema:
    """Return the OpenAPI document of the rows that are not hidden."""
    shown = [row for row in rows if not row.hidden]
    paths: dict[str, Schema] = {}
    for row in sorted(shown, key=lambda row: (_order(row), row.path, row.method)):
        paths.setdefault(shown_path(row.path), {})[row.method.lower()] = _operation(row)
    tags = dict.fromkeys(row.tag for row in sorted(shown, key=_order))
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "sollold",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": ".", "description": "Where this document comes from"}],
        "tags": [{"name": tag, "description": _TAGS.get(tag, tag)} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": schemas(
                [kind for row in shown for kind in (row.answer, row.piece) if kind is not None],
                [row.body for row in shown if row.body not in (None, dict)],
            ),
            "headers": _HEADERS,
        },
    }


def _order(row: Route) -> int:
    """Return the place of a row's group: ours, then those that are described elsewhere."""
    known = list(_TAGS)
    return known.index(row.tag) if row.tag in known else known.index("Ollama") - 1


def shown_path(path: str) -> str:
    """Return a path as OpenAPI writes it: without the patterns of its variables."""
    return _VARIABLE.sub(r"{\1}", path)


def operation_id(row: Route) -> str:
    """Return the stable name of an operation: its method and the words of its path."""
    words = re.findall(r"\w+", shown_path(row.path)) or ["root"]
    return "_".join([row.method.lower(), *words])


def _operation(row: Route) -> Schema:
    found: Schema = {
        "operationId": operation_id(row),
        "summary": row.summary,
        "tags": [row.tag],
        "responses": _responses(row),
    }
    if row.text:
        found["description"] = row.text
    if row.link:
        found["externalDocs"] = {"url": row.link}
    parameters = [*map(_parameter, row.parameters), *_undeclared(row)]
    if parameters:
        found["parameters"] = parameters
    if row.body is not None:
        found["requestBody"] = _request_body(row)
    return found


def _parameter(parameter: Parameter) -> Schema:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.text,
        "required": parameter.place == "path",
        "schema": {"type": parameter.type},
    }


def _undeclared(row: Route) -> list[Schema]:
    """Return the variables of the path that no parameter speaks of."""
    declared = {parameter.name for parameter in row.parameters}
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _VARIABLE.findall(row.path)
        if name not in declared
    ]


def _request_body(row: Route) -> Schema:
    if row.body is dict:
        return {"required": True, "content": {JSON: {"schema": _foreign(row)}}}
    is_needed = any(field.required for field in msgspec.structs.fields(row.body))
    return {"required": is_needed, "content": {JSON: {"schema": ref(row.body.__name__)}}}


def _foreign(row: Route) -> Schema:
    """Return what is said of a format that others describe."""
    found: Schema = {"type": "object"}
    return found | ({"externalDocs": {"url": row.link}} if row.link else {})


def _responses(row: Route) -> Schema:
    if row.is_socket:
        return {"101": _response(row, 101), "default": _failure(row)}
    found = {str(status): _response(row, status) for status in row.statuses}
    if not row.statuses:
        found[str(_NOT_OFFERED)] = _failure(row, "Not offered")
    if row.is_routed:
        found[str(_LATER)] = _failure(row, "No node can take it now", "Retry-After")
    found["default"] = _failure(row)
    return found


def _response(row: Route, status: int) -> Schema:
    names = (*_ALWAYS, *(_ROUTED if row.is_routed else ()))
    found: Schema = {"description": HTTPStatus(status).phrase, "headers": _headers(names)}
    if row.method != "HEAD" and status not in _BODILESS:
        found["content"] = _content(row)
    return found


def _content(row: Route) -> Schema:
    found: Schema = {row.media: {"schema": _answer(row)}}
    if row.stream:
        piece: Schema = {"description": _STREAMS.get(row.stream, "Piece by piece.")}
        if row.answer is EventsDocument:
            piece["anyOf"] = [ref(EVENT), ref("Gap")]
        elif row.piece is not None:
            piece |= ref(row.piece.__name__)
        found[row.stream] = {"schema": piece}
    return found


def _answer(row: Route) -> Schema:
    if row.answer is not None:
        return ref(row.answer.__name__)
    return _foreign(row) if row.media == JSON else {"type": "string"}


def _failure(row: Route, text: str = "Refused or failed", *headers: str) -> Schema:
    found: Schema = {
        "description": text,
        "headers": _headers((*_ALWAYS, *_FAILED, *headers)),
    }
    if row.method != "HEAD":
        found["content"] = {JSON: {"schema": ref(_error(row.path))}}
    return found


def _error(path: str) -> str:
    """Return the shape of errors, by the same rule that the edge has."""
    context = Context(RequestId(""), [], path)
    if context.is_control:
        return OUR_ERROR
    return OPENAI_ERROR if context.is_v1 else OLLAMA_ERROR


def _headers(names: Sequence[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
