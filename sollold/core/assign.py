"""Which waiting request starts where, now.

Owns the choice: a request is bound as late as possible, waits for a fast node when that is sooner,
and waits no longer beside an idle one than that one would take. Reads no clock, rolls no dice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from sollold.core.compare import INFINITE, Comparison, Scene
from sollold.core.estimate import REMAINDER_OF_ELAPSED, Tuning, Weights, remainder
from sollold.core.model import Assignment, Decision, Grant, Reservation
from sollold.core.nodetable import Field, NodeTable, explain_rejection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.core.load import Load
    from sollold.core.model import NodeId, Running, WaitingRequest

__all__ = [
    "AssignPolicy",
    "NodeTable",
    "assign",
    "expected_wait_s",
    "explain_rejection",
    "recall_due_s",
    "recall_target",
]  # fmt: skip

ENOUGH_SAMPLES = 3
"""From here on more samples make a node no less interesting to measure."""
SOONEST_WAKEUP_S = 0.05
EXPLORE_FACTOR = 1.5
"""A node to be measured may look so much dearer, caution included."""
EXPLORE_SALT = 977.0
"""Makes exploring independent of how the same dice break ties."""
RECALL_FACTOR = 3.0
"""A first byte is overdue after so many times its expectation."""


class AssignPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may tune."""

    weights: Weights = Weights()
    tuning: Tuning = Tuning()
    client_cap: int = 0
    """Requests of one client that may run at once; zero: any number."""
    margin: float = 0.05
    """Relative difference of cost below which nodes count as equal ..."""
    margin_s: float = 0.02
    """... and the absolute one on top."""
    explore: float = 0.1
    """Share of requests that may try a node nobody has measured with their model."""
    depth: int = 8
    """Reservations worked out for a sort of request of which none can start now."""


DEFAULT_POLICY = AssignPolicy()


def assign(
    queue: Sequence[WaitingRequest],
    nodes: NodeTable,
    load: Load,
    now_s: float,
    *,
    policy: AssignPolicy = DEFAULT_POLICY,
    dice: float,
) -> Assignment:
    """Go through the queue once; `dice` (0 to 1) decides between equals."""
    run = _Pass(nodes, load, now_s, policy, dice)
    last = len(queue) - 1
    for place, request in enumerate(queue):
        run.place(request, is_last=place == last)
    wakeup_s = None if run.wakeup_s == INFINITE else run.wakeup_s
    return Assignment(tuple(run.grants), tuple(run.reservations), wakeup_s)


def expected_wait_s(
    request: WaitingRequest,
    nodes: NodeTable,
    load: Load,
    now_s: float,
    *,
    ahead: Sequence[WaitingRequest] = (),
    policy: AssignPolicy = DEFAULT_POLICY,
) -> float | None:
    """Return how long a request would wait behind those `ahead`; None when no node serves it."""
    patient = structs.replace(policy, depth=len(ahead) + 1, client_cap=0)
    run = _Pass(nodes, load, now_s, patient, 0.0)
    for other in ahead:
        run.place(other)
    granted, reserved = len(run.grants), len(run.reservations)
    run.place(request)
    if len(run.grants) > granted:
        return 0.0
    return run.reservations[-1].expected_start_s if len(run.reservations) > reserved else None


def recall_due_s(running: Running) -> float | None:
    """Return when a missing first byte becomes overdue; None once it came or while it loads."""
    if running.has_first_byte or running.is_loading:
        return None
    expected = running.expected_first_s or running.expected_s
    return running.started_s + RECALL_FACTOR * expected


def recall_target(
    running: Running,
    request: WaitingRequest,
    nodes: NodeTable,
    load: Load,
    now_s: float,
    *,
    policy: AssignPolicy = DEFAULT_POLICY,
) -> NodeId | None:
    """Return a node that would finish an overdue request sooner than its own; call it once."""
    due_s = recall_due_s(running)
    if due_s is None or now_s < due_s:
        return None
    if any(other.is_loading for other in load.on_node(running.node)):
        return None
    elsewhere = structs.replace(request, excluded=request.excluded | {running.node})
    best = _Pass(nodes, load, now_s, policy, 0.0).best_elsewhere(elsewhere)
    stay_s = remainder(running.expected_s, now_s - running.started_s)
    return best[0] if best is not None and best[1] < stay_s else None


