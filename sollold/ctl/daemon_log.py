"""What `logs --daemon` does: the daemon's own log lines, as far back as it keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.api_types import LogLine, LogsDocument
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.logs import clock_text
from sollold.words import figures as words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sollold.ctl.client import Reply
    from sollold.ctl.screen import Screen
    from sollold.ctl.session import Session

_PATH = "/api/v1/logs"
_STYLES = {"error": "failure", "critical": "failure", "warning": "slow", "debug": "dim"}


def logs(session: Session, query: Mapping[str, str]) -> None:
    """Print the lines that are kept."""
    reply = _get(session, query)
    if session.settings.is_json:
        session.print_document(reply)
        return
    shown = reply.document(LogsDocument).lines
    session.print([log_line(line, session) for line in shown])
    if not shown:
        session.note(f"No line fits. Older ones: {_journal(session)}")
    elif session.err.is_terminal:
        session.note(f"Older lines: {_journal(session)}")


def follow(session: Session, query: Mapping[str, str]) -> None:
    """Print the last lines and then every new one, until interrupted.

    Raises:
        Failure: the daemon ended it.
    """
    try:
        for reply in session.lines(_PATH, {**query, "follow": "1"}):
            line = reply.document(LogLine)
            if session.settings.is_json:
                session.print_document(reply)
            else:
                session.print([log_line(line, session)])
    except Failure as failure:
        raise _with_journal(failure, session) from failure
    hints = (("running?", "sollolctl status"), ("its last words", f"{_journal(session)} -n 20"))
    raise Failure(Exit.UNREACHABLE, "connection_lost", "sollold ended its log", hints)


def log_line(line: LogLine, session: Session) -> str:
    """Return one line: time, level, source, message."""
    screen: Screen = session.out
    if line.dropped is not None:
        text = f"-- {words.plural(line.dropped, 'line')} dropped here (slow reader) --"
        return screen.paint(text, "dim")
    level = screen.paint(line.level, _STYLES.get(line.level)) + " " * max(0, 7 - len(line.level))
    when = clock_text(line.at, session.zone, session.now())
    return f"{when} {level}  {line.source}: {line.message}"


def _get(session: Session, query: Mapping[str, str]) -> Reply:
    try:
        return session.get(_PATH, query)
    except Failure as failure:
        raise _with_journal(failure, session) from failure


def _with_journal(failure: Failure, session: Session) -> Failure:
    """Return the failure with the place where the log outlives the daemon."""
    if failure.exit_code != Exit.UNREACHABLE:
        return failure
    hints = (*failure.hints, ("its last words", f"{_journal(session)} -n 20"))
    return Failure(
        failure.exit_code, failure.code, failure.message, hints, is_state=failure.is_state
    )


def _journal(session: Session) -> str:
    """Return how to read the journal of the unit that answers, or would."""
    return session.unit().journal()
