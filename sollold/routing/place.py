"""One run's place in the queue, and the slots it was granted and has not used yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sollold.core.model import RequestId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sollold.core.model import Grant, NodeId, WaitingRequest
    from sollold.errors import SollolError
    from sollold.routing.admission import Admission
    from sollold.routing.ticket import Ticket


class Place:
    """Asks for slots, one at a time. Every method is synchronous; `wake` is called on news."""

    __slots__ = (
        "_admission",
        "_client",
        "_grants",
        "_is_closed",
        "_request",
        "_ticket",
        "_wake",
        "count",
        "refusal",
        "waiting",
    )

    def __init__(
        self, waiting: WaitingRequest, admission: Admission, wake: Callable[[], None]
    ) -> None:
        self.waiting = waiting
        """As last submitted."""
        self.count = 0
        """How often a slot was asked for."""
        self.refusal: SollolError | None = None
        self._request = waiting.id
        self._client = waiting.client
        self._admission = admission
        self._wake = wake
        self._ticket: Ticket | None = None
        self._grants: list[Grant] = []
        self._is_closed = False

    @property
    def is_queued(self) -> bool:
        """Whether it waits for a slot."""
        return self._ticket is not None

    @property
    def is_hopeful(self) -> bool:
        """Whether it waits for a slot or has one that is not used yet."""
        return self._ticket is not None or bool(self._grants)

    @property
    def number(self) -> int | None:
        """1-based place in the queue; None when it is not in it."""
        if self._ticket is None:
            return None
        return self._admission.queue.place(self.waiting.id)

    def ask(self, excluded: Iterable[NodeId], *, is_second: bool, may_hold: bool) -> None:
        """Ask for a slot on a node that is not excluded. No await.

        `is_second`: an earlier attempt is still under way; `may_hold`: it may wait for a holder
        that is down.
        """
        left_out = frozenset(excluded)
        self.count += 1
        if self.count > 1 or left_out:
            number = f"{self._request}.{self.count}" if self.count > 1 else self._request
            self.waiting = msgspec.structs.replace(
                self.waiting,
                id=RequestId(number),
                excluded=left_out,
                # A first attempt that hangs on a frozen node must not use up its client's share.
                client=self._request if is_second else self._client,
            )
        self.refusal = None
        ticket = self._admission.submit(
            self.waiting,
            self._granted,
            self._refused,
            is_returning=self.count > 1,
            may_hold=may_hold,
        )
        if self._admission.is_waiting(ticket):
            self._ticket = ticket

    def take(self) -> Grant | None:
        """Return a slot that is not used yet. No await."""
        return self._grants.pop() if self._grants else None

    def leave(self) -> None:
        """Give up the place and every unused slot. No await."""
        if self._ticket is not None:
            self._admission.withdraw(self._ticket)
            self._ticket = None
        for grant in self._grants:
            self._admission.release(grant.decision.request)
        self._grants.clear()

    def close(self) -> None:
        """Leave for good. No await."""
        self._is_closed = True
        self.leave()

    def _granted(self, grant: Grant) -> None:
        if self._is_closed:
            self._admission.release(grant.decision.request)
            return
        self._ticket = None
        self._grants.append(grant)
        self._wake()

    def _refused(self, error: SollolError) -> None:
        self._ticket = None
        self.refusal = error
        self._wake()
