"""One request and its answer: what goes out, who hears what comes back, and the deadlines.

An exchange outlives its connection once: a stale pooled connection is replaced without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from sollold.errors import UpstreamDisconnected, UpstreamTimeout

if TYPE_CHECKING:
    from sollold.errors import UpstreamError
    from sollold.upstream.connection import Connection
    from sollold.upstream.pool import NodePool
    from sollold.upstream.wheel import Timer


class Head(NamedTuple):
    """Status and headers of the final response, names as the node wrote them."""

    status: int
    headers: list[tuple[bytes, bytes]]


class Receiver(Protocol):
    """Hears one answer, synchronously: a head, bodies, then exactly one of end and error.

    Nothing is called before `send` returned, after the last call, or after `abort`.
    """

    def on_head(self, head: Head) -> None:
        """Take status and headers; interim responses are not reported."""

    def on_body(self, data: bytes) -> None:
        """Take what one read from the node brought, unframed, never empty."""

    def on_end(self) -> None:
        """Note that the message is complete; the connection is free already."""

    def on_error(self, error: UpstreamError) -> None:
        """Note that no more will come and the message is not complete."""


class SpooledBody(Protocol):
    """A request body that is not in memory; `read` may be called again from the start."""

    @property
    def size_bytes(self) -> int:
        """Whole length."""

    def read(self, offset: int, size: int, /) -> bytes:
        """Return `size` bytes from `offset`, fewer only at the end."""


Body = bytes | SpooledBody


class Request(NamedTuple):
    """What is sent: a head that ends with the empty line, and the body it announces.

    Never a HEAD request: the parser waits for the body of its answer.
    """

    head: bytes
    body: Body = b""
    is_replayable: bool = True
    """Whether it may be sent again when a pooled connection turns out to be stale."""


_SPENT = Request(b"", b"", is_replayable=False)
"""What an exchange that is over holds instead of its request, which may be large."""


class Exchange:
    """A request under way. After its end every method is harmless."""

    __slots__ = (
        "_begun_s",
        "_connection",
        "_head_timer",
        "_idle_limit_s",
        "_idle_timer",
        "_is_paused",
        "bytes_seen",
        "has_head",
        "is_reused",
        "is_sent",
        "pool",
        "receiver",
        "request",
        "touched_s",
    )

    def __init__(self, pool: NodePool, request: Request, receiver: Receiver) -> None:
        self.pool = pool
        self.request = request
        self.receiver: Receiver | None = receiver
        """None once the exchange is over."""
        self.is_reused = False
        """Sent over a connection that served an earlier exchange."""
        self.is_sent = False
        """The whole request was handed to the transport."""
        self.bytes_seen = 0
        """Everything the node sent for this exchange, framing included."""
        self.has_head = False
        self.touched_s = 0.0
        """When bytes last moved, on the wheel's clock."""
        self._begun_s = 0.0
        self._connection: Connection | None = None
        self._is_paused = False
        self._head_timer: Timer | None = None
        self._idle_timer: Timer | None = None
        self._idle_limit_s = 0.0

    @property
    def is_over(self) -> bool:
        """Whether it ended, failed or was aborted."""
        return self.receiver is None

    def abort(self) -> None:
        """Close the connection at once; the receiver hears nothing more. No await."""
        if self.receiver is None:
            return
        connection = self._connection
        self.detach()
        if connection is not None:
            connection.drop()
        else:
            self.pool.forget(self)

    def pause(self) -> None:
        """Read no more from the node until `resume`. No await."""
        if self._is_paused or self.receiver is None:
            return
        self._is_paused = True
        if self._connection is not None:
            self._connection.pause_reading()

    def resume(self) -> None:
        """Read on; the time spent paused does not count as the node's silence. No await."""
        if not self._is_paused or self.receiver is None:
            return
        self._is_paused = False
        self.touched_s = self.pool.wheel.loop.time()
        if self._connection is not None:
            self._connection.resume_reading()

    @property
    def is_paused(self) -> bool:
        """Whether reading from the node is held."""
        return self._is_paused

    def limit_head(self, seconds: float | None) -> None:
        """Fail unless the head is complete `seconds` from now; None lifts the limit. No await."""
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if seconds is not None and self.receiver is not None and not self.has_head:
            self._head_timer = self.pool.wheel.after(seconds, self._on_head_late)

    def limit_idle(self, seconds: float | None) -> None:
        """Fail when no byte moves for `seconds`, counted from now; None lifts it. No await."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if seconds is not None and self.receiver is not None:
            self._idle_limit_s = seconds
            self.touched_s = self.pool.wheel.loop.time()
            self._idle_timer = self.pool.wheel.after(seconds, self._on_maybe_idle)

    def attach(self, connection: Connection, *, is_reused: bool) -> None:
        """Note the connection that carries it now; for the pool."""
        self._connection = connection
        self.is_reused = is_reused
        self.is_sent = False
        # The wheel turns while connections are idle, so this is a tick old at most.
        self._begun_s = self.pool.wheel.now_s

    def detach(self) -> Receiver | None:
        """Make it over and return who is to hear of it, None when it was over already."""
        receiver, self.receiver = self.receiver, None
        self.request = _SPENT
        self._connection = None
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        return receiver

    def note_head(self) -> None:
        """Lift the head's deadline: it is complete."""
        self.has_head = True
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def fail(self, error: UpstreamError) -> None:
        """End with an error, or go on over a fresh connection when this one was stale."""
        if self._is_stale(error):
            self._connection = None
            self.pool.replace(self)
            return
        receiver = self.detach()
        if receiver is not None:
            receiver.on_error(error)

    def _is_stale(self, error: UpstreamError) -> bool:
        return (
            self.is_reused
            and self.bytes_seen == 0
            and self.receiver is not None
            and self.request.is_replayable
            and isinstance(error, UpstreamDisconnected)
            and self.pool.wheel.loop.time() - self._begun_s < self.pool.stale_window_s
        )

    def _on_head_late(self) -> None:
        self._cut(
            UpstreamTimeout(f"{self.pool.address} sent no response head in time", phase="head")
        )

    def _on_maybe_idle(self) -> None:
        timer = self._idle_timer
        if timer is None:
            return
        wheel = self.pool.wheel
        silent_s = 0.0 if self._is_paused else wheel.loop.time() - self.touched_s
        if silent_s < self._idle_limit_s:
            timer.push(self._idle_limit_s - silent_s)
            return
        self._cut(
            UpstreamTimeout(
                f"{self.pool.address} was silent for {self._idle_limit_s:g} s", phase="idle"
            )
        )

    def _cut(self, error: UpstreamTimeout) -> None:
        connection = self._connection
        if connection is not None:
            connection.fail(error)
        else:
            self.pool.forget(self)
            self.fail(error)
