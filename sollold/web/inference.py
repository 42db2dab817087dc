"""Routes that reach an engine: read the body, name the model, hand over to the dispatcher."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from sollold.core.model import Dialect, NodeState, TaskKind, WaitingRequest
from sollold.core.names import Source, key_of, split_source
from sollold.errors import Draining, ModelNotFound, NoEligibleNode
from sollold.routing.job import Job
from sollold.routing.record import RequestRecord
from sollold.web.caller import deadline_s, priority_of
from sollold.web.catalogue import NATIVE
from sollold.web.client_stream import client_tuner
from sollold.web.context import CONTEXT
from sollold.web.edge import error_response
from sollold.web.imitated import inference_row
from sollold.web.questions import Question, Questions, reason_of
from sollold.web.reply import (
    StreamReply,
    routing_note,
    wants_note,
    whole_response,
)
from sollold.wire.errors import (
    cloud_disabled,
    error_body,
    missing_or_invalid_name,
    model_not_found,
)
from sollold.wire.peek import BRIEF_BYTES, BodyProblem, peek
from sollold.wire.routes import InferenceRoute
from sollold.wire.routing_note import RoutingNote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sollold.core.model import Digest, Fleet, ModelKey, NodeId, NodeView
    from sollold.core.rates import RateTable
    from sollold.routing.dispatch import Dispatcher
    from sollold.routing.plain import PlainForwarder
    from sollold.upstream.wheel import TimerWheel
    from sollold.web.body import BodyStore, StoredBody
    from sollold.web.caller import ClientIdentity
    from sollold.web.catalogue import Catalogue
    from sollold.web.outgoing import Outgoing
    from sollold.web.route import Route
    from sollold.wire.peek import Peek

_MEDIA_TOKENS = 768
_USUAL_NAME_CHARS = 256
_SILENCE_RETRY_S = 5
_COMING = frozenset({"not_probed", "warming", "busy"})
"""Why a node has not told its models though it is there, or may be."""


class ReplyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How answers are sent; see `[limits]` and `[replies]`."""

    spool_bytes: int
    stall_s: float
    notes_in_body: bool


