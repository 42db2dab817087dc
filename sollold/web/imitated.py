"""The routes that imitate Ollama and OpenAI, for those who read about them: nothing answers here.

Which methods there are, what each route does in a sentence, and where its formats are described.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sollold.errors import NotOffered
from sollold.web.route import EVENT_STREAM, JSON, NDJSON, Parameter, Route
from sollold.wire.routes import InferenceRoute

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler

_OLLAMA = "https://github.com/ollama/ollama/blob/main/docs/api.md#"
_OPENAI = "https://platform.openai.com/docs/api-reference/"

CATALOGUE_METHODS: dict[str, tuple[str, ...]] = {
    "/": ("HEAD", "GET"),
    "/api/version": ("HEAD", "GET"),
    "/api/tags": ("HEAD", "GET"),
    "/api/ps": ("GET",),
    "/v1/models": ("GET",),
}
"""Lists and the methods Ollama takes on them, in the order its `Allow` header has."""


class _About(NamedTuple):
    summary: str
    link: str
    stream: str = ""
    media: str = JSON


_CATALOGUE = {
    "/": _About("That something answers", f"{_OLLAMA}endpoints", media="text/plain"),
    "/api/version": _About("The lowest version among the nodes", f"{_OLLAMA}version"),
    "/api/tags": _About("All models, and who holds them", f"{_OLLAMA}list-local-models"),
    "/api/ps": _About("Models in memory, a row per node", f"{_OLLAMA}list-running-models"),
    "/v1/models": _About("All models, in OpenAI's shape", f"{_OPENAI}models/list"),
}

_INFERENCE = {
    InferenceRoute.API_CHAT: _About(
        "The next message of a chat", f"{_OLLAMA}generate-a-chat-completion", NDJSON
    ),
    InferenceRoute.API_GENERATE: _About(
        "What follows a prompt", f"{_OLLAMA}generate-a-completion", NDJSON
    ),
    InferenceRoute.API_EMBED: _About("Vectors of texts", f"{_OLLAMA}generate-embeddings"),
    InferenceRoute.API_EMBEDDINGS: _About(
        "The vector of one text, in an older form", f"{_OLLAMA}generate-embedding"
    ),
    InferenceRoute.API_SHOW: _About("All about one model", f"{_OLLAMA}show-model-information"),
    InferenceRoute.V1_CHAT: _About(
        "The next message of a chat, in OpenAI's shape", f"{_OPENAI}chat/create", EVENT_STREAM
    ),
    InferenceRoute.V1_COMPLETIONS: _About(
        "What follows a prompt, in OpenAI's shape", f"{_OPENAI}completions/create", EVENT_STREAM
    ),
    InferenceRoute.V1_EMBEDDINGS: _About(
        "Vectors of texts, in OpenAI's shape", f"{_OPENAI}embeddings/create"
    ),
}

_ELSEWHERE = {
    "/api/pull": ("POST", f"{_OLLAMA}pull-a-model"),
    "/api/push": ("POST", f"{_OLLAMA}push-a-model"),
    "/api/create": ("POST", f"{_OLLAMA}create-a-model"),
    "/api/copy": ("POST", f"{_OLLAMA}copy-a-model"),
    "/api/delete": ("DELETE", f"{_OLLAMA}delete-a-model"),
}
"""Routes of Ollama that change a node's models; not offered here yet."""

_WORK_PARAMETERS = (
    Parameter(
        name="X-Request-Id",
        place="header",
        text="An id of your own, taken over unless another request under way has it.",
    ),
    Parameter(
        name="X-Sollold-Priority",
        place="header",
        type="integer",
        text="1 to 10, 10 is the most urgent; 5. Also as `priority` in the query.",
    ),
    Parameter(name="X-Sollold-Pin", place="header", text="Only on the node with this id."),
    Parameter(
        name="X-Sollold-Routing",
        place="header",
        text="`body`: the last JSON object of the answer says where the request went and why, in "
        "`_sollol_routing`. Also as `routing=1` in the query. Not in streams of `/v1`.",
    ),
    Parameter(
        name="X-Stainless-Timeout",
        place="header",
        type="number",
        text="Seconds for which the client waits; OpenAI's libraries send it.",
    ),
)


def known_methods() -> dict[str, tuple[str, ...]]:
    """Return every path that imitates Ollama with the methods it takes."""
    return CATALOGUE_METHODS | {route.path: ("POST",) for route in InferenceRoute}


def catalogue_rows(path: str, handler: Handler) -> list[Route]:
    """Return the rows of a list."""
    about = _CATALOGUE[path]
    return [
        Route(
            method=method,
            path=path,
            handler=handler,
            summary=about.summary,
            tag=_tag(path),
            media=about.media,
            link=about.link,
        )
        for method in CATALOGUE_METHODS[path]
    ]


def inference_row(route: InferenceRoute, handler: Handler) -> Route:
    """Return the row of a route whose body names a model."""
    about = _INFERENCE[route]
    return Route(
        method="POST",
        path=route.path,
        handler=handler,
        summary=about.summary,
        tag=_tag(route.path),
        parameters=() if route.kind is None else _WORK_PARAMETERS,
        body=dict,
        stream=about.stream,
        is_routed=route.kind is not None,
        link=about.link,
    )


class Elsewhere:
    """Says where models are managed, in place of a bare 404."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                method=method,
                path=path,
                handler=self.refuse,
                summary="Not offered yet: done on the nodes themselves",
                tag="Ollama",
                statuses=(),
                link=link,
            )
            for path, (method, link) in _ELSEWHERE.items()
        ]

    async def refuse(self, request: web.Request) -> web.StreamResponse:
        """Answer 501."""
        raise NotOffered(
            f"sollold does not answer {request.path} yet: pull, create, copy and delete models on "
            "the nodes themselves; they are seen here within seconds"
        )


def _tag(path: str) -> str:
    return "OpenAI" if path.startswith("/v1/") else "Ollama"
