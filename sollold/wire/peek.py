"""What routing needs to know of a request body, read once and cheaply.

Owns the typed decoders of the inference routes. Must not change a body: nodes get the client's
bytes and are the judges of what is only their business.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from sollold.core.model import LoadOptions
from sollold.wire.bodies import NO_OPTIONS, Message, Options, relaxed_decoder, strict_decoder
from sollold.wire.gojson import MAX_DEPTH_TEXT, BodyProblem
from sollold.wire.lenient import LOAD_NUMBERS, is_misspelled, normalise
from sollold.wire.outline import outline_of
from sollold.wire.routes import InferenceRoute
from sollold.wire.texts import Unusual, inputs_of, parts_of, size_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.wire.bodies import (
        Chat,
        Embed,
        Embeddings,
        Generate,
        OpenAIChat,
        OpenAICompletion,
        OpenAIEmbed,
        Show,
    )
    from sollold.wire.outline import Outline

__all__ = ["BRIEF_BYTES", "BodyProblem", "InferenceRoute", "Peek", "peek"]

_INT64: Final = 2**63
_HEAD_BYTES: Final = 256
BRIEF_BYTES: Final = 64 * 1024
"""Bodies up to here are decoded: some 5 ms for the worst of them, tens of microseconds for most."""
_LENIENT_BYTES: Final = 16 * 1024
"""Reading a body as Go does takes several times as long."""
_BRIEF_STEPS: Final = 1500
_LONG_STEPS: Final = 20_000
"""Two to three microseconds each; long bodies are looked at in a thread."""
_EMPTY_TEXT: Final = (b"", b"null", b'""')
_DURATION: Final = re.compile(
    r"[+-]?(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)"
)
_DURATION_TERM: Final = re.compile(r"([0-9.]+)(ns|us|µs|μs|ms|s|m|h)")
_SMALLEST_S: Final = 1e-9
_SHARES_OF_S: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip


class Peek(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request body as far as choosing a node and reading the answer need it."""

    model: str
    """As sent; empty when the body names none."""
    stream: bool
    options: LoadOptions = ()
    """Only those that are present and make a node reload; `shift` only when false."""
    prompt_bytes: int = 0
    """UTF-8 bytes of text; base64 is not text."""
    tool_bytes: int = 0
    """JSON bytes of tool definitions, which most templates print into the prompt."""
    media_count: int = 0
    turns: int = 0
    """Messages of a chat."""
    has_tools: bool = False
    has_format: bool = False
    wants_thinking: bool | None = None
    """None: the model's default."""
    num_predict: int | None = None
    """The client's limit on output tokens."""
    is_load: bool = False
    """Asks for nothing but the model in memory."""
    is_unload: bool = False
    wants_usage: bool = False
    verbose: bool = False
    first_text: bytes = b""
    """Start of the conversation as JSON text, equal in all turns of one; for affinity."""
    input_count: int = 0
    """Texts to embed."""


class _Spec(NamedTuple):
    """How one route's body is read."""

    strict: msgspec.json.Decoder[Any]
    relaxed: msgspec.json.Decoder[Any]
    build: Callable[[Any], Peek]


_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NOT_PLAIN: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Unusual)


def peek(route: InferenceRoute, body: bytes | memoryview) -> Peek:
    """Read what routing needs; raise `BodyProblem` when a body cannot be understood.

    A body longer than `BRIEF_BYTES` is walked over and never decoded: that takes time in proportion
    to its length, but little memory, and other threads get their turn meanwhile. What it counts is
    an estimate then. Nothing of the body is kept, so that a view may be one of a file.
    """
    if len(body) <= BRIEF_BYTES:
        found = _read_plainly(route, body)
        if found is not None and found.model:
            return found
        if len(body) <= _LENIENT_BYTES:
            return _read_as_go(route, bytes(body))
    is_brief = len(body) <= BRIEF_BYTES
    outline = outline_of(route, body, steps=_BRIEF_STEPS if is_brief else _LONG_STEPS)
    found = _read_plainly(route, outline.body)
    if found is None or not found.model:
        found = _read_as_go(route, outline.body)
    return _with_counts(found, outline)


def _read_plainly(route: InferenceRoute, body: bytes | memoryview) -> Peek | None:
    spec = _SPECS[route]
    try:
        return spec.build(spec.strict.decode(body))
    except msgspec.ValidationError:
        return _peek_relaxed(route, spec, body)
    except _NOT_PLAIN:
        return None


