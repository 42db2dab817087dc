"""The texts inside a request body: how long they are.

Owns nothing; a text is JSON as it stands in the body, quotes included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sollold.wire.bodies import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXACT_BYTES: Final = 2048
# Six characters of escape for two or three bytes of UTF-8; one is counted with the backslash.
_SAVED_BY_U: Final = 2
_QUOTE: Final = ord('"')

_STRING: Final = msgspec.json.Decoder(str)
_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_PARTS: Final = msgspec.json.Decoder(list[Part])


class Unusual(Exception):
    """The strict path cannot read this body."""


def text_of(raw: msgspec.Raw) -> bytes:
    """Return a JSON string as it stands, nothing for null."""
    text = bytes(raw)
    if text and text[0] != _QUOTE:
        if text == b"null":
            return b""
        raise Unusual
    return text


def size_of(texts: Sequence[bytes]) -> int:
    """Count the UTF-8 bytes that JSON strings stand for.

    Exact when little or nothing is escaped; what the escapes of longer texts cost is extrapolated
    from their start, because counting them all takes longer than everything else.
    """
    joined = b"".join(texts)
    quoted = len(joined) - 2 * (len(texts) - texts.count(b""))
    if b"\\" not in joined:
        return quoted
    if len(joined) <= _EXACT_BYTES:
        return sum(len(_STRING.decode(text).encode()) for text in texts if text)
    return quoted - round(quoted * share_saved(joined[:_EXACT_BYTES]))


def share_saved(sample: bytes) -> float:
    """Return about which share of a text inside a JSON string is there for its escapes only."""
    if b"\\" not in sample:
        return 0.0
    saved = sample.count(b"\\") - sample.count(b"\\\\") + _SAVED_BY_U * sample.count(b"\\u")
    return saved / len(sample)


def inputs_of(raw: msgspec.Raw) -> tuple[int, int]:
    """Return text bytes and number of the texts of a string or a list; anything else is none."""
    text = bytes(raw)
    if text[:1] == b'"':
        return size_of([text]), 1
    if text[:1] != b"[":
        return 0, 0
    items = [bytes(item) for item in _RAWS.decode(text)]
    return size_of([item for item in items if item[0] == _QUOTE]), len(items)


def parts_of(raw: bytes) -> tuple[bytes, int]:
    """Return the text of content parts as one JSON string, and how many parts are media."""
    parts = _PARTS.decode(raw)
    texts = [p.text for p in parts if p.type == "text" and isinstance(p.text, str)]
    return msgspec.json.encode("".join(texts)), sum(p.type != "text" for p in parts)
