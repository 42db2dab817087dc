"""How it is said what becomes of one part of a request at an engine of another kind.

Owns the words for it. Must not know any part.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from sollold.wire.routes import InferenceRoute


class Way(StrEnum):
    """What happens to a part of a request."""

    PASSED = "passed"
    """The engine gets it under the same name."""
    SAID = "said"
    """The engine is told in its own words."""
    HERE = "here"
    """The daemon does it, before or after the engine's work."""
    LEFT_OUT = "left out"
    REFUSED = "refused"
    ANSWERED = "answered"
    """There is nothing to do; the daemon answers."""


class Fate(msgspec.Struct, frozen=True):
    """What happens to it at one kind of engine."""

    way: Way
    word: str = ""
    """The engine's field or path; what is done here; or the text of the refusal."""
    note: str = ""


class Feature(msgspec.Struct, frozen=True):
    """One part of a request, with a request that has it."""

    name: str
    routes: tuple[InferenceRoute, ...]
    sample: dict[str, Any]
    """What it adds to a request."""
    llama: Fate
    openai: Fate
    beside: dict[str, Any] = {}
    """What the request has anyhow."""
    context_length: int = 4096


PASSED: Final = Fate(Way.PASSED)
LEFT_OUT: Final = Fate(Way.LEFT_OUT)


def said(word: str, note: str = "") -> Fate:
    """Return: told by the engine's own field or path."""
    return Fate(Way.SAID, word, note)


def here(what: str) -> Fate:
    """Return: done by the daemon."""
    return Fate(Way.HERE, what)


def refused(text: str) -> Fate:
    """Return: refused with this text."""
    return Fate(Way.REFUSED, text)


STREAMED: Final = here(
    "it always streams, and so notices who leaves; whole answers are put together"
)
"""What becomes of `stream` at a llama-server."""
