"""A node of another kind, as far as translating a request needs one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from sollold.core.model import NodeKind
from sollold.wire.gojson import BodyProblem
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.plan import Job, Plan
from sollold.wire.translate.requests import plans
from sollold.wire.translate.seam import Answer, Call, Done, Engine, Refused, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.wire.translate.asked import Asked

CHAT = InferenceRoute.API_CHAT
GENERATE = InferenceRoute.API_GENERATE
EMBED = InferenceRoute.API_EMBED
EMBEDDINGS = InferenceRoute.API_EMBEDDINGS
SHOW = InferenceRoute.API_SHOW
V1_CHAT = InferenceRoute.V1_CHAT
V1_COMPLETIONS = InferenceRoute.V1_COMPLETIONS
V1_EMBEDDINGS = InferenceRoute.V1_EMBEDDINGS

WALL_NS = 1_700_000_000_120_000_000
STARTED_NS = 77

HELLO = [{"role": "user", "content": "hello"}]
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAf"
    "FcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def llama(*capabilities: str, **fields: Any) -> Engine:
    """A llama-server; without capabilities none are known."""
    known = {
        "kind": NodeKind.LLAMA_SERVER,
        "model": "engine.gguf",
        "capabilities": frozenset(capabilities) or None,
    }
    return Engine(**(known | fields))


def openai(*capabilities: str) -> Engine:
    """Somebody's OpenAI API."""
    return llama(*capabilities, kind=NodeKind.OPENAI, model="gpt")


class Sent(NamedTuple):
    """The call that a request became."""

    path: str
    body: dict[str, Any]
    asked: Asked
    before: list[Call]


def nobody(path: str, _body: Any) -> tuple[int, Any]:
    """A node that must not be asked anything."""
    raise AssertionError(path)


def words(path: str, body: Any) -> tuple[int, Any]:
    """A node whose tokens are words, numbered by their lengths, and whose template joins."""
    if path == "/apply-template":
        parts = [f"<{message['role']}> {message['content']}" for message in body["messages"]]
        return 200, {"prompt": " ".join(parts)}
    if path == "/tokenize":
        begin = [1] if body["add_special"] else []
        return 200, {"tokens": begin + [len(word) for word in body["content"].split()]}
    assert path == "/detokenize"
    return 200, {"content": " ".join("x" * size for size in body["tokens"])}


def plan(
    route: InferenceRoute,
    body: Any,
    engine: Engine | None = None,
    node: Callable[[str, Any], tuple[int, Any]] = nobody,
) -> tuple[Plan | Done, list[Call]]:
    """Translate a request, with a node that answers what is asked first."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    job = Job(route, engine or llama(), lambda: WALL_NS, STARTED_NS)
    steps = plans(job, raw)
    calls: list[Call] = []
    try:
        call = next(steps)
        while True:
            calls.append(call)
            status, answer = node(call.path, json.loads(call.body))
            raw_answer = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            call = steps.send(Answer(status, raw_answer))
    except StopIteration as stop:
        return stop.value, calls


def send(
    route: InferenceRoute,
    body: Any,
    engine: Engine | None = None,
    node: Callable[[str, Any], tuple[int, Any]] = nobody,
) -> Sent:
    """Translate a request that is work for the engine."""
    if isinstance(body, dict):
        body = {"model": "m"} | body
    found, calls = plan(route, body, engine, node)
    assert isinstance(found, Plan)
    assert found.asked.path == found.call.path
    assert found.asked.started_ns == STARTED_NS
    return Sent(found.call.path, json.loads(found.call.body), found.asked, calls)


def done(route: InferenceRoute, body: Any, engine: Engine | None = None) -> Done:
    """Translate a request that is no work."""
    found, calls = plan(route, body, engine)
    assert isinstance(found, Done)
    assert not calls
    assert found.head.status == 200
    return found


def refused(
    route: InferenceRoute,
    body: Any,
    engine: Engine | None = None,
    node: Callable[[str, Any], tuple[int, Any]] = nobody,
) -> tuple[int, str]:
    """Translate a request that is refused; return status and text."""
    if isinstance(body, dict):
        body = {"model": "m"} | body
    with pytest.raises((Unsupported, Refused, BodyProblem)) as caught:
        plan(route, body, engine, node)
    if isinstance(caught.value, Unsupported | Refused):
        return caught.value.status, caught.value.text
    assert isinstance(caught.value, BodyProblem)
    return 400, caught.value.text
