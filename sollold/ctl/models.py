"""The words of `sollolctl models`, `models MODEL` and `ps`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sollold.ctl.screen import pad, width_of
from sollold.ctl.status import LABEL_WIDTH
from sollold.ctl.table import Column, Layout, number_column, render, text_column
from sollold.words import figures as words
from sollold.words.names import natural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import tzinfo

    from sollold.api_models import LoadedCopy, Model, ModelCopy, ModelDocument, NextNode, NodeCost
    from sollold.ctl.screen import Screen

_ID_LENGTH = 12
"""Characters of a digest that Ollama shows."""


def model_columns(zone: tzinfo | None) -> list[Column[Model]]:
    """Return the columns of the list of models."""
    return [
        Column(
            header="NAME",
            text=lambda model: model.name,
            sort_key=lambda model: natural(model.name),
            is_name=True,
        ),
        number_column("SIZE", lambda model: model.size_bytes, words.gigabytes, drop_rank=2),
        text_column("LOADED", lambda model: _where(model, is_loaded=True), is_name=True),
        text_column(
            "ON DISK", lambda model: _where(model, is_loaded=False), is_name=True, drop_rank=3
        ),
        text_column("NEXT", lambda model: _next_node(model.next), is_name=True),
        text_column("WHY", lambda model: _why(model.next), is_name=True, drop_rank=1),
        text_column("ID", lambda model: model.digest[:_ID_LENGTH] or words.UNKNOWN, is_wide=True),
        text_column("MODIFIED", lambda model: _moment(model.modified_at, zone), is_wide=True),
        text_column("CAN", lambda model: _can(model) or words.UNKNOWN, is_wide=True),
    ]


MODEL_FILTERS: dict[str, Callable[[Model], Sequence[str]]] = {
    "name": lambda model: (model.name,),
    "model": lambda model: (model.name,),
    "node": lambda model: [copy.node for copy in model.copies],
    "loaded": lambda model: [copy.node for copy in model.copies if copy.is_loaded],
    "next": lambda model: ("" if model.next is None else model.next.node or "",),
    "can": lambda model: model.capabilities or (),
}


def models_summary(models: Sequence[Model]) -> str:
    """Return the line under the list of models."""
    loaded = sum(any(copy.is_loaded for copy in model.copies) for model in models)
    lost = sum(model.next is not None and model.next.node is None for model in models)
    text = f"{words.plural(len(models), 'model')}, {loaded} loaded"
    return f"{text}, {lost} without a usable node" if lost else text


def model_lines(document: ModelDocument, screen: Screen, zone: tzinfo | None) -> list[str]:
    """Return everything about one model."""
    model = document.model
    now = words.moment(document.at) or datetime.now(UTC)
    lines = [screen.paint(model.name, "bold")]
    lines += [
        f"  {pad(label, LABEL_WIDTH - 2)}{text}"
        for label, text in _facts(document, screen, now, zone)
    ]
    if document.costs:
        lines += ["", *_cost_lines(document, screen)]
    return lines


def loaded_columns(now: datetime) -> list[Column[LoadedCopy]]:
    """Return the columns of `ps`: Ollama's, and the node."""
    return [
        Column(
            header="NAME",
            text=lambda item: item.name,
            sort_key=lambda item: natural(item.name),
            is_name=True,
        ),
        text_column("ID", lambda item: item.digest[:_ID_LENGTH] or words.UNKNOWN, is_wide=True),
        number_column("SIZE", lambda item: item.size_bytes, words.gigabytes, drop_rank=3),
        text_column("PROCESSOR", words.processor, drop_rank=2),
        number_column("CONTEXT", lambda item: item.context_length, words.count, drop_rank=1),
        Column(
            header="UNTIL",
            text=lambda item: words.left_until(item.expires_at, now),
            sort_key=lambda item: _instant(item.expires_at),
            drop_rank=4,
            is_clock=True,
        ),
        text_column("NODE", lambda item: item.node, is_name=True),
    ]


LOADED_FILTERS: dict[str, Callable[[LoadedCopy], Sequence[str]]] = {
    "name": lambda item: (item.name,),
    "model": lambda item: (item.name,),
    "node": lambda item: (item.node,),
}


def loaded_summary(loaded: Sequence[LoadedCopy]) -> str:
    """Return the line under `ps`."""
    nodes = len({item.node for item in loaded})
    return f"{len({item.name for item in loaded})} loaded on {words.plural(nodes, 'node')}"


