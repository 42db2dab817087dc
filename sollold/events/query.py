"""Which events a reader wants: filters and ranges, parsed alike for CLI, HTTP and WebSocket.

Values in one field are alternatives, separate fields must all match. A field whose name ends in `!`
leaves out what it matches; `grep` finds a text in the event's line.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

import msgspec

from sollold.errors import InvalidRequest
from sollold.events.types import EVENT_KINDS, EVENT_TYPES, event_type

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from sollold.events.ring import Record

T = TypeVar("T")

_ALIASES = {
    "kind": "event_type",
    "type": "event_type",
    "request_id": "request",
    "instance_id": "instance",
}
_FIELDS = ("model", "backend", "node", "event_type", "instance", "request")
_TEXT = "grep"
_MAX_TEXT = 1000
_RANGE_KEYS = frozenset({"n", "follow", "since", "until"})
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DEFAULT_COUNT = 50
_OWN_ID = "r-"
_MAX_COUNT = 10_000


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on events; an empty field asks nothing."""

    models: frozenset[str] = frozenset()
    backends: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()
    event_types: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()
    requests: tuple[str, ...] = ()
    text: str = ""
    """Part of the line people read, casefolded."""
    unwanted: Filter | None = None
    """What meets any one of these conditions does not pass."""

    @classmethod
    def parse(cls, params: Mapping[str, str], others: Collection[str] = ()) -> Self:
        """Return the filter that `params` describe; keys in `others` are not looked at.

        Raises:
            InvalidRequest: a key or an event type does not exist, or the text is too long.
        """
        wanted: dict[str, list[str]] = {field: [] for field in _FIELDS}
        unwanted: dict[str, list[str]] = {field: [] for field in _FIELDS}
        for key, value in params.items():
            if key in others or key == _TEXT:
                continue
            name = key.removesuffix("!").replace("-", "_")
            field = _ALIASES.get(name, name)
            if field not in wanted:
                known = ", ".join([*_FIELDS, _TEXT])
                raise InvalidRequest(f"no event filter {key!r}; there are: {known}")
            values = unwanted if key.endswith("!") else wanted
            values[field] += [part for part in map(str.strip, value.split(",")) if part]
        found = cls._of(wanted)
        return msgspec.structs.replace(
            found,
            text=parse_text(params.get(_TEXT)),
            unwanted=cls._of(unwanted) if any(unwanted.values()) else None,
        )

    @classmethod
    def _of(cls, values: Mapping[str, list[str]]) -> Self:
        return cls(
            models=frozenset(_model(value) for value in values["model"]),
            backends=frozenset(value.casefold() for value in values["backend"]),
            nodes=frozenset(value.casefold() for value in values["node"]),
            event_types=_event_types(values["event_type"]),
            instances=frozenset(values["instance"]),
            requests=tuple(values["request"]),
        )

    def matches(self, record: Record) -> bool:
        """Return whether the record passes every condition."""
        return all(_conditions(self, record)) and (
            self.unwanted is None or not any(_conditions(self.unwanted, record))
        )

    def requests_among(self, ids: Mapping[str, object]) -> set[str]:
        """Return which of the ids are among the requests asked for."""
        found = {wanted for wanted in self.requests if wanted in ids}
        for wanted in self.requests:
            if wanted.startswith(_OWN_ID):
                found.update(name for name in ids if name.startswith(wanted))
        return found


EVERYTHING = Filter()


class EventQuery(NamedTuple):
    """What `GET /api/v1/events` was asked for. Times are wall-clock seconds."""

    filter: Filter
    limit: int
    is_follow: bool
    since_s: float | None
    until_s: float | None

    @classmethod
    def parse(cls, params: Mapping[str, str], now_s: float) -> EventQuery:
        """Return the query that URL parameters describe.

        Raises:
            InvalidRequest: a parameter does not exist or cannot be read.
        """
        since, until = params.get("since"), params.get("until")
        return cls(
            filter=Filter.parse(params, _RANGE_KEYS),
            limit=parse_count(params.get("n"), _DEFAULT_COUNT, "events"),
            is_follow=parse_flag(params.get("follow")),
            since_s=None if since is None else parse_time(since, now_s),
            until_s=None if until is None else parse_time(until, now_s),
        )

    def passes(self, record: Record) -> bool:
        """Return whether the record passes the filter and the range, whose end is left out."""
        return (
            (self.since_s is None or record.at_s >= self.since_s)
            and (self.until_s is None or record.at_s < self.until_s)
            and self.filter.matches(record)
        )


