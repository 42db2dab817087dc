"""Renders panels: one template each, the same for the first page and for every later frame."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from sollold import __version__
from sollold.web.console import words
from sollold.web.console.anchors import Anchors
from sollold.web.console.contents import CONTENTS, Snapshot, title
from sollold.web.console.events import Recent, Row, decision_row
from sollold.web.console.view import COLUMNS, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sollold.core.model import Fleet
    from sollold.events.bus import EventBus
    from sollold.events.ring import Record
    from sollold.web.documents import Documents

_log = logging.getLogger(__name__)

_VIEWED = {"nodes": ("sort", "filter"), "decisions": ("request",)}
"""What panels show of the view; the others are the same for everybody."""

_MAX_GOOD = 64


def environment_settings() -> dict[str, Any]:
    """Return what the templates' environment is made of; `compile_all` brings the templates."""
    return {
        "loader": jinja2.DictLoader({}),
        "autoescape": True,
        "finalize": words.shown,
        "undefined": jinja2.StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "auto_reload": False,
        "filters": words.FILTERS,
    }


def compile_all(templates: jinja2.Environment) -> None:
    """Read and compile every template; for a thread."""
    loader = templates.loader
    assert isinstance(loader, jinja2.DictLoader)  # noqa: S101 - as `environment_settings` made it
    folder = Path(__file__).with_name("templates")
    loader.mapping = {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*.html")
    }
    for name in loader.mapping:
        templates.get_template(name)


class Panels:
    """Makes the HTML of panels; one that cannot be made says so and leaves the others alone."""

    def __init__(
        self,
        *,
        documents: Documents,
        fleet: Callable[[], Fleet],
        bus: EventBus,
        templates: jinja2.Environment,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._documents = documents
        self._fleet = fleet
        self._bus = bus
        self._templates = templates
        self._wall_clock = wall_clock
        self._anchors = Anchors()
        self._recent = Recent(bus)
        self._good: dict[tuple[str, View], Markup] = {}
        self._broken: dict[str, str] = {}

    def look(self) -> Snapshot:
        """Return what panels of this moment are made of. No await."""
        return Snapshot(
            self._documents, self._fleet, self._bus, self._recent, self._wall_clock(), self._anchors
        )

    def title(self, now: Snapshot) -> tuple[str, str]:
        """Return the title and the state whose shape the icon has."""
        try:
            return title(now)
        except Exception:
            _log.debug("the page's title cannot be made", exc_info=True)
            return "sollold", "unknown"

    def render(self, name: str, view: View, now: Snapshot, *, is_live: bool) -> Markup:
        """Return a panel; `is_live` leaves counting to the browser. Never raises. No await."""
        # A live panel goes to everybody who sees the same; the page adds the rest to its links.
        key = (name, view_of(name, view) if is_live else view)
        try:
            found = self._render(*key, now, is_live=is_live)
        except Exception:
            return self._broken_panel(name, key)
        self._broken.pop(name, None)
        self._good.pop(key, None)
        self._good[key] = found
        if len(self._good) > _MAX_GOOD:
            self._good.pop(next(iter(self._good)))
        return found

    def _render(self, name: str, view: View, now: Snapshot, *, is_live: bool) -> Markup:
        template = self._templates.get_template(f"panels/{name}.html")
        content = CONTENTS[name](now, view)
        return Markup(  # noqa: S704 - the templates escape everything themselves
            template.render(
                content,
                view=view,
                shown=view_of(name, view).query,
                columns=COLUMNS,
                now_s=now.now_s,
                is_live=is_live,
            )
        )

    def _broken_panel(self, name: str, key: tuple[str, View]) -> Markup:
        error_id = self._broken.get(name)
        if error_id is None:
            error_id = self._broken[name] = f"e-{os.urandom(2).hex()}"
            _log.exception("a panel of the console cannot be shown panel=%s id=%s", name, error_id)
        good = self._good.get(key)
        if good is not None:
            # The id goes to what stands around it.
            good = good.replace(f' id="{name}"', "", 1)
        template = self._templates.get_template("broken.html")
        return Markup(  # noqa: S704 - as above
            template.render(name=name, error_id=error_id, good=good)
        )

    def rows(self, records: Iterable[Record]) -> Markup:
        """Return rows of the decisions, newest first. No await."""
        rows: list[Row] = [decision_row(record) for record in records]
        rows.reverse()
        template = self._templates.get_template("rows.html")
        html = template.render(rows=rows, view=View(), now_s=self._wall_clock())
        return Markup(html)  # noqa: S704 - as above

    def page(self, view: View) -> dict[str, Any]:
        """Return what the template of the whole page needs. No await."""
        now = self.look()
        text, icon = self.title(now)
        made = {name: self.render(name, view, now, is_live=False) for name in CONTENTS}
        return {
            "panels": made,
            "title": text,
            "icon": icon,
            "now_s": now.now_s,
            "version": __version__,
        }


def view_of(name: str, view: View) -> View:
    """Return as much of a view as a panel shows."""
    return view.only(_VIEWED.get(name, ()))