def next_text(following: NextNode | None) -> str:
    """Return in a sentence which node would get one more request, and why."""
    if following is None:
        return words.UNKNOWN
    if following.node is None:
        return f"nobody: {following.reason.text}"
    text = f"{following.node}: {following.reason.text}"
    if following.wait_ms:
        text += f", free in about {words.duration(following.wait_ms)}"
    if following.equals:
        text += f" (as good: {', '.join(following.equals)})"
    return text


def _moment(text: str | None, zone: tzinfo | None) -> str:
    at = words.moment(text)
    return words.UNKNOWN if at is None else f"{at.astimezone(zone):%Y-%m-%d %H:%M}"


def _facts(
    document: ModelDocument, screen: Screen, now: datetime, zone: tzinfo | None
) -> Iterator[tuple[str, str]]:
    model = document.model
    modified = words.moment(model.modified_at)
    when = f", modified {words.day_or_time(modified, now, zone)}" if modified is not None else ""
    yield "Size", words.gigabytes(model.size_bytes) + when
    if model.digest:
        yield "Id", model.digest[:_ID_LENGTH]
    if model.capabilities is not None:
        yield "Can", _can(model) or "nothing it says"
    yield "Next", next_text(model.next)
    width = max((width_of(copy.node) for copy in model.copies), default=0)
    for number, copy in enumerate(model.copies):
        yield "" if number else "On", _copy(copy, width, screen, model.digest)


def _copy(copy: ModelCopy, width: int, screen: Screen, digest: str) -> str:
    state = f"{screen.glyph(copy.state)} {copy.state}"
    painted = screen.paint(state, copy.state) + " " * (10 - width_of(state))
    where = {True: "loaded", False: "on disk", None: "there"}[copy.is_loaded]
    text = f"{pad(copy.node, width)}  {painted}  {where}"
    if copy.digest != digest:
        text += f", another version ({copy.digest[:_ID_LENGTH]})"
    if copy.left_out is not None:
        text += f"; {copy.left_out.text.removeprefix(f'{copy.node} ')}"
    return text


def _cost_lines(document: ModelDocument, screen: Screen) -> Iterator[str]:
    asked = document.asked
    size = f"{asked.prompt_tokens:.0f} tokens"
    answer = f" with an answer of {asked.output_tokens:.0f}" if asked.output_tokens else ""
    yield f"Expected cost in seconds of a request of {size}{answer} ({asked.task}):"
    costs = document.costs
    for line in render(costs, _cost_columns(), Layout(), screen):
        yield f"  {line}"
    if not all(cost.is_measured for cost in costs):
        yield "  ~ not measured on that node yet: taken from other nodes, or assumed"


def _cost_columns() -> list[Column[NodeCost]]:
    terms: list[tuple[str, Callable[[NodeCost], float | None]]] = [
        ("WAIT", lambda cost: cost.wait_ms),
        ("LOAD", lambda cost: cost.load_ms),
        ("SWAP", lambda cost: cost.swap_ms),
        ("OTHERS", lambda cost: cost.foreign_ms),
        ("PROMPT", lambda cost: cost.prefill_ms),
        ("ANSWER", lambda cost: cost.decode_ms),
        ("RISK", lambda cost: cost.risk_ms),
        ("TIER", lambda cost: cost.tier_ms),
    ]
    return [
        text_column("NODE", lambda cost: cost.node, is_name=True),
        *(number_column(header, value, _seconds) for header, value in terms),
        number_column("TOTAL", lambda cost: cost.total_ms, _seconds),
        text_column("", lambda cost: "" if cost.is_measured else "~"),
    ]


def _seconds(ms: float | None) -> str:
    return words.UNKNOWN if ms is None else f"{ms / 1000:.2f}"


def _where(model: Model, *, is_loaded: bool) -> str:
    names = [
        copy.node
        for copy in model.copies
        if bool(copy.is_loaded) is is_loaded and copy.digest == model.digest
    ]
    return ", ".join(sorted(names, key=natural)) or words.UNKNOWN


def _next_node(following: NextNode | None) -> str:
    if following is None or following.node is None:
        return words.UNKNOWN
    return following.node


def _why(following: NextNode | None) -> str:
    if following is None:
        return words.UNKNOWN
    if following.equals:
        return f"{following.reason.text}; {len(following.equals)} as good"
    return following.reason.text


def _can(model: Model) -> str:
    return ", ".join(model.capabilities or ())


def _instant(expires_at: str | None) -> tuple[float] | None:
    at = words.moment(expires_at)
    return None if at is None else (at.timestamp(),)
