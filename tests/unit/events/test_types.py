from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.core.model import (
    Candidate,
    Decision,
    ModelKey,
    NodeId,
    NodeState,
    Reason,
    RequestId,
)
from sollold.events.base import EventBase, span
from sollold.events.candidates import MAX_CANDIDATES, CandidateView
from sollold.events.ring import Origin, Record
from sollold.events.types import (
    EVENT_CLASSES,
    EVENT_KINDS,
    EVENT_TYPES,
    ConfigReloaded,
    FallbackTriggered,
    ModelLoaded,
    ModelUnloaded,
    NodeJoined,
    NodeLeft,
    NodeStateChanged,
    OllamaNodeSelected,
    RequestDone,
    RequestFailed,
    RouteDecision,
    TaskComplete,
    TaskQueued,
    TaskStart,
)

ORIGIN = Origin(instance_id="desk_42_a1b2c3d4", hostname="desk", pid=42)
AT_S = 1795252443.1209


def as_json(event: EventBase) -> dict[str, Any]:
    found = json.loads(Record(7, AT_S, event, ORIGIN).json())
    assert isinstance(found, dict)
    return found


def decision(*candidates: Candidate, node: str = "gpu-1") -> Decision:
    return Decision(
        request=RequestId("r-7f41"),
        model=ModelKey("phi3:mini"),
        node=NodeId(node),
        reason="only node that has it",
        at_s=1.0,
        candidates=candidates,
    )


COMMON: dict[str, Any] = {"request_id": "r-7f41", "model": "phi3:mini", "node": "gpu-1"}
SENTENCES: list[tuple[EventBase, str]] = [
    (
        RouteDecision(reason="only node that has it", **COMMON),
        "r-7f41 phi3:mini -> gpu-1: only node that has it",
    ),
    (
        RouteDecision(reason="fits nowhere", model="llama3.1:70b", backend="rpc"),
        "- llama3.1:70b -> rpc: fits nowhere",
    ),
    (
        OllamaNodeSelected(node_url="10.0.0.5:11434", reason="loaded", **COMMON),
        "r-7f41 phi3:mini -> gpu-1 at 10.0.0.5:11434: loaded",
    ),
    (
        OllamaNodeSelected(node_url="10.0.0.5:11434", reason="idle", is_load=True, **COMMON),
        "r-7f41 phi3:mini -> gpu-1 at 10.0.0.5:11434: idle, loads it first",
    ),
    (
        FallbackTriggered(from_node="pi-5", reason="connection reset", attempt=2, **COMMON),
        "r-7f41 phi3:mini pi-5 -> gpu-1: connection reset, try 2",
    ),
    (
        FallbackTriggered(from_backend="rpc", model="m", reason="out of memory", attempt=2),
        "- m rpc -> queue: out of memory, try 2",
    ),
    (
        TaskQueued(reason="gpu-1 is full", ahead=0, **COMMON),
        "r-7f41 phi3:mini waits: gpu-1 is full, first in line",
    ),
    (
        TaskQueued(reason="gpu-1 is full", ahead=3, **COMMON),
        "r-7f41 phi3:mini waits: gpu-1 is full, 3 ahead",
    ),
    (TaskQueued(reason="gpu-1 is full", **COMMON), "r-7f41 phi3:mini waits: gpu-1 is full"),
    (TaskStart(**COMMON), "r-7f41 phi3:mini starts on gpu-1"),
    (TaskStart(queue_ms=0.4, **COMMON), "r-7f41 phi3:mini starts on gpu-1"),
    (
        TaskStart(queue_ms=1200, attempt=2, **COMMON),
        "r-7f41 phi3:mini starts on gpu-1 after 1.2 s in the queue, try 2",
    ),
    (
        TaskComplete(success=True, duration_ms=5400, **COMMON),
        "r-7f41 phi3:mini finished on gpu-1 after 5.4 s",
    ),
    (
        TaskComplete(success=False, duration_ms=858, attempt=2, reason="reset", **COMMON),
        "r-7f41 phi3:mini failed on gpu-1 after 858 ms, try 2: reset",
    ),
    (
        NodeStateChanged(node="pi-5", from_state="up", to_state="down", reason="3 failed checks"),
        "pi-5 up -> down: 3 failed checks",
    ),
    (NodeStateChanged(node="pi-5", from_state="down", to_state="up"), "pi-5 down -> up"),
    (
        NodeJoined(
            node="pi-5",
            node_url="http://10.0.0.9:11434",
            node_kind="ollama",
            found_by=("mDNS", "sweep"),
            version="0.12.3",
        ),
        "pi-5 joined: ollama 0.12.3 at http://10.0.0.9:11434, found by mDNS, sweep",
    ),
    (
        NodeJoined(node="pi-5", node_url="http://10.0.0.9:11434", node_kind="ollama"),
        "pi-5 joined: ollama at http://10.0.0.9:11434",
    ),
    (NodeLeft(node="pi-5", reason="no longer configured"), "pi-5 left: no longer configured"),
    (ModelLoaded(node="gpu-1", model="gemma2:9b"), "gpu-1 loaded gemma2:9b"),
    (
        ModelLoaded(node="gpu-1", model="gemma2:9b", size_bytes=5_400_000_000, load_ms=2300),
        "gpu-1 loaded gemma2:9b in 2.3 s, 5.4GB",
    ),
    (ModelUnloaded(node="gpu-1", model="gemma2:9b"), "gpu-1 unloaded gemma2:9b"),
    (
        ModelUnloaded(node="gpu-1", model="gemma2:9b", reason="idle", resident_ms=303_000),
        "gpu-1 unloaded gemma2:9b after 5m 03s: idle",
    ),
    (
        RequestDone(status=200, total_ms=4800, output_tokens=312, first_token_ms=248, **COMMON),
        "r-7f41 phi3:mini on gpu-1 done: 312 tokens in 4.8 s, first token after 248 ms",
    ),
    (RequestDone(status=200, total_ms=12, model="m"), "- m done: 12 ms"),
    (
        RequestFailed(outcome="failed", status=502, total_ms=858, reason="reset", **COMMON),
        "r-7f41 phi3:mini on gpu-1 failed with 502 after 858 ms: reset",
    ),
    (
        RequestFailed(outcome="caller_error", total_ms=3, reason="left", model="m"),
        "- m caller error after 3 ms: left",
    ),
    (ConfigReloaded(changed=("queue.length 512 -> 128",)), "reloaded: queue.length 512 -> 128"),
    (
        ConfigReloaded(changed=("a 1 -> 2", "b 3 -> 4"), restart=("c 5 -> 6",)),
        "reloaded: a 1 -> 2, b 3 -> 4; after a restart: c 5 -> 6",
    ),
    (ConfigReloaded(), "reloaded: nothing changed"),
]