def newest(items: Sequence[T], passes: Callable[[T], bool], limit: int) -> Iterator[T | None]:
    """Yield the last items that pass, oldest first; None for a step without one.

    All are looked at until there are enough, because a wall clock may step back.
    """
    found: list[T] = []
    for item in reversed(items):
        if len(found) >= limit:
            break
        if passes(item):
            found.append(item)
        yield None
    while found:
        yield found.pop()


def parse_time(text: str, now_s: float) -> float:
    """Return the wall-clock time that `text` names: `10m` ago, or RFC 3339 with a zone.

    Raises:
        InvalidRequest: it is neither.
    """
    duration = _DURATION.fullmatch(text)
    if duration is not None:
        return now_s - float(duration[1]) * _UNIT_S[duration[2]]
    try:
        # In a URL a "+" that was not percent-encoded arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        if moment.tzinfo is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"no time {text!r}; write 10m, 2h, 3d or 2026-11-21T09:14:03Z")


def parse_text(text: str | None) -> str:
    """Return the text to look for, casefolded; empty: none.

    Raises:
        InvalidRequest: it is too long.
    """
    if text is not None and len(text) > _MAX_TEXT:
        raise InvalidRequest(f"grep takes at most {_MAX_TEXT} characters")
    return "" if text is None else text.casefold()


def parse_count(text: str | None, default: int, what: str) -> int:
    """Return how many of something are wanted, at most 10,000.

    Raises:
        InvalidRequest: it is no count.
    """
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise InvalidRequest(f"n is a count of {what}, not {text!r}")
    return min(int(text), _MAX_COUNT)


def parse_flag(text: str | None) -> bool:
    """Return whether to follow.

    Raises:
        InvalidRequest: it is neither yes nor no.
    """
    if text in {"1", "true"}:
        return True
    if text in {None, "0", "false"}:
        return False
    raise InvalidRequest(f"follow is 0 or 1, not {text!r}")


def _conditions(wanted: Filter, record: Record) -> Iterator[bool]:
    """Yield whether each thing that is asked for is met."""
    event = record.event
    if wanted.event_types:
        yield event_type(type(event)) in wanted.event_types
    if wanted.models:
        yield event.model is not None and _model(event.model) in wanted.models
    if wanted.backends:
        yield (event.backend or "").casefold() in wanted.backends
    if wanted.nodes:
        yield any((name or "").casefold() in wanted.nodes for name in event.nodes())
    if wanted.instances:
        yield record.origin.instance_id in wanted.instances
    if wanted.requests:
        yield any(_is_request(event.request_id, name) for name in wanted.requests)
    if wanted.text:
        yield wanted.text in f"{event.kind} {event.sentence()}".casefold()


def _event_types(values: list[str]) -> frozenset[str]:
    found: set[str] = set()
    for value in values:
        name = value.upper().replace("-", "_")
        if name in EVENT_TYPES:
            found.add(name)
        elif value.lower() in EVENT_KINDS:
            found |= EVENT_KINDS[value.lower()]
        else:
            known = ", ".join([*EVENT_KINDS, *EVENT_TYPES])
            raise InvalidRequest(f"no event type {value!r}; there are: {known}")
    return frozenset(found)


def _model(name: str) -> str:
    folded = name.casefold()
    return folded if ":" in folded.rpartition("/")[2] else folded + ":latest"


def _is_request(request_id: str | None, wanted: str) -> bool:
    if request_id is None:
        return False
    # Only ids of our own making may be shortened; a client's "job-1" must not find "job-12".
    return request_id == wanted or (wanted.startswith(_OWN_ID) and request_id.startswith(wanted))
