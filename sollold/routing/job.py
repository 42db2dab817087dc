"""What the edge and a run hand each other: a job, a way to answer, an answer in one piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from sollold.core.model import NodeId, WaitingRequest
from sollold.routing.attempt import Attempt
from sollold.routing.record import RequestRecord
from sollold.upstream.exchange import Body
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.seam import Call, Steps


class ClientReply(Protocol):
    """The client's side of a streamed answer."""

    @property
    def is_unread(self) -> bool:
        """Whether the client's connection ended because it took nothing for too long."""

    def start(self, attempt: Attempt) -> None:
        """Send the head, and what was written to the sink so far."""

    def sink(self) -> Callable[[bytes], None]:
        """Return what takes pieces of the body."""

    async def finish(self) -> None:
        """End the answer cleanly."""

    def interrupt(self, frame: bytes) -> None:
        """Tell the client in its protocol, then end so that it cannot look complete."""


_T = TypeVar("_T")


class InBackground(Protocol):
    """Has a thread do some work, a few at a time."""

    async def __call__(self, work: Callable[[], _T], /) -> _T:
        """Return what the work returns."""


class Job(msgspec.Struct, kw_only=True, eq=False):
    """A request as the edge hands it over."""

    record: RequestRecord
    route: InferenceRoute
    waiting: WaitingRequest
    is_load: bool
    text_bytes: int
    """Length of the prompt when it is text only, else zero."""
    head_for: Callable[[NodeId, Call | None], bytes | None]
    """Complete request head for a node, of the request itself or of a call made in its place; None
    when the node is gone."""
    body: Body
    steps_for: Callable[[NodeId], Steps | None]
    """How the request is translated for a node; None: it speaks the client's dialect. Raises
    `ConnectFailed` when the node no longer has the model."""
    in_background: InBackground | None = None
    """What takes the body apart where that would hold up other requests."""
    charge: Callable[[int], None] = lambda _: None
    """Hears how many bytes the request takes beside its body, in a node's words."""


class WholeAnswer(msgspec.Struct, eq=False):
    """An answer that goes out in one piece."""

    attempt: Attempt
    body: bytes
