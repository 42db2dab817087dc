"""What a fake Ollama knows and how it makes an answer; routes give it a shape.

Text is deterministic: token *i* of an answer is `tok<i>`, so that losses and doubles show.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tests.fakes import decode
from tests.fakes.decode import ApiError, Body
from tests.fakes.engine import Engine, Lease, LoadOptions, Settings
from tests.fakes.faults import FaultKind, Struck
from tests.fakes.models import FakeModel
from tests.fakes.names import parse_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from tests.fakes.watch import Watch

ENGINE_DIED = "an error was encountered while running the model: unexpected EOF"
NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"


class Piece(NamedTuple):
    """Something an engine produced: a token of text or of thinking, or a tool call."""

    text: str = ""
    thinking: str = ""
    tool_call: dict[str, Any] | None = None


class Final(msgspec.Struct, frozen=True, kw_only=True):
    """End of an answer, with Ollama's counters."""

    done_reason: str
    total_ns: int
    load_ns: int
    prompt_tokens: int
    prompt_ns: int
    eval_tokens: int
    eval_ns: int

    def counters(self) -> dict[str, int]:
        """As the native API prints them."""
        return {
            "total_duration": self.total_ns,
            "load_duration": self.load_ns,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": self.prompt_ns,
            "eval_count": self.eval_tokens,
            "eval_duration": self.eval_ns,
        }


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One generation, checked and ready for the engine."""

    model: FakeModel
    prompt: tuple[str, ...]
    options: LoadOptions
    keep_alive_s: float | None
    limit: int
    """Zero or less: no limit."""
    thinks: int
    tool: str
    """Name of the tool to call; empty: none."""
    format: object
    truncate: bool
    has_images: bool


class FakeOllama:
    """Models, engine and settings of one node."""

    def __init__(
        self, models: Iterable[FakeModel], settings: Settings, version: str, watch: Watch
    ) -> None:
        self.models: dict[str, FakeModel] = {}
        self.settings = settings
        self.version = version
        self.engine = Engine(settings, watch)
        self.count = 0
        for model in models:
            self.add(model)

    def add(self, model: FakeModel) -> None:
        """Store a model. No await."""
        self.models[model.full.folded()] = model

    def remove(self, name: str) -> FakeModel | None:
        """Forget a model. No await."""
        full = parse_name(name)
        return None if full is None else self.models.pop(full.folded(), None)

    def find(self, name: str) -> FakeModel | None:
        """The stored model of this name, whatever its spelling."""
        full = parse_name(name)
        return None if full is None else self.models.get(full.folded())

    def wanted(self, name: str, missing: str) -> FakeModel:
        """The model a request names, or the errors of a wrong name."""
        if name and parse_name(name) is None:
            raise ApiError(400, "invalid model name")
        model = self.find(name) if name else None
        if model is None:
            raise ApiError(404, missing)
        return model

    def next_id(self) -> int:
        """A number for ids of the OpenAI dialect, which repeat as Ollama's do."""
        self.count += 1
        return self.count % 999

    def load_options(self, body: Body) -> LoadOptions:
        """What of a request's options decides about a reload."""
        options = body.get("options") or {}
        decode.check_options(options)
        num_ctx = int(options.get("num_ctx") or self.settings.default_num_ctx)
        others = tuple(
            (key, options[key])
            for key in decode.LOAD_OPTIONS
            if options.get(key) is not None and options[key] != -1
        )
        return LoadOptions(max(4, num_ctx), others)

    def job(self, model: FakeModel, body: Body, prompt: str) -> Job:
        """A generation as this request wants it."""
        options = body.get("options") or {}
        load_options = self.load_options(body)
        thinks = model.thinks if body.get("think") is not False and model.can("thinking") else 0
        return Job(
            model=model,
            prompt=tuple(prompt.split()),
            options=load_options,
            keep_alive_s=decode.keep_alive_s(body),
            limit=int(options.get("num_predict") or 0),
            thinks=thinks,
            tool=_tool_to_call(model, body),
            format=body.get("format"),
            truncate=body.get("truncate") is not False,
            has_images=bool(body.get("images"))
            or any(message.get("images") for message in body.get("messages", [])),
        )

    async def answer(self, job: Job, lease: Lease, struck: Struck) -> AsyncGenerator[Piece | Final]:
        """Produce an answer; errors of the engine come out as `ApiError`."""
        _check_runnable(job, lease)
        prompt_ns = await self.engine.prefill(lease, job.prompt)
        total = self._length(job)
        crash, cut = struck.get(FaultKind.ENGINE_ERROR), struck.get(FaultKind.CUT_CLEAN)
        started_s = time.monotonic()
        if struck.get(FaultKind.EMPTY_FIRST):
            yield Piece()
        if crash is not None and crash.after_frames == 0:
            raise ApiError(crash.status or 500, crash.text or ENGINE_DIED)
        clock = self.engine.clock(lease)
        for number in range(total):
            await clock.tick()
            if crash is not None and crash.after_frames == number:
                raise ApiError(crash.status or 500, crash.text or ENGINE_DIED)
            if cut is not None and cut.after_frames == number:
                return
            yield _piece(job, number, struck)
        if job.tool:
            yield Piece(tool_call=_tool_call(job.tool, self.next_id()))
        now_s = time.monotonic()
        yield Final(
            done_reason="length" if 0 < job.limit <= total else "stop",
            total_ns=round((now_s - lease.asked_s) * 1e9),
            load_ns=lease.load_ns,
            prompt_tokens=max(1, len(job.prompt)),
            prompt_ns=prompt_ns,
            eval_tokens=max(1, total),
            eval_ns=max(1, round((now_s - started_s) * 1e9)),
        )

    def _length(self, job: Job) -> int:
        if job.limit > 0:
            return job.limit
        if job.tool:
            return 0
        own = job.model.answer_tokens
        return job.thinks + (self.settings.answer_tokens if own is None else own)


