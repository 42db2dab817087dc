"""What an engine's errors are in Ollama's words.

Owns the reading of error bodies and the table from their status and text to Ollama's. Statuses by
which routing judges a node (401, 403, 429, 503) pass through. Must not decide what happens next.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from sollold.core.model import TaskKind
from sollold.core.names import parse
from sollold.wire.errors import model_not_found
from sollold.wire.routes import InferenceRoute

if TYPE_CHECKING:
    from sollold.wire.translate.asked import Asked

MAX_ERROR_BYTES: Final = 64 * 1024
"""More of an error's body is not read."""
UNREADABLE_STATUS: Final = 502

_MAX_TEXT_CHARS: Final = 4096
_INFILL: Final = "/infill"
_TOO_LONG_PROMPT: Final = (
    "the prompt is longer than the context length currently available to the model"
)
_TOO_LONG_INPUT: Final = "the input length exceeds the context length"
_CONTEXT_CODES: Final = frozenset({"exceed_context_size_error", "context_length_exceeded"})
_CONTEXT_TEXT: Final = re.compile(r"maximum context length|exceeds the available context size")
_BATCH_TEXT: Final = re.compile(r"too large to process")
_CALLERS_TEXT: Final = re.compile(
    r"(?:image|audio|video) input is not supported|\[json\.exception\."
)
"""What llama-server says with 500 although the request is at fault."""
_MISSING_MODEL_TEXT: Final = re.compile(r"\bmodel\b.*\bnot (?:found|exist)", re.I | re.S)


class Failure(NamedTuple):
    """An error as it goes on to the client, or to routing."""

    status: int
    text: str


class Broken(Exception):
    """A reply that cannot go on; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


UNREADABLE: Final = Failure(UNREADABLE_STATUS, "the node's answer cannot be read")
OVERLONG: Final = Failure(UNREADABLE_STATUS, "the node's answer is too long")
SPOILERS: Final = frozenset({UNREADABLE, OVERLONG})
"""After these nothing of a reply is worth waiting for."""


class _Told(NamedTuple):
    """An error as the engine told it."""

    text: str
    kinds: frozenset[str] = frozenset()
    code: int | None = None
    prompt_tokens: int | None = None
    context_tokens: int | None = None


class Errors:
    """Translates the errors of one reply."""

    __slots__ = ("_asked", "_route")

    def __init__(self, route: InferenceRoute, asked: Asked) -> None:
        self._route = route
        self._asked = asked

    def of_body(self, status: int, body: bytes) -> Failure:
        """Translate a reply whose status is not 200."""
        return self._translate(status if status >= 300 else UNREADABLE_STATUS, _read_body(body))

    def of_event(self, error: object) -> Failure:
        """Translate an error told with status 200, in a stream or in its place."""
        told = _read_error(error)
        is_status = told.code is not None and 400 <= told.code < 600
        return self._translate(told.code if told.code and is_status else 500, told)

    def _translate(self, status: int, told: _Told) -> Failure:
        text = told.text or f"the node answered {status}"
        if status == 501:
            return Failure(*self._unsupported(text))
        if told.kinds & _CONTEXT_CODES or _CONTEXT_TEXT.search(text):
            return Failure(self._too_long_status, self._too_long(told))
        if status == 404:
            return self._missing(text)
        if status == 500 and self._is_embedding and _BATCH_TEXT.search(text):
            return Failure(self._too_long_status, _TOO_LONG_INPUT)
        if status == 500 and _CALLERS_TEXT.match(text):
            return Failure(400, text)
        return Failure(status, text)

    @property
    def _is_embedding(self) -> bool:
        return self._route.kind is TaskKind.EMBED

    @property
    def _too_long_status(self) -> int:
        # What an engine refuses is always Ollama's own failure on this route.
        return 500 if self._route is InferenceRoute.API_EMBEDDINGS else 400

    def _unsupported(self, text: str) -> tuple[int, str]:
        model = self._asked.model
        if self._asked.path == _INFILL:
            parsed = parse(model)
            return 400, f"{parsed.full if parsed else model} does not support insert"
        if self._is_embedding:
            return 500 if self._route is InferenceRoute.API_EMBEDDINGS else 501, text
        return 400, f'"{model}" does not support {self._route.kind}'

    def _too_long(self, told: _Told) -> str:
        if self._is_embedding:
            return _TOO_LONG_INPUT
        if told.prompt_tokens is None or told.context_tokens is None:
            return _TOO_LONG_PROMPT
        counts = f"{told.prompt_tokens} tokens, {told.context_tokens} available"
        return f"{_TOO_LONG_PROMPT} ({counts})"

    def _missing(self, text: str) -> Failure:
        """Tell a missing model from a missing route, which is the node's own fault."""
        if _MISSING_MODEL_TEXT.search(text):
            return Failure(404, model_not_found(self._route, self._asked.model))
        return Failure(UNREADABLE_STATUS, f"the node does not serve {self._asked.path}")


def _read_body(body: bytes) -> _Told:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Told(_plain(body))
    if isinstance(document, dict):
        return _read_error(document.get("error") or document)
    return _Told(_plain(body))


def _plain(body: bytes) -> str:
    """Return a body that is no JSON as text, unless it is a page."""
    text = body[:_MAX_TEXT_CHARS].decode("utf-8", "replace").strip()
    return "" if text.startswith("<") else text


def _read_error(error: object) -> _Told:
    if isinstance(error, str):
        return _Told(error[:_MAX_TEXT_CHARS])
    if not isinstance(error, dict):
        return _Told("")
    code = error.get("code")
    return _Told(
        text=_text(error.get("message") or error.get("detail")),
        kinds=frozenset(kind for kind in (error.get("type"), code) if isinstance(kind, str)),
        code=_whole(code),
        prompt_tokens=_whole(error.get("n_prompt_tokens")),
        context_tokens=_whole(error.get("n_ctx")),
    )


def _text(message: object) -> str:
    return message[:_MAX_TEXT_CHARS] if isinstance(message, str) else ""


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
