"""What `check` says: one word and an exit code, for scripts and monitors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from sollold.api_models import ModelDocument
from sollold.api_types import NodesDocument, StatusDocument
from sollold.ctl.actions import node_id
from sollold.ctl.failure import Exit
from sollold.ctl.inventory import known_models, model_name
from sollold.ctl.models import next_text

if TYPE_CHECKING:
    from sollold.api_types import Node
    from sollold.ctl.session import Session


class Verdict(NamedTuple):
    """How things are, and why."""

    word: str
    exit_code: Exit
    why: str = ""


def good() -> Verdict:
    """Return that all is well."""
    return Verdict("ok", Exit.OK)


def degraded(why: str) -> Verdict:
    """Return that requests are answered, though not as they should be."""
    return Verdict("degraded", Exit.DEGRADED, why)


def unable(why: str) -> Verdict:
    """Return that requests are not answered."""
    return Verdict("cannot_serve", Exit.CANNOT_SERVE, why)


def check(session: Session, *, node: str | None, model: str | None) -> Exit:
    """Print the word, and the reason on stderr; return the exit code."""
    session.refuse_watch()
    if node is None and model is None:
        verdict = of_daemon(session.get("/api/v1/status").document(StatusDocument))
    elif model is None:
        verdict = of_node(_node(session, node or ""))
    else:
        name = model_name(model, known_models(session))
        reply = session.get(f"/api/v1/models/{quote(name, safe='')}")
        document = reply.document(ModelDocument)
        found = None if node is None else _node(session, node)
        verdict = of_model(document) if found is None else of_copy(document, found)
    if session.settings.is_json:
        content = {"schema": "sollold.check/1", "result": verdict.word, "reason": verdict.why}
        session.print([json.dumps(content | {"reason": verdict.why or None})])
        return verdict.exit_code
    session.print([verdict.word])
    if verdict.why:
        session.note(verdict.why)
    return verdict.exit_code


def of_daemon(status: StatusDocument) -> Verdict:
    """Judge the daemon as a whole."""
    if status.state == "serving":
        return good()
    if status.state == "degraded":
        return degraded(
            "; ".join(f"{item.subject}: {item.reason.text}" for item in status.problems)
        )
    return unable(status.state if status.reason is None else status.reason.text)


def of_node(node: Node) -> Verdict:
    """Judge one node."""
    why = node.reason.text if node.reason is not None else node.state
    if node.state == "up":
        return good()
    return (
        degraded(f"{node.name}: {why}") if node.state == "slow" else unable(f"{node.name}: {why}")
    )


def of_model(document: ModelDocument) -> Verdict:
    """Judge whether a model is served."""
    model = document.model
    able = [copy for copy in model.copies if copy.left_out is None]
    if any(copy.state == "up" for copy in able):
        return good()
    is_busy = model.next is not None and model.next.reason.code == "busy"
    if able or is_busy:
        return degraded(next_text(model.next))
    return unable(next_text(model.next).removeprefix("nobody: "))


def of_copy(document: ModelDocument, node: Node) -> Verdict:
    """Judge whether a model is served by one node."""
    copy = next((item for item in document.model.copies if item.node == node.id), None)
    if copy is None:
        return unable(f"{node.name} does not hold {document.model.name}")
    if copy.left_out is not None:
        return unable(copy.left_out.text)
    return of_node(node)


def _node(session: Session, wanted: str) -> Node:
    known = session.get("/api/v1/nodes").exact(NodesDocument).nodes
    found = node_id(wanted, known)
    return next(item for item in known if item.id == found)
