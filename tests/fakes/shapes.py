"""What of two answers to one request must be equal: all but clocks, ids, counts and words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.cases import Case
    from tests.fakes.look import Answer

# Words that must be equal, not only of one type, wherever they stand.
_WORDS = frozenset(
    {"role", "done", "done_reason", "finish_reason", "object", "type", "model", "id"}
)
_CHANCES = frozenset({"has_new_line"})
_OPAQUE = frozenset({"model_info", "families", "context", "capabilities", "tensors"})


def look_of(case: Case, answer: Answer) -> dict[str, Any]:
    """All of an answer that must be equal."""
    kind = answer.headers.get("content-type", "")
    dropped = {"date", "content-length", "transfer-encoding"}
    headers = {name: value for name, value in answer.headers.items() if name not in dropped}
    seen: dict[str, Any] = {"status": answer.status, "headers": headers, "end": answer.end}
    seen["is_chunked"] = answer.chunks is not None
    if case.path in {"/api/show", "/api/tags", "/api/ps", "/v1/models"} or "embed" in case.path:
        # Chunked or counted by size alone, and sizes differ.
        del seen["is_chunked"]
    if kind.startswith("application/json") and answer.body:
        seen["newline"] = answer.body.endswith(b"\n")
        seen["body"] = _shape(json.loads(answer.body), case)
    elif kind in {"application/x-ndjson", "text/event-stream"}:
        seen["frames"] = _frames(case, answer)
    else:
        seen["body"] = answer.body
    return seen


def _frames(case: Case, answer: Answer) -> list[Any]:
    """What each flushed piece carries; runs of equal ones count once."""
    frames: list[Any] = []
    for chunk in answer.chunks or (answer.body,):
        events = [_event(case, event) for event in _split(chunk)]
        if not frames or frames[-1] != events:
            frames.append(events)
    return frames


def _split(chunk: bytes) -> list[bytes]:
    is_sse = chunk.startswith(b"data: ")
    mark = b"\n\n" if is_sse else b"\n"
    assert chunk.endswith(mark), chunk
    return [event.removeprefix(b"data: ") for event in chunk.removesuffix(mark).split(mark)]


def _event(case: Case, event: bytes) -> Any:
    return "[DONE]" if event == b"[DONE]" else _shape(json.loads(event), case)


def _shape(value: Any, case: Case, key: str = "") -> Any:
    """A value with its words kept and its numbers, clocks and texts made anonymous."""
    if isinstance(value, dict):
        if key in _OPAQUE:
            return "an object"
        return {name: _shape(item, case, name) for name, item in value.items()}
    if isinstance(value, list):
        if key in _OPAQUE:
            return "a list"
        return _list_shape(value, case, key)
    if key in _CHANCES:
        return "as the words are"
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        return _text_shape(value, case, key)
    return "a number"


def _list_shape(value: list[Any], case: Case, key: str) -> Any:
    if key in {"models", "data"}:
        # Listed in the order of clocks, which differ.
        value = sorted(value, key=lambda item: str(item.get("name") or item.get("id")))
    shapes: list[Any] = []
    for item in value:
        shape = _shape(item, case, key)
        if not shapes or shapes[-1] != shape:
            shapes.append(shape)
    return shapes


def _text_shape(value: str, case: Case, key: str) -> Any:
    if key in {"error", "message"}:
        return "a text" if case.is_loose else _without_sizes(value)
    is_word = key in _WORDS and not value.startswith(("chatcmpl-", "cmpl-"))
    return value if is_word or value == "" else "a text"


def _without_sizes(text: str) -> str:
    """Token counts of a real tokenizer differ from ours."""
    return "".join("#" if letter.isdigit() else letter for letter in text).replace("##", "#")
