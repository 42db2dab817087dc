"""How a native answer is printed: lines of a stream, or one object.

Owns field order and shapes of `/api/chat` and `/api/generate`. Must not read what engines send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sollold.core.model import Dialect
from sollold.wire.errors import NATIVE_JSON, error_body
from sollold.wire.gojson import go_json
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.reply_logprobs import logprobs_of
from sollold.wire.translate.stamps import created_at

if TYPE_CHECKING:
    from sollold.wire.translate.asked import Asked
    from sollold.wire.translate.reply_errors import Failure
    from sollold.wire.translate.reply_parts import Part
    from sollold.wire.translate.reply_tally import Tally
    from sollold.wire.translate.seam import Clock

_DONE_REASONS: Final = {"tool_calls": "stop", "content_filter": "stop"}
"""Ollama knows no other ends than `stop` and `length`."""


class NativeForm:
    """Prints the parts of one answer."""

    __slots__ = ("_after", "_asked", "_clock", "_close", "_is_chat", "_open", "_prefix")

    stream_type = "application/x-ndjson"
    whole_type = NATIVE_JSON
    ends_with_reason = True

    def __init__(self, route: InferenceRoute, asked: Asked, clock: Clock) -> None:
        self._asked = asked
        self._clock = clock
        self._is_chat = route is InferenceRoute.API_CHAT
        self._open = b'{"model":' + go_json(asked.model) + b',"created_at":"'
        if self._is_chat:
            self._after, self._close = b'","message":{"role":"assistant","content":', b"}"
        else:
            self._after, self._close = b'","response":', b""
        self._prefix = b""

    def begin_burst(self) -> None:
        """Take the time for what is printed next: what came together has one time."""
        stamp = created_at(self._clock.wall_ns()).encode()
        self._prefix = self._open + stamp + self._after

    def part(self, part: Part) -> bytes:
        """Return the line for a part, nothing if it has no content."""
        if part.logprobs is None and not part.thinking:
            if not part.text:
                return b""
            return self._prefix + go_json(part.text) + self._close + b',"done":false}\n'
        logprobs = logprobs_of(self._asked, part.logprobs)
        if not (part.text or part.thinking or logprobs):
            return b""
        line = self._prefix + go_json(part.text)
        if part.thinking:
            line += b',"thinking":' + go_json(part.thinking)
        line += self._close + b',"done":false'
        if logprobs:
            line += b',"logprobs":' + go_json(logprobs)
        return line + b"}\n"

    def ending(self, tally: Tally, *, is_split: bool) -> bytes:
        """Return the last line; raise `Broken` if a tool call makes no sense."""
        return go_json(self._last("", "", tally, [], is_split=is_split)) + b"\n"

    def whole(self, part: Part, tally: Tally, *, is_split: bool) -> bytes:
        """Return the answer as one object; raise `Broken` if a tool call makes no sense."""
        logprobs = logprobs_of(self._asked, part.logprobs)
        return go_json(self._last(part.text, part.thinking, tally, logprobs, is_split=is_split))

    def broken(self, failure: Failure) -> bytes:
        """Return the line that tells of an error inside a stream."""
        return go_json({"error": failure.text}) + b"\n"

    def refusal(self, failure: Failure) -> tuple[bytes, str]:
        """Return body and content type of an error that comes instead of an answer."""
        is_late = self._asked.is_stream
        return error_body(Dialect.OLLAMA, failure.status, failure.text, is_late=is_late)

    def _last(
        self,
        text: str,
        thinking: str,
        tally: Tally,
        logprobs: list[dict[str, object]],
        *,
        is_split: bool,
    ) -> dict[str, object]:
        wall_ns = self._clock.wall_ns()
        calls = [call.native() for call in tally.calls(wall_ns)]
        body: dict[str, object] = {"model": self._asked.model, "created_at": created_at(wall_ns)}
        if self._is_chat:
            message = {"role": "assistant", "content": text}
            body["message"] = message | _present(thinking=thinking, tool_calls=calls)
        else:
            body |= {"response": text} | _present(thinking=thinking)
        body["done"] = tally.finish is not None
        if tally.finish is not None:
            body["done_reason"] = _DONE_REASONS.get(tally.finish, tally.finish)
        metrics = tally.metrics(is_split=is_split)
        if self._is_chat:
            return body | _present(logprobs=logprobs) | metrics
        body |= _present(context=tally.context()) | metrics
        return body | _present(tool_calls=calls, logprobs=logprobs)


def _present(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value}
