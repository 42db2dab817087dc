"""What a stream can show: width, colour, characters; and text made safe for it."""

from __future__ import annotations

import shutil
import unicodedata
from typing import TYPE_CHECKING, TextIO

import msgspec

from sollold.wire.visible import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

GLYPHS = {
    "up": ("\u25cf", "*"),
    "slow": ("\u25b2", "!"),
    "draining": ("\u25c6", "~"),
    "down": ("\u2716", "x"),
    "unknown": ("\u25cb", "?"),
}
_STYLES = {
    "up": "34",
    "slow": "33",
    "draining": "35",
    "down": "97;41",
    "unknown": "2",
    "route": "36",
    "failure": "31",
    "bold": "1",
    "dim": "2",
}
_PLAIN, _BOLD = "\x1b[0m", "\x1b[1m"
# What Python itself puts into LC_CTYPE when the locale is C.
_COERCED = frozenset({"C.UTF-8", "C.utf8"})
_C_LOCALES = frozenset({"", "C", "POSIX"})


class Screen(msgspec.Struct, frozen=True, kw_only=True):
    """What one output stream is good for. `width` None: lines may be as long as they like."""

    is_terminal: bool = False
    width: int | None = None
    is_unicode: bool = False
    has_color: bool = False
    is_dumb: bool = False
    """The cursor cannot be moved."""

    def without_color(self) -> Screen:
        """Return the same stream with its colours off."""
        return msgspec.structs.replace(self, has_color=False)

    def glyph(self, state: str) -> str:
        """Return the shape of a state."""
        return GLYPHS.get(state, GLYPHS["unknown"])[0 if self.is_unicode else 1]

    def paint(self, text: str, style: str | None) -> str:
        """Return the text in a style, where the stream shows colour."""
        code = _STYLES.get(style or "")
        return f"\x1b[{code}m{text}\x1b[0m" if self.has_color and code else text

    def embolden(self, text: str) -> str:
        """Return the text in bold, also where colour is off: bold is none."""
        # Whatever ends a colour inside ends bold too, so it begins again there.
        return f"{_BOLD}{text.replace(_PLAIN, _PLAIN + _BOLD)}{_PLAIN}"

    def ellipsis(self) -> str:
        """Return the mark for left-out text."""
        return "\u2026" if self.is_unicode else "..."


def detect(stream: TextIO, environ: Mapping[str, str], color: str = "auto") -> Screen:
    """Return what `stream` can show; `color` is `auto`, `always` or `never`."""
    is_terminal = stream.isatty()
    return Screen(
        is_terminal=is_terminal,
        width=shutil.get_terminal_size().columns if is_terminal else None,
        is_unicode=_is_unicode(stream, environ),
        has_color=_has_color(environ, color, is_terminal=is_terminal),
        is_dumb=environ.get("TERM", "dumb") == "dumb",
    )


def clean(value: object, *, is_unicode: bool = True) -> object:
    """Return decoded JSON with every text in it made visible."""
    if isinstance(value, str):
        return visible(value, is_unicode=is_unicode)
    if isinstance(value, list):
        return [clean(item, is_unicode=is_unicode) for item in value]
    if isinstance(value, dict):
        return {key: clean(item, is_unicode=is_unicode) for key, item in value.items()}
    return value


def width_of(text: str) -> int:
    """Return the number of terminal columns the text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def pad(text: str, width: int, *, is_right: bool = False) -> str:
    """Return the text filled with blanks to a number of columns."""
    blanks = " " * (width - width_of(text))
    return blanks + text if is_right else text + blanks


def shorten(text: str, width: int, mark: str) -> str:
    """Return the text in at most `width` columns, its middle left out."""
    if width_of(text) <= width:
        return text
    room = max(0, width - len(mark))
    head = _prefix(text, room - room // 2)
    tail = _prefix(text[::-1], room // 2)[::-1]
    return (head + mark + tail) if room else mark[:width]


def _prefix(text: str, width: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += _columns(char)
        if used > width:
            return text[:index]
    return text


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _is_unicode(stream: TextIO, environ: Mapping[str, str]) -> bool:
    if (stream.encoding or "").lower().replace("-", "") != "utf8":
        return False
    everything = environ.get("LC_ALL", "")
    ctype, lang = environ.get("LC_CTYPE", ""), environ.get("LANG", "")
    if not everything and ctype in _COERCED and lang in _C_LOCALES:
        return False
    name = (everything or ctype or lang).lower().replace("-", "")
    return "utf8" in name


def _has_color(environ: Mapping[str, str], color: str, *, is_terminal: bool) -> bool:
    if color != "auto":
        return color == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return is_terminal and environ.get("TERM") != "dumb"
