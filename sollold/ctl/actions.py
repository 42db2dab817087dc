"""What each command does: ask for a document, print it as words or as it came."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from sollold.api_types import (
    EventLine,
    NodeDocument,
    NodesDocument,
    RequestsDocument,
    StatusDocument,
)
from sollold.ctl import words
from sollold.ctl.client import DEFAULT_API
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.logs import event_line, query_time
from sollold.ctl.names import resolve
from sollold.ctl.nodes import NODE_FILTERS, node_columns, node_lines, worst_first
from sollold.ctl.nodes import summary as nodes_summary
from sollold.ctl.requests import REQUEST_FILTERS, request_columns
from sollold.ctl.requests import summary as requests_summary
from sollold.ctl.status import short_line, status_lines
from sollold.ctl.table import split_filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sollold.api_types import Node
    from sollold.ctl.session import Session

_NO_NODES = (
    "No nodes yet. What was looked at: sollolctl status. Add one: sollold --node http://HOST:PORT"
)
_NO_REQUESTS = "No requests running or waiting. Finished ones: sollolctl logs --kind request"
_FILTER_KEYS = ("model", "backend", "node", "event_type", "instance", "request")
_FILTER_ALIASES = {"kind": "event_type", "type": "event_type"}


class _EventLines(msgspec.Struct, frozen=True):
    events: tuple[EventLine, ...]


def status(session: Session, *, is_short: bool) -> None:
    """Print how the daemon is."""
    session.refuse_beside_json()
    is_json = session.settings.is_json
    try:
        reply = session.get("/api/v1/status")
    except Failure as failure:
        if is_short and not is_json and failure.exit_code == Exit.UNREACHABLE:
            session.print(["sollold not running"])
            failure.is_told = True
        raise
    if is_json:
        session.print_document(reply)
        return
    document = reply.document(StatusDocument)
    if is_short:
        session.print([short_line(document)])
        return
    is_wide = session.settings.is_wide
    session.print(status_lines(document, session.out, session.zone, is_wide=is_wide))


def nodes(session: Session) -> None:
    """Print the list of nodes."""
    session.refuse_beside_json()
    reply = session.get("/api/v1/nodes")
    if session.settings.is_json:
        session.print_document(reply)
        return
    rows = worst_first(reply.document(NodesDocument).nodes)
    columns = node_columns(session.out)
    if not session.print_table(rows, columns, NODE_FILTERS, lambda row: row.name, nodes_summary):
        session.note(_no_match("node", session.settings.filters) if rows else _NO_NODES)


def node(session: Session, wanted: str) -> None:
    """Print everything about one node."""
    session.refuse_beside_json()
    known = session.get("/api/v1/nodes").exact(NodesDocument).nodes
    node_id = _node_id(wanted, known)
    reply = session.get(f"/api/v1/nodes/{quote(node_id, safe='')}")
    if session.settings.is_json:
        session.print_document(reply)
        return
    document = reply.document(NodeDocument)
    is_wide = session.settings.is_wide
    session.print(node_lines(document, session.out, session.zone, is_wide=is_wide))


def requests(session: Session) -> None:
    """Print the requests that are running or waiting."""
    session.refuse_beside_json()
    reply = session.get("/api/v1/requests")
    if session.settings.is_json:
        session.print_document(reply)
        return
    document = reply.document(RequestsDocument)
    rows = [*document.running, *document.waiting]
    columns = request_columns()
    if not session.print_table(
        rows, columns, REQUEST_FILTERS, lambda row: row.id, requests_summary
    ):
        session.note(_no_match("request", session.settings.filters) if rows else _NO_REQUESTS)


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
        return
    if query.keys() - {"n"}:
        session.note("No event fits. Look at all of them: sollolctl logs")
        return
    endpoint = session.client.endpoint
    is_http = endpoint is not None and endpoint.scheme != "unix"
    address = endpoint.label if endpoint is not None and is_http else DEFAULT_API
    session.note(f"No events yet. Send a request to {address}")


def follow(session: Session, query: Mapping[str, str]) -> None:
    """Print the last events and then every new one, until interrupted.

    Raises:
        Failure: the daemon ended it.
    """
    for reply in session.lines("/api/v1/events", {**query, "follow": "1"}):
        if session.settings.is_json:
            session.print_document(reply)
            continue
        event = reply.document(EventLine)
        session.print([event_line(event, session.out, session.zone, session.now())])
    raise Failure(
        Exit.UNREACHABLE,
        "connection_lost",
        "sollold ended the stream of events",
        (("running?", "sollolctl status"),),
    )


def version(session: Session, own: str) -> None:
    """Print the versions of both programs."""
    is_json = session.settings.is_json
    if not is_json:
        session.print([f"sollolctl  {own}"])
    daemon = session.get("/api/v1/status").document(StatusDocument).version
    if is_json:
        versions = {"schema": "sollold.version/1", "sollolctl": own, "sollold": daemon}
        session.print([json.dumps(versions)])
        return
    session.print([f"sollold    {daemon}"])
    if daemon != own:
        session.note("The versions differ; restart sollold after an update.")


def _node_id(wanted: str, known: Sequence[Node]) -> str:
    """Return the id of the node with this id, name, address, or a unique start of one."""
    if any(row.id == wanted for row in known):
        return wanted
    names = {row.name: row.id for row in known}
    addresses = {row.url.partition("://")[2]: row.id for row in known}
    try:
        return names[resolve(wanted, list(names), "node")]
    except Failure as failure:
        if failure.code == "node_ambiguous" or not _starts(wanted, addresses):
            raise
    return addresses[resolve(wanted, list(addresses), "node")]


def _starts(wanted: str, names: Iterable[str]) -> bool:
    return bool(wanted) and any(name.startswith(wanted) for name in names)


def _full_names(session: Session, wanted: Sequence[str]) -> list[str]:
    """Return ids for names and their unique starts; nodes that have left keep what was typed."""
    known = session.get("/api/v1/nodes").exact(NodesDocument).nodes
    found = []
    for name in (part for text in wanted for part in text.split(",") if part):
        try:
            found.append(_node_id(name, known))
        except Failure as failure:
            if failure.code == "node_ambiguous":
                raise
            found.append(name)
    return found


def _no_match(noun: str, filters: Sequence[str]) -> str:
    return f"No {noun} fits {' '.join(filters)}."
