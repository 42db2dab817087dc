"""The words of `sollolctl nodes` and `sollolctl nodes NODE`."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sollold.api_types import NodeCounts
from sollold.ctl.screen import pad, width_of
from sollold.ctl.status import LABEL_WIDTH
from sollold.ctl.table import Column, number_column, text_column
from sollold.words import figures as words
from sollold.words.names import natural
from sollold.words.states import WORST_FIRST, badness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sollold.api_types import LoadedModel, Node, NodeDocument, Request
    from sollold.ctl.screen import Screen


def worst_first(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes in the order people look for them: by state, then by name."""
    return sorted(nodes, key=lambda node: (badness(node.state), natural(node.name)))


def node_columns(screen: Screen) -> list[Column[Node]]:
    """Return the columns of the node list."""
    return [
        Column(
            header="NODE",
            text=lambda node: node.name,
            sort_key=lambda node: natural(node.name),
            is_name=True,
        ),
        Column(
            header="STATE",
            text=lambda node: f"{screen.glyph(node.state)} {node.state}",
            sort_key=lambda node: (badness(node.state),),
            style=lambda node: node.state,
        ),
        Column(
            header="KIND",
            text=lambda node: words.kind(node.kind),
            sort_key=lambda node: (node.kind,),
            drop_rank=2,
        ),
        number_column("RUN", lambda node: node.running, words.count),
        number_column("QUEUE", lambda node: node.queued, words.count, drop_rank=1),
        number_column("1ST TOKEN", lambda node: node.first_token_ms, words.duration),
        number_column("TOK/S", lambda node: node.tokens_per_s, words.rate, drop_rank=4),
        Column(
            header="VRAM",
            text=lambda node: words.memory(node.vram_bytes, node.vram_total_bytes),
            sort_key=lambda node: None if node.vram_bytes is None else (node.vram_bytes,),
            is_right=True,
            drop_rank=3,
        ),
        number_column("SEEN", lambda node: node.seen_ms, words.age, is_clock=True),
        text_column("ADDRESS", lambda node: _address(node.url), is_wide=True),
        text_column("VERSION", lambda node: node.version or words.UNKNOWN, is_wide=True),
        text_column("LOADED", lambda node: _names(node.loaded), is_wide=True),
        number_column("OK%", lambda node: node.ok_rate, words.share, is_wide=True),
        text_column("FOUND BY", lambda n: ", ".join(n.found_by) or words.UNKNOWN, is_wide=True),
        text_column("BREAKER", lambda node: node.breaker or words.UNKNOWN, is_wide=True),
        text_column("WHY", _why, is_wide=True),
    ]


NODE_FILTERS: dict[str, Callable[[Node], Sequence[str]]] = {
    "state": lambda node: (node.state,),
    "node": lambda node: (node.name, node.id),
    "kind": lambda node: (node.kind, words.kind(node.kind)),
    "model": lambda node: [model.name for model in node.loaded or ()],
    "found_by": lambda node: node.found_by,
    "version": lambda node: (node.version or "",),
    "breaker": lambda node: (node.breaker or "",),
}


def summary(nodes: Sequence[Node]) -> str:
    """Return the line under the list: `6 nodes: 3 up, 1 slow`."""
    states = [node.state if node.state in WORST_FIRST else "unknown" for node in nodes]
    counts = NodeCounts(
        total=len(nodes),
        up=states.count("up"),
        slow=states.count("slow"),
        draining=states.count("draining"),
        down=states.count("down"),
        unknown=states.count("unknown"),
    )
    return f"{words.plural(len(nodes), 'node')}: {words.by_state(counts)}"


def node_lines(
    document: NodeDocument, screen: Screen, zone: tzinfo | None, *, is_wide: bool = False
) -> list[str]:
    """Return everything about one node."""
    node = document.node
    mark = screen.paint(f"{screen.glyph(node.state)} {node.state}", node.state)
    since = "" if node.since_ms is None else f" for {words.age(node.since_ms)}"
    why = "" if node.reason is None else f": {node.reason.text}"
    lines = [f"{screen.paint(node.name, 'bold')}  {mark}{since}{why}"]
    now = words.moment(document.at) or datetime.now(UTC)
    for label, text in _facts(document, now, zone, is_wide=is_wide):
        lines.append(f"  {pad(label, LABEL_WIDTH - 2)}{text}")
    return lines


