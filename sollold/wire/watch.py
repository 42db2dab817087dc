"""Watchers of reply bodies, fed chunk by chunk on the hot path.

Owns when an answer commits, whether it ended as it should, and its counters. Must not change
bytes; after the first content a chunk is counted and kept for a while, never parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from sollold.core.model import Dialect
from sollold.wire.clip import Clip, LastLines, Piece, clipped
from sollold.wire.endings import (
    NOTHING_COUNTED,
    Closing,
    Counters,
    native_closing,
    openai_closing,
)
from sollold.wire.errors import openai_error
from sollold.wire.gojson import go_json
from sollold.wire.verdicts import DATA, DONE, Verdict, count_empty, judge_event_line, judge_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.wire.routes import InferenceRoute

_HELD_BYTES: Final = 16 * 1024
_CHUNK_BYTES: Final = 64
"""What it costs to hold a chunk besides its bytes, so that tiny ones are bounded too."""
_LONG_LINE_BYTES: Final = 64 * 1024
_WHOLE_BODY_BYTES: Final = 64 * 1024
_EDGE_BYTES: Final = 4
_EVENT_LINES: Final = 4
_INTERRUPTED: Final = 502


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer ended, as far as its bytes tell."""

    is_terminated: bool
    """The dialect's own end was seen. Some servers send a finish chunk, hence a `done_reason`,
    but no `[DONE]`: the caller decides what that is worth."""
    error: str | None = None
    """Text of an error told inside the stream."""
    done_reason: str | None = None
    counters: Counters = NOTHING_COUNTED
    frames: int = 0
    """Lines or events with content."""
    has_content: bool = False
    """Content was seen, perhaps in a last line that lacks its newline."""


class Watch(Protocol):
    """What the relay needs of a watcher; all attributes are cheap."""

    has_content: bool
    """A content-bearing frame was seen."""
    is_decided: bool
    """Something was seen that must be passed on now: content, an end, or anything unknown."""

    @property
    def frames(self) -> int:
        """Frames since the first with content; up to three closing ones too many."""
        ...

    @property
    def ends_at_line_boundary(self) -> bool:
        """Whether a frame may follow without closing one first."""
        ...

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        ...

    def finish(self) -> Ending:
        """Judge what was seen as if nothing followed."""
        ...


class _Recent:
    """The latest part of a stream: its last lines, and how many newlines it had."""

    __slots__ = ("_chunks", "_edge", "_held_bytes", "_lines", "newlines")

    def __init__(self, lines: LastLines) -> None:
        self.newlines = 0
        self._lines = lines
        self._chunks: list[bytes] = []
        self._held_bytes = 0
        self._edge = b""

    def add(self, data: bytes) -> None:
        """Take bytes from the first content on."""
        self.newlines += data.count(b"\n")
        self._chunks.append(data)
        self._held_bytes += len(data) + _CHUNK_BYTES
        if self._held_bytes > _HELD_BYTES:
            self._fold()

    def skip(self, data: bytes) -> None:
        """Take bytes from before it."""
        self._lines.add(data)
        self._edge = (self._edge + data)[-_EDGE_BYTES:]

    def edge(self) -> bytes:
        """Return the last bytes."""
        self._fold()
        return self._edge

    def pieces(self) -> tuple[list[Piece], Piece]:
        """Return the last lines, and the incomplete one after them."""
        self._fold()
        return self._lines.pieces()

    def _fold(self) -> None:
        self.skip(b"".join(self._chunks))
        self._chunks = []
        self._held_bytes = 0


class _Opening:
    """The part of a stream before its first content, judged line by line."""

    __slots__ = ("_judge", "_pending", "_recent", "has_content", "is_decided")

    def __init__(self, judge: Callable[[bytes], Verdict], recent: _Recent) -> None:
        self.has_content = False
        self.is_decided = False
        self._judge = judge
        self._recent = recent
        self._pending = bytearray()

    def feed(self, data: bytes) -> None:
        """Judge the lines that are complete now; what begins with content goes on."""
        self._pending += data
        if b"\n" in data:
            buffer = bytes(self._pending)
            start = self._pass_lines(buffer)
            del self._pending[:start]
        if len(self._pending) > _LONG_LINE_BYTES:
            self.has_content = True
        if self.has_content:
            self.is_decided = True
            self._recent.add(bytes(self._pending))
            self._pending.clear()

    def rest(self) -> bytes:
        """Return the incomplete line."""
        return bytes(self._pending)

    def edge(self) -> bytes:
        """Return the last bytes of the incomplete line."""
        return bytes(self._pending[-_EDGE_BYTES:])

    def _pass_lines(self, buffer: bytes) -> int:
        """Return where the first line with content begins, or the incomplete one."""
        start = 0
        while (end := buffer.find(b"\n", start)) >= 0:
            is_long = end - start > _LONG_LINE_BYTES
            verdict = Verdict.CONTENT if is_long else self._judge(buffer[start:end])
            if verdict is Verdict.CONTENT:
                self.has_content = True
                return start
            self.is_decided = self.is_decided or verdict is Verdict.PASS
            self._recent.skip(buffer[start : end + 1])
            start = end + 1
        return start


