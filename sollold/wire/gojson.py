"""JSON as Go reads and writes it.

Owns the encoder for answers that imitate Ollama, the lenient reader of request bodies, and the
texts of their faults. Must not know which fields a route has.
"""

from __future__ import annotations

import json
import re
from typing import Final, Literal, NoReturn

import msgspec

ProblemKind = Literal["empty", "syntax", "type"]

MAX_DEPTH_TEXT: Final = "exceeded max depth"
"""Go's words for nesting that is too deep, which begins earlier here."""

# Finding the fault costs time per token, on the event loop; longer bodies get a plainer text.
_MAX_EXPLAINED_CHARS: Final = 64 * 1024
# A float holds any whole number with fewer.
_MAX_DIGITS: Final = 308
_INT64: Final = 2**63

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_STRING_RUN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_DIGITS: Final = re.compile(r"[0-9]*")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{0,4}")
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}
_GO_ESCAPES: Final = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "'": "\\'", "\\": "\\\\",
}  # fmt: skip


class BodyProblem(Exception):
    """A request body that cannot be read; `text` is what Ollama would say."""

    def __init__(self, kind: ProblemKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class Pairs(list[tuple[str, object]]):
    """A JSON object as its members in order, duplicates included."""


def go_json(value: object) -> bytes:
    """Encode compactly, with the characters escaped that Go escapes for HTML."""
    try:
        text = msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = msgspec.json.encode(without_surrogates(value))
    text = text.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    if text.isascii():
        return text
    return text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


def without_surrogates(value: object) -> object:
    """Turn a tree into one that can be encoded: plain objects and strings, bounded numbers."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Pairs):
        return {clean_text(key): without_surrogates(item) for key, item in value}
    if isinstance(value, dict):
        return {clean_text(key): without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return float(value)
    return value


def clean_text(text: str) -> str:
    """Replace lone surrogates, as Go does while it reads."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def go_type(value: object) -> str:
    """Name the JSON type of a value read by `read_lenient` as Go's errors do."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "object" if isinstance(value, Pairs) else "array"


def read_lenient(body: bytes, *, empty_text: str) -> object:
    """Read the first JSON value of a body; objects come as `Pairs`, so that nothing is lost."""
    text = body.decode("utf-8", "replace")
    start = _end(_SPACE, text, 0)
    if start == len(text):
        raise BodyProblem("empty", empty_text)
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise BodyProblem("syntax", MAX_DEPTH_TEXT) from None
    except ValueError as exc:
        raise BodyProblem("syntax", _explain(body, str(exc))) from None
    return value


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < _MAX_DIGITS else float(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_int=_number, parse_constant=_no_constant
)


class Fault(Exception):
    """Where the text stops being JSON."""

    def __init__(self, at: int, where: str) -> None:
        super().__init__(where)
        self.at = at
        self.where = where


def _explain(body: bytes, plain: str) -> str:
    if len(body) > _MAX_EXPLAINED_CHARS:
        return f"invalid JSON: {plain}"
    text = body.decode("utf-8", "surrogateescape")
    fault = find_fault(text)
    if fault.at >= len(text):
        return "unexpected EOF"
    return f"invalid character {_quote(text[fault.at])} {fault.where}"


def _quote(char: str) -> str:
    """Quote the first byte of a character as Go quotes it in its error texts."""
    byte = char.encode("utf-8", "surrogateescape")[0]
    shown = chr(byte)
    if shown in _GO_ESCAPES:
        return f"'{_GO_ESCAPES[shown]}'"
    if shown.isprintable():
        return f"'{shown}'"
    return f"'\\x{byte:02x}'" if byte < 0x80 else f"'\\u{byte:04x}'"


def find_fault(text: str) -> Fault:
    """Walk the first value until it breaks; in sound text the fault is that it ends."""
    fault = Fault(len(text), "")
    try:
        _walk(text)
    except Fault as found:
        fault = found
    return fault


def _walk(text: str) -> None:
    closers: list[str] = []
    at = _open(text, _end(_SPACE, text, 0), closers)
    while closers:
        at = _end(_SPACE, text, at)
        char = text[at : at + 1]
        closer = closers[-1]
        if char == closer:
            closers.pop()
            at += 1
        elif char == ",":
            at = _end(_SPACE, text, at + 1)
            at = _open(text, _member(text, at) if closer == "}" else at, closers)
        else:
            raise Fault(
                at, "after array element" if closer == "]" else "after object key:value pair"
            )


def _open(text: str, at: int, closers: list[str]) -> int:
    """Pass a value, or the openings of nested ones up to the end of the first scalar."""
    while True:
        char = text[at : at + 1]
        if char not in ("{", "["):
            return _scalar(text, at)
        inside = _end(_SPACE, text, at + 1)
        closers.append("}" if char == "{" else "]")
        if text[inside : inside + 1] == closers[-1]:
            return inside
        at = _member(text, inside) if char == "{" else inside


def _member(text: str, at: int) -> int:
    """Pass a key and its colon; return where the value begins."""
    if text[at : at + 1] != '"':
        raise Fault(at, "looking for beginning of object key string")
    colon = _end(_SPACE, text, _string(text, at))
    if text[colon : colon + 1] != ":":
        raise Fault(colon, "after object key")
    return _end(_SPACE, text, colon + 1)


def _scalar(text: str, at: int) -> int:
    char = text[at : at + 1]
    if char == '"':
        return _string(text, at)
    if char in _LITERALS:
        return _literal(text, at, _LITERALS[char])
    if char == "-" or "0" <= char <= "9":
        return _numeral(text, at)
    raise Fault(at, "looking for beginning of value")


def _string(text: str, at: int) -> int:
    at += 1
    while True:
        at = _end(_STRING_RUN, text, at)
        char = text[at : at + 1]
        if char == '"':
            return at + 1
        if char != "\\":
            raise Fault(at, "in string literal")
        at = _escape(text, at + 1)


def _escape(text: str, at: int) -> int:
    char = text[at : at + 1]
    if char == "u":
        end = _end(_HEX, text, at + 1)
        if end < at + 5:
            raise Fault(end, "in \\u hexadecimal character escape")
        return end
    if not char or char not in '"\\/bfnrt':
        raise Fault(at, "in string escape code")
    return at + 1


def _literal(text: str, at: int, word: str) -> int:
    for offset, char in enumerate(word):
        if text[at + offset : at + offset + 1] != char:
            raise Fault(at + offset, f"in literal {word} (expecting '{char}')")
    return at + len(word)


def _numeral(text: str, at: int) -> int:
    if text[at] == "-":
        at += 1
    end = at + 1 if text[at : at + 1] == "0" else _some_digits(text, at, "in numeric literal")
    if text[end : end + 1] == ".":
        end = _some_digits(text, end + 1, "after decimal point in numeric literal")
    if text[end : end + 1] in ("e", "E"):
        sign = end + 1
        if text[sign : sign + 1] in ("+", "-"):
            sign += 1
        end = _some_digits(text, sign, "in exponent of numeric literal")
    return end


def _some_digits(text: str, at: int, where: str) -> int:
    end = _end(_DIGITS, text, at)
    if end == at:
        raise Fault(at, where)
    return end


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return where a pattern that may match nothing stops matching."""
    found = pattern.match(text, at)
    return found.end() if found else at
