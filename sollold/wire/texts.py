"""The texts inside a request body: how long they are, without copies of long ones.

Owns nothing; a text is JSON as it stands in the body, quotes included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sollold.wire.bodies import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

Text = bytes | memoryview

LONG_BYTES: Final = 1024 * 1024
"""Longer texts are looked at where they are: a copy may be as large as the largest body."""

_EXACT_BYTES: Final = 2048
# Six characters of escape for two or three bytes of UTF-8; one is counted with the backslash.
_SAVED_BY_U: Final = 2
_QUOTE: Final = ord('"')

_STRING: Final = msgspec.json.Decoder(str)
_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_PARTS: Final = msgspec.json.Decoder(list[Part])


class Unusual(Exception):
    """The strict path cannot read this body."""


def json_of(raw: msgspec.Raw) -> Text:
    """Return a value as it stands; a long one only as long as the body is there."""
    return bytes(raw) if len(raw) <= LONG_BYTES else memoryview(raw)


def text_of(raw: msgspec.Raw) -> Text:
    """Return a JSON string as it stands, nothing for null."""
    text = json_of(raw)
    if text and text[0] != _QUOTE:
        if text == b"null":
            return b""
        raise Unusual
    return text


def size_of(texts: Sequence[Text]) -> int:
    """Count the UTF-8 bytes that JSON strings stand for.

    Exact when little or nothing is escaped; what the escapes of a long text cost is extrapolated
    from its start, because counting them all takes longer than everything else.
    """
    whole_bytes = sum(map(len, texts))
    quoted = whole_bytes - 2 * (len(texts) - texts.count(b""))
    if whole_bytes > LONG_BYTES:
        sample = _start(texts)
    else:
        joined = b"".join(texts)
        if b"\\" not in joined:
            return quoted
        if whole_bytes <= _EXACT_BYTES:
            return sum(len(_STRING.decode(text).encode()) for text in texts if text)
        sample = joined[:_EXACT_BYTES]
    saved = sample.count(b"\\") - sample.count(b"\\\\") + _SAVED_BY_U * sample.count(b"\\u")
    return quoted - quoted * saved // _EXACT_BYTES


def inputs_of(raw: msgspec.Raw) -> tuple[int, int]:
    """Return text bytes and number of the texts of a string or a list; anything else is none."""
    text = json_of(raw)
    if text[:1] == b'"':
        return size_of([text]), 1
    if text[:1] != b"[":
        return 0, 0
    items = [json_of(item) for item in _RAWS.decode(text)]
    return size_of([item for item in items if item[0] == _QUOTE]), len(items)


def parts_of(raw: Text) -> tuple[bytes, int]:
    """Return the text of content parts as one JSON string, and how many parts are media."""
    parts = _PARTS.decode(raw)
    texts = [p.text for p in parts if p.type == "text" and isinstance(p.text, str)]
    return msgspec.json.encode("".join(texts)), sum(p.type != "text" for p in parts)


def _start(texts: Sequence[Text]) -> bytes:
    """Return where texts begin that are long together."""
    sample, rest = bytearray(), iter(texts)
    while len(sample) < _EXACT_BYTES:
        sample += next(rest)[: _EXACT_BYTES - len(sample)]
    return bytes(sample)