class NdjsonWatch:
    """Watches the stream of a native route."""

    __slots__ = ("_opening", "_recent", "has_content", "is_decided", "route")

    def __init__(self, route: InferenceRoute) -> None:
        self.route = route
        self.has_content = False
        self.is_decided = False
        self._recent = _Recent(LastLines(1))
        self._opening = _Opening(judge_frame, self._recent)

    @property
    def frames(self) -> int:
        """Lines since the first with content."""
        return self._recent.newlines

    @property
    def ends_at_line_boundary(self) -> bool:
        """Whether the last line is complete."""
        return (b"\n" + self._recent.edge() + self._opening.edge()).endswith(b"\n")

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self.has_content:
            self._recent.add(data)
            return
        self._opening.feed(data)
        self.has_content = self._opening.has_content
        self.is_decided = self._opening.is_decided

    def finish(self) -> Ending:
        """Judge what was seen by its last line."""
        lines, rest = self._recent.pieces()
        if not self.has_content:
            rest = clipped(self._opening.rest())
        # A long line without its newline may have been cut anywhere.
        closing = native_closing(rest) if rest.is_whole else None
        if closing is None and lines:
            closing = native_closing(lines[-1])
        ended = closing or Closing()
        has_rest = rest.is_whole and judge_frame(rest.head) is Verdict.CONTENT
        return Ending(
            is_terminated=ended.is_done,
            error=ended.error,
            done_reason=ended.done_reason,
            counters=ended.counters,
            frames=max(0, self.frames - count_empty(lines, judge_frame)) + has_rest,
            has_content=self.has_content or has_rest,
        )


class SseWatch:
    """Watches the event stream of a compatibility route."""

    __slots__ = ("_opening", "_recent", "has_content", "is_decided", "route")

    def __init__(self, route: InferenceRoute) -> None:
        self.route = route
        self.has_content = False
        self.is_decided = False
        self._recent = _Recent(LastLines(_EVENT_LINES, prefix=DATA))
        self._opening = _Opening(judge_event_line, self._recent)

    @property
    def frames(self) -> int:
        """Events since the first with content; each is a line and an empty one."""
        return self._recent.newlines // 2

    @property
    def ends_at_line_boundary(self) -> bool:
        """Whether the last event is complete."""
        edge = b"\n\n" + self._recent.edge() + self._opening.edge()
        return edge.replace(b"\r", b"").endswith(b"\n\n")

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self.has_content:
            self._recent.add(data)
            return
        self._opening.feed(data)
        self.has_content = self._opening.has_content
        self.is_decided = self._opening.is_decided

    def finish(self) -> Ending:
        """Judge what was seen by its last events: finish chunk, usage chunk and end."""
        lines, rest = self._recent.pieces()
        if not self.has_content:
            rest = clipped(self._opening.rest())
        frames = max(0, self.frames - count_empty(lines, judge_event_line))
        has_rest = rest.is_whole and judge_event_line(rest.head) is Verdict.CONTENT
        if rest.is_whole and rest.head.startswith(DATA):
            lines.append(rest)
        is_terminated = False
        told = Closing()
        for piece in lines:
            payload = piece.head[len(DATA) :].strip()
            if payload == DONE:
                is_terminated = True
            elif closing := openai_closing(Piece(payload, piece.tail)):
                told = _later(told, closing)
        return Ending(
            is_terminated=is_terminated,
            error=told.error,
            done_reason=told.done_reason,
            counters=told.counters,
            frames=frames + has_rest,
            has_content=self.has_content or has_rest,
        )


class JsonWatch:
    """Watches an answer that is one JSON object."""

    __slots__ = ("_body", "_last", "has_content", "is_decided", "route")

    def __init__(self, route: InferenceRoute) -> None:
        self.route = route
        self.has_content = False
        self.is_decided = False
        self._body = Clip(_WHOLE_BODY_BYTES)
        self._last = b"\n"

    @property
    def frames(self) -> int:
        """One as soon as anything came."""
        return int(self.has_content)

    @property
    def ends_at_line_boundary(self) -> bool:
        """Whether nothing or a whole line came."""
        return self._last == b"\n"

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if not self.has_content and data.strip():
            self.has_content = self.is_decided = True
        self._last = data[-1:] or self._last
        self._body.add(data)

    def finish(self) -> Ending:
        """Judge the object; when it is huge, its last brace tells whether it is whole."""
        body = self._body.piece()
        is_native = self.route.dialect is Dialect.OLLAMA
        closing = native_closing(body) if is_native else openai_closing(body)
        is_cut = not body.is_whole and not body.tail.rstrip().endswith(b"}")
        told = Closing() if closing is None or is_cut else closing
        return Ending(
            is_terminated=closing is not None and not is_cut,
            error=told.error,
            done_reason=told.done_reason,
            counters=told.counters,
            frames=self.frames,
            has_content=self.has_content,
        )


def _later(told: Closing, closing: Closing) -> Closing:
    """Return what two events tell together; each tells its part once."""
    return Closing(
        error=told.error if closing.error is None else closing.error,
        done_reason=told.done_reason if closing.done_reason is None else closing.done_reason,
        counters=told.counters if closing.counters == NOTHING_COUNTED else closing.counters,
    )


def watch_for(route: InferenceRoute, content_type: str) -> Watch:
    """Return the watcher for an answer by its media type."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return SseWatch(route)
    if media_type == "application/x-ndjson":
        return NdjsonWatch(route)
    return JsonWatch(route)


def interrupt(
    route: InferenceRoute, *, is_stream: bool, at_line_boundary: bool, text: str
) -> bytes:
    """Return the frame that tells a client its stream was cut; an object cannot be told so."""
    if not is_stream:
        return b""
    if route.dialect is Dialect.OPENAI:
        closer = b"" if at_line_boundary else b"\n\n"
        error = go_json({"error": openai_error(_INTERRUPTED, text)})
        return closer + DATA + b" " + error + b"\n\n"
    closer = b"" if at_line_boundary else b"\n"
    return closer + go_json({"error": text}) + b"\n"
