"""What an answer counts: tokens of its prompt, of its output, of the memory that it hands back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.real.compare import Difference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.look import Answer

_OF_PROMPT = frozenset({"prompt_eval_count", "prompt_tokens"})
_OF_OUTPUT = frozenset({"eval_count", "completion_tokens", "total_tokens", "context"})
_REASONS = frozenset({"done_reason", "finish_reason"})


def counted_differently(direct: Answer, through: Answer) -> Iterator[Difference]:
    """The counters whose values differ; those that only one side has are another difference.

    What comes out hangs on the words, unless both answers were cut where the request says so.
    """
    ours, theirs = _counters(direct), _counters(through)
    are_cut = ours.get("reason") == theirs.get("reason") == "length"
    for name in sorted(ours.keys() & theirs.keys() & (_OF_PROMPT | _OF_OUTPUT)):
        if ours[name] != theirs[name] and (are_cut or name in _OF_PROMPT):
            yield Difference(f"counter {name}", ours[name], theirs[name])


def _counters(answer: Answer) -> dict[str, Any]:
    """Each counter with its last value: those of a stream stand at its end."""
    found: dict[str, Any] = {}
    for line in answer.body.splitlines():
        text = line.removeprefix(b"data: ")
        if text.startswith(b"{"):
            _collect(json.loads(text), found)
    return found


def _collect(value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, list):
        for item in value:
            _collect(item, into)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in _REASONS and item:
                into["reason"] = item
            elif name == "context":
                into[name] = len(item)
            elif name in _OF_PROMPT | _OF_OUTPUT:
                into[name] = item
            else:
                _collect(item, into)
