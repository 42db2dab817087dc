"""What each panel shows, taken from the documents that the HTTP API has. Changes nothing."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from sollold.api_types import Node, Problem, Request
from sollold.core.model import Reason
from sollold.web.console import events, words
from sollold.words import figures
from sollold.words.states import DAEMON_WORDS, glyph_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.api_types import NodesDocument, RequestsDocument, StatusDocument
    from sollold.core.model import Fleet, ResidentView
    from sollold.events.bus import EventBus
    from sollold.web.console.anchors import Anchors
    from sollold.web.console.view import View
    from sollold.web.documents import Documents, Waits

MAX_PROBLEMS = 5
MAX_REQUESTS = 60
MAX_MODELS = 20
MAX_MATRIX = 8
"""Nodes up to which the loaded models are a matrix."""

_ANSWERING = ("up", "slow", "draining")


class Snapshot:
    """Everything the panels of one moment are made of; each document is built once at most."""

    def __init__(
        self,
        documents: Documents,
        fleet: Callable[[], Fleet],
        bus: EventBus,
        recent: events.Recent,
        now_s: float,
        anchors: Anchors,
    ) -> None:
        """`now_s` is wall-clock time."""
        self._documents = documents
        self.fleet = fleet
        self.bus = bus
        self.recent = recent
        self.now_s = now_s
        self._anchors = anchors

    @cached_property
    def status(self) -> StatusDocument:
        """`/api/v1/status`."""
        return self._documents.status()

    @cached_property
    def nodes(self) -> NodesDocument:
        """`/api/v1/nodes`."""
        return self._documents.nodes(self._waits)

    @cached_property
    def requests(self) -> RequestsDocument:
        """`/api/v1/requests`."""
        return self._documents.requests(self._waits)

    @cached_property
    def _waits(self) -> Waits:
        return self._documents.waits()

    def since(self, key: str, age_ms: float | None) -> int | None:
        """Return when something of that age began."""
        return self._anchors.of(key, age_ms, self.now_s * 1000)


class NodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the list."""

    id: str
    node: Node
    since: int | None
    seen: int | None
    """When it last answered, of nodes that do not answer."""
    is_answering: bool


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the list."""

    id: str
    request: Request
    since: int | None
    place: str
    """Node, or place in the queue."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one node."""

    text: str
    """Its size in memory, or `disk`."""
    is_loaded: bool = True
    until: int | None = None
    """When it leaves the memory unless it is used; None: not known, or never."""


_ON_DISK = Cell(text="disk", is_loaded=False)


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model that is in memory somewhere."""

    id: str
    name: str
    cells: tuple[Cell | None, ...]
    """One a node, in the order of the columns; None: the node does not have it."""
    places: tuple[tuple[str, Cell], ...]
    """The nodes that have it in memory."""


def head(now: Snapshot, view: View) -> dict[str, Any]:
    """Return what the header strip shows."""
    status = now.status
    return {
        "status": status,
        "word": _word(status).capitalize(),
        "mark": glyph_state(status),
        "usable": status.nodes.up + status.nodes.slow,
        "oldest": now.since("oldest", status.requests.oldest_ms),
    }


def _word(status: StatusDocument) -> str:
    return DAEMON_WORDS.get(status.state, status.state)


def title(now: Snapshot) -> tuple[str, str]:
    """Return the page's title and the state whose shape its icon has."""
    status = now.status
    problems = len(status.problems)
    prefix = figures.plural(problems, "problem") if problems else _word(status)
    is_well = status.state == "serving"
    return ("sollold" if is_well else f"{prefix} · sollold"), glyph_state(status)


def attention(now: Snapshot, view: View) -> dict[str, Any]:
    """Return what needs attention, worst first."""
    problems = (*now.status.problems, *_refusals(now.status))
    items = [
        {
            "id": words.element_id("problem", item.subject),
            "problem": item,
            "since": now.since(f"problem {item.subject} {item.state}", item.since_ms),
        }
        for item in problems[:MAX_PROBLEMS]
    ]
    return {"items": items, "count": len(problems), "more": len(problems) - len(items)}


def _refusals(status: StatusDocument) -> tuple[Problem, ...]:
    """Return what was wrong with the last reload; requests go on as before it."""
    refused = status.config.refused if status.config is not None else None
    if not refused:
        return ()
    reason = Reason("reload_refused", f"not reloaded: {refused}")
    return (Problem(subject="configuration", state="slow", reason=reason, kind="config"),)