class _Pass:
    """One pass over the queue; what it grants and promises counts for those behind."""

    def __init__(
        self, nodes: NodeTable, load: Load, now_s: float, policy: AssignPolicy, dice: float
    ) -> None:
        self.grants: list[Grant] = []
        self.reservations: list[Reservation] = []
        self.wakeup_s = INFINITE
        self._nodes = nodes
        self._load = load
        self._now_s = now_s
        self._policy = policy
        self._dice = dice
        self._scene = Scene(load, nodes.rates, now_s, policy.weights)
        self._clients: dict[str, int] = {}
        self._full: dict[Field, int] = {}

    def place(self, request: WaitingRequest, *, is_last: bool = False) -> None:
        """Grant, reserve or leave one request; behind the last one promises need not be kept."""
        policy = self._policy
        if policy.client_cap and self._runs_of(request.client) >= policy.client_cap:
            return
        field = self._field(request)
        if self._full and self._full.get(field, 0) >= policy.depth:
            return
        if field.ejected:
            self._wake_when_back(field)
        table = Comparison(field, request, self._scene)
        best = self._pick(table)
        if best is None and field.ejected:
            table = Comparison(_least_bad(field, request, policy.weights), request, self._scene)
            best = self._pick(table)
        if best is None:
            return
        if table.starts_now(best):
            best = self._explore(table, best)
            self._grant(table, best, request, _reason(table, best, request), is_last=is_last)
            return
        overdue = self._overdue(table, best, request)
        if overdue is None:
            self._reserve(table, best, request)
        else:
            self._grant(table, overdue, request, "waited its time", is_last=is_last)

    def best_elsewhere(self, request: WaitingRequest) -> tuple[NodeId, float] | None:
        """Return the node a request would start on now, and its whole time there."""
        table = Comparison(self._field(request), request, self._scene)
        best = self._pick(table)
        if best is None or not table.starts_now(best):
            return None
        node = table.field.rows[best].node
        offer = table.offer(best)
        waits = offer.wait_s + self._scene.foreign.get(node, 0.0)
        return node, waits + table.price(best, offer).service_s

    def _field(self, request: WaitingRequest) -> Field:
        policy = self._policy
        return self._nodes.field(request, self._now_s, policy.weights, policy.tuning)

    def _runs_of(self, client: str) -> int:
        return self._load.of_client(client) + self._clients.get(client, 0)

    def _pick(self, table: Comparison) -> int | None:
        """Return the cheapest row; among about equals a free one, one to be measured, any."""
        costs = table.costs
        best = min(costs, default=INFINITE)
        if best == INFINITE:
            return None
        limit = best + self._policy.margin * abs(best) + self._policy.margin_s
        near = [place for place, cost in enumerate(costs) if cost <= limit]
        if len(near) == 1:
            return near[0]
        dice = 1.0 + 65536.0 * (self._dice + len(self.grants))
        ranked = []
        for place in near:
            row = table.field.rows[place]
            samples = min(row.rates.samples, ENOUGH_SAMPLES)
            ranked.append((not table.starts_now(place), samples, row.salt * dice % 1.0, place))
        return min(ranked)[3]

    def _explore(self, table: Comparison, best: int) -> int:
        """Now and then return a free row that nobody measured, if it is not much dearer.

        Without this a fleet that is never busy would know only the node it tried first.
        """
        policy, rows = self._policy, table.field.rows
        if not rows[best].rates.is_measured or self._dice * EXPLORE_SALT % 1.0 >= policy.explore:
            return best
        limit = table.costs[best] * EXPLORE_FACTOR
        for cost, place in table.free():
            if cost <= limit and not rows[place].rates.is_measured:
                return place
        return best

    def _overdue(self, table: Comparison, best: int, request: WaitingRequest) -> int | None:
        """Return a free row the request has waited long enough beside, else set the alarm."""
        free = table.free()
        if not free:
            if not (request.excluded or request.pinned):
                self._full[table.field] = self._full.get(table.field, 0) + 1
            return None
        best_s, now_s = table.costs[best], self._now_s
        for _, place in free:
            due_s = self._due_s(table, place, request)
            if due_s <= now_s:
                return place
            self.wakeup_s = min(self.wakeup_s, due_s)
        weight = self._policy.weights.wait
        if weight > 0:
            # The wait for a busy node grows by at most half a second per second.
            gap_s = (free[0][0] - best_s) / (REMAINDER_OF_ELAPSED * weight)
            self.wakeup_s = min(self.wakeup_s, now_s + max(gap_s, SOONEST_WAKEUP_S))
        return None

    def _due_s(self, table: Comparison, place: int, request: WaitingRequest) -> float:
        """Return until when the request may wait beside a free row: as long as that would take."""
        offer = table.offer(place)
        node = table.field.rows[place].node
        since_s = request.arrival_s
        if node not in self._load.busy:
            since_s = max(since_s, self._load.idle_since(node))
        elif offer.load_s > 0:
            # It works: its memory is not to be turned over for a request that can wait.
            return INFINITE
        return since_s + offer.wait_s + table.price(place, offer).service_s

    def _wake_when_back(self, field: Field) -> None:
        for row in field.ejected:
            if row.view.penalty_until_s > self._now_s:
                self.wakeup_s = min(self.wakeup_s, row.view.penalty_until_s)

    def _reserve(self, table: Comparison, place: int, request: WaitingRequest) -> None:
        row, offer = table.field.rows[place], table.offer(place)
        self._scene.timeline(row).take(row, offer, table.price(place, offer).service_s)
        self.reservations.append(Reservation(request.id, row.node, offer.wait_s, row.runner))

    def _grant(
        self, table: Comparison, place: int, request: WaitingRequest, reason: str, *, is_last: bool
    ) -> None:
        row, offer = table.field.rows[place], table.offer(place)
        cost = table.price(place, offer)
        decision = Decision(
            request=request.id,
            model=request.model,
            node=row.node,
            reason=reason,
            at_s=self._now_s,
            candidates=table.candidates(),
        )
        self.grants.append(
            Grant(
                request=request.id,
                node=row.node,
                runner=row.runner,
                expected_first_s=offer.wait_s + cost.first_s,
                expected_s=offer.wait_s + cost.service_s,
                is_load=offer.load_s > 0,
                decision=decision,
                expected_load_s=offer.load_s,
                is_first_measured=row.rates.is_prefill_measured,
            )
        )
        if not is_last:
            self._scene.timeline(row).take(row, offer, cost.service_s)
            self._clients[request.client] = self._clients.get(request.client, 0) + 1


def _least_bad(field: Field, request: WaitingRequest, weights: Weights) -> Field:
    """Return the ejected nodes of the lowest penalty: when all are penalised, those are tried."""
    rows = [
        row
        for row in field.ejected
        if row.node not in request.excluded and request.pinned in {None, row.node}
    ]
    rows = [row for row in rows if row.view.penalty_rank == rows[0].view.penalty_rank]
    return Field(rows, weights, is_stream=request.is_stream)


def _reason(table: Comparison, place: int, request: WaitingRequest) -> str:
    rows, row = table.field.rows, table.field.rows[place]
    if row.view.is_ejected:
        return "least bad of the ejected"
    if request.pinned is not None:
        return "pinned"
    if len(rows) == 1:
        return "only holder"
    if table.has_waits():
        return "sooner than waiting"
    if table.offer(place).load_s > 0:
        return "fastest to load"
    if not row.rates.is_measured:
        return "not measured yet"
    if any(other.is_resident for other in rows if other is not row):
        return "fastest free"
    return "resident, free"
