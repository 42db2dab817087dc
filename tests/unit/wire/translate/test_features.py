"""What is told of each part of a request is what happens to it; `docs/engines.md` says the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sollold.config import LoadArgs, load
from sollold.core.model import NodeKind
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate import native, v1_bodies
from sollold.wire.translate.feature import Fate, Feature, Way
from sollold.wire.translate.features import NATIVE, OPTIONS
from sollold.wire.translate.features_v1 import V1
from sollold.wire.translate.requests import steps
from sollold.wire.translate.seam import Answer, Clock, Done, Engine, Translation, Unsupported
from tests.docs.engines import BEGIN, END, REMEDY, render, update
from tests.unit.wire.translate.asking import HELLO, plan, words

MANUAL = Path(__file__).parents[4] / "docs" / "engines.md"

_ABILITIES = ("completion", "embedding", "vision", "audio", "tools", "insert", "thinking")
_BASES: dict[InferenceRoute, dict[str, Any]] = {
    InferenceRoute.API_CHAT: {"messages": HELLO},
    InferenceRoute.API_GENERATE: {"prompt": "hi"},
    InferenceRoute.API_EMBED: {"input": "hi"},
    InferenceRoute.API_EMBEDDINGS: {"prompt": "hi"},
    InferenceRoute.V1_CHAT: {"messages": HELLO},
    InferenceRoute.V1_COMPLETIONS: {"prompt": "hi"},
    InferenceRoute.V1_EMBEDDINGS: {"input": "hi"},
}
_SHAPES = {
    InferenceRoute.API_CHAT: native.CHAT,
    InferenceRoute.API_GENERATE: native.GENERATE,
    InferenceRoute.API_EMBED: native.EMBED,
    InferenceRoute.API_EMBEDDINGS: native.EMBEDDINGS,
    InferenceRoute.V1_CHAT: v1_bodies.CHAT,
    InferenceRoute.V1_COMPLETIONS: v1_bodies.COMPLETION,
    InferenceRoute.V1_EMBEDDINGS: v1_bodies.EMBED,
}
_ALL = (*NATIVE, *OPTIONS, *V1)
_CASES = [
    pytest.param(feature, route, kind, id=f"{feature.name}-{route.path}-{kind}")
    for feature in _ALL
    for route in feature.routes
    for kind in (NodeKind.LLAMA_SERVER, NodeKind.OPENAI)
]


class Outcome(NamedTuple):
    """What a request became: a call, a refusal or an answer."""

    path: str
    body: dict[str, Any]
    asked: object
    refusal: tuple[int, str] | None = None
    is_answered: bool = False


def _outcome(route: InferenceRoute, body: dict[str, Any], engine: Engine) -> Outcome:
    raw = json.dumps(body).encode()
    clock = Clock(lambda: 1_700_000_000_000_000_000, lambda: 77)
    translating = steps(route, raw, engine, clock)
    found: object = None
    try:
        call = next(translating)
        while True:
            status, answer = words(call.path, json.loads(call.body))
            call = translating.send(Answer(status, json.dumps(answer).encode()))
    except Unsupported as refusal:
        return Outcome("", {}, None, refusal=(refusal.status, refusal.text))
    except StopIteration as stop:
        found = stop.value
    if isinstance(found, Done):
        return Outcome("", {}, None, is_answered=True)
    assert isinstance(found, Translation)
    planned, _ = plan(route, raw, engine, words)
    assert not isinstance(planned, Done)
    assert planned.call == found.call
    return Outcome(found.call.path, json.loads(found.call.body), planned.asked)


def _check(fate: Fate, feature: Feature, before: Outcome, after: Outcome) -> None:
    (name, value), *_ = feature.sample.items()
    if name == "options":
        (name, value), *_ = value.items()
    match fate.way:
        case Way.REFUSED:
            assert before.refusal is None
            assert after.refusal == (400, fate.word)
        case Way.ANSWERED:
            assert after.is_answered
        case Way.LEFT_OUT:
            assert (after.path, after.body) == (before.path, before.body)
            assert after.path
        case Way.HERE:
            assert (after.body, after.asked) != (before.body, before.asked)
            assert after.refusal is None
        case Way.PASSED:
            assert after.path == before.path
            assert after.body[name] == value
            assert after.body != before.body
        case Way.SAID if fate.word.startswith("/"):
            assert after.path == fate.word != before.path
        case Way.SAID:
            assert after.body[fate.word] != before.body.get(fate.word)
            assert fate.word in {name, "messages"} or name not in after.body


@pytest.mark.parametrize(("feature", "route", "kind"), _CASES)
def test_what_is_told_happens(feature: Feature, route: InferenceRoute, kind: NodeKind) -> None:
    engine = Engine(
        kind=kind,
        model="theirs",
        context_length=feature.context_length,
        capabilities=frozenset(_ABILITIES),
        has_templates=kind is NodeKind.LLAMA_SERVER,
    )
    without = {"model": "m"} | _BASES[route] | feature.beside
    fate = feature.llama if kind is NodeKind.LLAMA_SERVER else feature.openai
    before = _outcome(route, without, engine)
    after = _outcome(route, without | feature.sample, engine)
    _check(fate, feature, before, after)


@pytest.mark.parametrize("route", _SHAPES, ids=lambda route: route.path)
def test_every_part_that_is_read_is_told(route: InferenceRoute) -> None:
    told = {name for feature in _ALL if route in feature.routes for name in feature.sample}
    assert set(_SHAPES[route].fields) <= told


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", MANUAL.read_text(), re.DOTALL))
def test_the_configurations_in_the_manual_are_valid(example: str, tmp_path: Path) -> None:
    file = tmp_path / "sollold.toml"
    file.write_text(example)
    keys = dict.fromkeys(re.findall(r'key_env = "(\w+)"', example), "x")
    assert load(LoadArgs(config=file, environ=keys)).config.nodes


def test_the_manual_is_current(tmp_path: Path) -> None:
    inside = MANUAL.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert inside.strip() == render().strip(), REMEDY
    copy = tmp_path / "engines.md"
    copy.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    update(copy)
    assert copy.read_text("utf-8") == f"before\n{BEGIN}\n\n{render()}\n{END}\nafter\n"