def _read_as_go(route: InferenceRoute, body: bytes) -> Peek:
    spec = _SPECS[route]
    try:
        return spec.build(spec.relaxed.decode(normalise(route, body)))
    except RecursionError:
        raise BodyProblem("syntax", MAX_DEPTH_TEXT) from None


def _with_counts(found: Peek, outline: Outline) -> Peek:
    """Put in what was counted in the whole body, of which the outline shows only the start."""
    counts = outline.counts
    texts = counts.get("input")
    messages = counts.get("messages")
    return msgspec.structs.replace(
        found,
        prompt_bytes=sum(count.text_bytes for count in counts.values()),
        tool_bytes=outline.tool_bytes if found.has_tools else 0,
        media_count=sum(count.media for count in counts.values()),
        turns=messages.items if messages else found.turns,
        input_count=texts.items if texts and found.input_count else found.input_count,
    )


def _peek_relaxed(route: InferenceRoute, spec: _Spec, body: bytes | memoryview) -> Peek | None:
    """Read a body with fields nobody knows, unless one of them is a known one in disguise."""
    try:
        if any(is_misspelled(route, key) for key in _MEMBERS.decode(body)):
            return None
        return spec.build(spec.relaxed.decode(body))
    except _NOT_PLAIN:
        return None


def _chat(body: Chat) -> Peek:
    messages = body.messages or []
    texts: list[bytes] = []
    media_count = 0
    for message in messages:
        texts.append(text_of(message.content))
        if message.images:
            media_count += len(message.images)
    tools = bytes(body.tools)
    return Peek(
        model=body.model or "",
        stream=body.stream is not False,
        options=_load_options(body.options, body.shift),
        prompt_bytes=size_of(texts),
        tool_bytes=len(tools) if _has_items(tools) else 0,
        media_count=media_count,
        turns=len(messages),
        has_tools=_has_items(tools),
        has_format=bytes(body.format) not in _EMPTY_TEXT,
        wants_thinking=_thinking(body.think),
        num_predict=_limit(body.options),
        is_load=not messages,
        is_unload=not messages and _is_zero(body.keep_alive),
        first_text=_beginning(messages, texts),
    )


def _generate(body: Generate) -> Peek:
    prompt, system = text_of(body.prompt), text_of(body.system)
    is_load = prompt in _EMPTY_TEXT
    return Peek(
        model=body.model or "",
        stream=body.stream is not False,
        options=_load_options(body.options, body.shift),
        prompt_bytes=size_of([prompt, system, text_of(body.suffix)]),
        media_count=len(body.images or ()),
        turns=0 if is_load else 1,
        has_format=bytes(body.format) not in _EMPTY_TEXT,
        wants_thinking=_thinking(body.think),
        num_predict=_limit(body.options),
        is_load=is_load,
        is_unload=is_load and _is_zero(body.keep_alive),
        first_text=system[:_HEAD_BYTES] + prompt[:_HEAD_BYTES],
    )


def _embed(body: Embed) -> Peek:
    prompt_bytes, input_count = inputs_of(body.input)
    raw = bytes(body.input)
    is_load = raw in _EMPTY_TEXT or (raw[:1] == b"[" and input_count == 0)
    return Peek(
        model=body.model or "",
        stream=False,
        options=_load_options(body.options, None),
        prompt_bytes=prompt_bytes,
        is_load=is_load,
        input_count=0 if is_load else input_count,
    )


def _embeddings(body: Embeddings) -> Peek:
    prompt = text_of(body.prompt)
    is_load = prompt in _EMPTY_TEXT
    return Peek(
        model=body.model or "",
        stream=False,
        options=_load_options(body.options, None),
        prompt_bytes=size_of([prompt]),
        is_load=is_load,
        input_count=0 if is_load else 1,
    )


def _show(body: Show) -> Peek:
    return Peek(model=body.model or body.name or "", stream=False, verbose=body.verbose is True)


