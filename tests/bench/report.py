"""The table, the JSON and the Markdown of one run."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import msgspec

from tests.bench.figures import BARE, DIRECT, NGINX, PEERS, SOLLOLD, Figure

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = ("", *PEERS, "/ nginx", "/ bare", "budget", "")


class Run(msgspec.Struct, kw_only=True):
    """One run of the benchmark."""

    machine: str
    when: str
    is_smoke: bool
    seconds: float
    figures: list[Figure]
    missing: list[str]
    """What was not measured, and why."""


def machine() -> str:
    """What the figures were measured on, as far as they depend on it."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as text:
            model = next(line.partition(":")[2].strip() for line in text if "model name" in line)
    except (OSError, StopIteration):
        pass
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} × {model}, {system}"


def as_text(run: Run) -> str:
    """The table for a terminal."""
    rows = [_COLUMNS, *(_row(figure) for figure in run.figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    lines += ["", f"{run.machine}; {run.seconds:.0f} s; median [quartiles] over rounds"]
    lines += [f"{DIRECT}: absolute; latencies and first bytes of the others are what they add"]
    return "\n".join([*lines, *_remarks(run)])


def as_markdown(run: Run) -> str:
    """The table for `docs/benchmarks.md`."""
    head = ["what", *PEERS, "sollold / nginx", "sollold / bare", "budget", ""]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 2) + "---|"]
    lines += ["| " + " | ".join(_row(figure)) + " |" for figure in run.figures]
    lines += ["", f"{run.machine}. {run.when}. Median [quartiles] over rounds."]
    return "\n".join([*lines, *(f"\n{remark}" for remark in _remarks(run))]) + "\n"


def write_json(run: Run, path: Path) -> None:
    """Every round of every figure."""
    document: dict[str, Any] = msgspec.to_builtins(run)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def _row(figure: Figure) -> tuple[str, ...]:
    cells = [f"{figure.what} ({figure.unit})"]
    for peer in PEERS:
        spread = figure.spread(peer)
        if spread is None:
            cells.append("–")
        elif spread.low == spread.high:
            cells.append(_number(spread.median))
        else:
            cells.append(
                f"{_number(spread.median)} [{_number(spread.low)} … {_number(spread.high)}]"
            )
    cells += [_ratio(figure, NGINX), _ratio(figure, BARE), _budget(figure)]
    within = figure.is_within()
    cells.append("" if within is None else "within" if within else "OVER")
    return tuple(cells)


def _ratio(figure: Figure, peer: str) -> str:
    ratio = figure.ratio(peer)
    return "–" if ratio is None else f"{ratio:.2f}"


def _budget(figure: Figure) -> str:
    if figure.budget is None:
        return "–"
    return f"{'≥' if figure.is_more_better else '≤'} {figure.budget:g}"


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    decimals = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{decimals}f}"


def _remarks(run: Run) -> list[str]:
    notes = [f"{figure.what}: {note}" for figure in run.figures for note in figure.notes]
    over = [figure.what for figure in run.figures if figure.is_within() is False]
    verdict = f"{SOLLOLD} is over budget in: {'; '.join(over)}" if over else ""
    return [*run.missing, *notes, *([verdict] if verdict else [])]
