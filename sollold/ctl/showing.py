"""Shows a view as it was asked for: once or again and again, as words or as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sollold.ctl.session import Session
    from sollold.ctl.views import View


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
