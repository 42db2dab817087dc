"""Which header fields pass, in either direction, and the request head a node gets.

Owns forwarding rules, the loop check and request ids. Must not read bodies.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from sollold.core.model import RequestId
from sollold.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

HOP_BY_HOP: Final = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Fields that concern one connection only."""

# What belongs to the client's connection, its browser or its secrets, and what is written anew.
_NOT_FORWARDED: Final = HOP_BY_HOP | {
    "host", "origin", "referer", "cookie", "authorization", "x-api-key", "accept-encoding",
    "content-length", "content-encoding", "expect", "x-request-id", "via",
}  # fmt: skip
_NOT_FORWARDED_PREFIXES: Final = ("sec-fetch-", "x-sollold-")
_SPECIAL: Final = frozenset({"connection", "via", "content-encoding"})
_USUAL_NAME_CHARS: Final = 64
_FORWARD: Final = "forward"
_WITHHOLD: Final = "withhold"

# A node's cookies, origin policy and promises about its own address mean nothing at ours.
_NOT_RETURNED: Final = HOP_BY_HOP | {
    "content-length", "server", "x-request-id", "x-accel-buffering", "set-cookie", "alt-svc",
    "strict-transport-security", "clear-site-data",
}  # fmt: skip
_NOT_RETURNED_PREFIXES: Final = ("access-control-", "x-sollold-")
_SENT_ONCE: Final = ("date", "content-type")
# What `Connection` may name without naming anything that would pass otherwise.
_USUAL_TOKENS: Final = HOP_BY_HOP | {"close", ""}

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@=+/-]{0,127}")
_VIA_COMMENT: Final = re.compile(r"\([^()]*\)")
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = tuple(high + low for high in _BASE32 for low in _BASE32)
_ID_BYTES: Final = 8


class HeadWriter:
    """Writes request heads for one node; what is equal in all of them is prepared once."""

    __slots__ = ("_constant",)

    def __init__(self, host: str, authorization: str | None = None) -> None:
        secret = "" if authorization is None else f"\r\nAuthorization: {authorization}"
        self._constant = f"Host: {host}\r\nAccept-Encoding: identity{secret}"
        _refuse_breaks(self._constant, 2 if secret else 1)

    def write(
        self,
        method: str,
        target: str,
        client_headers: Iterable[tuple[str, str]],
        *,
        content_length: int | None,
        via: str,
        request_id: str,
        is_encoded: bool = False,
    ) -> bytes:
        """Return the whole head; `is_encoded` when the body still has the client's encoding.

        Raises `InvalidRequest` when a value would break out of its line.
        """
        if not method or not target or " " in method or " " in target:
            raise InvalidRequest("the request line cannot be forwarded")
        passing = [f"{method} {target} HTTP/1.1", self._constant]
        named: set[str] = set()
        for name, value in client_headers:
            fate = _known_fate(name) if len(name) <= _USUAL_NAME_CHARS else _fate(name)
            if fate is _WITHHOLD:
                continue
            if fate is _FORWARD:
                passing.append(f"{name}: {value}")
            elif fate == "connection":
                named |= _tokens(value)
            elif fate == "via":
                passing.append(f"Via: {value}")
            elif is_encoded:
                passing.append(f"Content-Encoding: {value}")
        if named and not named <= _USUAL_TOKENS:
            passing[2:] = [line for line in passing[2:] if _name_of(line) not in named - {"via"}]
        passing.append(f"Via: {via}")
        passing.append(f"X-Request-Id: {request_id}")
        if content_length is not None:
            passing.append(f"Content-Length: {content_length}")
        head = "\r\n".join(passing)
        _refuse_breaks(head, len(passing) - 1 + self._constant.count("\n"))
        try:
            return f"{head}\r\n\r\n".encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise InvalidRequest("a header field cannot be forwarded: it is not text") from None