@pytest.mark.parametrize(("event", "sentence"), SENTENCES)
def test_the_sentence_says_what_happened_and_why(event: EventBase, sentence: str) -> None:
    assert event.sentence() == sentence


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (NodeStateChanged(node="a", from_state="up", to_state="slow"), "became slow"),
        (NodeJoined(node="a", node_url="u", node_kind="ollama"), "joined"),
        (NodeLeft(node="a", reason="gone"), "left"),
        (ModelLoaded(node="a", model="m"), "loaded m"),
        (ModelUnloaded(node="a", model="m"), "unloaded m"),
        (TaskStart(node="a", model="m"), "- m starts on a"),
    ],
)
def test_in_a_list_about_one_node_the_node_is_not_repeated(event: EventBase, words: str) -> None:
    assert event.change() == words


def test_every_type_has_a_sentence_tested_above() -> None:
    assert {type(event) for event, _ in SENTENCES} == set(EVENT_CLASSES)


@pytest.mark.parametrize("event", [event for event, _ in SENTENCES])
def test_the_json_has_the_fields_every_reader_relies_on(event: EventBase) -> None:
    found = as_json(event)

    assert found["seq"] == 7
    assert found["timestamp"] == "2026-11-21T09:14:03.120Z"
    assert found["instance_id"] == "desk_42_a1b2c3d4"
    assert (found["hostname"], found["pid"]) == ("desk", 42)
    assert EVENT_TYPES[found["event_type"]] is type(event)
    assert found["event_type"] in EVENT_KINDS[found["kind"]]
    assert found["text"] == event.sentence()
    for field in ("model", "backend", "node", "request_id"):
        assert found[field] == getattr(event, field)


