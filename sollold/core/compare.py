"""One request against every node that may serve it.

Owns the hot loop of a decision: costs are computed for all nodes at once from the field's lines,
and only busy nodes are looked at one by one. Must not choose.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING

from sollold.core.estimate import (
    REMAINDER_OF_ELAPSED,
    Offer,
    candidate,
    idle_offer,
    price,
)
from sollold.core.model import Candidate
from sollold.core.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.core.estimate import Cost, Row, Weights
    from sollold.core.load import Load
    from sollold.core.model import NodeId, WaitingRequest
    from sollold.core.nodetable import Field
    from sollold.core.rates import RateTable

SHOWN_CANDIDATES = 16
"""Eligible nodes that a decision lists, the cheapest ones."""
FREE_LOOKED_AT = 8
"""Free nodes beside which a waiting request's time is counted, the cheapest ones."""
INFINITE = float("inf")


class Scene:
    """What every request of one pass meets: load, other people's load, promises so far."""

    __slots__ = ("foreign", "load", "now_s", "timelines", "weights")

    def __init__(self, load: Load, rates: RateTable, now_s: float, weights: Weights) -> None:
        self.load = load
        self.now_s = now_s
        self.weights = weights
        self.foreign = rates.foreign(now_s)
        self.timelines: dict[NodeId, Timeline] = {}
        """Of nodes with promises, and of those whose work is not a single plain request."""

    def timeline(self, row: Row) -> Timeline:
        """Return the near future of a node, to be changed by promises."""
        timeline = self.timelines.get(row.node)
        if timeline is None:
            running = self.load.busy.get(row.node, {})
            timeline = self.timelines[row.node] = Timeline(row.view, running.values(), self.now_s)
        return timeline


