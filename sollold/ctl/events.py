"""What `logs` does: events that are kept, and those to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sollold.api_types import EventLine, NodesDocument
from sollold.ctl.actions import node_id
from sollold.ctl.client import DEFAULT_API
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.logs import event_line, query_time
from sollold.ctl.table import split_filter
from sollold.words import figures as words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sollold.ctl.session import Session

_FILTER_KEYS = ("model", "backend", "node", "event_type", "instance", "request")
_FILTER_ALIASES = {"kind": "event_type", "type": "event_type"}
_ALL = "10000"
"""As many as the daemon keeps."""


class _EventLines(msgspec.Struct, frozen=True):
    events: tuple[EventLine, ...]


def log_query(
    session: Session,
    filters: Mapping[str, Sequence[str]],
    *,
    count: int,
    since: str | None,
    until: str | None,
) -> dict[str, str]:
    """Return the URL parameters for what was asked for.

    Raises:
        Failure: a filter or a time cannot be read, or a node name is ambiguous.
    """
    wanted = {key: list(values) for key, values in filters.items()}
    for text in session.settings.filters:
        key, is_not, values = split_filter(text)
        key = _FILTER_ALIASES.get(key, key)
        if key not in _FILTER_KEYS or is_not:
            known = ", ".join(f"{name}=" for name in _FILTER_KEYS)
            raise Failure(Exit.USAGE, "usage", f"no event filter {text!r}; there are: {known}")
        wanted[key] = [*wanted.get(key, ()), *sorted(values)]
    if wanted.get("backend"):
        wanted["backend"] = [words.backend(word) for word in wanted["backend"]]
    if wanted.get("node"):
        wanted["node"] = _full_names(session, wanted["node"])
    query = {"n": str(count)}
    query |= {key: ",".join(values) for key, values in wanted.items() if values}
    for key, moment in (("since", since), ("until", until)):
        if moment is not None:
            query[key] = query_time(moment, session.now(), session.zone)
    return query


def logs(session: Session, query: Mapping[str, str], *, grep: str | None) -> None:
    """Print the events that are kept; with `grep` the last ones whose line has that text."""
    if session.settings.is_json:
        _refuse_grep(grep)
        session.print_document(session.get("/api/v1/events", query))
        return
    lines = [line for _, line in _kept(session, query, grep)]
    if lines:
        session.print(lines)
    elif query.keys() - {"n"} or grep:
        session.note("No event fits. Look at all of them: sollolctl logs")
    else:
        session.note(f"No events yet. Send a request to {_address(session)}")


def follow(session: Session, query: Mapping[str, str], *, grep: str | None) -> None:
    """Print the last events and then every new one, until interrupted.

    Raises:
        Failure: the daemon ended it.
    """
    wanted = {**query, "follow": "1"}
    told = 0
    if grep and not session.settings.is_json:
        # The last lines that fit may be far back, and a stream begins with its last few only.
        kept = _kept(session, query, grep)
        told = max((event.seq or 0 for event, _ in kept), default=0)
        session.print([line for _, line in kept])
        wanted["n"] = _ALL
    for reply in session.lines("/api/v1/events", wanted):
        event = reply.document(EventLine)
        line = event_line(event, session.out, session.zone, session.now())
        if event.kind != "gap" and not _fits(event, grep):
            continue
        if session.settings.is_json:
            session.print_document(reply)
        elif event.seq is None or event.seq > told:
            session.print([line])
    raise Failure(
        Exit.UNREACHABLE,
        "connection_lost",
        "sollold ended the stream of events",
        (("running?", "sollolctl status"),),
    )


def _kept(
    session: Session, query: Mapping[str, str], grep: str | None
) -> list[tuple[EventLine, str]]:
    wanted = {**query, "n": _ALL} if grep else query
    events = session.get("/api/v1/events", wanted).document(_EventLines).events
    now = session.now()
    found = [
        (event, event_line(event, session.out, session.zone, now))
        for event in events
        if _fits(event, grep)
    ]
    count = int(query["n"])
    return found[-count:] if count else []


def _fits(event: EventLine, grep: str | None) -> bool:
    return not grep or grep.casefold() in f"{event.kind} {event.text}".casefold()


def _refuse_grep(grep: str | None) -> None:
    if grep:
        message = "--grep does not go with --json without -f, which prints the document unchanged"
        raise Failure(Exit.USAGE, "usage", message)


def _address(session: Session) -> str:
    endpoint = session.client.endpoint
    is_http = endpoint is not None and endpoint.scheme != "unix"
    return endpoint.label if endpoint is not None and is_http else DEFAULT_API


def _full_names(session: Session, wanted: Sequence[str]) -> list[str]:
    """Return ids for names and their unique starts; nodes that have left keep what was typed."""
    known = session.get("/api/v1/nodes").exact(NodesDocument).nodes
    found = []
    for name in (part for text in wanted for part in text.split(",") if part):
        try:
            found.append(node_id(name, known))
        except Failure as failure:
            if failure.code == "node_ambiguous":
                raise
            found.append(name)
    return found
