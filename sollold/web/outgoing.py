"""What goes out to nodes for one client's request: heads, bodies, translations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.errors import ConnectFailed
from sollold.web.caller import target_for_node
from sollold.web.context import CONTEXT
from sollold.wire.translate.requests import steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from sollold.core.model import ModelKey, NodeId
    from sollold.web.body import StoredBody
    from sollold.wire.headers import HeadWriter
    from sollold.wire.routes import InferenceRoute
    from sollold.wire.translate.seam import Call, Clock, Engine, Steps

_JSON = (("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream"))
"""All that another engine is told about what it gets and gives: nothing of the client's."""
_VERSION = "/v1"


class NodeHead:
    """What is constant in the heads sent to one node."""

    __slots__ = ("path", "writer")

    def __init__(self, path: str, writer: HeadWriter) -> None:
        self.path = path
        self.writer = writer

    def target(self, path: str) -> str:
        """Return where a call goes; people give OpenAI's addresses with the version in them."""
        if self.path.endswith(_VERSION) and path.startswith(f"{_VERSION}/"):
            path = path.removeprefix(_VERSION)
        return self.path + path


class Outgoing:
    """Makes what nodes are sent."""

    def __init__(
        self,
        *,
        node_head: Callable[[NodeId], NodeHead | None],
        is_ollama: Callable[[NodeId], bool],
        engine_for: Callable[[NodeId, ModelKey], Engine | None],
        via: str,
        clock: Clock,
    ) -> None:
        """`engine_for` gives None when a node no longer offers the model."""
        self._is_ollama = is_ollama
        self._node_head = node_head
        self._engine_for = engine_for
        self._via = via
        self._clock = clock

    def heads(
        self, request: web.Request, body: StoredBody
    ) -> Callable[[NodeId, Call | None], bytes | None]:
        """Return what makes request heads: of the request itself, or of a call in its place."""

        def make(node: NodeId, call: Call | None = None) -> bytes | None:
            constant = self._node_head(node)
            if constant is None:
                return None
            request_id = request[CONTEXT].id
            if call is not None:
                return constant.writer.write(
                    "POST",
                    constant.target(call.path),
                    _JSON,
                    content_length=len(call.body),
                    via=self._via,
                    request_id=request_id,
                )
            return constant.writer.write(
                request.method,
                constant.path + target_for_node(request),
                request.headers.items(),
                content_length=body.size_bytes,
                via=self._via,
                request_id=request_id,
            )

        return make

    def steps(
        self, route: InferenceRoute, key: ModelKey, body: StoredBody
    ) -> Callable[[NodeId], Steps | None]:
        """Return what translates a request for the node that is chosen, where that is needed."""

        def make(node: NodeId) -> Steps | None:
            if self._is_ollama(node):
                return None
            engine = self._engine_for(node, key)
            if engine is None:
                # What was to be translated must not go out as it is.
                raise ConnectFailed(f"{node} no longer offers the model")
            return _steps(route, body, engine, self._clock)

        return make


def _steps(route: InferenceRoute, body: StoredBody, engine: Engine, clock: Clock) -> Steps:
    """Translate a body; it is read from its file, if that is where it is, by who does the steps."""
    return (yield from steps(route, bytes(body.view()), engine, clock))
