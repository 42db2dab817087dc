"""What routing has to know of a translation: the calls to make, and who reads the reply.

A translation is a generator: it yields the calls whose answers it needs first (a template to be
applied, tokens to be counted), is sent each answer, and returns the call that does the work,
together with the reader of its reply. What comes out of the reader is what an Ollama node would
have sent. Some requests need no work, and the generator returns their answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum, auto
from typing import NamedTuple, Protocol

import msgspec

from sollold.core.model import NodeKind


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the node that a request is translated for."""

    kind: NodeKind
    model: str
    """The node's own name for the model."""
    context_length: int | None = None
    """Tokens per slot; None: not known."""
    capabilities: frozenset[str] | None = None
    """In Ollama's words; None: not known."""
    has_templates: bool = False
    """Whether `/apply-template` and `/tokenize` can be asked."""

    @property
    def is_llama(self) -> bool:
        """Whether it has what only llama-servers have: their fields, their own endpoints.

        An Ollama node is spoken to as one where it is not passed through.
        """
        return self.kind is not NodeKind.OPENAI


class Call(NamedTuple):
    """A POST to the node; `path` begins with a slash."""

    path: str
    body: bytes


class Answer(NamedTuple):
    """A complete reply to a call that came before the work."""

    status: int
    body: bytes


class ReplyHead(NamedTuple):
    """How the translated reply begins."""

    status: int
    content_type: str


class ReplyReader(Protocol):
    """Turns one reply of another engine into Ollama's, piece by piece, however it is split."""

    head: ReplyHead | None
    """None until it is certain how the reply begins; its status may depend on the first event."""

    @property
    def is_spoiled(self) -> bool:
        """Whether nothing that follows can matter; `finish` may be called at once."""
        ...

    @property
    def is_heavy(self) -> bool:
        """Whether `finish` has so much to do that it would hold up others; it may run in a thread.

        Asked at the end of the body.
        """
        ...

    def begin(self, status: int, content_type: str) -> None:
        """Take the head of the node's reply."""

    def feed(self, data: bytes) -> bytes:
        """Take a piece of its body; return what goes on, which is nothing while `head` is None."""

    def finish(self) -> bytes:
        """Take the clean end of the body; return the rest. `head` is certain afterwards.

        A stream that ended without its terminator gets none here either.
        """


class Translation(NamedTuple):
    """The call that does the work, and who reads its reply."""

    call: Call
    reader: ReplyReader


class Done(NamedTuple):
    """The answer to a request that leaves the node nothing to do; nothing is called."""

    head: ReplyHead
    body: bytes


Steps = Generator[Call, Answer, Translation | Done]
"""Yields calls to be made first; raises `Unsupported` or `Refused`."""


class Clock(NamedTuple):
    """Where a reader gets the time from, in nanoseconds."""

    wall_ns: Callable[[], int]
    """Since 1970, UTC."""
    monotonic_ns: Callable[[], int]


class Refused(Exception):
    """The node did not do what a call before the work asked; judged as if it had been the work."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Stage(Enum):
    """When Ollama would have found a fault: its answers look different."""

    READING = auto()
    """While the body is read."""
    CHECKING = auto()
    GENERATING = auto()
    """When a stream would already have begun."""


class Unsupported(Exception):
    """The engine cannot do what is asked, or the request is wrong; said in Ollama's words."""

    def __init__(self, status: int, text: str, stage: Stage = Stage.CHECKING) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.stage = stage


class Mistaken(Unsupported):
    """The request itself is wrong: whoever served it would say so."""
