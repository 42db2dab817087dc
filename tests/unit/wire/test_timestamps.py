"""Timestamps of all zones are compared to the nanosecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.wire.catalogue import is_later, moment_ns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO_NS = -62_135_596_800 * 10**9


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:00.00001+00:00", 10_000),
        ("1970-01-01T00:00:00.123456789Z", 123_456_789),
        ("1970-01-01T00:00:00.1234567-01:00", 3_600_123_456_700),
        ("1970-01-01T00:00:00.12345-01:00", 3_600_123_450_000),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:00", 0),
        ("0001-01-01T00:00:00Z", _ZERO_NS),
        ("", _ZERO_NS),
        ("soon", _ZERO_NS),
        ("10000-01-01T00:00:00Z", _ZERO_NS),
    ],
)
def test_moments(text: str, nanos: int) -> None:
    assert moment_ns(text) == nanos


def test_equal_timestamps_are_not_later() -> None:
    assert not is_later("2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z")
    assert not is_later("2025-01-01T00:00:00Z", "2025-01-01T02:00:00+02:00")
    assert is_later("2025-01-01T00:00:01Z", "2025-01-01T00:00:00.9Z")


_OFFSETS = st.sampled_from(["Z", "+00:00", "+02:00", "-03:30", "+14:00"])
_TIMES = st.datetimes(datetime(2024, 12, 30), datetime(2025, 1, 2)) | st.datetimes(
    datetime(2, 1, 1), datetime(9998, 1, 1)
)
_STAMPS = st.tuples(_TIMES, st.integers(0, 999), _OFFSETS, st.booleans())


def _print(stamp: tuple[datetime, int, str, bool]) -> tuple[str, int]:
    """Return a timestamp as Go prints it, and its nanoseconds reckoned otherwise."""
    local, nanos, offset, is_trimmed = stamp
    fraction = f"{local.microsecond:06}{nanos:03}"
    shown = fraction.rstrip("0") if is_trimmed else fraction
    text = local.strftime("%Y").zfill(4) + local.strftime("-%m-%dT%H:%M:%S")
    sign = -1 if offset[0] == "-" else 1
    shift = (
        timedelta()
        if offset == "Z"
        else sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[4:]))
    )
    since = local.replace(tzinfo=timezone(shift)) - _EPOCH
    exact = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000 + nanos
    return f"{text}.{shown}{offset}" if shown else f"{text}{offset}", exact


@given(_STAMPS, _STAMPS)
def test_timestamps_are_compared_to_the_nanosecond(
    left: tuple[datetime, int, str, bool], right: tuple[datetime, int, str, bool]
) -> None:
    (left_text, left_ns), (right_text, right_ns) = _print(left), _print(right)
    assert moment_ns(left_text) == left_ns
    assert is_later(left_text, right_text) is (left_ns > right_ns)
    assert is_later(right_text, left_text) is (right_ns > left_ns)
    assert not is_later(left_text, left_text)
