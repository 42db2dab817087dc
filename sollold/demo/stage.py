"""What the demo writes: lines on stdout, progress on stderr while that is a terminal."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING

from sollold.ctl.screen import detect, width_of
from sollold.wire.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_WIDTH = 80
_INDENT = "  "
_LABEL_WIDTH = 10
# Words come in pieces: a new one starts on a new line while there is room for its other pieces.
_ROOM = 14
_PIECE = re.compile(r"\n| +|[^ \n]+")


class NobodyWatches(Exception):
    """The output was closed: a pipe's reader left, or the terminal is gone."""


class Stage:
    """The two streams of a demo."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._out = detect(sys.stdout, environ)
        self._err = detect(sys.stderr, environ)
        self._progress = ""

    @property
    def width(self) -> int:
        """Columns that text may take."""
        return min(self._out.width or MAX_WIDTH, MAX_WIDTH)

    def line(self, text: str = "") -> None:
        """Write a line."""
        self.clear()
        self._write(self._safe(text) + "\n")

    def head(self, text: str) -> None:
        """Write a heading, after an empty line."""
        self.clear()
        self._write("\n" + self._out.paint(self._safe(text), "bold") + "\n")

    def fact(self, label: str, text: str) -> None:
        """Write a label and what there is to say about it."""
        self.line(f"{_INDENT}{label:<{_LABEL_WIDTH}}{text}")

    def note(self, text: str) -> None:
        """Write a quiet line."""
        self.clear()
        self._write(_INDENT + self._out.paint(self._safe(text), "dim") + "\n")

    def fail(self, text: str) -> None:
        """Write why the demo ends, on stderr."""
        self.clear()
        lines = text.splitlines() or [""]
        safe = "\n".join(visible(line, is_unicode=self._err.is_unicode) for line in lines)
        self._show(f"sollold demo: {safe}\n")

    def progress(self, text: str) -> None:
        """Show how far something is, in place; nothing where there is no terminal."""
        if not self._err.is_terminal or text == self._progress:
            return
        self.clear()
        self._progress = text[: self.width - 1]
        self._show(self._progress)

    def clear(self) -> None:
        """Take the progress away."""
        if self._progress:
            self._show("\r" + " " * len(self._progress) + "\r")
            self._progress = ""

    def typist(self) -> Typist:
        """Return what writes an answer as it comes."""
        self.clear()
        return Typist(self._write, self.width, is_unicode=self._out.is_unicode)

    def _safe(self, text: str) -> str:
        return visible(text, is_unicode=self._out.is_unicode)

    @staticmethod
    def _write(text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as exc:
            raise NobodyWatches from exc

    @staticmethod
    def _show(text: str) -> None:
        # The demo does not depend on its remarks.
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


class Typist:
    """Writes pieces of a text at once, and breaks lines at blanks."""

    def __init__(self, write: Callable[[str], None], width: int, *, is_unicode: bool) -> None:
        self._write = write
        self._width = width
        self._is_unicode = is_unicode
        self._column = 0
        self._blanks = ""

    def type(self, text: str) -> None:
        """Write one piece."""
        shown = "".join(self._place(piece) for piece in _PIECE.findall(text))
        if shown:
            self._write(shown)

    def end(self) -> None:
        """End the last line, if one was begun."""
        if self._column:
            self._write("\n")
        self._column, self._blanks = 0, ""

    def _place(self, piece: str) -> str:
        if piece == "\n":
            is_begun, self._column, self._blanks = bool(self._column), 0, ""
            return "\n" if is_begun else ""
        if piece.isspace():
            self._blanks += piece
            return ""
        word = visible(piece, is_unicode=self._is_unicode)
        begin = self._column + len(self._blanks)
        is_late = bool(self._blanks) and begin + _ROOM > self._width
        before, self._blanks = self._blanks, ""
        if not self._column:
            before = _INDENT
        elif is_late or begin + width_of(word) > self._width:
            self._column = 0
            before = "\n" + _INDENT
        self._column += len(before.lstrip("\n")) + width_of(word)
        return before + word
