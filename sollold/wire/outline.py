"""The outline of a long request body: a short body of the same meaning, and what was counted.

Owns what is left out and how it is estimated. A body is walked over where it lies, in bounded
memory whatever it holds; beyond a number of steps the rest of a list counts in proportion to its
bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from sollold.wire.gojson import BodyProblem
from sollold.wire.lenient import LOAD_NUMBERS, field_of
from sollold.wire.texts import share_saved
from sollold.wire.walk import OPEN_ARRAY, OPEN_OBJECT, QUOTE, Cursor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sollold.wire.routes import InferenceRoute

_MEMBERS: Final = 1000
_OUTLINE_BYTES: Final = 64 * 1024
_WHOLE_BYTES: Final = 8 * 1024
"""Values up to this length are kept as they are where any part of them may matter."""
_SAMPLE_BYTES: Final = 2048
_SCALAR_BYTES: Final = 64
_PARTS: Final = 8
_TOO_MANY_TEXT: Final = "the request body is too long for the number of its fields"

_TEXTS: Final = ("prompt", "suffix", "system")
_INNER: Final = frozenset(
    f'"{name}"'.encode()
    for name in (*LOAD_NUMBERS, "num_predict", "use_mmap", "type", "effort", "include_usage")
)
"""What is read inside of options, formats and the like."""

_WHOLE_CHARS: Final = re.compile(
    rb"(?:[^\\\x80-\xff]+"
    rb"|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}"
    rb"|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    rb"|\\[^u])*"
)
_STRING: Final = msgspec.json.Decoder(str)

_T = TypeVar("_T")


class Counts:
    """What one field holds, as far as the time of its answer depends on it."""

    __slots__ = ("items", "media", "text_bytes")

    def __init__(self) -> None:
        self.items = 0
        self.media = 0
        self.text_bytes = 0


class Outline(NamedTuple):
    """What is left of a long body."""

    body: bytes
    """Its known fields as they are spelled, long values cut to what is read of them."""
    counts: dict[str, Counts]
    """By field, of the whole body."""
    tool_bytes: int


def outline_of(route: InferenceRoute, body: bytes | memoryview, *, steps: int) -> Outline:
    """Walk over a body, and look at `steps` elements and members inside of its fields one by one.

    Raises:
        BodyProblem: it is no JSON, or has more members than any request.
    """
    cursor = Cursor(body)
    walk = _Walk(cursor, steps)
    if cursor.is_blank():
        return Outline(b"", {}, 0)
    if cursor.look() != OPEN_OBJECT:
        return Outline(walk.thin(), {}, 0)
    kept: list[bytes] = []
    counts: dict[str, Counts] = {}
    tool_bytes = size_bytes = 0
    for number, key in enumerate(cursor.members()):
        name = field_of(route, _text(key))
        if not name:
            cursor.value()
        else:
            start, found = cursor.at, Counts()
            value = walk.field(name, found)
            if value != b"null" or name not in _TEXTS:
                counts[name] = found
            if name == "tools":
                tool_bytes = cursor.at - start
            kept.append(key + b":" + value)
            size_bytes += len(kept[-1])
        if number >= _MEMBERS or size_bytes > _OUTLINE_BYTES:
            raise BodyProblem("syntax", _TOO_MANY_TEXT)
    return Outline(b"{" + b",".join(kept) + b"}", counts, tool_bytes)


def _text(key: bytes) -> str:
    """Return what a key says; nothing for one that no field has."""
    try:
        return _STRING.decode(key)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


class _Walk:
    """Passes values and returns what stands for them, as JSON."""

    def __init__(self, cursor: Cursor, steps: int) -> None:
        self._cursor = cursor
        self._steps = steps

    def field(self, name: str, counts: Counts) -> bytes:
        """Pass the value of one of the body's fields."""
        if name == "messages":
            return self._messages(counts)
        if name == "images":
            return self._images(counts)
        if name == "input" or name in _TEXTS:
            return self._texts(counts)
        return self._other()

    def thin(self) -> bytes:
        """Pass a value of which no more than its kind and its beginning matter."""
        cursor = self._cursor
        char, start = cursor.look(), cursor.at
        if char == QUOTE:
            return self._string()[0]
        cursor.value()
        if cursor.at - start <= _SCALAR_BYTES:
            return cursor.piece(start, cursor.at)
        # Not empty, and no zero: both have meanings of their own.
        return {OPEN_OBJECT: b"{}", OPEN_ARRAY: b"[0]"}.get(char, b"1")

    def _messages(self, counts: Counts) -> bytes:
        """Keep the first message and the first user's."""
        if self._cursor.look() != OPEN_ARRAY:
            return self.thin()
        kept: list[bytes] = []
        has_user = False
        for _ in self._each(self._cursor.items(), counts):
            counts.items += 1
            message, is_user = self._message(counts)
            if not kept or (is_user and not has_user):
                kept.append(message)
            has_user = has_user or is_user
        return b"[" + b",".join(kept) + b"]"

    def _message(self, counts: Counts) -> tuple[bytes, bool]:
        if self._cursor.look() != OPEN_OBJECT:
            return self.thin(), False
        kept: dict[str, bytes] = {}
        for key in self._each(self._cursor.members(), counts):
            name = _text(key).lower()
            if name == "content":
                kept[name] = self._content(counts)
            elif name == "images":
                kept[name] = self._images(counts)
            elif name == "role":
                kept[name] = self.thin()
            else:
                self._cursor.value()
        members = [b'"%s":%s' % (name.encode(), value) for name, value in kept.items()]
        return b"{" + b",".join(members) + b"}", kept.get("role") == b'"user"'

    def _content(self, counts: Counts) -> bytes:
        char = self._cursor.look()
        if char == QUOTE:
            return self._counted(counts)
        if char != OPEN_ARRAY:
            return self.thin()
        kept: list[bytes] = []
        for _ in self._each(self._cursor.items(), counts):
            if self._cursor.look() != OPEN_OBJECT:
                self._cursor.value()
                continue
            part = self._part(counts)
            if part and len(kept) < _PARTS:
                kept.append(part)
        return b"[" + b",".join(kept) + b"]"

    def _part(self, counts: Counts) -> bytes:
        kind, text, text_bytes = b"", b'""', 0
        for key in self._each(self._cursor.members(), counts):
            if key == b'"type"':
                kind = self.thin()
            elif key == b'"text"' and self._cursor.look() == QUOTE:
                text, text_bytes = self._string()
            else:
                self._cursor.value()
        if kind != b'"text"':
            counts.media += 1
            return b""
        counts.text_bytes += text_bytes
        return b'{"type":"text","text":%s}' % text

    def _images(self, counts: Counts) -> bytes:
        if self._cursor.look() != OPEN_ARRAY:
            return self.thin()
        for _ in self._each(self._cursor.items(), counts):
            counts.media += 1
            self._cursor.value()
        return b"[]"

    def _texts(self, counts: Counts) -> bytes:
        """Pass a text or a list of texts."""
        char = self._cursor.look()
        if char == QUOTE:
            counts.items += 1
            return self._counted(counts)
        if char != OPEN_ARRAY:
            return self.thin()
        first = b""
        for _ in self._each(self._cursor.items(), counts):
            counts.items += 1
            value = self._counted(counts) if self._cursor.look() == QUOTE else self.thin()
            first = first or value
        return b"[" + first + b"]"

    def _other(self) -> bytes:
        cursor = self._cursor
        char, start = cursor.look(), cursor.at
        cursor.value()
        if cursor.at - start <= _WHOLE_BYTES:
            return cursor.piece(start, cursor.at)
        cursor.at = start
        if char != OPEN_OBJECT:
            return self.thin()
        kept: dict[bytes, bytes] = {}
        for key in self._each(cursor.members(), Counts()):
            if key in _INNER:
                kept[key] = self.thin()
            else:
                cursor.value()
        return b"{" + b",".join(key + b":" + value for key, value in kept.items()) + b"}"

    def _counted(self, counts: Counts) -> bytes:
        text, text_bytes = self._string()
        counts.text_bytes += text_bytes
        return text

    def _string(self) -> tuple[bytes, int]:
        """Return where a string begins and about how many bytes of UTF-8 it stands for."""
        cursor = self._cursor
        start = cursor.at + 1
        cursor.string()
        size_bytes = cursor.at - 1 - start
        text = cursor.piece(start, start + min(size_bytes, _SAMPLE_BYTES))
        saved = share_saved(text)
        if size_bytes > _SAMPLE_BYTES and (whole := _WHOLE_CHARS.match(text)):
            text = whole[0]
        return b'"' + text + b'"', size_bytes - round(size_bytes * saved)

    def _each(self, places: Iterator[_T], counts: Counts) -> Iterator[_T]:
        """Go from place to place; when the steps are used up, the rest counts in proportion."""
        cursor, start = self._cursor, self._cursor.at
        items, media, text_bytes = counts.items, counts.media, counts.text_bytes
        for place in places:
            if not self._steps:
                seen_bytes, left_at = cursor.at - start, cursor.at
                cursor.leave()
                share = (cursor.at - left_at) / seen_bytes
                counts.items += round((counts.items - items) * share)
                counts.media += round((counts.media - media) * share)
                counts.text_bytes += round((counts.text_bytes - text_bytes) * share)
                return
            self._steps -= 1
            yield place
