"""Histograms and windows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.core.stats import Histogram, Window, merged_quantile


@given(st.lists(st.floats(0.001, 1000.0), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_quantile_is_within_a_bucket(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    ordered = sorted(values)
    rank = max(1, -(-int(share * len(values) * 1e9) // 10**9))
    true = ordered[min(len(ordered), rank) - 1]
    near = {ordered[max(0, min(len(ordered) - 1, rank - 1 + d))] for d in (-1, 0, 1)} | {true}
    seen = histogram.quantile(share)
    assert seen is not None
    assert any(seen == pytest.approx(value, rel=0.06) for value in near)


def test_empty_and_tiny() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.5) is None
    histogram.record(-1.0)
    assert histogram.quantile(0.5) == 1e-4
    assert merged_quantile((), 0.5) is None


def test_window_forgets() -> None:
    window = Window(10.0, slices=5)
    window.record(1.0, 0.0)
    window.count("ok", 0.0)
    window.count("ok", 1.0)
    assert window.total("ok", 1.0) == 2
    assert window.total("other", 1.0) == 0
    assert window.quantile(0.5, 1.0) == pytest.approx(1.0, rel=0.05)
    assert window.quantile(0.5, 30.0) is None
    window.record(2.0, 31.0)
    assert window.quantile(0.5, 31.0) == pytest.approx(2.0, rel=0.05)