def request_head(
    method: str,
    target: str,
    host: str,
    client_headers: Iterable[tuple[str, str]],
    *,
    content_length: int | None,
    via: str,
    request_id: str,
    authorization: str | None = None,
    is_encoded: bool = False,
) -> bytes:
    """Return the head of a request to a node; see `HeadWriter`."""
    return HeadWriter(host, authorization).write(
        method,
        target,
        client_headers,
        content_length=content_length,
        via=via,
        request_id=request_id,
        is_encoded=is_encoded,
    )


def reply_headers(pairs: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return the fields of a node's answer that a client may see."""
    found: list[tuple[str, str]] = []
    once: list[str] = []
    named: set[str] = set()
    for raw_name, raw_value in pairs:
        is_usual = len(raw_name) <= _USUAL_NAME_CHARS
        name, folded, passes = _known_return(raw_name) if is_usual else _return(raw_name)
        if folded == "connection":
            named |= _tokens(_text(raw_value))
        if not passes:
            continue
        value = _text(raw_value)
        if not value.isprintable() and _has_break(value):
            continue
        if folded in _SENT_ONCE:
            if folded in once:
                continue
            once.append(folded)
        found.append((name, value))
    if not named or named <= _USUAL_TOKENS:
        return found
    return [(name, value) for name, value in found if name.lower() not in named]


def via_element(instance: str) -> str:
    """Return what this instance adds to `Via`."""
    return f"1.1 sollold-{instance}"


def passed_through(via_values: Iterable[str], instance: str) -> bool:
    """Whether a request's `Via` fields name this instance."""
    wanted = f"sollold-{instance}".lower()
    for value in via_values:
        for element in _VIA_COMMENT.sub("", value).split(","):
            words = element.split()
            if len(words) > 1 and words[1].lower() == wanted:
                return True
    return False


def valid_request_id(text: str) -> bool:
    """Whether a client's id is short and harmless enough to be logged and passed on."""
    return _REQUEST_ID.fullmatch(text) is not None


def new_request_id(random_bytes: bytes) -> RequestId:
    """Make an id of eight random bytes."""
    if len(random_bytes) != _ID_BYTES:
        raise ValueError(f"a request id takes {_ID_BYTES} random bytes, not {len(random_bytes)}")
    bits, pairs = int.from_bytes(random_bytes, "big"), _PAIRS
    # Written out: a loop over the six pairs takes three times as long, and each request has an id.
    return RequestId(
        f"r-{pairs[bits & 1023]}{pairs[bits >> 10 & 1023]}{pairs[bits >> 20 & 1023]}"
        f"{pairs[bits >> 30 & 1023]}{pairs[bits >> 40 & 1023]}{pairs[bits >> 50 & 1023]}"
    )


def _return(raw_name: bytes) -> tuple[str, str, bool]:
    """Return a field's name as sent and folded, and whether a client may see the field."""
    name = _text(raw_name)
    folded = name.lower()
    passes = folded not in _NOT_RETURNED and not folded.startswith(_NOT_RETURNED_PREFIXES)
    return name, folded, passes


def _fate(name: str) -> str:
    """Return what happens to a client's field on its way to a node, its name if that is special."""
    folded = name.lower()
    if folded in _SPECIAL:
        return folded
    is_withheld = folded in _NOT_FORWARDED or folded.startswith(_NOT_FORWARDED_PREFIXES)
    return _WITHHOLD if is_withheld else _FORWARD


# Programs send the same few names over and over.
_known_return: Final = lru_cache(maxsize=256)(_return)
_known_fate: Final = lru_cache(maxsize=256)(_fate)


def _tokens(value: str) -> set[str]:
    return {token.strip().lower() for token in value.split(",")}


def _name_of(line: str) -> str:
    return line.partition(":")[0].lower()


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _has_break(value: str) -> bool:
    return "\n" in value or "\r" in value or "\0" in value


def _refuse_breaks(text: str, lines: int) -> None:
    """Refuse text in which some value brought its own line end, or a NUL."""
    if text.count("\n") != lines or text.count("\r") != lines or "\0" in text:
        raise InvalidRequest("a header field cannot be forwarded: it has a line break in it")
