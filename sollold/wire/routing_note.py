"""Adds `_sollol_routing` to the last JSON object of an answer, on request.

Works on bytes as they pass: only a closing brace at the end of what was seen is held back. Must not
parse. Server-sent events are left alone: they have no single body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME: Final = b',"_sollol_routing":'
_ENDS: Final = (b"}\n", b"}")


class RoutingNote:
    """Feeds an answer through; `note` is called once, at the end, for the JSON to insert.

    The answer must be one JSON object, or objects one per line.
    """

    __slots__ = ("_held", "_note")

    def __init__(self, note: Callable[[], bytes]) -> None:
        self._note = note
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what may pass now."""
        data = self._held + data
        for end in _ENDS:
            if data.endswith(end):
                self._held = end
                return data[: -len(end)]
        self._held = b""
        return data

    def release(self) -> bytes:
        """Return what is held back, as it is: the answer was cut and gets no note."""
        held, self._held = self._held, b""
        return held

    def finish(self) -> bytes:
        """Return the rest, with the note before the last closing brace if there is one."""
        held = self.release()
        return _NAME + self._note() + held if held else b""
