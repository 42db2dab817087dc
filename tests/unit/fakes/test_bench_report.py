"""The benchmark's arithmetic and its table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.bench.figures import BARE, DIRECT, NGINX, SOLLOLD, Figure, percentile, spread_of
from tests.bench.report import Run, as_markdown, as_text, write_json

if TYPE_CHECKING:
    from pathlib import Path


def _figure(**more: object) -> Figure:
    figure = Figure(key="k", what="a thing", unit="ms", budget=2.0, **more)  # type: ignore[arg-type]
    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        figure.add(SOLLOLD, value)
        figure.add(BARE, value * 2)
    figure.add(DIRECT, 0.5)
    return figure


def _run(*figures: Figure) -> Run:
    return Run(
        machine="a machine",
        when="2026-01-02",
        is_smoke=False,
        seconds=9.0,
        figures=list(figures),
        missing=["nginx is not installed"],
    )


def test_spread_is_median_and_quartiles() -> None:
    assert spread_of([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0, 4.0)
    assert spread_of([7.0]) == (7.0, 7.0, 7.0)


def test_percentile_counts_from_below() -> None:
    values = [float(number) for number in range(100)]

    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([3.0], 0.99) == 3.0


def test_ratios_and_budget() -> None:
    figure = _figure()

    assert figure.ratio(BARE) == pytest.approx(0.5)
    assert figure.ratio(NGINX) is None
    assert figure.is_within() is False
    assert _figure(is_more_better=True).is_within() is True
    assert Figure(key="k", what="w", unit="ms", budget=1.0).is_within() is None


def test_the_tables_show_every_column_and_what_is_missing() -> None:
    run = _run(_figure())

    text, markdown = as_text(run), as_markdown(run)

    for shown in (text, markdown):
        assert "a thing (ms)" in shown
        assert "3.00 [2.00 … 4.00]" in shown
        assert "OVER" in shown
        assert "nginx is not installed" in shown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


def test_json_holds_every_round(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(_run(_figure()), path)

    document = json.loads(path.read_bytes())

    assert document["figures"][0]["rounds"][SOLLOLD] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert document["machine"] == "a machine"
