"""The fleet as one sort of request sees it.

Owns which nodes may serve it, why the others may not, and the rows of the estimate, kept until a
view, a rate or a slot count changes. Must not choose.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from sollold.core.estimate import Row, Tuning, Weights, facts, linear, make_row, runner_of
from sollold.core.model import (
    Candidate,
    Fleet,
    NodeId,
    NodeKind,
    NodeState,
    NodeView,
    Reason,
    TaskKind,
)
from sollold.core.series import trim

if TYPE_CHECKING:
    from sollold.core.model import (
        Digest,
        LoadOptions,
        ModelKey,
        ModelView,
        WaitingRequest,
    )
    from sollold.core.rates import RateTable
    from sollold.core.slots import SlotTable

MAX_FIELDS = 64
"""Sorts of request whose rows are kept."""
REFRESH_S = 60.0
"""Rows are made anew so often, for what fades with time alone."""
SHOWN_EXCLUDED = 32
"""Excluded nodes that a decision lists."""

REASONS = {
    "no_model": "does not hold the model",
    "other_digest": "holds another version of the model",
    "remote_stub": "would send the request elsewhere, and another node holds the model",
    "draining": "is draining",
    "down": "is not available",
    "ejected": "is left out after failed requests",
    "pinned_elsewhere": "is not the node that was asked for",
    "excluded": "has been tried already",
    "busy": "has no free slot, or another node will be sooner",
}
"""Sentence of each code, to be read after the node's name."""


class Sort(NamedTuple):
    """What requests have in common that are served alike apart from their size."""

    model: ModelKey
    digest: Digest | None
    options: LoadOptions
    is_embed: bool
    is_stream: bool


class Field:
    """Eligible rows for one sort of request, in order of the fleet."""

    __slots__ = ("_is_stream", "_weights", "ejected", "excluded", "facts", "index", "lines",
                 "plain", "rows")  # fmt: skip

    def __init__(
        self,
        rows: list[Row],
        weights: Weights,
        *,
        is_stream: bool,
        ejected: tuple[Row, ...] = (),
        excluded: tuple[Candidate, ...] = (),
    ) -> None:
        self._weights = weights
        self._is_stream = is_stream
        self.rows = rows
        self.lines = [linear(row, weights, is_stream=is_stream) for row in rows]
        """Per row: cost of the idle node as constant, per prompt and per output token."""
        self.facts = [facts(row) for row in rows]
        """Per row: what the candidate of an idle, or plainly busy, node is made of."""
        self.index = {row.node: place for place, row in enumerate(rows)}
        self.plain = {
            row.node: (place, row.runner) for place, row in enumerate(rows) if row.is_plain
        }
        """Nodes on which a single running request means waiting for it, no more."""
        self.ejected = ejected
        self.excluded = excluded

    def replace(self, place: int, row: Row) -> None:
        """Put a newer row of the same node in place."""
        self.rows[place] = row
        self.lines[place] = linear(row, self._weights, is_stream=self._is_stream)
        self.facts[place] = facts(row)
        self.plain.pop(row.node, None)
        if row.is_plain:
            self.plain[row.node] = (place, row.runner)


class _Entry(NamedTuple):
    """One node's part: no code means eligible."""

    code: str
    model: ModelView | None
    row: Row | None


class NodeTable:
    """Fleet, rates and slots, with rows kept per sort of request."""

    def __init__(self, rates: RateTable, slots: SlotTable, fleet: Fleet | None = None) -> None:
        self.rates = rates
        self.slots = slots
        self.fleet = Fleet(0, ()) if fleet is None else fleet
        self._sheets: OrderedDict[tuple[object, ...], _Sheet] = OrderedDict()

    def update(self, fleet: Fleet) -> None:
        """Take a newer picture of the nodes."""
        self.fleet = fleet

    def field(
        self, request: WaitingRequest, now_s: float, weights: Weights, tuning: Tuning
    ) -> Field:
        """Return the nodes that may serve requests like this one."""
        # A plain tuple equals the named one and is made in a third of the time.
        sort = (
            request.model,
            request.digest,
            request.options,
            request.kind is TaskKind.EMBED,
            request.is_stream,
        )
        sheet = self._sheets.get(sort)
        if sheet is None:
            sheet = self._sheets[sort] = _Sheet(self, Sort(*sort))
            trim(self._sheets, MAX_FIELDS)
        sheet.refresh(now_s, weights, tuning)
        return sheet.field


