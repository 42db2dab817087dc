"""Lines and events of streams as nodes send them, for tests of what watches them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sollold.wire.endings import Counters

if TYPE_CHECKING:
    from sollold.wire.watch import Watch

METRICS = {
    "total_duration": 5_000_000_000,
    "load_duration": 1_000_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 298,
    "eval_duration": 2_000_000_000,
}
COUNTED = Counters(
    prompt_tokens=26, prompt_s=0.25, output_tokens=298, output_s=2.0, load_s=1.0, total_s=5.0
)


def as_json(body: object) -> bytes:
    """Encode as Ollama does: compactly."""
    return json.dumps(body, separators=(",", ":")).encode()


def line_of(body: dict[str, Any]) -> bytes:
    """Return a line of a native stream."""
    return as_json({"model": "m", "created_at": "2026-01-01T00:00:00Z"} | body) + b"\n"


def chat_line(**message: object) -> bytes:
    """Return a line of a native chat."""
    return line_of({"message": {"role": "assistant", "content": "", **message}, "done": False})


def event_of(body: object) -> bytes:
    """Return an event with JSON as data."""
    return b"data: " + as_json(body) + b"\n\n"


def chat_event(finish: str | None = None, **delta: object) -> bytes:
    """Return an event of an OpenAI chat."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event_of({"id": "chatcmpl-1", "model": "m", "choices": [choice]})


EMPTY = chat_line()
HELLO = chat_line(content="Hello")
FINAL = line_of({"message": {"role": "assistant", "content": ""}, "done": True} | METRICS)
ERROR = b'{"error":"an error was encountered"}\n'

ROLE = chat_event(role="assistant", content="")
WORD = chat_event(content="Hello")
FINISH = chat_event("stop")
USAGE = event_of(
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}
)
DONE = b"data: [DONE]\n\n"


def fed(watch: Watch, *parts: bytes) -> Watch:
    """Feed a watcher and return it."""
    for part in parts:
        watch.feed(part)
    return watch
