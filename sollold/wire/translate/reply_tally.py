"""What an answer adds up to: how it ended, its calls of tools, what was counted and how long.

Owns the sums of one reply. Reads the clock it was given and no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sollold.wire.translate.reply_errors import OVERLONG, Broken
from sollold.wire.translate.reply_tools import ToolCall, ToolCalls

if TYPE_CHECKING:
    from sollold.wire.translate.asked import Asked
    from sollold.wire.translate.reply_parts import Part
    from sollold.wire.translate.seam import Clock

_MAX_TOKENS: Final = 4 * 1024 * 1024
_CUTS: Final = frozenset({"length", "content_filter"})
_NS_PER_MS: Final = 1e6
_LONGEST: Final = 2**53


class Tally:
    """Adds up the parts of one reply."""

    __slots__ = (
        "_asked",
        "_begun_ns",
        "_clock",
        "_ends_itself",
        "_first_ns",
        "_timings",
        "_usage",
        "finish",
        "tokens",
        "tool_calls",
    )

    def __init__(self, asked: Asked, clock: Clock) -> None:
        self.finish: str | None = None
        self.tool_calls = ToolCalls()
        self.tokens: list[int] = []
        """Ids of the output; only collected when they are asked for."""
        self._asked = asked
        self._clock = clock
        self._begun_ns = clock.monotonic_ns()
        self._ends_itself = False
        self._first_ns: int | None = None
        self._usage: dict[str, object] = {}
        self._timings: dict[str, object] = {}

    def take(self, part: Part) -> None:
        """Add a part; raise `Broken` when it gets too much."""
        if self._first_ns is None and (part.text or part.thinking or part.tool_calls):
            self._first_ns = self._clock.monotonic_ns()
        if part.tool_calls is not None:
            self.tool_calls.add(part.tool_calls)
        if part.finish is not None:
            self.finish = part.finish
            self._ends_itself = part.ends_itself
        if part.tokens and self._asked.prompt_tokens is not None:
            self.tokens += part.tokens
            if len(self.tokens) > _MAX_TOKENS:
                raise Broken(OVERLONG)
        if isinstance(part.usage, dict):
            self._usage = part.usage
        if isinstance(part.timings, dict):
            self._timings = part.timings

    @property
    def prompt_count(self) -> int:
        """Tokens of the prompt, what a cache held included; zero: not known."""
        told = counted(self._usage.get("prompt_tokens"))
        if told:
            return told
        return counted(self._timings.get("cache_n")) + counted(self._timings.get("prompt_n"))

    @property
    def output_count(self) -> int:
        """Tokens that were generated; zero: not known."""
        told = counted(self._usage.get("completion_tokens"))
        return told or counted(self._timings.get("predicted_n"))

    def calls(self, seed: int) -> list[ToolCall]:
        """Return the calls of tools; raise `Broken` if one makes no sense."""
        return self.tool_calls.finished(seed, is_cut=self.finish in _CUTS)

    def context(self) -> list[int] | None:
        """Return the ids of prompt and output, if both are known and asked for.

        The sign that ended the answer is left out: with it, what follows would be another text.
        """
        prompt, count = self._asked.prompt_tokens, self.output_count
        if prompt is None or (not self.tokens and count):
            return None
        has_sign = self._ends_itself and len(self.tokens) == count
        return [*prompt, *(self.tokens[:-1] if has_sign else self.tokens)]

    def metrics(self, *, is_split: bool) -> dict[str, object]:
        """Return the counters of a native answer; what is zero is left out, as Ollama does.

        `is_split`: the answer came in pieces, so that the clock can tell reading from writing.
        """
        now_ns = self._clock.monotonic_ns()
        prompt_ns, output_ns = self._durations_ns(now_ns, is_split=is_split)
        figures = {
            "total_duration": now_ns - self._asked.started_ns,
            "load_duration": self._begun_ns - self._asked.started_ns,
            "prompt_eval_count": self.prompt_count,
            "prompt_eval_duration": prompt_ns,
            "eval_count": self.output_count,
            "eval_duration": output_ns,
        }
        return {name: value for name, value in figures.items() if value > 0}

    def _durations_ns(self, now_ns: int, *, is_split: bool) -> tuple[int, int]:
        if self._timings:
            prompt_ms = _number(self._timings.get("prompt_ms"))
            output_ms = _number(self._timings.get("predicted_ms"))
            return round(prompt_ms * _NS_PER_MS), round(output_ms * _NS_PER_MS)
        if not is_split:
            return 0, now_ns - self._begun_ns
        first_ns = now_ns if self._first_ns is None else self._first_ns
        return first_ns - self._begun_ns, now_ns - first_ns


def counted(value: object) -> int:
    """Return a number of tokens, zero for what is none."""
    return round(_number(value))


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LONGEST:
        return value
    return 0
