"""The words of `sollolctl logs`: one line an event."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

from sollold.ctl.failure import Exit, Failure
from sollold.words import figures as words

if TYPE_CHECKING:
    from sollold.api_types import EventLine
    from sollold.ctl.screen import Screen

_KIND_WIDTH = 8
_STYLES = {"route": "route", "failover": "slow", "node": "bold", "gap": "dim"}
_FAILURES = frozenset({"REQUEST_FAILED"})
_UNITS = ("ms", "s", "m", "h", "d")


def event_line(event: EventLine, screen: Screen, zone: tzinfo | None, now: datetime) -> str:
    """Return the line of an event; other days than today carry their date."""
    if event.kind == "gap":
        return screen.paint(f"-- {event.text} --", "dim")
    style = "failure" if event.event_type in _FAILURES else _STYLES.get(event.kind)
    kind = screen.paint(event.kind, style) + " " * max(0, _KIND_WIDTH - len(event.kind))
    return f"{clock_text(event.timestamp, zone, now)} {kind}  {event.text}"


def query_time(text: str, now: datetime, zone: tzinfo | None) -> str:
    """Return a time as the daemon reads it: durations as they are, clock times in UTC.

    A time of day that has not come yet today means yesterday's.

    Raises:
        Failure: it is no time.
    """
    if _is_duration(text):
        return text
    try:
        return _clock_time(text, now, zone).astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError) as error:
        message = f"no time {text!r}; write 10m, 2h, 3d, 09:14 or 2026-11-21T09:14"
        raise Failure(Exit.USAGE, "usage", message) from error


def _clock_time(text: str, now: datetime, zone: tzinfo | None) -> datetime:
    if len(text) <= 8 and ":" in text:
        local = now.astimezone(zone)
        moment = datetime.combine(local.date(), time.fromisoformat(text), local.tzinfo)
        return moment if moment <= local else moment - timedelta(days=1)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        return moment
    return moment.astimezone() if zone is None else moment.replace(tzinfo=zone)


def _is_duration(text: str) -> bool:
    for unit in _UNITS:
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdecimal():
            return True
    return False


def clock_text(timestamp: str, zone: tzinfo | None, now: datetime) -> str:
    """Return the time of day to the millisecond, after the date unless that is today."""
    at = words.moment(timestamp)
    if at is None:
        return timestamp
    at = at.astimezone(zone)
    clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
    is_today = at.date() == now.astimezone(zone).date()
    return clock if is_today else f"{at:%Y-%m-%d} {clock}"
