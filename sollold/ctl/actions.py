"""What `nodes` and `requests` do: ask for a document, print it as words or as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from sollold.api_types import (
    NodeDocument,
    NodesDocument,
    RequestsDocument,
)
from sollold.ctl.failure import Failure
from sollold.ctl.lists import ListView
from sollold.ctl.names import resolve
from sollold.ctl.nodes import NODE_FILTERS, ageless_node, node_columns, node_lines, worst_first
from sollold.ctl.nodes import summary as nodes_summary
from sollold.ctl.requests import REQUEST_FILTERS, request_columns
from sollold.ctl.requests import summary as requests_summary
from sollold.ctl.showing import show
from sollold.ctl.views import ScreenView

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sollold.api_types import Node, Request
    from sollold.ctl.client import Reply
    from sollold.ctl.screen import Screen
    from sollold.ctl.session import Session

_NO_NODES = (
    "No nodes yet. What was looked at: sollolctl status. "
    "Add [[nodes]] to sollold.toml, then: sollolctl reload"
)
_NO_REQUESTS = "No requests running or waiting. Finished ones: sollolctl logs --kind request"


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


def _node_lines(reply: Reply, session: Session, screen: Screen) -> list[str]:
    document = reply.document(NodeDocument)
    return node_lines(document, screen, session.zone, is_wide=session.settings.is_wide)


def _steady_node_lines(reply: Reply, session: Session, screen: Screen) -> list[str]:
    document = ageless_node(reply.document(NodeDocument))
    return node_lines(document, screen, session.zone, is_wide=session.settings.is_wide)


def _request_rows(reply: Reply) -> list[Request]:
    document = reply.document(RequestsDocument)
    return [*document.running, *document.waiting]


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