class Comparison:
    """Costs and offers of the field's rows for one request."""

    __slots__ = ("_request", "_scene", "costs", "field", "offers", "waits")

    def __init__(self, field: Field, request: WaitingRequest, scene: Scene) -> None:
        prompt, output = request.prompt_tokens, request.output_tokens
        self.field = field
        self.costs = [a + b * prompt + c * output for a, b, c in field.lines]
        """Per row; infinite where this request must not go."""
        self.waits: dict[int, float] = {}
        """Of rows that are busy with one request and otherwise as good as idle."""
        self.offers: dict[int, Offer] = {}
        """Of all other rows that are not idle."""
        self._request = request
        self._scene = scene
        if request.warm:
            self._spare_warm_tokens()
        if scene.foreign:
            self._add_foreign()
        if scene.load.busy:
            self._add_waits()
        if scene.timelines:
            self._ask_timelines()
        if request.excluded or request.pinned is not None:
            self._bar()

    def offer(self, place: int) -> Offer:
        """Return the offer of a row."""
        wait = self.waits.get(place)
        if wait is not None:
            return Offer(wait, 0.0, 0.0, 1, False)
        return self.offers.get(place) or idle_offer(self.field.rows[place])

    def starts_now(self, place: int) -> bool:
        """Tell whether a row could take the request at once."""
        if place in self.waits:
            return False
        offer = self.offers.get(place)
        return offer is None or offer.starts_now

    def free(self) -> list[tuple[float, int]]:
        """Return cost and place of the rows that could start the request now, cheapest first."""
        open_now = [
            (cost, place)
            for place, cost in enumerate(self.costs)
            if cost < INFINITE and self.starts_now(place)
        ]
        return nsmallest(FREE_LOOKED_AT, open_now)

    def has_waits(self) -> bool:
        """Tell whether any row is busy for this request."""
        return bool(self.waits) or any(not offer.starts_now for offer in self.offers.values())

    def price(self, place: int, offer: Offer) -> Cost:
        """Return what an offer of a row would cost, other people's load not in it."""
        return price(self.field.rows[place], offer, self._request, 0.0, self._scene.weights)

    def candidates(self) -> tuple[Candidate, ...]:
        """Return every term of the cheapest rows, and why others were left out."""
        costs, field, request = self.costs, self.field, self._request
        shown: Sequence[int] = range(len(costs))
        if len(costs) > SHOWN_CANDIDATES:
            shown = nsmallest(SHOWN_CANDIDATES, shown, key=costs.__getitem__)
        if self._scene.foreign or request.warm or request.excluded or request.pinned is not None:
            return (*map(self._candidate, shown), *field.excluded)
        prompt, output = request.prompt_tokens, request.output_tokens
        waits, offers, facts = self.waits, self.offers, field.facts
        make = tuple.__new__  # a third of the price of the named tuple's own constructor
        listed: list[Candidate] = []
        for place in shown:
            if place in offers:
                listed.append(self._candidate(place))
                continue
            node, load, swap, base, per_prompt, per_output, spread, less, tier, known = facts[place]
            prefill, decode = base + per_prompt * prompt, per_output * output
            risk = spread * (load + prefill + decode) - less
            terms = (node, costs[place], waits.get(place, 0.0), load, swap, 0.0, prefill, decode,
                     risk, tier, known, "")  # fmt: skip
            listed.append(make(Candidate, terms))
        return (*listed, *field.excluded)

    def _candidate(self, place: int) -> Candidate:
        row, request = self.field.rows[place], self._request
        if self.costs[place] == INFINITE:
            code = "excluded" if row.node in request.excluded else "pinned_elsewhere"
            return Candidate(row.node, INFINITE, excluded=code)
        foreign_s = self._scene.foreign.get(row.node, 0.0)
        return candidate(row, self.offer(place), request, foreign_s, self.costs[place])

    def _spare_warm_tokens(self) -> None:
        index, lines = self.field.index, self.field.lines
        for node, tokens in self._request.warm.items():
            place = index.get(node)
            if place is not None:
                spared = min(tokens, self._request.prompt_tokens)
                self.costs[place] -= spared * lines[place][1]

    def _add_foreign(self) -> None:
        index, weight = self.field.index, self._scene.weights.foreign
        for node, seconds in self._scene.foreign.items():
            place = index.get(node)
            if place is not None:
                self.costs[place] += weight * seconds

    def _add_waits(self) -> None:
        """Look at busy nodes; the usual one runs a single request of the same sort."""
        scene = self._scene
        plain, index, rows = self.field.plain, self.field.index, self.field.rows
        costs, waits, timelines = self.costs, self.waits, scene.timelines
        now_s, weight = scene.now_s, scene.weights.wait
        for node, running in scene.load.busy.items():
            if node in timelines:
                continue
            entry = plain.get(node)
            if entry is not None and len(running) == 1:
                place, runner = entry
                (one,) = running.values()
                if one.runner == runner and not one.is_loading:
                    # `remainder`, written out, since it runs once per busy node and decision;
                    # a quarter of the whole is never more than both of these.
                    elapsed = now_s - one.started_s
                    wait = one.expected_s - elapsed
                    wait = max(wait, REMAINDER_OF_ELAPSED * elapsed)
                    waits[place] = wait
                    costs[place] += weight * wait
                    continue
            at = index.get(node)
            if at is None:
                continue
            row = rows[at]
            if len(running) < row.slots and self._is_alike(row, len(running)):
                self._join(at, row, len(running))
            else:
                timelines[node] = Timeline(row.view, running.values(), now_s)

    def _is_alike(self, row: Row, running: int) -> bool:
        """Tell whether all that runs on a node shares the row's own runner, which is loaded."""
        load = self._scene.load
        is_shared = load.count_on_runner(row.node, row.runner) == running
        return is_shared and not load.is_loading(row.node)

    def _join(self, place: int, row: Row, running: int) -> None:
        """Offer a free slot beside requests of the same sort, as the node's `Timeline` would."""
        scene = self._scene
        offer = Offer(0.0, 0.0, 0.0, running + 1, True)
        foreign_s = scene.foreign.get(row.node, 0.0)
        self.offers[place] = offer
        self.costs[place] = price(row, offer, self._request, foreign_s, scene.weights).total_s

    def _ask_timelines(self) -> None:
        index, rows, request = self.field.index, self.field.rows, self._request
        foreign, weights = self._scene.foreign, self._scene.weights
        for node, timeline in self._scene.timelines.items():
            place = index.get(node)
            if place is None:
                continue
            row = rows[place]
            offer = timeline.offer(row)
            cost = price(row, offer, request, foreign.get(node, 0.0), weights)
            waits = not offer.starts_now and not offer.load_s
            if waits and timeline.may_overlap(row, cost.service_s):
                offer = offer._replace(starts_now=True)
            self.offers[place] = offer
            self.costs[place] = cost.total_s

    def _bar(self) -> None:
        request, index = self._request, self.field.index
        if request.pinned is not None:
            own = index.get(request.pinned)
            self.costs = [
                cost if place == own else INFINITE for place, cost in enumerate(self.costs)
            ]
        for node in request.excluded:
            if node in index:
                self.costs[index[node]] = INFINITE
