"""Slots and token clock of a fake llama-server; nothing here knows HTTP.

Each slot answers one request at a time and remembers its last prompt, waiting is first come first
served, and token *i* of an answer is `tok<i>`, so that losses and doubles show.
"""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tests.fakes.ollama import expected_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.fakes.watch import Watch

BOS = 2
_PIECE = re.compile(r"\s*\S+|\s+")
_CALL_ARGUMENTS = ("{", '"zeta":', "1,", '"alpha":', '"two"', "}")


class LlamaSettings(msgspec.Struct, kw_only=True):
    """How fast and how large a fake llama-server is. May be changed while it runs."""

    model: str = "tiny"
    model_path: str = "/models/tiny.gguf"
    rate: float = 1000.0
    """Tokens a second and slot; 0: as fast as it goes."""
    prefill_s: float = 0.0
    prefill_rate: float = 0.0
    """Prompt tokens a second on top of `prefill_s`; 0: no cost."""
    load_s: float = 0.0
    """Seconds after the start in which every path says `Loading model`."""
    slots: int = 4
    n_ctx: int = 4096
    """Tokens of one slot."""
    answer_tokens: int = 16
    """Length of an answer nobody limited."""
    ping_s: float = 30.0
    """Comments on a silent stream; 0: never."""
    api_key: str = ""
    has_embeddings: bool = False
    has_infill: bool = False
    has_metrics: bool = False
    has_tools: bool = False
    has_vision: bool = False
    """What `/props` says of the template and the projector."""
    calls_tools: bool = False
    """Answers a user's message with one call of the first tool offered."""
    thinks: int = 0
    """Tokens of `reasoning_content` before the answer, unless the request forbids it."""
    crowding: float = 0.0
    """Each further generation under way slows every token by this share."""
    has_prefix_cache: bool = True
    """What of a prompt a slot has seen last time costs no prefill."""
    hears_leaving: bool = True
    """Else an answer that is not streamed is generated to its end, whoever has left: so it is on a
    real one while anything else goes on there, other answers or looks at `/slots`."""
    batch: int = 512
    """Tokens that an embedding may have."""
    embedding_length: int = 64
    is_newer: bool = False
    """As builds from b10434 on: the caller's mistakes are 400, models are listed to keys only."""


class Token(NamedTuple):
    """Something a model produced: text, thinking, or a piece of a tool call."""

    text: str = ""
    thinking: str = ""
    call_name: str = ""
    """Set on the first piece of a call."""
    call_piece: str = ""


class Plan(NamedTuple):
    """An answer before it is generated: it depends on the request only."""

    prompt: tuple[str, ...]
    tokens: tuple[Token, ...]
    stop_type: str
    """`eos`, `word` or `limit`."""
    stopping_word: str = ""
    is_truncated: bool = False
    calls_tool: bool = False


class Timings(NamedTuple):
    """What an answer took."""

    cached: int
    prompt_tokens: int
    """Without the cached ones."""
    prompt_ms: float
    answer_tokens: int
    answer_ms: float

    def as_dict(self) -> dict[str, float]:
        """As llama-server prints them."""
        return {
            "cache_n": self.cached,
            "prompt_n": self.prompt_tokens,
            "prompt_ms": self.prompt_ms,
            "prompt_per_token_ms": self.prompt_ms / max(1, self.prompt_tokens),
            "prompt_per_second": 1e3 * self.prompt_tokens / self.prompt_ms,
            "predicted_n": self.answer_tokens,
            "predicted_ms": self.answer_ms,
            "predicted_per_token_ms": self.answer_ms / max(1, self.answer_tokens),
            "predicted_per_second": 1e3 * self.answer_tokens / self.answer_ms,
        }


