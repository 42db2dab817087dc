"""Tool calls, put together from the fragments that engines stream.

Owns the calls of one answer until it ends. Must not know how they are printed around.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from sollold.wire.translate.reply_errors import OVERLONG, Broken, Failure
from sollold.wire.translate.reply_parts import arguments_text

if TYPE_CHECKING:
    from sollold.wire.translate.reply_parts import ToolPiece

_MAX_CALLS: Final = 1024
_MAX_CHARS: Final = 8 * 1024 * 1024
_ID_CHARS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH: Final = 8
_ARGUMENTS: Final = msgspec.json.Decoder(dict[str, Any])


class ToolCall(msgspec.Struct, frozen=True):
    """A complete call; `arguments` is a JSON object."""

    id: str
    index: int
    name: str
    arguments: bytes

    def native(self) -> dict[str, object]:
        """Return it as Ollama's own routes print it."""
        arguments = msgspec.Raw(self.arguments)
        function = {"index": self.index, "name": self.name, "arguments": arguments}
        return {"id": self.id, "function": function}

    def openai(self) -> dict[str, object]:
        """Return it as OpenAI prints it: the arguments are text."""
        function = {"name": self.name, "arguments": self.arguments.decode()}
        return {"id": self.id, "index": self.index, "type": "function", "function": function}


class _Call:
    __slots__ = ("fragments", "id", "index", "name")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.fragments: list[str] = []


class ToolCalls:
    """Collects the calls of one answer."""

    __slots__ = ("_calls", "_chars", "_last", "_latest")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._latest: dict[int, _Call] = {}
        self._last: _Call | None = None
        self._chars = 0

    def add(self, pieces: list[ToolPiece]) -> None:
        """Take what one event brought; raise `Broken` when it gets too much."""
        for piece in pieces:
            call = self._call_of(piece)
            call.id = call.id or piece.id or ""
            if piece.function is not None:
                call.name = call.name or piece.function.name or ""
                self._append(call, arguments_text(piece.function))

    def finished(self, seed: int, *, is_cut: bool) -> list[ToolCall]:
        """Return the complete calls by index; raise `Broken` if one makes no sense.

        `seed` makes ids for calls that came without. `is_cut`: the answer was ended before its
        own end, so that a call may lack the rest; it is left out.
        """
        found: list[ToolCall] = []
        for call in sorted(self._calls, key=lambda call: call.index):
            arguments = _arguments(call)
            if arguments is not None:
                place = len(found)
                found.append(
                    ToolCall(call.id or _made_id(seed + place), place, call.name, arguments)
                )
            elif not is_cut:
                text = f"the arguments of the call to {call.name!r} are not a JSON object"
                raise Broken(Failure(500, text))
        return found

    def _call_of(self, piece: ToolPiece) -> _Call:
        index = piece.index
        known = self._last if index is None else self._latest.get(index)
        # Some engines leave out the index, or give each parallel call the same.
        if known is not None and not (piece.id and known.id and piece.id != known.id):
            self._last = known
            return known
        call = _Call(len(self._calls) if index is None else index)
        if len(self._calls) >= _MAX_CALLS:
            raise Broken(OVERLONG)
        self._calls.append(call)
        self._latest[call.index] = call
        self._last = call
        return call

    def _append(self, call: _Call, arguments: str) -> None:
        self._chars += len(arguments)
        if self._chars > _MAX_CHARS:
            raise Broken(OVERLONG)
        call.fragments.append(arguments)


def _arguments(call: _Call) -> bytes | None:
    text = "".join(call.fragments).strip()
    try:
        return msgspec.json.encode(_ARGUMENTS.decode(text or "{}"))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _made_id(seed: int) -> str:
    chars = ""
    for _ in range(_ID_LENGTH):
        seed, place = divmod(seed, len(_ID_CHARS))
        chars += _ID_CHARS[place]
    return f"call_{chars}"
