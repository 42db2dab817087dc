"""A walk over JSON where it lies, for bodies too long to be decoded.

Owns no bytes: it works on windows of bounded size, so that no single step holds up other threads
for more than a few milliseconds, however long the body is and whatever it holds. Checks no more
than it needs to find its way; a node is the judge of the rest.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from sollold.wire.gojson import BodyProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

QUOTE: Final = ord('"')
OPEN_OBJECT: Final = ord("{")
OPEN_ARRAY: Final = ord("[")

_CLOSE_OBJECT: Final = ord("}")
_CLOSE_ARRAY: Final = ord("]")
_COLON: Final = ord(":")
_COMMA: Final = ord(",")
_FIRST_BYTES: Final = 128
_WINDOW_BYTES: Final = 64 * 1024
_KEY_BYTES: Final = 256
_SPACE: Final = b" \t\r\n"
_SCALAR: Final = b"+-.0123456789Eaeflnrstu"
_MARK: Final = re.compile(rb'["\[\]{}]')
_BRACKETS: Final = b"[]{}"
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_ONE_SHAPE: Final = bytes.maketrans(b"{}", b"[]")
_CHANGES: Final = {OPEN_ARRAY: 1, _CLOSE_ARRAY: -1}
_ROUNDS: Final = 8
"""How deep brackets are paired at once; deeper ones are counted one by one."""


class Cursor:
    """A place in a body; every method that passes something raises `BodyProblem` at its end."""

    __slots__ = ("_body", "at")

    def __init__(self, body: bytes | memoryview) -> None:
        self._body = body
        self.at = 0

    def piece(self, start: int, end: int) -> bytes:
        """Return a copy of a part."""
        return bytes(self._body[start:end])

    def is_blank(self) -> bool:
        """Pass white space; return whether nothing follows."""
        self._pass_all(_SPACE)
        return self.at == len(self._body)

    def look(self) -> int:
        """Pass white space; return the byte that follows, not passed."""
        if self.is_blank():
            raise BodyProblem("syntax", "unexpected EOF")
        return self._body[self.at]

    def items(self, close: int = _CLOSE_ARRAY) -> Iterator[None]:
        """Stand before each element of the array here, which must be passed before the next."""
        self.at += 1
        while self.look() != close:
            yield
            if self.look() == _COMMA:
                self.at += 1
        self.at += 1

    def members(self) -> Iterator[bytes]:
        """Stand before each value of the object here; give its key as it is written.

        A key that is longer than any we know is given as nothing.
        """
        for _ in self.items(_CLOSE_OBJECT):
            start = self.at
            if self._body[start] != QUOTE:
                raise self._fault()
            self.string()
            end = self.at
            if self.look() != _COLON:
                raise self._fault()
            self.at += 1
            self.look()
            yield self.piece(start, end) if end - start <= _KEY_BYTES else b""

    def value(self) -> None:
        """Pass a value of any kind."""
        char = self.look()
        if char == QUOTE:
            self.string()
        elif char in (OPEN_OBJECT, OPEN_ARRAY):
            self.at += 1
            self.leave()
        else:
            start = self.at
            self._pass_all(_SCALAR)
            if self.at == start:
                raise self._fault()

    def string(self) -> None:
        """Pass a string."""
        self.at += 1
        size_bytes = _FIRST_BYTES
        while window := self._window(size_bytes):
            end = window.find(b'"')
            if end >= 0:
                self.at += end + 1
                return
            self.at += len(window)
            size_bytes = _WINDOW_BYTES
        raise BodyProblem("syntax", "unexpected EOF")

    def leave(self) -> None:
        """Pass what is left of the array or object that the cursor is in, and its end."""
        depth, is_in_string = 1, False
        size_bytes, most_bytes = _FIRST_BYTES, _WINDOW_BYTES
        while window := self._window(size_bytes):
            pieces = window.split(b'"')
            brackets = b"".join(pieces[is_in_string::2]).translate(_ONE_SHAPE, _NO_BRACKETS)
            lowest, change = _fall(brackets)
            if depth + lowest > 0:
                depth += change
                is_in_string ^= len(pieces) % 2 == 0
                self.at += len(window)
                size_bytes = min(4 * size_bytes, most_bytes)
            elif len(window) > _FIRST_BYTES:
                # The end is in here: look for it in shorter windows, and one by one in the last.
                size_bytes = most_bytes = max(_FIRST_BYTES, size_bytes // 4)
            else:
                self.at += _close_at(window, depth, is_in_string=is_in_string)
                return
        raise BodyProblem("syntax", "unexpected EOF")

    def _window(self, size_bytes: int) -> bytes:
        """Return what follows the cursor, with what is escaped blanked out; nothing at the end.

        Most values are short, and a window costs as much as it is long: the first ones are short.
        """
        return _without_escapes(self.piece(self.at, self.at + size_bytes))

    def _pass_all(self, chars: bytes) -> None:
        size_bytes = _FIRST_BYTES
        while self.at < len(self._body) and self._body[self.at] in chars:
            window = self.piece(self.at, self.at + size_bytes)
            self.at += len(window) - len(window.lstrip(chars))
            size_bytes = _WINDOW_BYTES

    def _fault(self) -> BodyProblem:
        return BodyProblem("syntax", f"the request body is no JSON from byte {self.at} on")


def _without_escapes(window: bytes) -> bytes:
    """Blank out escaped backslashes and quotes; an escape that is cut in two is left for later."""
    if b"\\" not in window:
        return window
    window = window.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    return window.removesuffix(b"\\")


def _fall(brackets: bytes) -> tuple[int, int]:
    """Return how far the depth falls below where it begins, and where it ends."""
    for _ in range(_ROUNDS):
        brackets = brackets.replace(b"[]", b"")
    change = brackets.count(b"[") - brackets.count(b"]")
    # No step of this is one of Python's: a window may hold nothing but brackets.
    depths = accumulate(map(_CHANGES.__getitem__, brackets), initial=0)
    return min(depths), change


def _close_at(window: bytes, depth: int, *, is_in_string: bool) -> int:
    """Return the place behind the bracket that takes the depth to nothing."""
    marks = _MARK.finditer(window)
    end = 0
    while depth:
        found = next(marks)
        mark, end = found[0], found.end()
        if mark == b'"':
            is_in_string = not is_in_string
        elif not is_in_string:
            depth += 1 if mark in b"[{" else -1
    return end
