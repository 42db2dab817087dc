"""Which waiting request starts where, now.

Owns the choice: a request is bound as late as possible, waits for a fast node when that is sooner,
and waits no longer beside an idle one than that one would take. Reads no clock, rolls no dice.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import structs

from sollold.core.estimate import (
    REMAINDER_OF_ELAPSED,
    Offer,
    Timeline,
    Tuning,
    Weights,
    candidate,
    idle_offer,
    linear,
    price,
    remainder,
)
from sollold.core.model import Assignment, Candidate, Decision, Grant, Reservation
from sollold.core.nodetable import Field, NodeTable, explain_rejection
from sollold.core.slots import allowance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.core.estimate import Cost, Row
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

SHOWN_CANDIDATES = 16
"""Eligible nodes that a decision lists, the cheapest ones."""
ENOUGH_SAMPLES = 3
"""From here on more samples make a node no less interesting to measure."""
FREE_LOOKED_AT = 8
"""Free nodes beside which a waiting request's time is counted, the cheapest ones."""
SOONEST_WAKEUP_S = 0.05
RECALL_FACTOR = 3.0
"""A first byte is overdue after so many times its expectation."""
INFINITE = float("inf")


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
    for request in queue:
        run.place(request)
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


class _Table(NamedTuple):
    """One request against the nodes that may serve it."""

    field: Field
    costs: list[float]
    """Per row; infinite where this request must not go."""
    offers: dict[int, Offer]
    """Of rows that are not idle."""

    def offer(self, place: int) -> Offer:
        return self.offers.get(place) or idle_offer(self.field.rows[place])

    def starts_now(self, place: int) -> bool:
        offer = self.offers.get(place)
        return offer is None or offer.starts_now


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
        self._foreign = nodes.rates.foreign(now_s)
        self._timelines: dict[NodeId, Timeline] = {}
        self._clients: dict[str, int] = {}
        self._full: dict[Field, int] = {}

    def place(self, request: WaitingRequest) -> None:
        """Grant, reserve or leave one request."""
        cap = self._policy.client_cap
        client = request.client
        if cap and self._load.of_client(client) + self._clients.get(client, 0) >= cap:
            return
        field = self._field(request)
        if self._full.get(field, 0) >= self._policy.depth:
            return
        table = self._table(field, request)
        best = self._pick(table)
        if best is None:
            table = self._table(_least_bad(field, request, self._policy.weights), request)
            best = self._pick(table)
        self._wake_when_back(field)
        if best is None:
            return
        if table.starts_now(best):
            self._grant(table, best, request, _reason(table, best, request))
            return
        overdue = self._overdue(table, best, request)
        if overdue is None:
            self._reserve(table, best, request)
        else:
            self._grant(table, overdue, request, "waited its time")

    def best_elsewhere(self, request: WaitingRequest) -> tuple[NodeId, float] | None:
        """Return the node a request would start on now, and its whole time there."""
        table = self._table(self._field(request), request)
        best = self._pick(table)
        if best is None or not table.starts_now(best):
            return None
        row, offer = table.field.rows[best], table.offer(best)
        foreign_s = self._foreign.get(row.node, 0.0)
        cost = price(row, offer, request, foreign_s, self._policy.weights)
        return row.node, offer.wait_s + foreign_s + cost.service_s

    def _field(self, request: WaitingRequest) -> Field:
        policy = self._policy
        return self._nodes.field(request, self._now_s, policy.weights, policy.tuning)

    def _table(self, field: Field, request: WaitingRequest) -> _Table:
        prompt, output = request.prompt_tokens, request.output_tokens
        costs = [a + b * prompt + c * output for a, b, c in field.linear]
        index = field.index
        weights = self._policy.weights
        for node, tokens in request.warm.items():
            if node in index:
                costs[index[node]] -= min(tokens, prompt) * field.linear[index[node]][1]
        for node, seconds in self._foreign.items():
            if node in index:
                costs[index[node]] += weights.foreign * seconds
        offers = self._busy_offers(field, costs, request)
        for node, timeline in self._timelines.items():
            place = index.get(node)
            if place is not None:
                offers[place], costs[place] = self._look(field.rows[place], timeline, request)
        if request.pinned is not None:
            costs = [
                cost if row.node == request.pinned else INFINITE
                for row, cost in zip(field.rows, costs, strict=True)
            ]
        for node in request.excluded:
            if node in index:
                costs[index[node]] = INFINITE
        return _Table(field, costs, offers)

    def _busy_offers(
        self, field: Field, costs: list[float], request: WaitingRequest
    ) -> dict[int, Offer]:
        """Look at busy nodes; the usual one runs a single request of the same sort."""
        offers: dict[int, Offer] = {}
        index, rows, now_s = field.index, field.rows, self._now_s
        timelines, weight = self._timelines, self._policy.weights.wait
        for node, running in self._load.busy.items():
            place = index.get(node)
            if place is None or node in timelines:
                continue
            row = rows[place]
            if row.is_plain and len(running) == 1:
                (one,) = running.values()
                if one.runner == row.runner and not one.is_loading:
                    wait = remainder(one.expected_s, now_s - one.started_s)
                    costs[place] += weight * wait
                    offers[place] = Offer(wait, 0.0, 0.0, 1, False)
                    continue
            timelines[node] = Timeline(row.view, running.values(), now_s)
        return offers

    def _look(self, row: Row, timeline: Timeline, request: WaitingRequest) -> tuple[Offer, float]:
        offer = timeline.offer(row)
        foreign_s = self._foreign.get(row.node, 0.0)
        cost = price(row, offer, request, foreign_s, self._policy.weights)
        if (
            not offer.starts_now
            and not offer.load_s
            and timeline.active_on(row) < allowance(row.slots, cost.service_s, row.round_trip_s)
        ):
            offer = offer._replace(starts_now=True)
        return offer, cost.total_s

    def _pick(self, table: _Table) -> int | None:
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
        rows = table.field.rows
        return min(
            near,
            key=lambda place: (
                not table.starts_now(place),
                min(rows[place].rates.samples, ENOUGH_SAMPLES),
                rows[place].salt * dice % 1.0,
            ),
        )

    def _overdue(self, table: _Table, best: int, request: WaitingRequest) -> int | None:
        """Return a free row the request has waited long enough beside, else set the alarm."""
        costs, weights = table.costs, self._policy.weights
        free = [
            place for place, cost in enumerate(costs) if cost < INFINITE and table.starts_now(place)
        ]
        if not free:
            if not (request.excluded or request.pinned):
                self._full[table.field] = self._full.get(table.field, 0) + 1
            return None
        near = nsmallest(FREE_LOOKED_AT, free, key=costs.__getitem__)
        for place in near:
            row, offer = table.field.rows[place], table.offer(place)
            since_s = request.arrival_s
            if offer.occupancy == 1:
                since_s = max(since_s, self._load.idle_since(row.node))
            cost = price(row, offer, request, 0.0, weights)
            due_s = since_s + offer.wait_s + cost.service_s
            if due_s <= self._now_s:
                return place
            self.wakeup_s = min(self.wakeup_s, due_s)
        if weights.wait > 0:
            # The wait for a busy node grows by at most half a second per second.
            gap_s = (costs[near[0]] - costs[best]) / (REMAINDER_OF_ELAPSED * weights.wait)
            self.wakeup_s = min(self.wakeup_s, self._now_s + max(gap_s, SOONEST_WAKEUP_S))
        return None

    def _wake_when_back(self, field: Field) -> None:
        for row in field.ejected:
            if row.view.penalty_until_s > self._now_s:
                self.wakeup_s = min(self.wakeup_s, row.view.penalty_until_s)

    def _take(self, table: _Table, place: int, request: WaitingRequest) -> tuple[Row, Offer, Cost]:
        row, offer = table.field.rows[place], table.offer(place)
        cost = price(row, offer, request, 0.0, self._policy.weights)
        timeline = self._timelines.get(row.node)
        if timeline is None:
            running = self._load.busy.get(row.node, {})
            timeline = Timeline(row.view, running.values(), self._now_s)
            self._timelines[row.node] = timeline
        timeline.take(row, offer, cost.service_s)
        return row, offer, cost

    def _reserve(self, table: _Table, place: int, request: WaitingRequest) -> None:
        row, offer, _ = self._take(table, place, request)
        self.reservations.append(Reservation(request.id, row.node, offer.wait_s, row.runner))

    def _grant(self, table: _Table, place: int, request: WaitingRequest, reason: str) -> None:
        candidates = self._candidates(table, request)
        row, offer, cost = self._take(table, place, request)
        self._clients[request.client] = self._clients.get(request.client, 0) + 1
        self.grants.append(
            Grant(
                request=request.id,
                node=row.node,
                runner=row.runner,
                expected_first_s=offer.wait_s + cost.first_s,
                expected_s=offer.wait_s + cost.service_s,
                expected_load_s=offer.load_s,
                is_load=offer.load_s > 0,
                decision=Decision(
                    request=request.id,
                    model=request.model,
                    node=row.node,
                    reason=reason,
                    at_s=self._now_s,
                    candidates=candidates,
                ),
            )
        )

    def _candidates(self, table: _Table, request: WaitingRequest) -> tuple[Candidate, ...]:
        costs, rows = table.costs, table.field.rows
        places: Sequence[int] = range(len(rows))
        if len(rows) > SHOWN_CANDIDATES:
            places = nsmallest(SHOWN_CANDIDATES, places, key=costs.__getitem__)
        foreign = self._foreign
        return (
            *[
                candidate(
                    rows[place],
                    table.offers.get(place) or idle_offer(rows[place]),
                    request,
                    foreign.get(rows[place].node, 0.0) if foreign else 0.0,
                    costs[place],
                )
                if costs[place] < INFINITE
                else _barred(rows[place].node, request)
                for place in places
            ],
            *table.field.excluded,
        )


