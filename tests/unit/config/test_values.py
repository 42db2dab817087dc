from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.config.values import parse_duration, parse_size, shown, size_text, toml_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("2d", 172800.0),
        ("1 s", 1.0),
        (" 7s ", 7.0),
        ("12", 12.0),
        ("0.5", 0.5),
        ("1m1s1ms", 61.001),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "5 minutes", "-5s", "5s!", "1h30", "1e3s", ".5s", "five", "5S", "\u0665s"]
)
def test_what_is_no_duration_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match='"30s"'):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4 MiB", 4 * 1024**2),
        ("512MB", 512_000_000),
        ("64kib", 65536),
        ("1.5 GiB", 1610612736),
        ("2TB", 2 * 10**12),
        ("17", 17),
        ("17 B", 17),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4M", "4 Mi", "MiB", "-1", "1 PiB", "4 MiB x"])
def test_what_is_no_size_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match='"4 MiB"'):
        parse_size(text)


@pytest.mark.parametrize("text", ["1.5", "0.3 KiB", "9" * 400 + " TB"])
def test_part_of_a_byte_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**50))
def test_a_size_survives_being_written(size: int) -> None:
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3, "3"),
        (3.0, "3"),
        (0.5, "0.5"),
        ('a"b', '"a\\"b"'),
        (("a", "b"), '["a", "b"]'),
        ([], "[]"),
        (float("inf"), "inf"),
    ],
)
def test_a_value_is_written_as_toml(value: object, text: str) -> None:
    assert toml_text(value) == text


def test_a_long_value_is_shown_shortened() -> None:
    assert shown("x" * 100) == '"' + "x" * 56 + "..."
    assert shown({"a": 1}) == "a table"
