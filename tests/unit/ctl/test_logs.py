from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sollold.api_types import EventLine
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.logs import event_line, query_time
from sollold.ctl.screen import Screen

NOW = datetime(2026, 11, 21, 9, 14, 3, tzinfo=UTC)
PIPE = Screen()


def event(kind: str, text: str, at: str = "09:10:21.771", name: str = "X") -> EventLine:
    return EventLine(timestamp=f"2026-11-21T{at}Z", event_type=name, kind=kind, text=text)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            event("failover", "r-7f3c mistral:7b pi-5 -> gpu-1: connection reset, try 2"),
            "09:10:21.771 failover  r-7f3c mistral:7b pi-5 -> gpu-1: connection reset, try 2",
        ),
        (
            event("node", "pi-5 up -> down: 3 failed checks in 30 s", "09:10:21.774"),
            "09:10:21.774 node      pi-5 up -> down: 3 failed checks in 30 s",
        ),
        (
            event("route", "r-7f41 phi3:mini -> gpu-1: only node that has it", "09:14:03.120"),
            "09:14:03.120 route     r-7f41 phi3:mini -> gpu-1: only node that has it",
        ),
        (
            event("gap", "412 events dropped here (slow reader)"),
            "-- 412 events dropped here (slow reader) --",
        ),
    ],
)
def test_one_line_an_event(line: EventLine, shown: str) -> None:
    assert event_line(line, PIPE, UTC, NOW) == shown


def test_times_are_the_readers_and_other_days_are_named() -> None:
    east = timezone(timedelta(hours=3))
    assert event_line(event("node", "x"), PIPE, east, NOW).startswith("12:10:21.771 ")
    yesterday = EventLine(
        timestamp="2026-11-20T09:10:21.771Z", event_type="X", kind="node", text="x"
    )
    assert event_line(yesterday, PIPE, UTC, NOW).startswith("2026-11-20 09:10:21.771 node ")
    odd = EventLine(timestamp="?", event_type="X", kind="node", text="x")
    assert event_line(odd, PIPE, UTC, NOW) == "? node      x"


def test_what_went_wrong_stands_out() -> None:
    screen = Screen(has_color=True)
    assert "\x1b[33mfailover\x1b[0m  x" in event_line(event("failover", "x"), screen, UTC, NOW)
    failed = event("request", "x", name="REQUEST_FAILED")
    assert "\x1b[31mrequest\x1b[0m   x" in event_line(failed, screen, UTC, NOW)
    assert "\x1b" not in event_line(event("task", "x"), screen, UTC, NOW)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("10m", "10m"),
        ("1.5h", "1.5h"),
        ("500ms", "500ms"),
        ("09:10", "2026-11-21T09:10:00Z"),
        ("09:10:30", "2026-11-21T09:10:30Z"),
        ("23:00", "2026-11-20T23:00:00Z"),
        ("2026-11-20T09:14", "2026-11-20T09:14:00Z"),
        ("2026-11-20", "2026-11-20T00:00:00Z"),
        ("2026-11-20T09:14:00+02:00", "2026-11-20T07:14:00Z"),
    ],
)
def test_times_are_sent_as_the_daemon_reads_them(text: str, sent: str) -> None:
    assert query_time(text, NOW, UTC) == sent


def test_local_times_go_out_in_utc() -> None:
    local = datetime(2026, 11, 20, 9, 14)
    expected = local.astimezone().astimezone(UTC).isoformat().replace("+00:00", "Z")
    assert query_time("2026-11-20T09:14", NOW, None) == expected


@pytest.mark.parametrize("text", ["", "m", "soon", "25:00", "10 minutes", "9999-99-99"])
def test_a_time_that_cannot_be_read_is_wrong_usage(text: str) -> None:
    with pytest.raises(Failure) as refused:
        query_time(text, NOW, UTC)
    assert refused.value.exit_code == Exit.USAGE