def _least_bad(field: Field, request: WaitingRequest, weights: Weights) -> Field:
    """Return the ejected nodes of the lowest penalty: when all are penalised, those are tried."""
    rows = [
        row
        for row in field.ejected
        if row.node not in request.excluded and request.pinned in {None, row.node}
    ]
    rows = [row for row in rows if row.view.penalty_rank == rows[0].view.penalty_rank]
    return Field(rows, [linear(row, weights, is_stream=request.is_stream) for row in rows])


def _barred(node: NodeId, request: WaitingRequest) -> Candidate:
    code = "excluded" if node in request.excluded else "pinned_elsewhere"
    return Candidate(node, INFINITE, excluded=code)


def _reason(table: _Table, place: int, request: WaitingRequest) -> str:
    rows, row = table.field.rows, table.field.rows[place]
    if row.view.is_ejected:
        return "least bad of the ejected"
    if request.pinned is not None:
        return "pinned"
    if len(rows) == 1:
        return "only holder"
    waits = any(not offer.starts_now for offer in table.offers.values())
    if waits:
        return "sooner than waiting"
    if table.offer(place).load_s > 0:
        return "fastest to load"
    if not row.rates.is_measured:
        return "not measured yet"
    if any(other.is_resident for other in rows if other is not row):
        return "fastest free"
    return "resident, free"
