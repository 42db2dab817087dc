"""Text from the network made safe to show: what does not print becomes an escape.

Names and messages may hold characters that move a terminal's cursor or turn the reading direction.
"""

from __future__ import annotations

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible(text: str, *, is_unicode: bool = True) -> str:
    """Return the text with everything that does not print shown as an escape."""
    if text.isprintable() and (is_unicode or text.isascii()):
        return text
    return "".join(
        _escape(char) if _must_escape(char, is_unicode=is_unicode) else char for char in text
    )


def _must_escape(char: str, *, is_unicode: bool) -> bool:
    if char.isascii():
        return not char.isprintable()
    return not is_unicode or unicodedata.category(char) in _HIDDEN


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
