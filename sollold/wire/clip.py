"""Keeping only the ends of what is too long to keep.

Owns bounded memory of a byte stream's last lines, independent of how the stream was split. Must
not know what the bytes mean.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

END_BYTES: Final = 4096
"""What is kept of each end of something clipped."""
LINE_BYTES: Final = 2 * END_BYTES
"""Longer lines are clipped."""


class Piece(NamedTuple):
    """Bytes, whole or as their two ends."""

    head: bytes
    tail: bytes = b""
    """Empty when `head` is everything."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return not self.tail


class Clip:
    """Collects bytes, and only their ends once there are more than a limit."""

    __slots__ = ("_head", "_limit_bytes", "_tail")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._head = bytearray()
        self._tail = b""

    def add(self, data: bytes) -> None:
        """Append bytes."""
        if self._tail:
            self._tail = (self._tail + data)[-END_BYTES:]
            return
        self._head += data
        if len(self._head) > self._limit_bytes:
            self._tail = bytes(self._head[-END_BYTES:])
            del self._head[END_BYTES:]

    def piece(self) -> Piece:
        """Return what was collected."""
        return Piece(bytes(self._head), self._tail)


def clipped(data: bytes) -> Piece:
    """Return a line as it is kept."""
    if len(data) <= LINE_BYTES:
        return Piece(data)
    return Piece(data[:END_BYTES], data[-END_BYTES:])


class LastLines:
    """Remembers the last complete lines that matter, and the incomplete one after them."""

    __slots__ = ("_lines", "_open", "_prefix")

    def __init__(self, keep: int, *, prefix: bytes = b"") -> None:
        self._prefix = prefix
        self._lines: deque[Piece] = deque(maxlen=keep)
        self._open = Clip(LINE_BYTES)

    def add(self, data: bytes) -> None:
        """Append bytes, split anywhere."""
        end = data.rfind(b"\n")
        if end < 0:
            self._open.add(data)
            return
        first = data.find(b"\n")
        self._open.add(data[:first])
        self._keep([self._open.piece()])
        self._keep(self._last_between(data, first, end))
        self._open = Clip(LINE_BYTES)
        self._open.add(data[end + 1 :])

    def pieces(self) -> tuple[list[Piece], Piece]:
        """Return the lines, oldest first, and the incomplete one, which may be empty."""
        return list(self._lines), self._open.piece()

    def _last_between(self, data: bytes, first: int, end: int) -> list[Piece]:
        """Walk back over the lines between two newlines until enough are found."""
        found: list[Piece] = []
        while end > first and len(found) < (self._lines.maxlen or 0):
            start = data.rfind(b"\n", first, end)
            piece = clipped(data[start + 1 : end])
            if self._matters(piece):
                found.append(piece)
            end = start
        return found[::-1]

    def _keep(self, pieces: list[Piece]) -> None:
        self._lines.extend(piece for piece in pieces if self._matters(piece))

    def _matters(self, piece: Piece) -> bool:
        return (
            piece.head.startswith(self._prefix) and not piece.head.isspace() and piece.head != b""
        )
