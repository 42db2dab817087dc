"""Reads the text of an error that a node answered with."""

from __future__ import annotations

from typing import Any, Final

import msgspec

_MAX_BYTES: Final = 16 * 1024


class _Refusal(msgspec.Struct):
    error: Any = None


_DECODER: Final = msgspec.json.Decoder(_Refusal)


def error_text(body: bytes) -> str:
    """Return the message of an error body in any dialect, else the body's beginning as text."""
    try:
        error = _DECODER.decode(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        error = None
    if isinstance(error, dict):
        error = error.get("message")
    if isinstance(error, str) and error:
        return error
    return body[:_MAX_BYTES].decode("utf-8", "replace")