class InferenceApi:
    """Handlers of Ollama's and OpenAI's inference routes, and of `/api/show`."""

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        plain: PlainForwarder,
        bodies: BodyStore,
        catalogue: Catalogue,
        fleet: Callable[[], Fleet],
        refresh: Callable[[], Awaitable[None]],
        outgoing: Outgoing,
        rates: RateTable,
        wheel: TimerWheel,
        clients: ClientIdentity,
        limits: ReplyLimits,
        look_soon: Callable[[NodeId], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._bodies = bodies
        self._catalogue = catalogue
        self._fleet = fleet
        self._refresh = refresh
        self._outgoing = outgoing
        self._rates = rates
        self._wheel = wheel
        self._clients = clients
        self._limits = limits
        self._tuner = client_tuner(limits.stall_s)
        self._questions = Questions(plain=plain, fleet=fleet, look_soon=look_soon)

    def set_limits(self, limits: ReplyLimits, clients: ClientIdentity) -> None:
        """Serve requests that come from now on by other limits. No await."""
        if limits.stall_s != self._limits.stall_s:
            self._tuner = client_tuner(limits.stall_s)
        self._limits, self._clients = limits, clients

    def routes(self) -> list[Route]:
        """Return the routes, one handler each."""
        return [inference_row(route, self._handler(route)) for route in InferenceRoute]

    def _handler(
        self, route: InferenceRoute
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            if self._dispatcher.is_draining:
                raise Draining
            context = request[CONTEXT]
            context.is_uploading = True
            body = await self._bodies.read(request)
            context.is_uploading = False
            try:
                return await self._serve(request, route, body)
            finally:
                body.close()

        return handle

    async def _serve(
        self, request: web.Request, route: InferenceRoute, body: StoredBody
    ) -> web.StreamResponse:
        try:
            seen = await _look(route, body)
        except BodyProblem as problem:
            ours = error_response(request[CONTEXT], 400, problem.text, is_early=True)
            if problem.kind == "empty":
                return ours
            return await self._let_a_node_judge(request, body, ours)
        is_usual = len(seen.model) <= _USUAL_NAME_CHARS
        fault, key, source = (_known_name if is_usual else _read_name)(route, seen.model)
        if fault is not None:
            ours = error_response(request[CONTEXT], *fault)
            return await self._let_a_node_judge(request, body, ours)
        digest = None if key is None else self._catalogue.digest_of(key)
        if digest is None and key is not None:
            # Asked once more before giving up.
            await self._refresh()
            digest = self._catalogue.digest_of(key)
        if digest is None:
            self._check_silence(is_name=key is not None)
        if key is None or digest is None:
            return _unknown(request, route, seen.model, source)
        if route is InferenceRoute.API_SHOW:
            return await self._show(self._question(request, body), key, digest)
        if seen.is_unload and self._questions.can_unload(key, digest):
            return await self._questions.unload(self._question(request, body), key, digest)
        return await self._infer(request, route, body, seen, key, digest)

    def _check_silence(self, *, is_name: bool) -> None:
        """See that nothing is called missing that may be on a node which will soon tell.

        Raises:
            NoEligibleNode: no node ever said what it holds, or one has yet to: it is loading. Not
                one that is away: then every misspelled name would be its fault, for ever.
        """
        nodes = self._fleet().nodes
        unheard = [node for node in nodes if node.seen_s is None]
        begin = "no node has answered yet, so nobody knows what they hold"
        if len(unheard) < len(nodes):
            unheard = [node for node in unheard if is_name and _is_coming(node)]
            begin = "no node that has answered holds the model, and not all have"
        if unheard:
            named = ", ".join(f"{node.id} ({reason_of(node)})" for node in unheard[:8])
            raise NoEligibleNode(f"{begin}: {named}", retry_after_s=_SILENCE_RETRY_S)

    # Inference ------------------------------------------------------------------------------

    async def _infer(
        self,
        request: web.Request,
        route: InferenceRoute,
        body: StoredBody,
        seen: Peek,
        key: ModelKey,
        digest: Digest,
    ) -> web.StreamResponse:
        now_s = self._dispatcher.clock()
        kind = route.kind or TaskKind.CHAT
        record = RequestRecord(
            request=request[CONTEXT].id,
            route=route,
            kind=kind,
            model=seen.model,
            client=self._clients.of(request),
            priority=priority_of(request),
            is_stream=seen.stream,
            received_s=now_s,
        )
        job = Job(
            record=record,
            route=route,
            waiting=self._waiting(request, record, seen, key, digest),
            is_load=seen.is_load,
            text_bytes=0 if seen.media_count else seen.prompt_bytes,
            head_for=self._outgoing.heads(request, body),
            body=_upstream_body(body),
            steps_for=self._outgoing.steps(route, key, body),
            in_background=body.work if body.size_bytes > BRIEF_BYTES else None,
            charge=body.charge,
        )
        note = self._note(request, route, record)
        reply = StreamReply(
            request,
            record,
            wheel=self._wheel,
            spool_bytes=self._limits.spool_bytes,
            stall_s=self._limits.stall_s,
            tuner=self._tuner,
            note=note,
        )
        request[CONTEXT].is_dispatched = True
        answer = await self._dispatcher.serve(job, reply)
        if answer is not None:
            return whole_response(request, answer, record, note)
        if reply.response is None:
            raise AssertionError("a streamed answer has a response")
        return reply.response

    def _note(
        self, request: web.Request, route: InferenceRoute, record: RequestRecord
    ) -> RoutingNote | None:
        """Return what adds routing data to the body, where it is asked for and has a place."""
        if not wants_note(request, is_default=self._limits.notes_in_body):
            return None
        if record.is_stream and route.dialect is Dialect.OPENAI:
            return None
        return RoutingNote(lambda: routing_note(record, self._dispatcher.clock))

    def _waiting(
        self, request: web.Request, record: RequestRecord, seen: Peek, key: ModelKey, digest: Digest
    ) -> WaitingRequest:
        now_s = record.received_s
        prompt_tokens = seen.prompt_bytes / self._rates.bytes_per_token(digest)
        output_tokens = 0.0
        if record.kind is not TaskKind.EMBED and not seen.is_load:
            output_tokens = self._rates.expected_output(
                digest, record.kind, seen.num_predict, now_s
            )
        return WaitingRequest(
            id=record.id,
            model=key,
            digest=digest,
            options=seen.options,
            kind=record.kind,
            is_stream=seen.stream,
            priority=record.priority,
            arrival_s=now_s,
            prompt_tokens=prompt_tokens + seen.media_count * _MEDIA_TOKENS,
            output_tokens=output_tokens,
            pinned=self._pinned(request),
            client=record.client,
            deadline_s=deadline_s(request, now_s),
        )

    def _pinned(self, request: web.Request) -> NodeId | None:
        """Return the node the caller insists on."""
        name = request.headers.get("X-Sollold-Pin")
        if name is None:
            return None
        for node in self._fleet().nodes:
            if node.id == name:
                return node.id
        raise ModelNotFound(f"node '{name[:100]}' not found")

    # Questions to nodes -----------------------------------------------------------------------

    def _own_heads(
        self, request: web.Request, body: StoredBody
    ) -> Callable[[NodeId], bytes | None]:
        heads = self._outgoing.heads(request, body)
        return lambda node: heads(node, None)

    def _question(self, request: web.Request, body: StoredBody) -> Question:
        return Question(request, self._own_heads(request, body), _upstream_body(body))

    async def _show(self, question: Question, key: ModelKey, digest: Digest) -> web.StreamResponse:
        told = self._catalogue.show(key, digest)
        if told is not None:
            return web.Response(body=told, headers={"Content-Type": NATIVE})
        return await self._questions.show(question, key, digest)

    async def _let_a_node_judge(
        self, request: web.Request, body: StoredBody, ours: web.Response
    ) -> web.StreamResponse:
        """Have a node word its refusal, unless the body is long: then sending it costs too much."""
        if body.size_bytes > BRIEF_BYTES:
            return ours
        return await self._questions.judge(self._question(request, body), ours)


def _is_coming(node: NodeView) -> bool:
    reason = node.reason
    return node.state is NodeState.UNKNOWN and reason is not None and reason.code in _COMING


async def _look(route: InferenceRoute, body: StoredBody) -> Peek:
    """Peek at a body; a long one in a thread, since a walk over it takes its time."""
    if body.size_bytes <= BRIEF_BYTES:
        return peek(route, body.view())
    return await body.look(partial(peek, route))


def _read_name(
    route: InferenceRoute, name: str
) -> tuple[tuple[int, str] | None, ModelKey | None, Source]:
    """Return what is at fault with a model's name, or its key and where the name says it runs."""
    base, source = split_source(name)
    fault = missing_or_invalid_name(route, name)
    if fault is not None:
        return fault, None, source
    return None, key_of(base if source is Source.LOCAL else name), source


_known_name = lru_cache(maxsize=1024)(_read_name)


def _unknown(
    request: web.Request, route: InferenceRoute, name: str, source: Source
) -> web.StreamResponse:
    """Say that nobody has a model, or that what runs elsewhere is not asked for from here."""
    if source is not Source.CLOUD:
        return error_response(request[CONTEXT], 404, model_not_found(route, name))
    # Ollama has one shape for this, on OpenAI's routes too.
    body, content_type = error_body(Dialect.OLLAMA, 403, cloud_disabled(route))
    headers = {"Content-Type": content_type, "X-Sollold-Error": "sollold"}
    return web.Response(status=403, body=body, headers=headers)


def _upstream_body(body: StoredBody) -> bytes | StoredBody:
    return body.data if isinstance(body.data, bytes) else body
