"""Sends one attempt to its node, in the client's dialect or in the engine's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sollold.errors import ConnectFailed, UpstreamError, UpstreamProtocol
from sollold.routing.translated import TranslatedReply, translate
from sollold.upstream.exchange import Request
from sollold.wire.errors import error_body
from sollold.wire.translate.seam import (
    Answer,
    Done,
    Mistaken,
    Refused,
    ReplyHead,
    Stage,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sollold.core.model import NodeId
    from sollold.routing.attempt import Attempt
    from sollold.routing.dispatch import Dispatcher
    from sollold.routing.job import Job
    from sollold.upstream.exchange import Exchange, Receiver
    from sollold.upstream.pool import NodePool
    from sollold.wire.translate.seam import Call, Steps

    Sent = Callable[[Attempt, Exchange], None]
    """Hears that an attempt has its connection."""

    Work = Coroutine[object, object, None]

_log = logging.getLogger(__name__)


def begin(attempt: Attempt, job: Job, kit: Dispatcher, sent: Sent) -> Work | None:
    """Send an attempt if that needs no waiting, else return the work that sends it. No await."""
    node = attempt.grant.node
    pool = kit.pools.get(node)
    if pool is None:
        attempt.fail(_gone(node))
        return None
    try:
        steps = job.steps_for(node)
    except UpstreamError as error:
        attempt.fail(error)
        return None
    if steps is not None:
        return _translate(attempt, job, kit, sent, steps)
    head = job.head_for(node, None)
    if head is None:
        attempt.fail(_gone(node))
        return None
    request = Request(head, job.body)
    exchange = pool.try_send(request, attempt)
    if exchange is None:
        return _dial(attempt, pool, request, attempt, sent)
    sent(attempt, exchange)
    return None


async def _dial(
    attempt: Attempt, pool: NodePool, request: Request, receiver: Receiver, sent: Sent
) -> None:
    try:
        exchange = await pool.send(request, receiver)
    except UpstreamError as error:
        attempt.fail(error)
        return
    if attempt.is_dropped:
        exchange.abort()
    else:
        sent(attempt, exchange)


async def _translate(attempt: Attempt, job: Job, kit: Dispatcher, sent: Sent, steps: Steps) -> None:
    node = attempt.grant.node

    async def ask(call: Call) -> Answer:
        limit_s = kit.settings.progress_s
        reply = await kit.plain.ask(node, job.head_for(node, call), call.body, limit_s=limit_s)
        return Answer(reply.head.status, reply.body)

    try:
        step = await translate(steps, ask, job.in_background)
    except Unsupported as refusal:
        body, content_type = error_body(
            job.route.dialect,
            refusal.status,
            refusal.text,
            is_early=refusal.stage is Stage.READING,
            is_late=refusal.stage is Stage.GENERATING and job.record.is_stream,
        )
        is_unsupported = not isinstance(refusal, Mistaken)
        attempt.answer(ReplyHead(refusal.status, content_type), body, is_unsupported=is_unsupported)
        return
    except Refused as refusal:
        body, content_type = error_body(job.route.dialect, refusal.status, refusal.text)
        attempt.answer(ReplyHead(refusal.status, content_type), body)
        return
    except UpstreamError as error:
        attempt.fail(error)
        return
    except Exception:
        # Nobody else would end the attempt, and its slot would be lost.
        _log.exception("could not translate a request for %s", node)
        attempt.fail(UpstreamProtocol("the request could not be translated"))
        return
    if isinstance(step, Done):
        attempt.answer(step.head, step.body)
        return
    call, reader = step
    job.charge(len(call.body))
    pool, head = kit.pools.get(node), job.head_for(node, call)
    if pool is None or head is None:
        attempt.fail(_gone(node))
    elif not attempt.is_over:
        receiver = TranslatedReply(attempt, reader, kit.spawn)
        await _dial(attempt, pool, Request(head, call.body), receiver, sent)


def _gone(node: NodeId) -> ConnectFailed:
    return ConnectFailed(f"{node} has left")