class Slot:
    """One place of parallel work."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_busy = False
        self.task = -1
        """Number of the request it works for, or worked for last; -1: none yet."""
        self.prompt: tuple[str, ...] = ()
        self.cached = 0
        self.decoded = 0
        self.limit = 0
        self.prompt_ms = 0.001
        self.body: dict[str, Any] = {}
        """The request that it works for, or worked for last."""
        self._began_s = 0.0
        self._due_s = 0.0

    def common(self, prompt: Sequence[str]) -> int:
        """How many tokens of a prompt it remembers."""
        count = 0
        for ours, theirs in zip(self.prompt, prompt, strict=False):
            if ours != theirs:
                break
            count += 1
        # The last token is always computed, for there is nothing to sample from without it.
        return min(count, len(prompt) - 1)

    def begin_answer(self) -> None:
        """Start the clock of the answer. No await."""
        self._began_s = self._due_s = time.monotonic()

    def is_due_s(self, token_s: float) -> float:
        """Seconds until the next token, without drift. No await."""
        self._due_s += token_s
        return max(0.0, self._due_s - time.monotonic())

    def timings(self) -> Timings:
        """What it took so far."""
        answer_ms = max(0.001, round((time.monotonic() - self._began_s) * 1e3, 3))
        fresh = len(self.prompt) - self.cached
        return Timings(self.cached, fresh, self.prompt_ms, self.decoded, answer_ms)


class LlamaEngine:
    """All slots of one fake llama-server."""

    def __init__(self, settings: LlamaSettings, watch: Watch) -> None:
        self.settings = settings
        self.active = 0
        self.max_active = 0
        self.generated_tokens = 0
        self.prompt_tokens = 0
        self._watch = watch
        self._slots: list[Slot] = []
        self._line: deque[asyncio.Future[None]] = deque()
        self._tasks = 0
        self._held = 0
        """Slots in use, or handed to one who waited and has not run yet."""

    @property
    def slots(self) -> list[Slot]:
        """The slots, as many as the settings say."""
        while len(self._slots) < self.settings.slots:
            self._slots.append(Slot(len(self._slots)))
        return self._slots[: self.settings.slots]

    @property
    def waiting(self) -> int:
        """Requests that hold no slot yet."""
        return len(self._line)

    def forget(self) -> None:
        """Lose every prompt, as a restart does. No await."""
        self._slots = []

    @asynccontextmanager
    async def lease(self, plan: Plan, wanted: int = -1) -> AsyncIterator[Slot]:
        """A slot, in the order of arrival; `wanted` names one, if it exists."""
        await self._wait_turn()
        slot = self._choose(plan.prompt, wanted)
        self._take(slot, plan)
        try:
            yield slot
        finally:
            slot.is_busy = False
            self.active -= 1
            self._next()
            self._watch.changed()

    def prefill_s(self, slot: Slot) -> float:
        """How long reading the slot's prompt takes."""
        rate = self.settings.prefill_rate
        fresh = len(slot.prompt) - slot.cached
        return self.settings.prefill_s + (fresh / rate if rate > 0 else 0.0)

    async def tick(self, slot: Slot) -> None:
        """Wait for the slot's next token."""
        rate = self.settings.rate
        crowd = 1 + self.settings.crowding * (self.active - 1)
        await asyncio.sleep(slot.is_due_s(crowd / rate if rate > 0 else 0.0))
        slot.decoded += 1
        self.generated_tokens += 1

    async def _wait_turn(self) -> None:
        if self._held < self.settings.slots and not self._line:
            self._held += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._watch.changed()
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._line:
                self._line.remove(turn)
            elif not turn.cancelled():
                self._next()
            raise

    def _choose(self, prompt: tuple[str, ...], wanted: int) -> Slot:
        free = [slot for slot in self.slots if not slot.is_busy]
        named = [slot for slot in free if slot.number == wanted]
        return max(named or free, key=lambda slot: slot.common(prompt))

    def _take(self, slot: Slot, plan: Plan) -> None:
        slot.is_busy = True
        slot.task, self._tasks = self._tasks, self._tasks + 1
        slot.cached = slot.common(plan.prompt) if self.settings.has_prefix_cache else 0
        slot.prompt = plan.prompt
        slot.decoded, slot.limit = 0, len(plan.tokens)
        self.prompt_tokens += len(plan.prompt) - slot.cached
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        self._watch.changed()

    def _next(self) -> None:
        """Hand one freed slot to the first in line, or free it. No await."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._held -= 1


class Vocabulary:
    """Words as tokens: numbers that hang on the word only, so that servers agree on them."""

    def __init__(self) -> None:
        self._pieces: dict[int, str] = {}

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, remembered for `decode`."""
        numbers = []
        for piece in pieces_of(text):
            number = 1000 + zlib.crc32(piece.encode()) % 250_000
            self._pieces[number] = piece
            numbers.append(number)
        return numbers

    def piece(self, number: int) -> str:
        """One token's text."""
        return self._pieces.get(number, f" <{number}>")

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of tokens."""
        return "".join(self.piece(number) for number in numbers)


def pieces_of(text: str) -> list[str]:
    """The words of a text, each with the space before it."""
    return _PIECE.findall(text)


def plan_answer(
    settings: LlamaSettings, prompt: Sequence[str], body: dict[str, Any], *, limit: int, tool: str
) -> Plan:
    """What a request will be answered; `limit` below 0 stands for no limit."""
    room = max(1, settings.n_ctx - len(prompt))
    if tool:
        return Plan(tuple(prompt), _call_tokens(tool), "eos", calls_tool=True)
    thinks = settings.thinks if _may_think(body) else 0
    wanted = thinks + settings.answer_tokens if limit < 0 else max(1, limit)
    count = min(wanted, room)
    thoughts = [Token(thinking=f"think{number} ") for number in range(min(thinks, count))]
    words = pieces_of(expected_text(count - len(thoughts)))
    kept, word = _cut_at_stop(words, body.get("stop"))
    tokens = (*thoughts, *(Token(piece) for piece in kept))
    is_truncated = wanted > room
    kind = "word" if word else "limit" if limit >= 0 or is_truncated else "eos"
    return Plan(tuple(prompt), tokens, kind, word, is_truncated)


def _may_think(body: dict[str, Any]) -> bool:
    wishes = body.get("chat_template_kwargs")
    is_on = not isinstance(wishes, dict) or wishes.get("enable_thinking") is not False
    return is_on and "messages" in body and body.get("reasoning_effort") != "none"


def _call_tokens(name: str) -> tuple[Token, ...]:
    first, *rest = _CALL_ARGUMENTS
    named = Token(call_name=name, call_piece=first)
    return (named, *(Token(call_piece=piece) for piece in rest))


def _cut_at_stop(words: list[str], stop: object) -> tuple[list[str], str]:
    """The words before the first stop word, and that word."""
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    text = "".join(words)
    found = [(text.index(word), word) for word in stops if isinstance(word, str) and word in text]
    if not found:
        return words, ""
    at, word = min(found)
    return pieces_of(text[:at]), word
