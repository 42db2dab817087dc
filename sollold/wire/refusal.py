"""Reads the text of an error that a node answered with, and picks what may be logged of it."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_MAX_BYTES: Final = 16 * 1024
_MAX_LOOK_CHARS: Final = 2048
_MAX_WORDS: Final = 3

_KNOWN: Final = re.compile(
    r"""
      model\ requires\ more\ system\ memory
        (?:\ \([\d.]+\ [KMGT]?i?B\)\ than\ is\ available\ \([\d.]+\ [KMGT]?i?B\))?
    | (?:llama[ -]?(?:runner|server)|model\ runner)\ (?:process\ )?
        (?:has\ (?:terminated|unexpectedly\ stopped)|no\ longer\ running)
    | exit\ status\ \d{1,5} | signal:\ (?:killed|aborted|segmentation\ fault|illegal\ instruction)
    | timed\ out\ waiting\ for\ (?:llama|model)\ (?:runner|server)
    | (?:CUDA|ROCm|HIP|Metal|Vulkan|ggml)\ error | cudaMalloc\ failed
    | (?:out\ of|insufficient)\ memory | unable\ to\ (?:load|allocate)
    | failed\ to\ (?:load|allocate|decode) | error\ loading\ model
    | server\ busy | maximum\ pending\ requests\ exceeded | Loading\ model | no\ slot\ available
    | (?:exceeds|larger\ than)\ the\ (?:available|maximum|max)?\ ?context\ (?:size|length)
    | an\ error\ was\ encountered\ while\ running\ the\ model
    | does\ not\ support\ (?:chat|generate|completions?|tools|thinking|embeddings?|insert|vision)
    | model\ not\ found | not\ found,\ try\ pulling\ it\ first
    | unauthorized | invalid\ api\ key | incorrect\ api\ key | rate\ limit | quota
    | context\ (?:canceled|deadline\ exceeded) | unexpected\ EOF
    | connection\ (?:refused|reset\ by\ peer) | no\ such\ file\ or\ directory | permission\ denied
    | internal\ (?:server\ )?error
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Fixed wordings of Ollama, llama.cpp and the systems below them. None holds a caller's words."""


class _Refusal(msgspec.Struct):
    error: Any = None


_DECODER: Final = msgspec.json.Decoder(_Refusal)


def error_text(body: bytes) -> str:
    """Return the message of an error body in any dialect, else the body's beginning as text."""
    return _told(body) or body[:_MAX_BYTES].decode("utf-8", "replace")


def has_error_text(body: bytes) -> bool:
    """Whether a body is an error's in any dialect, with a message."""
    return bool(_told(body))


def _told(body: bytes) -> str:
    try:
        error = _DECODER.decode(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) else ""


def known_words(text: str) -> str:
    """Return the parts of an engine's error that are its own fixed wording, at most three.

    Whatever else is in it may repeat a prompt or a key and is left out.
    """
    found: dict[str, str] = {}
    for match in _KNOWN.finditer(text[:_MAX_LOOK_CHARS]):
        found.setdefault(match[0].casefold(), match[0])
        if len(found) == _MAX_WORDS:
            break
    return ", ".join(found.values())
