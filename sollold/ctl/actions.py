"""What each command does: ask for a document, print it as words or as it came."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from sollold.api_types import (
    NodeDocument,
    NodesDocument,
    RequestsDocument,
    StatusDocument,
)
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.names import resolve
from sollold.ctl.nodes import NODE_FILTERS, ageless_node, node_columns, node_lines, worst_first
from sollold.ctl.nodes import summary as nodes_summary
from sollold.ctl.requests import REQUEST_FILTERS, request_columns
from sollold.ctl.requests import summary as requests_summary
from sollold.ctl.status import ageless, short_line, status_lines
from sollold.ctl.views import ListView, ScreenView

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sollold.api_types import Node, Request
    from sollold.ctl.client import Reply
    from sollold.ctl.screen import Screen
    from sollold.ctl.session import Session
    from sollold.ctl.views import View

_NO_NODES = (
    "No nodes yet. What was looked at: sollolctl status. Add one: sollold --node http://HOST:PORT"
)
_NO_REQUESTS = "No requests running or waiting. Finished ones: sollolctl logs --kind request"


def show(session: Session, view: View) -> None:
    """Print what a view shows, once or again and again."""
    session.refuse_beside_json()
    settings = session.settings
    if settings.watch_s is not None:
        from sollold.ctl.watch import watch

        watch(session, view, settings.watch_s)
        return
    reply = session.get(view.path)
    if settings.is_json:
        session.print_document(reply)
        return
    frame = view.frame(reply, session, session.out, None)
    session.print(frame.lines)
    if frame.note:
        session.note(frame.note)


def status(session: Session, *, is_short: bool) -> None:
    """Print how the daemon is."""
    try:
        show(session, SHORT_STATUS if is_short else STATUS)
    except Failure as failure:
        is_told = is_short and not session.settings.is_json
        if is_told and failure.exit_code == Exit.UNREACHABLE:
            session.print(["sollold not running"])
            failure.is_told = True
        raise


def nodes(session: Session) -> None:
    """Print the list of nodes."""
    show(session, NODES)


def node(session: Session, wanted: str) -> None:
    """Print everything about one node."""
    session.refuse_beside_json()
    known = session.get("/api/v1/nodes").exact(NodesDocument).nodes
    path = f"/api/v1/nodes/{quote(node_id(wanted, known), safe='')}"
    show(session, ScreenView(path=path, lines=_node_lines, steady=_steady_node_lines))


def requests(session: Session) -> None:
    """Print the requests that are running or waiting."""
    show(session, REQUESTS)


def _status_lines(reply: Reply, session: Session, screen: Screen) -> list[str]:
    document = reply.document(StatusDocument)
    is_wide = session.settings.is_wide
    return status_lines(document, screen, session.zone, is_wide=is_wide)


def _steady_status_lines(reply: Reply, session: Session, screen: Screen) -> list[str]:
    document = ageless(reply.document(StatusDocument))
    return status_lines(document, screen, session.zone, is_wide=session.settings.is_wide)


def _short_lines(reply: Reply, _session: Session, _screen: Screen) -> list[str]:
    return [short_line(reply.document(StatusDocument))]


def _node_lines(reply: Reply, session: Session, screen: Screen) -> list[str]:
    document = reply.document(NodeDocument)
    return node_lines(document, screen, session.zone, is_wide=session.settings.is_wide)


def _steady_node_lines(reply: Reply, session: Session, screen: Screen) -> list[str]:
    document = ageless_node(reply.document(NodeDocument))
    return node_lines(document, screen, session.zone, is_wide=session.settings.is_wide)


def _request_rows(reply: Reply) -> list[Request]:
    document = reply.document(RequestsDocument)
    return [*document.running, *document.waiting]


STATUS = ScreenView(path="/api/v1/status", lines=_status_lines, steady=_steady_status_lines)
SHORT_STATUS = ScreenView(path="/api/v1/status", lines=_short_lines, steady=_short_lines)
NODES = ListView(
    path="/api/v1/nodes",
    noun="node",
    rows=lambda reply: worst_first(reply.document(NodesDocument).nodes),
    columns=node_columns,
    filters=NODE_FILTERS,
    name=lambda row: row.name,
    key=lambda row: row.name,
    summary=nodes_summary,
    empty=_NO_NODES,
)
REQUESTS = ListView(
    path="/api/v1/requests",
    noun="request",
    rows=_request_rows,
    columns=lambda _screen: request_columns(),
    filters=REQUEST_FILTERS,
    name=lambda row: row.id,
    key=lambda row: row.id,
    summary=requests_summary,
    empty=_NO_REQUESTS,
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


def node_id(wanted: str, known: Sequence[Node]) -> str:
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