def dump(value: object) -> bytes:
    """JSON as Go writes it: compact, and with HTML's letters escaped."""
    raw = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for letter in "<>&":
        raw = raw.replace(letter, f"\\u{ord(letter):04x}")
    return raw.encode()


def timestamp(now_ns: int | None = None) -> str:
    """RFC 3339 in UTC with nanoseconds, trailing zeros trimmed."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    seconds, rest = divmod(now_ns, 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{whole}{fraction}Z"


def expected_text(count: int, start: int = 0) -> str:
    """What an answer of `count` tokens reads."""
    return "".join(_token(number) for number in range(start, count))


def _token(number: int) -> str:
    return f" tok{number}" if number else "tok0"


def _piece(job: Job, number: int, struck: Struck) -> Piece:
    if number < job.thinks:
        return Piece(thinking=f"think{number} ")
    text = _token(number - job.thinks)
    huge = struck.get(FaultKind.HUGE_LINE)
    if huge is not None and huge.after_frames == number:
        text += " " * huge.size_bytes
    return Piece(text)


def _check_runnable(job: Job, lease: Lease) -> None:
    if job.has_images and not job.model.can("vision"):
        text = "Multimodal data provided, but model does not support multimodal requests."
        raise ApiError(400, _nested(400, text, "invalid_request_error"))
    decode.check_format(job.format)
    asked, room = len(job.prompt), lease.runner.options.num_ctx
    if asked > room and not job.truncate:
        text = (
            f"request ({asked} tokens) exceeds the available context size "
            f"({room} tokens), try increasing it"
        )
        more = {"n_prompt_tokens": asked, "n_ctx": room}
        raise ApiError(400, _nested(400, text, "exceed_context_size_error", **more))


def _nested(code: int, message: str, kind: str, **more: int) -> str:
    """The engine's own JSON, which Ollama hands on as one string."""
    error = {"code": code, "message": message, "type": kind} | more
    return json.dumps({"error": error}, separators=(",", ":"))


def _tool_to_call(model: FakeModel, body: Body) -> str:
    tools, messages = body.get("tools") or [], body.get("messages") or []
    if not (model.calls_tools and tools and messages and messages[-1].get("role") == "user"):
        return ""
    return str(tools[0].get("function", {}).get("name", "tool"))


def _tool_call(name: str, number: int) -> dict[str, Any]:
    return {
        "id": f"call_{number:08d}",
        "function": {"index": 0, "name": name, "arguments": {"zeta": 1, "alpha": "two"}},
    }
