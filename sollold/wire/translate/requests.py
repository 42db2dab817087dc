"""Where a request is translated for an engine that does not speak its dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sollold.core.model import Dialect
from sollold.wire.errors import MISSING_BODY_TEXT
from sollold.wire.gojson import MAX_DEPTH_TEXT, BodyProblem
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate import v1
from sollold.wire.translate.embedding import embed, embeddings
from sollold.wire.translate.generation import chat, generate
from sollold.wire.translate.native import CHAT, EMBED, EMBEDDINGS, GENERATE
from sollold.wire.translate.plan import Job
from sollold.wire.translate.reading import read_body
from sollold.wire.translate.replies import reader_for
from sollold.wire.translate.seam import Done, Stage, Translation, Unsupported

if TYPE_CHECKING:
    from sollold.wire.translate.plan import Plans
    from sollold.wire.translate.seam import Clock, Engine, Steps

NOT_A_TASK_TEXT: Final = "there is no engine to ask on this route"


def steps(route: InferenceRoute, body: bytes, engine: Engine, clock: Clock) -> Steps:
    """Translate a request for an engine; raise `Unsupported` for what is wrong or cannot be done.

    `Refused`: the node did not do what a call before the work asked.

    A request that only loads or unloads a model changes nothing on such nodes and is answered at
    once, as is one without anything to embed.
    """
    job = Job(route, engine, clock.wall_ns, clock.monotonic_ns())
    try:
        plan = yield from plans(job, body)
    except BodyProblem as problem:
        raise Unsupported(400, problem.text, Stage.READING) from None
    except RecursionError:
        raise Unsupported(400, MAX_DEPTH_TEXT, Stage.READING) from None
    if isinstance(plan, Done):
        return plan
    return Translation(plan.call, reader_for(route, engine, plan.asked, clock))


def plans(job: Job, body: bytes) -> Plans:
    """Plan the work for a request, without a reader for its reply."""
    if job.route.dialect is Dialect.OPENAI:
        return (yield from v1.plans(job, body))
    match job.route:
        case InferenceRoute.API_CHAT:
            return (yield from chat(job, read_body(CHAT, body, empty_text=MISSING_BODY_TEXT)))
        case InferenceRoute.API_GENERATE:
            request = read_body(GENERATE, body, empty_text=MISSING_BODY_TEXT)
            return (yield from generate(job, request))
        case InferenceRoute.API_EMBED:
            return (yield from embed(job, read_body(EMBED, body, empty_text=MISSING_BODY_TEXT)))
        case InferenceRoute.API_EMBEDDINGS:
            return embeddings(job, read_body(EMBEDDINGS, body, empty_text=MISSING_BODY_TEXT))
        case _:
            raise Unsupported(501, NOT_A_TASK_TEXT)