def test_names_of_the_older_program_are_kept() -> None:
    assert set(EVENT_TYPES) >= {
        "ROUTE_DECISION",
        "OLLAMA_NODE_SELECTED",
        "FALLBACK_TRIGGERED",
        "TASK_QUEUED",
        "TASK_START",
        "TASK_COMPLETE",
    }
    done = as_json(TaskComplete(success=True, duration_ms=5400, **COMMON))
    assert (done["task_id"], done["worker"], done["duration"]) == ("r-7f41", "gpu-1", 5.4)
    started = as_json(TaskStart(**COMMON))
    assert (started["task_id"], started["worker"]) == ("r-7f41", "gpu-1")
    assert as_json(TaskQueued(reason="full", **COMMON))["task_id"] == "r-7f41"
    route = as_json(RouteDecision(reason="loaded", parameter_count="3B", **COMMON))
    assert (route["reason"], route["cached"], route["parameter_count"]) == ("loaded", False, "3B")
    selected = as_json(
        OllamaNodeSelected(node_url="10.0.0.5:11434", reason="loaded", confidence=0.92, priority=5)
    )
    assert (selected["node_url"], selected["confidence"]) == ("10.0.0.5:11434", 0.92)
    fallback = as_json(FallbackTriggered(from_backend="ollama", reason="reset", attempt=2))
    assert fallback["from_backend"] == "ollama"


def test_candidates_are_objects_in_milliseconds() -> None:
    event = RouteDecision.of(
        decision(
            Candidate(NodeId("gpu-1"), 1.25, wait_s=0.25, decode_s=1.0, is_measured=True),
            Candidate(NodeId("pi-5"), float("inf"), excluded="down"),
        ),
        model="phi3:mini",
        backend="ollama",
        queue_ms=3.5,
    )

    found = as_json(event)

    assert (found["node"], found["request_id"]) == ("gpu-1", "r-7f41")
    assert found["candidates_total"] == 2
    first, second = found["candidates"]
    assert first == {
        "node": "gpu-1",
        "cost_ms": 1250.0,
        "wait_ms": 250.0,
        "load_ms": 0.0,
        "swap_ms": 0.0,
        "foreign_ms": 0.0,
        "prefill_ms": 0.0,
        "decode_ms": 1000.0,
        "risk_ms": 0.0,
        "tier_ms": 0.0,
        "is_measured": True,
        "excluded": None,
    }
    assert (second["cost_ms"], second["excluded"]) == (None, "down")


def test_no_term_of_a_candidate_is_forgotten() -> None:
    terms = tuple(name.removesuffix("_s") for name in Candidate._fields)
    assert tuple(name.removesuffix("_ms") for name in CandidateView.__struct_fields__) == terms


def test_a_large_fleet_leaves_only_the_pick_and_the_cheapest() -> None:
    crowd = [Candidate(NodeId(f"n{number}"), float(number)) for number in range(50)]

    event = RouteDecision.of(decision(*crowd, node="n40"), model="m", request_id="r-other")

    nodes = [item.node for item in event.candidates]
    assert nodes == ["n40", *(f"n{number}" for number in range(MAX_CANDIDATES - 1))]
    assert event.candidates_total == 50
    assert event.request_id == "r-other"


def test_a_state_change_carries_code_and_words() -> None:
    event = NodeStateChanged.of(
        NodeId("pi-5"), NodeState.UP, NodeState.DOWN, Reason("connect_failed", "refused"), "ollama"
    )

    found = as_json(event)

    assert (found["from_state"], found["to_state"]) == ("up", "down")
    assert (found["reason"], found["reason_code"]) == ("refused", "connect_failed")
    bare = NodeStateChanged.of(NodeId("pi-5"), NodeState.DOWN, NodeState.UP, None, None)
    assert (bare.reason, bare.reason_code) == (None, None)


@given(st.text(), st.text(), st.text())
def test_any_text_stays_one_json_object(model: str, node: str, reason: str) -> None:
    model, node, reason = (
        text.encode("utf-8", "replace").decode() for text in (model, node, reason)
    )

    found = as_json(RouteDecision(model=model, node=node, reason=reason))

    assert (found["model"], found["node"], found["reason"]) == (model, node, reason)


def test_a_base_event_has_no_words() -> None:
    with pytest.raises(NotImplementedError):
        EventBase().sentence()


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "0 ms"),
        (84.4, "84 ms"),
        (999.4, "999 ms"),
        (999.6, "1.0 s"),
        (1900, "1.9 s"),
        (59_949, "59.9 s"),
        (59_999, "1m 00s"),
        (123_000, "2m 03s"),
        (3_599_999, "1h 00m"),
        (11_520_000, "3h 12m"),
    ],
)
def test_durations_in_words(ms: float, words: str) -> None:
    assert span(ms) == words