def _openai_chat(body: OpenAIChat) -> Peek:
    messages = body.messages or []
    texts: list[bytes] = []
    media_count = 0
    for message in messages:
        raw = bytes(message.content)
        if raw[:1] == b"[":
            raw, media = parts_of(raw)
            media_count += media
        texts.append(raw if raw[:1] == b'"' else b"")
    tools = bytes(body.tools)
    return Peek(
        model=body.model or "",
        stream=body.stream is True,
        prompt_bytes=size_of(texts),
        tool_bytes=len(tools) if _has_items(tools) else 0,
        media_count=media_count,
        turns=len(messages),
        has_tools=_has_items(tools),
        has_format=_member(body.response_format, "type") in ("json_object", "json_schema"),
        wants_thinking=_effort(_member(body.reasoning, "effort") or body.reasoning_effort),
        num_predict=body.max_tokens,
        wants_usage=_member(body.stream_options, "include_usage") is True,
        first_text=_beginning(messages, texts),
    )


def _openai_completion(body: OpenAICompletion) -> Peek:
    prompt = bytes(body.prompt)
    prompt_bytes, _ = inputs_of(body.prompt)
    is_load = prompt in _EMPTY_TEXT
    return Peek(
        model=body.model or "",
        stream=body.stream is True,
        prompt_bytes=prompt_bytes + size_of([text_of(body.suffix)]),
        turns=0 if is_load else 1,
        num_predict=body.max_tokens,
        is_load=is_load,
        wants_usage=_member(body.stream_options, "include_usage") is True,
        first_text=prompt[:_HEAD_BYTES],
    )


def _openai_embed(body: OpenAIEmbed) -> Peek:
    prompt_bytes, input_count = inputs_of(body.input)
    return Peek(
        model=body.model or "", stream=False, prompt_bytes=prompt_bytes, input_count=input_count
    )


_BUILDERS: Final[dict[InferenceRoute, Callable[[Any], Peek]]] = {
    InferenceRoute.API_CHAT: _chat,
    InferenceRoute.API_GENERATE: _generate,
    InferenceRoute.API_EMBED: _embed,
    InferenceRoute.API_EMBEDDINGS: _embeddings,
    InferenceRoute.API_SHOW: _show,
    InferenceRoute.V1_CHAT: _openai_chat,
    InferenceRoute.V1_COMPLETIONS: _openai_completion,
    InferenceRoute.V1_EMBEDDINGS: _openai_embed,
}
_SPECS: Final = {
    route: _Spec(strict_decoder(route), relaxed_decoder(route), build)
    for route, build in _BUILDERS.items()
}


def _beginning(messages: list[Message], texts: list[bytes]) -> bytes:
    """Return the starts of the first message and of the first user's message."""
    if not messages:
        return b""
    head = texts[0][:_HEAD_BYTES]
    if messages[0].role == "user":
        return head
    for message, text in zip(messages, texts, strict=True):
        if message.role == "user":
            return head + text[:_HEAD_BYTES]
    return head


def _load_options(options: Options | None, shift: bool | None) -> LoadOptions:
    has_options = options is not None and options != NO_OPTIONS
    if not has_options and shift is not False:
        return ()
    found: list[tuple[str, str | int | float | bool]] = []
    if options is not None:
        for name in LOAD_NUMBERS:
            value = _whole(getattr(options, name))
            # A negative number of layers matches a runner with any.
            if value is not None and (value >= 0 or name != "num_gpu"):
                found.append((name, value))
    if shift is False:
        found.append(("shift", False))
    if options is not None and options.use_mmap is not None:
        found.append(("use_mmap", options.use_mmap))
    return tuple(found)


def _limit(options: Options | None) -> int | None:
    return None if options is None else _whole(options.num_predict)


def _whole(value: float | None) -> int | None:
    """Cut a number as Ollama cuts options; absurd ones count as absent."""
    return int(value) if value is not None and abs(value) < _INT64 else None


def _has_items(array: bytes) -> bool:
    return array[:1] == b"[" and array[1:].lstrip()[:1] != b"]"


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _thinking(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return True if value in ("low", "medium", "high", "max") else None


def _effort(value: object) -> bool | None:
    return value != "none" if isinstance(value, str) else None


def _is_zero(keep_alive: object) -> bool:
    """Whether a `keep_alive` means no time at all, which Ollama counts in whole nanoseconds."""
    if isinstance(keep_alive, str):
        return _DURATION.fullmatch(keep_alive) is not None and all(
            float(number) * _SHARES_OF_S[unit] < _SMALLEST_S
            for number, unit in _DURATION_TERM.findall(keep_alive)
        )
    return (
        isinstance(keep_alive, int | float)
        and not isinstance(keep_alive, bool)
        and 0 <= keep_alive < _SMALLEST_S
    )
