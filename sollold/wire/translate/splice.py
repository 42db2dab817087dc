"""Another model's name in a body that stays as it is otherwise."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sollold.wire.lenient import fold


class _Named(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw()


_NAMED: Final = msgspec.json.Decoder(_Named)
_PLAIN_KEY: Final = rb'"model"[ \t\r\n]*:[ \t\r\n]*'
# Strings and whatever has a meaning outside of them; what lies between is left unread.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},:]', re.DOTALL)


def with_model(body: bytes, model: str) -> bytes:
    """Replace the value of `model` in a JSON object, and nothing else; text that is none stays."""
    wanted = msgspec.json.encode(model)
    try:
        current = bytes(_NAMED.decode(body).model)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        current = b""
    if current == wanted:
        return body
    # Quotes inside of strings are escaped: where there is one such key, it is the right one.
    if current and body.count(b'"model"') == 1:
        place = re.search(_PLAIN_KEY + b"(" + re.escape(current) + b")", body)
        if place:
            return _replaced(body, [(*place.span(1), wanted)])
    return _replaced(body, _places(body, wanted))


def _replaced(body: bytes, places: list[tuple[int, int, bytes]]) -> bytes:
    parts = []
    at = 0
    for start, end, text in places:
        parts += [body[at:start], text]
        at = end
    return b"".join([*parts, body[at:]])


def _places(body: bytes, wanted: bytes) -> list[tuple[int, int, bytes]]:
    """Find the members of the outermost object that Go takes for the model."""
    found: list[tuple[int, int, bytes]] = []
    depth = 0
    key: re.Match[bytes] | None = None
    last: re.Match[bytes] | None = None
    for token in _TOKEN.finditer(body):
        match token[0]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
            case b":" if depth == 1:
                key = last
            case b",":
                key = None
            case _ if depth == 1 and key and _is_model(key[0]):
                found += [(*key.span(), b'"model"'), (*token.span(), wanted)]
        last = token
        if depth == 0:
            break
    return found


def _is_model(key: bytes) -> bool:
    try:
        name: str = msgspec.json.decode(key, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return fold(name) == "model"