class _Sheet:
    """Entries of all nodes for one sort, and the field made of them."""

    def __init__(self, table: NodeTable, sort: Sort) -> None:
        self.entries: list[_Entry] = []
        self.field = Field([], Weights(), is_stream=sort.is_stream)
        self._table = table
        self._sort = sort
        self._weights = Weights()
        self._tuning = Tuning()
        self._nodes: tuple[NodeView, ...] = ()
        self._places: dict[NodeId, int] = {}
        self._rates_epoch = self._slots_epoch = -1
        self._made_s = float("-inf")

    def refresh(self, now_s: float, weights: Weights, tuning: Tuning) -> None:
        """Bring every row up to date."""
        table = self._table
        if weights is not self._weights or tuning is not self._tuning:
            self._weights, self._tuning, self._made_s = weights, tuning, float("-inf")
        elif (
            table.fleet.nodes is self._nodes
            and table.rates.epoch == self._rates_epoch
            and table.slots.changes.epoch == self._slots_epoch
            and now_s < self._made_s + REFRESH_S
        ):
            return
        stale = self._stale(now_s)
        self._nodes = table.fleet.nodes
        self._rates_epoch = table.rates.epoch
        self._slots_epoch = table.slots.changes.epoch
        if stale is None:
            self._made_s = now_s
            self._places = {view.id: place for place, view in enumerate(self._nodes)}
            self.entries = [self._enter(view, now_s) for view in self._nodes]
            self._compile()
        else:
            self._renew(stale, now_s)

    def _stale(self, now_s: float) -> set[int] | None:
        """Return the places to renew; None for all."""
        old, new = self._nodes, self._table.fleet.nodes
        if now_s >= self._made_s + REFRESH_S or len(old) != len(new):
            return None
        stale: set[int] = set()
        if new is not old:
            stale = {place for place, view in enumerate(new) if view is not old[place]}
            if any(old[place].id != new[place].id for place in stale):
                return None
        for log, epoch in (
            (self._table.rates.changes, self._rates_epoch),
            (self._table.slots.changes, self._slots_epoch),
        ):
            if log.epoch == epoch:
                continue
            changes = log.since(epoch)
            if changes is None:
                return None
            for node, digest in changes:
                if node is None and (digest is None or self._borrows(digest)):
                    return None
                if node in self._places:
                    stale.add(self._places[node])
        return stale

    def _borrows(self, digest: Digest) -> bool:
        return any(
            entry.row is not None and entry.row.runner.digest == digest for entry in self.entries
        )

    def _renew(self, stale: set[int], now_s: float) -> None:
        is_patched = True
        for place in stale:
            old = self.entries[place]
            new = self.entries[place] = self._enter(self._nodes[place], now_s)
            at = self.field.index.get(self._nodes[place].id)
            if at is None or new.row is None or new.code or _is_stub(new) != _is_stub(old):
                is_patched = is_patched and old.row is None and new.row is None
                continue
            self.field.replace(at, new.row)
        if not is_patched:
            self._compile()

    def _compile(self) -> None:
        has_weights = any(_holds_weights(entry.code, entry.model) for entry in self.entries)
        rows, ejected = [], []
        excluded: list[Candidate] = []
        for view, entry in zip(self._nodes, self.entries, strict=True):
            code = entry.code or ("remote_stub" if has_weights and _is_stub(entry) else "")
            if entry.row is not None and not code:
                rows.append(entry.row)
                continue
            if entry.row is not None and code == "ejected":
                ejected.append(entry.row)
            if len(excluded) < SHOWN_EXCLUDED:
                excluded.append(Candidate(view.id, float("inf"), excluded=code))
        self.field = Field(
            rows,
            self._weights,
            is_stream=self._sort.is_stream,
            ejected=tuple(sorted(ejected, key=lambda row: row.view.penalty_rank)),
            excluded=tuple(excluded),
        )

    def _enter(self, view: NodeView, now_s: float) -> _Entry:
        code, model = screen(view, self._sort.model, self._sort.digest)
        if model is None or code not in {"", "ejected"}:
            return _Entry(code, model, None)
        return _Entry(code, model, self._row(view, model, now_s))

    def _row(self, view: NodeView, model: ModelView, now_s: float) -> Row:
        table, sort = self._table, self._sort
        runner = runner_of(view, model, sort.options)
        kind, told = (NodeKind.OPENAI, None) if model.is_remote else (view.kind, view.slots)
        return make_row(
            view,
            model,
            table.rates.lookup(view.id, model.digest, now_s),
            options=sort.options,
            is_embed=sort.is_embed,
            slots=table.slots.slots(view.id, runner, kind, told),
            failure_share=table.rates.failure_share(view.id, now_s),
            tuning=self._tuning,
        )


def explain_rejection(request: WaitingRequest, nodes: NodeTable) -> dict[NodeId, Reason]:
    """Return for every node why it does not serve the request now."""
    screened = [(view, *screen(view, request.model, request.digest)) for view in nodes.fleet.nodes]
    has_weights = any(_holds_weights(code, model) for _, code, model in screened)
    reasons = {}
    for view, code, model in screened:
        if not code and model is not None and model.is_remote and has_weights:
            code = "remote_stub"  # noqa: PLW2901
        if not code and request.pinned not in {None, view.id}:
            code = "pinned_elsewhere"  # noqa: PLW2901
        if not code and view.id in request.excluded:
            code = "excluded"  # noqa: PLW2901
        code = code or "busy"  # noqa: PLW2901
        reasons[view.id] = Reason(code, f"{view.id} {_cause(view, code)}")
    return reasons


def _cause(view: NodeView, code: str) -> str:
    """Return what keeps a node from serving, with what is known of why it is not there."""
    if code == "down" and view.reason is not None:
        return f"is {view.state.value}: {view.reason.text}"
    return REASONS[code]


def screen(view: NodeView, key: ModelKey, digest: Digest | None) -> tuple[str, ModelView | None]:
    """Return why a node cannot serve a model (empty: it can), and its copy of the model."""
    model = view.models.get(key)
    if model is None:
        return "no_model", None
    if digest is not None and digest != model.digest:
        return "other_digest", model
    return _health_code(view), model


def _holds_weights(code: str, model: ModelView | None) -> bool:
    return model is not None and not model.is_remote and code != "other_digest"


def _is_stub(entry: _Entry) -> bool:
    return entry.model is not None and entry.model.is_remote


def _health_code(view: NodeView) -> str:
    if view.state is NodeState.DRAINING:
        return "draining"
    if view.is_ejected and (view.is_routable or view.state in _ALIVE):
        return "ejected"
    return "" if view.is_routable and not view.is_ejected else "down"


_ALIVE = frozenset({NodeState.UP, NodeState.SLOW})
