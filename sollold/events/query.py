"""Which events a reader wants: filters and ranges, parsed alike for CLI, HTTP and WebSocket.

Values in one field are alternatives, separate fields must all match.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from sollold.errors import InvalidRequest
from sollold.events.types import EVENT_KINDS, EVENT_TYPES, event_type

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sollold.events.ring import Record

_ALIASES = {
    "kind": "event_type",
    "type": "event_type",
    "request_id": "request",
    "instance_id": "instance",
}
_FIELDS = ("model", "backend", "node", "event_type", "instance", "request")
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

    @classmethod
    def parse(cls, params: Mapping[str, str], others: Collection[str] = ()) -> Self:
        """Return the filter that `params` describe; keys in `others` are not looked at.

        Raises:
            InvalidRequest: a key or an event type does not exist.
        """
        values: dict[str, list[str]] = {field: [] for field in _FIELDS}
        for key, value in params.items():
            if key in others:
                continue
            field = _ALIASES.get(key.replace("-", "_"), key.replace("-", "_"))
            if field not in values:
                raise InvalidRequest(f"no event filter {key!r}; there are: {', '.join(_FIELDS)}")
            values[field] += [part for part in map(str.strip, value.split(",")) if part]
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
        event = record.event
        return (
            (not self.event_types or event_type(type(event)) in self.event_types)
            and (
                not self.models or (event.model is not None and _model(event.model) in self.models)
            )
            and (not self.backends or (event.backend or "").casefold() in self.backends)
            and (
                not self.nodes
                or any((name or "").casefold() in self.nodes for name in event.nodes())
            )
            and (not self.instances or record.origin.instance_id in self.instances)
            and (
                not self.requests
                or any(_is_request(event.request_id, wanted) for wanted in self.requests)
            )
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
