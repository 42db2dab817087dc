"""What `status` and `version` do. Loads little, because they are asked for most."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sollold.api_types import StatusDocument
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.showing import show
from sollold.ctl.status import ageless, short_line, status_lines
from sollold.ctl.views import ScreenView

if TYPE_CHECKING:
    from sollold.ctl.client import Reply
    from sollold.ctl.screen import Screen
    from sollold.ctl.session import Session


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


def _status_lines(reply: Reply, session: Session, screen: Screen) -> list[str]:
    document = reply.document(StatusDocument)
    is_wide = session.settings.is_wide
    return status_lines(document, screen, session.zone, is_wide=is_wide)


def _steady_status_lines(reply: Reply, session: Session, screen: Screen) -> list[str]:
    document = ageless(reply.document(StatusDocument))
    return status_lines(document, screen, session.zone, is_wide=session.settings.is_wide)


def _short_lines(reply: Reply, _session: Session, _screen: Screen) -> list[str]:
    return [short_line(reply.document(StatusDocument))]


STATUS = ScreenView(path="/api/v1/status", lines=_status_lines, steady=_steady_status_lines)
SHORT_STATUS = ScreenView(path="/api/v1/status", lines=_short_lines, steady=_short_lines)
