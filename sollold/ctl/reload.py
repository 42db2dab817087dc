"""`sollolctl reload`: have the daemon read its configuration anew, and say what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.api_reload import ReloadDocument
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.status import hint_line
from sollold.words.figures import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sollold.ctl.places import Endpoint
    from sollold.ctl.session import Session
    from sollold.system.unit import Unit


def reload(session: Session) -> None:
    """Reload and print what changed.

    Raises:
        Failure: the configuration cannot be used; every problem is printed.
    """
    session.refuse_beside_json()
    reply = session.post("/api/v1/reload", also=frozenset({422}))
    document = reply.document(ReloadDocument)
    is_refused = document.result == "refused"
    if session.settings.is_json:
        if is_refused:
            session.note(reply.body.decode().rstrip("\n"))
        else:
            session.print_document(reply)
    elif not is_refused:
        session.print(list(_lines(document, restart_hint(session.client.endpoint, session.unit()))))
    if is_refused:
        raise _refusal(document, is_told=session.settings.is_json)


def _lines(document: ReloadDocument, restart: str) -> Iterator[str]:
    if document.live:
        yield f"reloaded: {plural(len(document.live), 'change')}"
        yield from (f"  {change.text}" for change in document.live)
    else:
        files = ", ".join(document.files) or "defaults"
        yield f"reloaded, nothing {'else ' if document.restart else ''}changed: {files}"
    if document.restart:
        yield f"needs a restart: {plural(len(document.restart), 'change')}"
        yield from (f"  {change.text}" for change in document.restart)
        yield hint_line("restart it", restart)
    for note in document.notes:
        yield f"note: {note}"


def _refusal(document: ReloadDocument, *, is_told: bool) -> Failure:
    error = document.error
    message = "the configuration cannot be used" if error is None else error.message
    hints = tuple(("", problem.shown) for problem in document.problems)
    if error is not None and error.hint and not hints:
        hints = (("", error.hint),)
    failure = Failure(Exit.FAILED, "config", message, hints)
    failure.is_told = is_told
    return failure


def restart_hint(endpoint: Endpoint | None, unit: Unit) -> str:
    """Return how to restart the daemon that answered; from afar nobody knows its unit."""
    if endpoint is None or endpoint.scheme != "unix":
        return "where it runs, with: systemctl --user restart sollold, or without --user"
    return unit.systemctl("restart")