def nodes(now: Snapshot, view: View) -> dict[str, Any]:
    """Return the list of nodes in the order asked for."""
    everything = now.nodes.nodes
    rows = [
        NodeRow(
            id=words.element_id("node", node.id),
            node=node,
            since=now.since(f"node {node.id} {node.state}", node.since_ms),
            is_answering=node.state in _ANSWERING,
            seen=None if node.state in _ANSWERING else now.since(f"seen {node.id}", node.seen_ms),
        )
        for node in view.arrange(everything)
    ]
    return {
        "rows": rows,
        "total": len(everything),
        "lost": _last_lost(everything, now),
        "status": now.status,
    }


def _last_lost(everything: tuple[Node, ...], now: Snapshot) -> dict[str, Any] | None:
    """Return the node lost last, when none answers."""
    lost = [node for node in everything if node.state == "down"]
    if not lost or any(node.state in _ANSWERING for node in everything):
        return None
    node = min(lost, key=lambda item: item.since_ms or 0.0)
    return {"node": node, "since": now.since(f"node {node.id} {node.state}", node.since_ms)}


def loaded(now: Snapshot, view: View) -> dict[str, Any]:
    """Return which model is in which node's memory."""
    tellers = sorted(
        (item for item in now.fleet().nodes if item.tells_memory and item.state in _ANSWERING),
        key=lambda item: item.id,
    )
    cells: dict[str, dict[str, Cell]] = {}
    for node in tellers:
        for item in node.residents:
            name = str(item.entry.get("name", item.key))
            cells.setdefault(name, {})[node.id] = _cell(item, now.now_s)
            for other in tellers:
                if item.key in other.models:
                    cells[name].setdefault(other.id, _ON_DISK)
    rows = [
        ModelRow(
            id=words.element_id("model", name),
            name=name,
            cells=tuple(places.get(node.id) for node in tellers),
            places=tuple((n, places[n]) for n in sorted(places) if places[n].is_loaded),
        )
        for name, places in sorted(cells.items())
    ]
    return {
        "rows": rows[:MAX_MODELS],
        "more": max(0, len(rows) - MAX_MODELS),
        "count": len(rows),
        "nodes": [node.id for node in tellers],
        "is_matrix": 0 < len(tellers) <= MAX_MATRIX,
    }


def _cell(item: ResidentView, now_s: float) -> Cell:
    end = figures.moment(item.expires_at)
    is_known = end is not None and end.timestamp() - now_s < figures.FOREVER_S
    return Cell(
        text=figures.gigabytes(item.size_bytes) if item.size_bytes else "loaded",
        until=round(end.timestamp() * 1000) if end is not None and is_known else None,
    )


def requests(now: Snapshot, view: View) -> dict[str, Any]:
    """Return what runs and what waits."""
    document = now.requests
    everything = (*document.running, *document.waiting)
    rows = [
        RequestRow(
            id=words.element_id("request", item.id),
            request=item,
            since=now.since(f"request {item.id}", item.age_ms),
            place=item.node or _place(item),
        )
        for item in everything[:MAX_REQUESTS]
    ]
    return {
        "rows": rows,
        "running": len(document.running),
        "waiting": len(document.waiting),
        "more": len(everything) - len(rows),
        "last_s": None if everything else now.recent.last_ending(),
    }


def _place(item: Request) -> str:
    if item.ahead is None:
        return "in line"
    return "first in line" if item.ahead == 0 else f"{item.ahead} ahead"


def decisions(now: Snapshot, view: View) -> dict[str, Any]:
    """Return the last decisions."""
    started_ms = now.since("daemon", now.status.uptime_ms) or 0
    return {"rows": events.decisions(now.bus, view.request), "started_s": started_ms / 1000}


def changes(now: Snapshot, view: View) -> dict[str, Any]:
    """Return what changed in the fleet."""
    return {"rows": now.recent.changes()}


def foot(now: Snapshot, view: View) -> dict[str, Any]:
    """Return what the daemon is."""
    status = now.status
    return {"status": status, "since_ms": now.since("daemon", status.uptime_ms)}


CONTENTS: dict[str, Callable[[Snapshot, View], dict[str, Any]]] = {
    "head": head,
    "attention": attention,
    "nodes": nodes,
    "loaded": loaded,
    "requests": requests,
    "decisions": decisions,
    "changes": changes,
    "foot": foot,
}
"""Panels by name, in the order of the page; the name is that of the template too."""
