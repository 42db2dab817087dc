"""Questions that need no slot: a model's details, unloading, and bodies only a node can judge.

Owns whom they go to and which of the replies counts. Nothing that could make an engine generate
may be answered from here: that goes through admission.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from sollold.core.model import NodeKind
from sollold.errors import ConnectFailed, NoEligibleNode, UpstreamError
from sollold.routing.plain import PlainReply
from sollold.web.context import CONTEXT
from sollold.web.reply import merged_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sollold.core.model import Digest, Fleet, ModelKey, NodeId, NodeView
    from sollold.routing.plain import PlainForwarder
    from sollold.upstream.exchange import Body

_TURNED_AWAY = (401, 403)
"""What a node answers that wants a key which it was not given: no word about the request."""

_NOT_NOW = (404, 429, 499)
"""What another node may answer better: gone from its store, busy, given up by itself."""


class Question(NamedTuple):
    """A request on its way to a node, as often as it is asked."""

    request: web.Request
    head_for: Callable[[NodeId], bytes | None]
    body: Body


class Questions:
    """Asks nodes what they answer without an engine."""

    def __init__(
        self,
        *,
        plain: PlainForwarder,
        fleet: Callable[[], Fleet],
        look_soon: Callable[[NodeId], None],
    ) -> None:
        self._plain = plain
        self._fleet = fleet
        self._look_soon = look_soon

    async def judge(self, question: Question, ours: web.Response) -> web.StreamResponse:
        """Have a live Ollama word its own refusal; ours when there is none.

        A node that does not refuse has understood what we have not, and is stopped: it was given
        no slot.
        """
        ollamas = [node for node in self._fleet().nodes if node.kind is NodeKind.OLLAMA]
        live = [node for node in ollamas if node.is_routable]
        nodes = [node.id for node in sorted(live, key=lambda node: node.is_ejected)][:2]
        try:
            reply = await self._first(question, nodes, _is_said, wants_body=_is_judgement)
        except UpstreamError:
            return ours
        if not _is_judgement(reply.head.status):
            return ours
        return _response(question.request, reply)

    async def show(self, question: Question, key: ModelKey, digest: Digest) -> web.StreamResponse:
        """Pass on what a holder of a model says of it."""
        reply = await self._first(question, self._holders(key, digest), _is_fine)
        return _response(question.request, reply)

    def can_unload(self, key: ModelKey, digest: Digest) -> bool:
        """Whether any holder is an Ollama; others keep what they have."""
        return bool(self._ollamas(key, digest))

    async def unload(self, question: Question, key: ModelKey, digest: Digest) -> web.StreamResponse:
        """Send an unload to every live Ollama that holds the model.

        What is known of loaded models may be old, and shows one name of those that share weights.
        """
        targets = self._holders(key, digest)
        answers = await asyncio.gather(
            *(self._ask(question, node) for node in targets), return_exceptions=True
        )
        for node in targets:
            self._look_soon(node)
        replies = [item for item in answers if isinstance(item, PlainReply)]
        for reply in sorted(replies, key=lambda item: item.head.status != 200):
            return _response(question.request, reply)
        for error in answers:
            if isinstance(error, BaseException):
                raise error
        raise NoEligibleNode("no node to unload the model from")

    async def _first(
        self,
        question: Question,
        nodes: Iterable[NodeId],
        is_wanted: Callable[[int], bool],
        *,
        wants_body: Callable[[int], bool] | None = None,
    ) -> PlainReply:
        """Ask nodes in order until one gives a wanted answer; else return the last answer.

        Raises:
            UpstreamError: no node answered, or those that did want a key.
        """
        last: PlainReply | None = None
        error: UpstreamError = ConnectFailed("no node to ask")
        for node in nodes:
            try:
                last = await self._ask(question, node, wants_body)
            except UpstreamError as failure:
                error = failure
                continue
            if is_wanted(last.head.status):
                return last
        if last is not None:
            return last
        raise error

    async def _ask(
        self,
        question: Question,
        node: NodeId,
        wants_body: Callable[[int], bool] | None = None,
    ) -> PlainReply:
        """Ask one node.

        Raises:
            UpstreamError: it gave no answer, or turned us away. Its words are not passed on then:
                they are about a key or an address that is ours.
        """
        reply = await self._plain.ask(
            node, question.head_for(node), question.body, wants_body=wants_body
        )
        status = reply.head.status
        if status in _TURNED_AWAY or 300 <= status < 400:
            self._look_soon(node)
            raise UpstreamError(f"{node} answered {status}")
        return reply

    def _ollamas(self, key: ModelKey, digest: Digest) -> list[NodeView]:
        return [
            node
            for node in self._fleet().nodes
            if node.kind is NodeKind.OLLAMA
            and key in node.models
            and node.models[key].digest == digest
        ]

    def _holders(self, key: ModelKey, digest: Digest) -> list[NodeId]:
        """Return the live Ollama nodes that hold a model, those that answer best first.

        Raises:
            NoEligibleNode: every one of them is down.
        """
        holders = self._ollamas(key, digest)
        live = [node for node in holders if node.is_routable]
        if not live:
            names = ", ".join(f"{node.id} ({reason_of(node)})" for node in holders[:8])
            raise NoEligibleNode(
                f"every node that holds '{key}' is down: {names}", retry_after_s=10
            )
        return [node.id for node in sorted(live, key=lambda node: node.is_ejected)]


def reason_of(node: NodeView) -> str:
    """Say why a node is in the state it is in."""
    return node.reason.text if node.reason is not None else str(node.state)


def _is_said(status: int) -> bool:
    return status < 500


def _is_judgement(status: int) -> bool:
    return 400 <= status < 500


def _is_fine(status: int) -> bool:
    return status < 500 and status not in _NOT_NOW


def _response(request: web.Request, reply: PlainReply) -> web.Response:
    context = request[CONTEXT]
    headers = [*merged_headers(reply.head, context), ("X-Sollold-Node", reply.node)]
    response = web.Response(status=reply.head.status, body=reply.body, headers=headers)
    context.decorated = response
    return response
