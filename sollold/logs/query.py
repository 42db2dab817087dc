"""Which log lines a reader wants; the same names in URLs and over the WebSocket."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from sollold.errors import InvalidRequest
from sollold.events.query import parse_count, parse_flag, parse_text, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sollold.logs.line import Line

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_OWN = "sollold."
_DEFAULT_COUNT = 100


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on log lines; all must hold."""

    level: int = 0
    sources: tuple[str, ...] = ()
    """Beginnings of logger names, alternatives; `sollold.` in front may be left out."""
    text: str = ""
    """Part of level, source and message, casefolded."""

    def matches(self, line: Line) -> bool:
        """Return whether a line passes."""
        if line.level < self.level or (self.text and self.text not in line.text().casefold()):
            return False
        if not self.sources:
            return True
        return line.source.startswith(self.sources) or (
            line.source.startswith(_OWN) and line.source.startswith(self.sources, len(_OWN))
        )


class LogQuery(NamedTuple):
    """What was asked for. `since_s` is a wall-clock time."""

    filter: LogFilter
    limit: int
    is_follow: bool
    since_s: float | None

    @classmethod
    def parse(
        cls, params: Mapping[str, str], now_s: float, fields: tuple[str, ...] | None = None
    ) -> Self:
        """Return the query that URL parameters describe; `fields` are the names that may appear.

        Raises:
            InvalidRequest: a parameter does not exist or cannot be read.
        """
        known = FIELDS if fields is None else fields
        for key in params:
            if key not in known:
                raise InvalidRequest(f"no log filter {key!r}; there are: {', '.join(known)}")
        since = params.get("since")
        return cls(
            filter=LogFilter(
                level=_level(params.get("level", "")),
                sources=_sources(params.get("source", "")),
                text=parse_text(params.get("grep")),
            ),
            limit=parse_count(params.get("n"), _DEFAULT_COUNT, "log lines"),
            is_follow=parse_flag(params.get("follow")),
            since_s=None if since is None else parse_time(since, now_s),
        )

    def passes(self, line: Line) -> bool:
        """Return whether a line passes the filter and is not too old."""
        return (self.since_s is None or line.at_s >= self.since_s) and self.filter.matches(line)


FIELDS = ("level", "source", "grep", "n", "since", "follow")
STREAM_FIELDS = ("level", "source", "grep", "n", "since")
"""Those of the WebSocket, which always follows."""


def _level(text: str) -> int:
    if not text:
        return 0
    try:
        return _LEVELS[text.lower()]
    except KeyError:
        raise InvalidRequest(f"no log level {text!r}; there are: {', '.join(_LEVELS)}") from None


def _sources(text: str) -> tuple[str, ...]:
    return tuple(part for part in map(str.strip, text.split(",")) if part)
