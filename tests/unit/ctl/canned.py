"""What the fake daemon answers, and what `logs` makes of it."""

from __future__ import annotations

import json

from sollold.api_types import encode
from tests.unit.ctl.documents import (
    AT,
    CONFIG,
    DEGRADED,
    LOADED,
    MODEL_LLAMA,
    MODELS,
    NODE_GPU_2,
    NODES,
    REQUESTS,
)
from tests.unit.ctl.fake_daemon import Answer

ASCII = str.maketrans({"●": "*", "▲": "!", "✖": "x", "◆": "~", "○": "?"})


def event(number: int, kind: str, text: str) -> dict[str, object]:
    return {
        "seq": number,
        "timestamp": f"2020-01-02T09:10:2{number}.771Z",
        "instance_id": "desk_1_a",
        "event_type": "ANY",
        "kind": kind,
        "text": text,
        "model": None,
    }


EVENTS = [
    event(1, "failover", "r-7f3c mistral:7b pi-5 -> gpu-1: connection reset, try 2"),
    event(2, "node", "pi-5 up -> down: 3 failed checks in 30 s"),
]
EVENT_LINES = [json.dumps(item).encode() + b"\n" for item in EVENTS]
EVENTS_BODY = json.dumps({"schema": "sollold.events/1", "at": AT, "events": EVENTS}).encode()
LOG_TEXT = (
    "2020-01-02 09:10:21.771 failover  r-7f3c mistral:7b pi-5 -> gpu-1: connection reset, try 2\n"
    "2020-01-02 09:10:22.771 node      pi-5 up -> down: 3 failed checks in 30 s\n"
)

LINES = [
    {
        "at": "2020-01-02T09:10:21.771Z",
        "level": "info",
        "source": "sollold.nodes.probe",
        "message": "pi-5 does not answer",
    },
    {
        "at": "2020-01-02T09:10:22.000Z",
        "level": "warning",
        "source": "sollold.web.edge",
        "message": "a request of Old\u202eClient was refused",
    },
]
LINE_LINES = [json.dumps(item).encode() + b"\n" for item in LINES]
LINES_BODY = json.dumps({"schema": "sollold.logs/1", "at": AT, "lines": LINES}).encode()
LINES_TEXT = (
    "2020-01-02 09:10:21.771 info     sollold.nodes.probe: pi-5 does not answer\n"
    "2020-01-02 09:10:22.000 warning  sollold.web.edge: "
    "a request of Old\\u202eClient was refused\n"
)


def answers() -> dict[str, Answer]:
    return {
        "/api/v1/status": Answer(encode(DEGRADED)),
        "/api/v1/nodes": Answer(encode(NODES)),
        "/api/v1/nodes/gpu-2": Answer(encode(NODE_GPU_2)),
        "/api/v1/requests": Answer(encode(REQUESTS)),
        "/api/v1/events": Answer(EVENTS_BODY, lines=EVENT_LINES),
        "/api/v1/logs": Answer(LINES_BODY, lines=LINE_LINES),
        "/api/v1/models": Answer(encode(MODELS)),
        "/api/v1/models/llama3.1:8b": Answer(encode(MODEL_LLAMA)),
        "/api/v1/loaded": Answer(encode(LOADED)),
        "/api/v1/config": Answer(encode(CONFIG)),
    }
