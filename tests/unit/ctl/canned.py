"""What the fake daemon answers, and what `logs` makes of it."""

from __future__ import annotations

import json

from sollold.api_types import encode
from tests.unit.ctl.documents import AT, DEGRADED, NODE_GPU_2, NODES, REQUESTS
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


def answers() -> dict[str, Answer]:
    return {
        "/api/v1/status": Answer(encode(DEGRADED)),
        "/api/v1/nodes": Answer(encode(NODES)),
        "/api/v1/nodes/gpu-2": Answer(encode(NODE_GPU_2)),
        "/api/v1/requests": Answer(encode(REQUESTS)),
        "/api/v1/events": Answer(EVENTS_BODY, lines=EVENT_LINES),
    }