def ageless_node(document: NodeDocument) -> NodeDocument:
    """Return the document with all ages at zero, so that time alone changes nothing."""
    node = document.node
    loaded = node.loaded and tuple(replace(item, expires_at=None) for item in node.loaded)
    return replace(
        document,
        node=replace(node, since_ms=0, seen_ms=None, loaded=loaded),
        running=tuple(replace(item, age_ms=0) for item in document.running or ()),
        waiting=tuple(replace(item, age_ms=0) for item in document.waiting or ()),
    )


def _facts(
    document: NodeDocument, now: datetime, zone: tzinfo | None, *, is_wide: bool
) -> Iterator[tuple[str, str]]:
    node = document.node
    found = f", found by {', '.join(node.found_by)}" if node.found_by else ""
    version = "" if node.version is None else f" {node.version}"
    yield "Address", f"{_address(node.url)}{found}, {words.software(node.kind)}{version}"
    if node.vram_bytes is not None:
        yield "Memory", _memory(node)
    yield from _loaded(node, now)
    speed = _speed(node)
    if speed:
        yield "Speed", speed
    if document.running or document.waiting:
        yield "Running", _requests(document.running or (), document.waiting or ())
    history = _history(node)
    if history is not None:
        yield history
    if document.changes:
        changes = (_change(item.at, item.text, now, zone) for item in document.changes[:3])
        yield "Changes", ";  ".join(changes)
    if is_wide:
        yield from _more_facts(node)
    yield "next", f"sollolctl logs --node {node.name}"


def _more_facts(node: Node) -> Iterator[tuple[str, str]]:
    yield "Id", node.id
    for label, number in (("Models", node.models), ("Slots", node.slots), ("Tier", node.tier)):
        if number is not None:
            yield label, str(number)
    if node.seen_ms is not None:
        yield "Seen", f"{words.age(node.seen_ms)} ago"


def _memory(node: Node) -> str:
    used = (node.vram_bytes or 0) / 1e9
    if node.vram_total_bytes is None:
        return f"{used:.1f} GB VRAM used"
    source = f" (total from {node.vram_total_from})" if node.vram_total_from else ""
    return f"{used:.1f} of {node.vram_total_bytes / 1e9:.1f} GB VRAM used{source}"


def _loaded(node: Node, now: datetime) -> Iterator[tuple[str, str]]:
    if node.loaded is None:
        return
    if not node.loaded:
        yield "Loaded", "nothing"
    rows = [
        (
            model.name,
            words.gigabytes(model.size_bytes),
            pad(words.processor(model), 15),
            f"ctx {words.count(model.context_length)}",
            words.left_until(model.expires_at, now),
        )
        for model in node.loaded
    ]
    widths = [max(width_of(row[index]) for row in rows) for index in range(5)] if rows else []
    for number, row in enumerate(rows):
        cells = (pad(text, widths[i], is_right=i == 1) for i, text in enumerate(row))
        yield "" if number else "Loaded", "  ".join(cells).rstrip()


def _speed(node: Node) -> str:
    parts = []
    if node.first_token_ms is not None:
        parts.append(f"first token p50 {words.duration(node.first_token_ms)}")
    if node.tokens_per_s is not None:
        parts.append(f"{words.rate(node.tokens_per_s)} tokens/s")
    return ";  ".join(parts)


def _requests(running: Sequence[Request], waiting: Sequence[Request]) -> str:
    parts = [
        f"{item.id} {item.model} {item.task or item.phase} {words.waited(item.age_ms)}"
        for item in running
    ]
    text = ", ".join(parts)
    queue = ", ".join(f"{item.id} for {words.waited(item.age_ms)}" for item in waiting)
    return ";  ".join(part for part in (text, f"waiting: {queue}" if queue else "") if part)


def _history(node: Node) -> tuple[str, str] | None:
    hour = node.last_hour
    breaker = "" if node.breaker is None else node.breaker.replace("_", " ")
    if hour is None:
        return ("Breaker", breaker) if breaker else None
    text = f"{hour.ok} ok, {hour.failed} failed, {hour.failed_over} failed over elsewhere"
    return "Last hour", f"{text};  breaker {breaker}" if breaker else text


def _change(at: str, text: str, now: datetime, zone: tzinfo | None) -> str:
    when = words.moment(at)
    if when is None:
        return text
    shown = words.day_or_time(when, now, zone)
    return f"{shown} {text}" if ":" in shown else f"{text} {shown}"


def _names(loaded: tuple[LoadedModel, ...] | None) -> str:
    return ", ".join(model.name for model in loaded or ()) or words.UNKNOWN


def _why(node: Node) -> str:
    return words.UNKNOWN if node.reason is None else node.reason.text


def _address(url: str) -> str:
    return url.partition("://")[2] or url
