"""What `logs` does: events that are kept, and those to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sollold.api_types import EventLine, NodesDocument
from sollold.ctl.actions import node_id
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.logs import event_line, query_time
from sollold.ctl.places import DEFAULT_API
from sollold.ctl.table import split_filter
from sollold.words import figures as words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sollold.ctl.session import Session

_FILTER_KEYS = ("model", "backend", "node", "event_type", "instance", "request")
_FILTER_ALIASES = {"kind": "event_type", "type": "event_type"}


class _EventLines(msgspec.Struct, frozen=True):
    events: tuple[EventLine, ...]


def log_query(
    session: Session,
    filters: Mapping[str, Sequence[str]],
    *,
    count: int,
    since: str | None,
    until: str | None,
    grep: str | None,
) -> dict[str, str]:
    """Return the URL parameters for what was asked for.

    Raises:
        Failure: a filter or a time cannot be read, or a node name is ambiguous.
    """
    wanted = {key: list(values) for key, values in filters.items()}
    for text in session.settings.filters:
        key, is_not, values = split_filter(text)
        key = _FILTER_ALIASES.get(key, key)
        if key not in _FILTER_KEYS:
            known = ", ".join(f"{name}=" for name in _FILTER_KEYS)
            raise Failure(Exit.USAGE, "usage", f"no event filter {text!r}; there are: {known}")
        name = f"{key}!" if is_not else key
        wanted[name] = [*wanted.get(name, ()), *sorted(values)]
    for name in ("backend", "backend!"):
        if wanted.get(name):
            wanted[name] = [words.backend(word) for word in wanted[name]]
    for name in ("node", "node!"):
        if wanted.get(name):
            wanted[name] = _full_names(session, wanted[name])
    query = {"n": str(count)} | ({"grep": grep} if grep else {})
    query |= {key: ",".join(values) for key, values in wanted.items() if values}
    for key, moment in (("since", since), ("until", until)):
        if moment is not None:
            query[key] = query_time(moment, session.now(), session.zone)
    return query


def logs(session: Session, query: Mapping[str, str]) -> None:
    """Print the events that are kept."""
    reply = session.get("/api/v1/events", query)
    if session.settings.is_json:
        session.print_document(reply)
        return
    events = reply.document(_EventLines).events
    now = session.now()
    if events:
        session.print([event_line(event, session.out, session.zone, now) for event in events])
    elif query.keys() - {"n"}:
        session.note("No event fits. Look at all of them: sollolctl logs")
    else:
        session.note(f"No events yet. Send a request to {_address(session)}")


def follow(session: Session, query: Mapping[str, str]) -> None:
    """Print the last events and then every new one, until interrupted.

    Raises:
        Failure: the daemon ended it.
    """
    for reply in session.lines("/api/v1/events", {**query, "follow": "1"}):
        event = reply.document(EventLine)
        if session.settings.is_json:
            session.print_document(reply)
        else:
            session.print([event_line(event, session.out, session.zone, session.now())])
    raise Failure(
        Exit.UNREACHABLE,
        "connection_lost",
        "sollold ended the stream of events",
        (("running?", "sollolctl status"),),
    )


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
