"""One try of one request on one node: receives the reply, holds it back until it may be committed.

Owns the bytes of one reply until the client's stream takes over. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from sollold.upstream.exchange import Head
from sollold.wire.routes import InferenceRoute
from sollold.wire.watch import Ending, JsonWatch, watch_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.core.model import Grant
    from sollold.errors import UpstreamError
    from sollold.upstream.exchange import Exchange
    from sollold.wire.translate.seam import ReplyHead
    from sollold.wire.watch import Watch

_NOTHING_SEEN: Final = JsonWatch(InferenceRoute.API_CHAT)
"""What stands for the watch before a head came; it is never fed."""


class Owner(Protocol):
    """Whose attempt it is; called synchronously."""

    def ready(self, attempt: Attempt) -> None:
        """Commit the reply, at once or as soon as the run has looked at it."""

    def wake(self) -> None:
        """Look: an attempt is over."""

    def first_byte(self, attempt: Attempt) -> None:
        """Note that the engine has begun to answer."""

    def settled(self, attempt: Attempt) -> None:
        """Free the slot: the node is done with the message, however it went. Called once."""


class Attempt:
    """Receives one reply (`sollold.upstream.exchange.Receiver`).

    Until `sink` is set the body is held: a stream until its first content, a whole answer until it
    is complete or larger than `hold_bytes`.
    """

    __slots__ = (
        "_clock",
        "_ending",
        "_hold_bytes",
        "_route",
        "_watch",
        "bytes_in",
        "ended_s",
        "error",
        "exchange",
        "first_content_s",
        "grant",
        "head",
        "heard_bytes",
        "heard_s",
        "held",
        "held_bytes",
        "is_detached",
        "is_dropped",
        "is_opaque",
        "is_over",
        "is_ready",
        "is_stream",
        "is_unsupported",
        "owner",
        "sink",
        "started_s",
        "trial",
    )

    def __init__(
        self,
        grant: Grant,
        route: InferenceRoute,
        owner: Owner,
        *,
        clock: Callable[[], float],
        hold_bytes: int,
    ) -> None:
        self.grant = grant
        self.owner = owner
        self._route = route
        self._watch: Watch = _NOTHING_SEEN
        self._ending: Ending | None = None
        self._clock = clock
        self._hold_bytes = hold_bytes
        self.exchange: Exchange | None = None
        self.head: Head | None = None
        self.held: list[bytes] = []
        self.held_bytes = 0
        self.bytes_in = 0
        self.heard_bytes = 0
        """What showed the engine at work, even if nothing of it goes on."""
        self.sink: Callable[[bytes], None] | None = None
        self.error: UpstreamError | None = None
        self.is_ready = False
        self.is_over = False
        self.is_stream = False
        self.is_detached = False
        self.is_dropped = False
        self.is_opaque = False
        self.is_unsupported = False
        """The node was never asked: its engine cannot do this. Another kind of engine may."""
        self.trial: int | None = None
        self.started_s = self.heard_s = clock()
        self.first_content_s: float | None = None
        self.ended_s: float | None = None

    @property
    def status(self) -> int:
        """The reply's status, 0 before its head came."""
        return 0 if self.head is None else self.head.status

    def header(self, name: bytes) -> bytes | None:
        """Return a header of the reply, by lower-case name."""
        if self.head is not None:
            for key, value in self.head.headers:
                if key.lower() == name:
                    return value
        return None

    @property
    def has_content(self) -> bool:
        """Whether anything of the answer itself has come."""
        return self._watch.has_content

    @property
    def is_decided(self) -> bool:
        """Whether something came that has to be passed on."""
        return self._watch.is_decided

    @property
    def frames(self) -> int:
        """Lines or events of a stream since the first with content."""
        return self._watch.frames

    @property
    def ends_at_line_boundary(self) -> bool:
        """Whether a frame of ours may follow what has come."""
        return self._watch.ends_at_line_boundary

    def ending(self) -> Ending:
        """Return how the message ended; only once it is over."""
        if self._ending is None:
            self._ending = Ending(is_terminated=True) if self.is_opaque else self._watch.finish()
        return self._ending

    def early_error(self) -> str | None:
        """Return the error that a stream tells before any content, while it is held back."""
        if self.has_content or not self.is_stream:
            return None
        kind = (self.header(b"content-type") or b"").decode("latin-1")
        probe = watch_for(self._route, kind)
        probe.feed(b"".join(self.held))
        return probe.finish().error

    def on_head(self, head: Head) -> None:
        """Take the reply's head. No await."""
        self.head = head
        if head.status != 200:
            self._watch = JsonWatch(self._route)
            return
        if (self.header(b"content-encoding") or b"identity").strip().lower() != b"identity":
            # Nothing can be read in it: its framing alone says whether it is complete.
            self.is_opaque = True
            self._watch = JsonWatch(self._route)
            return
        kind = (self.header(b"content-type") or b"").decode("latin-1")
        self._watch = watch_for(self._route, kind)
        self.is_stream = not isinstance(self._watch, JsonWatch)

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body; once committed it goes straight to the client. No await."""
        self._watch.feed(data)
        self.bytes_in += len(data)
        self.heard_bytes += len(data)
        if self.sink is not None:
            self.sink(data)
            return
        if self.first_content_s is None:
            self._first_byte()
        if self.is_detached:
            return
        self.held.append(data)
        self.held_bytes += len(data)
        if not self.is_ready and (
            self.held_bytes > self._hold_bytes or (self.is_stream and self._watch.is_decided)
        ):
            self.is_ready = True
            self.owner.ready(self)

    def _first_byte(self) -> None:
        if self.is_stream and not self._watch.is_decided:
            return
        self.first_content_s = self._clock()
        self.owner.first_byte(self)

    def hear(self, size_bytes: int) -> None:
        """Note that the engine is at work on something that cannot go on yet. No await."""
        self.heard_bytes += size_bytes
        self.heard_s = self._clock()

    def on_end(self) -> None:
        """Take the end of the message. No await."""
        self._settle()

    def on_error(self, error: UpstreamError) -> None:
        """Take the news that the message will never be complete. No await."""
        self.error = error
        self._settle()

    def fail(self, error: UpstreamError) -> None:
        """Give up on the node: close the connection and count the attempt as failed. No await."""
        if self.is_over:
            return
        if self.exchange is not None:
            self.exchange.abort()
        self.on_error(error)

    def answer(self, head: ReplyHead, body: bytes, *, is_unsupported: bool = False) -> None:
        """Answer in the place of a node that has nothing to do, or cannot do it. No await."""
        if self.is_over:
            return
        self.is_unsupported = is_unsupported
        self.on_head(Head(head.status, [(b"Content-Type", head.content_type.encode("latin-1"))]))
        self.on_body(body)
        self.on_end()

    def end_early(self) -> None:
        """Take the message for complete: its last word has come. No await."""
        if self.is_over:
            return
        if self.exchange is not None:
            self.exchange.abort()
        self._settle()

    def drop(self) -> None:
        """Walk away: close the connection, free the slot, wake nobody. No await."""
        if self.is_over:
            return
        self.is_over = True
        self.is_dropped = True
        self.ended_s = self._clock()
        if self.exchange is not None:
            self.exchange.abort()
        self.owner.settled(self)

    def _settle(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.ended_s = self._clock()
        try:
            self.owner.settled(self)
        finally:
            self.owner.wake()

    def take_held(self) -> bytes:
        """Return what was held and forget it. No await."""
        data = self.held[0] if len(self.held) == 1 else b"".join(self.held)
        self.held = []
        self.held_bytes = 0
        return data
