"""Answers to requests that only load or unload a model: its node has it in memory already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sollold.wire.errors import NATIVE_JSON, PLAIN_JSON
from sollold.wire.gojson import go_json
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.seam import Done, ReplyHead
from sollold.wire.translate.stamps import created_at

if TYPE_CHECKING:
    from sollold.wire.translate.plan import Job

_NS: Final = 1_000_000_000
_IDS: Final = 999
_NO_USAGE: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_EVENT_STREAM: Final = "text/event-stream"


def ready(job: Job, model: str, reason: str, *, is_stream: bool) -> Done:
    """Say that a model is loaded, or no longer: `reason` is `load` or `unload`."""
    if job.route is InferenceRoute.V1_COMPLETIONS:
        return _completion(job, model, reason, is_stream=is_stream)
    answer: dict[str, Any] = {"model": model, "created_at": created_at(job.wall_ns())}
    if job.route is InferenceRoute.API_CHAT:
        answer["message"] = {"role": "assistant", "content": ""}
    else:
        answer["response"] = ""
    return _native(answer | {"done": True, "done_reason": reason})


def ready_embedder(job: Job, model: str) -> Done:
    """Answer a request to embed nothing."""
    if job.route is InferenceRoute.API_EMBEDDINGS:
        return _native({"embedding": []})
    return _native({"model": model, "embeddings": []})


def _native(answer: dict[str, Any]) -> Done:
    return Done(ReplyHead(200, NATIVE_JSON), go_json(answer))


def _completion(job: Job, model: str, reason: str, *, is_stream: bool) -> Done:
    wall_ns = job.wall_ns()
    head = {
        "id": f"cmpl-{wall_ns % _IDS}",
        "object": "text_completion",
        "created": wall_ns // _NS,
    }
    choices = [{"text": "", "index": 0, "finish_reason": reason}]
    name = {"model": model, "system_fingerprint": "fp_ollama"}
    if not is_stream:
        body = go_json(head | name | {"choices": choices, "usage": _NO_USAGE}) + b"\n"
        return Done(ReplyHead(200, PLAIN_JSON), body)
    usage = {"usage": _NO_USAGE} if job.include_usage else {}
    events = [go_json(head | {"choices": choices} | name | usage)]
    if job.include_usage:
        events.append(go_json(head | {"choices": []} | name | usage))
    stream = b"".join(b"data: " + event + b"\n\n" for event in [*events, b"[DONE]"])
    return Done(ReplyHead(200, _EVENT_STREAM), stream)
