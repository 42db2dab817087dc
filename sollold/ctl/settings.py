"""What `config show` and `config check` do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec import json as msgjson
from msgspec import to_builtins

from sollold.api_config import ConfigDocument
from sollold.ctl.client import Reply
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.lists import ListView
from sollold.ctl.showing import show as show_view
from sollold.ctl.table import Column, split_filter, text_column
from sollold.words import figures as words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sollold.api_config import ConfigValue
    from sollold.ctl.session import Session

_MAX_SHOWN = 500


def show(session: Session, *, has_origin: bool) -> None:
    """Print the daemon's configuration; without one what it would start with."""
    session.refuse_watch()
    view = _view(session, has_origin=has_origin)
    try:
        show_view(session, view)
        return
    except Failure as failure:
        if failure.exit_code != Exit.UNREACHABLE or session.is_pointed:
            raise
        lost = failure
    document = _local(session.environ)
    session.note(f"{lost.message}; this is what it would start with")
    reply = Reply(msgjson.encode(document), is_unicode=session.out.is_unicode)
    if session.settings.is_json:
        session.print_document(reply)
        return
    frame = view.frame(reply, session, session.out, None)
    session.print(frame.lines)
    if frame.note:
        session.note(frame.note)


def check(session: Session, file: str | None) -> Exit:
    """Say every problem of the files, the environment and nothing of a running daemon."""
    from sollold.ctl.local_config import check_files

    session.refuse_watch()
    files, problems, notes = check_files(session.environ, file)
    if session.settings.is_json:
        content = {
            "schema": "sollold.config_check/1",
            "files": files,
            "problems": [to_builtins(problem) for problem in problems],
            "notes": notes,
        }
        session.print([json.dumps(content)])
        return Exit.BAD_CONFIG if problems else Exit.OK
    shown = [problem.shown for problem in problems]
    session.print(shown or [f"configuration is good: {', '.join(files) or 'defaults'}"])
    for note in notes:
        session.note(note)
    if problems:
        session.note(f"{words.plural(len(problems), 'problem')}; sollold would not start with this")
    return Exit.BAD_CONFIG if problems else Exit.OK


def _local(environ: Mapping[str, str]) -> ConfigDocument:
    from sollold.ctl.local_config import read

    found, problems = read(environ)
    if found is None:
        hints = tuple(("", problem.shown) for problem in problems)
        message = "sollold does not run, and its configuration is not good"
        raise Failure(Exit.BAD_CONFIG, "bad_config", message, hints)
    return found


def _view(session: Session, *, has_origin: bool) -> ListView[ConfigValue]:
    is_wide = session.settings.is_wide
    is_asked = any(split_filter(text)[0] in {"key", "origin"} for text in session.settings.filters)

    def rows(reply: Reply) -> Sequence[ConfigValue]:
        values = reply.document(ConfigDocument).values
        return [item for item in values if is_wide or is_asked or not _is_idle(item)]

    return ListView(
        path="/api/v1/config",
        noun="key",
        rows=rows,
        columns=lambda _screen: _columns(has_origin=has_origin),
        filters=_FILTERS,
        name=lambda row: row.key,
        key=lambda row: row.key,
        summary=_summary,
        empty="No keys.",
    )


def _columns(*, has_origin: bool) -> list[Column[ConfigValue]]:
    return [
        text_column("KEY", lambda item: item.key, is_name=True),
        text_column("VALUE", _value, is_name=True),
        text_column("ORIGIN", lambda item: item.origin, is_name=True, is_wide=not has_origin),
        text_column("LIVE", lambda item: "yes" if item.is_live else "no", is_wide=True),
    ]


_FILTERS: dict[str, Callable[[ConfigValue], Sequence[str]]] = {
    "key": lambda item: (item.key,),
    "section": lambda item: (item.key.partition(".")[0].partition("[")[0],),
    "origin": lambda item: (item.source, item.origin),
    "live": lambda item: ("yes" if item.is_live else "no",),
}


def _value(item: ConfigValue) -> str:
    if item.value is None:
        return words.UNKNOWN
    text = json.dumps(item.value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _is_idle(item: ConfigValue) -> bool:
    """Return whether it is a key of a node that says nothing."""
    return item.key.startswith("nodes[") and item.source == "default"


def _summary(found: Sequence[ConfigValue]) -> str:
    changed = sum(item.source != "default" for item in found)
    return f"{words.plural(len(found), 'key')}, {changed} not at the default"
