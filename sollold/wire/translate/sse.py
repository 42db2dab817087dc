"""Splits a stream of server-sent events into the data of each event.

Owns lines that are not complete yet. Must not look into the data.
"""

from __future__ import annotations

from typing import Final

MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
"""No engine sends an event near this size; Ollama's own client takes no longer lines."""

_DATA: Final = b"data:"
_FRAME_START: Final = b"data: "
_FRAME_END: Final = b"\n\n"


class SseSplitter:
    """Takes pieces of a stream; the events do not depend on how it was cut.

    Lines end with a newline, with or without a carriage return. Comments and all fields other than
    `data` are passed over.
    """

    __slots__ = ("_data", "_data_bytes", "_limit_bytes", "_pending", "is_overlong")

    def __init__(self, limit_bytes: int = MAX_EVENT_BYTES) -> None:
        self.is_overlong = False
        """A line or an event was longer than the limit; nothing is returned from then on."""
        self._limit_bytes = limit_bytes
        self._pending = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that are complete now."""
        if self._pending or self._data or not data.endswith(_FRAME_END) or b"\r" in data:
            return self._feed_lines(data)
        if len(data) > self._limit_bytes or self.is_overlong:
            return self._feed_lines(data)
        events: list[bytes] = []
        for frame in data[:-2].split(_FRAME_END):
            if frame.startswith(_FRAME_START) and b"\n" not in frame:
                events.append(frame[6:])
            else:
                events += self._take_lines([*frame.split(b"\n"), b""])
        return events

    def finish(self) -> list[bytes]:
        """Return the data of an event whose end was left out."""
        if self.is_overlong:
            return []
        last = bytes(self._pending)
        self._pending.clear()
        return self._take_lines([last, b""])

    def _feed_lines(self, data: bytes) -> list[bytes]:
        if self.is_overlong:
            return []
        self._pending += data
        events: list[bytes] = []
        if b"\n" in data:
            whole, _, rest = bytes(self._pending).rpartition(b"\n")
            self._pending[:] = rest
            events = self._take_lines(whole.split(b"\n"))
        if len(self._pending) > self._limit_bytes:
            self._give_up()
        return events

    def _take_lines(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if not line:
                events += self._dispatch()
            elif line.startswith(_DATA):
                self._data.append(line[len(_DATA) :].removeprefix(b" "))
                self._data_bytes += len(line)
            if len(raw) > self._limit_bytes or self._data_bytes > self._limit_bytes:
                self._give_up()
                break
        return events

    def _dispatch(self) -> list[bytes]:
        lines, self._data, self._data_bytes = self._data, [], 0
        return [b"\n".join(lines)] if lines else []

    def _give_up(self) -> None:
        self.is_overlong = True
        self._pending.clear()
        self._data = []


def is_event_stream(content_type: str) -> bool:
    """Whether a body of this type is a stream of events."""
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"
