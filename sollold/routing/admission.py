"""The queue and the slots: who may start where, and when.

Sole owner of waiting requests and of load. Every change is synchronous; `sollold.core.assign`
decides, this module carries out.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from sollold.core.assign import assign, expected_wait_s, recall_target
from sollold.core.model import NodeKind
from sollold.errors import Draining, NoEligibleNode, QueueFull, QueueTimeout
from sollold.routing.ticket import QueueRules, Ticket, holds, no_holder_text
from sollold.wire.errors import QUEUE_FULL_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.core.assign import AssignPolicy, NodeTable
    from sollold.core.load import Load
    from sollold.core.model import (
        Fleet,
        Grant,
        ModelKey,
        NodeId,
        NodeView,
        RequestId,
        Reservation,
        Running,
        WaitingRequest,
    )
    from sollold.core.queue import Queue
    from sollold.errors import SollolError
    from sollold.upstream.wheel import Timer, TimerWheel

_QUOTE_S = 1.0
_MAX_QUOTES = 64
_MAX_RETRY_S = 60
_NOBODY_RETRY_S = 10
"""Said when no node serves the model now."""


class Admission:
    """Grants slots to waiting requests."""

    def __init__(
        self,
        *,
        nodes: NodeTable,
        fleet: Callable[[], Fleet],
        queue: Queue,
        load: Load,
        policy: AssignPolicy,
        rules: QueueRules,
        wheel: TimerWheel,
        clock: Callable[[], float],
        dice: Callable[[], float],
    ) -> None:
        self._nodes = nodes
        self._fleet = fleet
        self._queue = queue
        self._load = load
        self._policy = policy
        self._rules = rules
        self._wheel = wheel
        self._clock = clock
        self._dice = dice
        self._tickets: dict[RequestId, Ticket] = {}
        self._views: dict[NodeId, NodeView] = {}
        self._wakeup: Timer | None = None
        self._pumping_soon: Timer | None = None
        self._is_pumping = False
        self.is_draining = False
        self._quotes: dict[ModelKey, tuple[float, int]] = {}
        """Per model, what was last said of when to come back, and until when that holds."""
        self.loads_started = 0

    @property
    def load(self) -> Load:
        """What is running where."""
        return self._load

    @property
    def queue(self) -> Queue:
        """What waits, in order."""
        return self._queue

    @property
    def nodes(self) -> NodeTable:
        """The costs decisions are made from."""
        return self._nodes

    @property
    def policy(self) -> AssignPolicy:
        """How nodes are compared."""
        return self._policy

    def set_policy(self, policy: AssignPolicy, rules: QueueRules) -> None:
        """Compare and wait by other rules from now on, requests that wait included. No await.

        A request that is being held for a node that is down keeps the time it was given.
        """
        self._policy, self._rules = policy, rules
        self._quotes.clear()
        for ticket in self._tickets.values():
            if ticket.limit_timer is not None:
                ticket.limit_timer.cancel()
                ticket.limit_timer = None
            self._limit_wait(ticket)
        self._pump_soon()

    def view(self, node: NodeId) -> NodeView | None:
        """Return a node as decisions see it; None when it left. No await."""
        return self._views.get(node)

    def is_ollama(self, node: NodeId) -> bool:
        """Whether a node is an Ollama, as one that has left may have been. No await."""
        view = self._views.get(node)
        return view is None or view.kind is NodeKind.OLLAMA

    def alike(self, node: NodeId) -> frozenset[NodeId]:
        """Return the nodes of the same kind, itself included. No await."""
        views = self._views
        kind = views[node].kind if node in views else None
        return frozenset(view.id for view in views.values() if view.kind is kind) | {node}

    def has_other_kind(self, waiting: WaitingRequest, node: NodeId, left: set[NodeId]) -> bool:
        """Whether a node of another kind may serve a request, none of those `left`. No await."""
        others = frozenset(self._views) - self.alike(node) - left
        views = [self._views[other] for other in others]
        return any(view.is_routable and holds(view, waiting) for view in views)

    def submit(
        self,
        waiting: WaitingRequest,
        on_grant: Callable[[Grant], None],
        on_reject: Callable[[SollolError], None],
        *,
        is_returning: bool = False,
        may_hold: bool = True,
    ) -> Ticket:
        """Queue a request; both callbacks may be called before this returns. No await.

        A request that returns after a failed attempt is never refused for the queue's length.
        Without `may_hold` it does not wait for a holder that is down.
        """
        ticket = Ticket(waiting, on_grant, on_reject)
        ticket.may_hold = may_hold
        if self.is_draining and not is_returning:
            on_reject(Draining())
            return ticket
        if self._starts_at_once(ticket):
            return ticket
        try:
            self._queue.push(waiting, is_returning=is_returning)
        except QueueFull as error:
            text = f"{QUEUE_FULL_TEXT} ({error.message})"
            on_reject(QueueFull(text, retry_after_s=self._retry_after_s(waiting)))
            return ticket
        self._tickets[waiting.id] = ticket
        self.pump()
        if waiting.id in self._tickets:
            self._limit_wait(ticket)
            self._check_holders(ticket)
        return ticket

    def is_waiting(self, ticket: Ticket) -> bool:
        """Whether the request is still in the queue. No await."""
        return self._tickets.get(ticket.waiting.id) is ticket

    def _starts_at_once(self, ticket: Ticket) -> bool:
        """Grant a slot past an empty queue: the usual case is worth a short way. No await."""
        if self._is_pumping or len(self._queue):
            return False
        now_s, alone = self._clock(), (ticket.waiting,)
        done = assign(alone, self._nodes, self._load, now_s, policy=self._policy, dice=self._dice())
        for grant in done.grants:
            self._start(ticket, grant, now_s)
        return bool(done.grants)

    def _limit_wait(self, ticket: Ticket) -> None:
        now_s = self._clock()
        limits = []
        if self._rules.max_wait_s:
            limits.append(ticket.waiting.arrival_s + self._rules.max_wait_s)
        if ticket.waiting.deadline_s is not None:
            limits.append(ticket.waiting.deadline_s)
        if limits:
            delay_s = max(0.0, min(limits) - now_s)
            ticket.limit_timer = self._wheel.after(delay_s, lambda: self._time_out(ticket))

    def _time_out(self, ticket: Ticket) -> None:
        waited_s = self._clock() - ticket.waiting.arrival_s
        text = f"waited {waited_s:.0f} s for a free node, longer than it may"
        retry_after_s = self._retry_after_s(ticket.waiting)
        self._reject(ticket, QueueTimeout(text, retry_after_s=retry_after_s))

    def _retry_after_s(self, waiting: WaitingRequest) -> int:
        """Return when coming back is worth it: when those at the queue's head will have started.

        Worked out once a second for a model; refusals come by the hundred.
        """
        now_s = self._clock()
        until_s, quoted_s = self._quotes.get(waiting.model, (0.0, 0))
        if now_s < until_s:
            return quoted_s
        wait_s = expected_wait_s(
            waiting, self._nodes, self._load, now_s, ahead=self._head(), policy=self._policy
        )
        quoted_s = _NOBODY_RETRY_S if wait_s is None else max(1, min(_MAX_RETRY_S, ceil(wait_s)))
        if len(self._quotes) >= _MAX_QUOTES:
            self._quotes.clear()
        self._quotes[waiting.model] = (now_s + _QUOTE_S, quoted_s)
        return quoted_s

    def _reject(self, ticket: Ticket, error: SollolError) -> None:
        if self._tickets.pop(ticket.waiting.id, None) is not None:
            self._queue.remove(ticket.waiting.id)
            ticket.stop_timers()
            ticket.on_reject(error)
            self._pump_soon()

    def withdraw(self, ticket: Ticket) -> None:
        """Take a request out of the queue; nothing happens if it already left. No await."""
        if self._tickets.pop(ticket.waiting.id, None) is not None:
            self._queue.remove(ticket.waiting.id)
            ticket.stop_timers()
            self._pump_soon()

    def release(self, request: RequestId) -> None:
        """Give a slot back, exactly once per grant, and hand it on. No await."""
        self._load.remove(request, self._clock())
        self.pump()

    def note_first_byte(self, request: RequestId) -> None:
        """Tell that the engine has begun to answer: its model is loaded. No await."""
        self._load.note_first(request)
        # A node loads one model at a time: the next load may begin.
        self.pump()

    def recall_target(self, running: Running, waiting: WaitingRequest) -> NodeId | None:
        """Return a node on which an overdue request would end sooner. No await."""
        return recall_target(
            running, waiting, self._nodes, self._load, self._clock(), policy=self._policy
        )

    def fleet_changed(self) -> None:
        """Look again after a node came, went or changed. No await."""
        fleet = self._fleet()
        self._nodes.update(fleet)
        self._views = {view.id: view for view in fleet.nodes}
        self.pump()
        for ticket in list(self._tickets.values()):
            self._check_holders(ticket)

    def pump(self) -> None:
        """Grant what can be granted now. No await; does nothing when already at it."""
        if self._is_pumping or not len(self._queue):
            return
        self._is_pumping = True
        try:
            now_s = self._clock()
            head = self._head()
            done = assign(
                head, self._nodes, self._load, now_s, policy=self._policy, dice=self._dice()
            )
            for grant in done.grants:
                self._grant(grant, now_s)
            may_try = self._offer_trials(done.reservations, now_s)
        finally:
            self._is_pumping = False
        if may_try:
            self.pump()
            return
        self._arm(done.next_wakeup_s, now_s)

    def _pump_soon(self) -> None:
        """Look again when those that leave together have left. No await."""
        if len(self._queue) and self._pumping_soon is None:
            self._pumping_soon = self._wheel.after(0.0, self._pump_now)

    def _pump_now(self) -> None:
        self._pumping_soon = None
        self.pump()

    def _head(self) -> tuple[WaitingRequest, ...]:
        """Return the first requests that may start: others must not keep them out of sight."""
        limit = self._rules.look_ahead
        if len(self._queue) <= limit:
            return self._queue.head(limit)
        cap = self._policy.client_cap
        found: list[WaitingRequest] = []
        for waiting in self._queue:
            is_held = self._tickets[waiting.id].hold_timer is not None
            if is_held or (cap and self._load.of_client(waiting.client) >= cap):
                continue
            found.append(waiting)
            if len(found) == limit:
                break
        return tuple(found)

    def _offer_trials(self, reservations: tuple[Reservation, ...], now_s: float) -> bool:
        """Let runners that requests wait for try one slot more; True when one does. No await."""
        is_new = False
        for reservation in reservations:
            view = self._views.get(reservation.node)
            if view is not None and reservation.runner is not None:
                is_new |= self._nodes.slots.note_waiting(
                    view.id, reservation.runner, view.kind, view.slots, now_s
                )
        return is_new

    def _grant(self, grant: Grant, now_s: float) -> None:
        ticket = self._tickets.pop(grant.request)
        self._queue.remove(grant.request)
        ticket.stop_timers()
        self._start(ticket, grant, now_s)

    def _start(self, ticket: Ticket, grant: Grant, now_s: float) -> None:
        self.loads_started += grant.is_load
        self._load.start(grant, ticket.waiting.client, now_s)
        ticket.on_grant(grant)

    def _arm(self, at_s: float | None, now_s: float) -> None:
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        if at_s is not None:
            self._wakeup = self._wheel.after(max(0.0, at_s - now_s), self.pump)

    def _check_holders(self, ticket: Ticket) -> None:
        """Refuse, or hold for a while, a request that no node can take. No await."""
        waiting = ticket.waiting
        holders = [node for node in self._fleet().nodes if holds(node, waiting)]
        hopeful = [node for node in holders if node.id not in waiting.excluded]
        if any(node.is_routable for node in hopeful):
            if ticket.hold_timer is not None:
                ticket.hold_timer.cancel()
                ticket.hold_timer = None
        elif not hopeful or not ticket.may_hold:
            self._reject(ticket, NoEligibleNode(no_holder_text(waiting, holders)))
        elif ticket.hold_timer is None:
            ticket.hold_timer = self._wheel.after(
                self._rules.holder_down_s, lambda: self._give_up(ticket)
            )

    def _give_up(self, ticket: Ticket) -> None:
        ticket.hold_timer = None
        holders = [node for node in self._fleet().nodes if holds(node, ticket.waiting)]
        text = no_holder_text(ticket.waiting, holders)
        self._reject(ticket, NoEligibleNode(text, retry_after_s=10))

    def drain(self) -> None:
        """Refuse what waits and what comes; running requests go on. No await."""
        self.is_draining = True
        for ticket in list(self._tickets.values()):
            self._reject(ticket, Draining())
