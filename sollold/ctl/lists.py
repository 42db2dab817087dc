"""Lists as tables: what was asked for of them, once or watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic

import msgspec

from sollold.ctl.client import Reply
from sollold.ctl.screen import Screen
from sollold.ctl.table import Column, Layout, T, chosen, order, render, select
from sollold.ctl.views import Frame, Row

if TYPE_CHECKING:
    from sollold.ctl.options import Settings
    from sollold.ctl.session import Session


class ListView(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A table, one row a thing."""

    path: str
    noun: str
    rows: Callable[[Reply], Sequence[T]]
    columns: Callable[[Screen], Sequence[Column[T]]]
    filters: dict[str, Callable[[T], Sequence[str]]]
    name: Callable[[T], str]
    """What `-q` prints."""
    key: Callable[[T], str]
    """Tells rows apart."""
    summary: Callable[[Sequence[T]], str]
    empty: str

    def frame(self, reply: Reply, session: Session, screen: Screen, before: Frame | None) -> Frame:
        """Return the rows that were asked for as lines."""
        settings, layout = session.settings, _layout(session.settings)
        columns = self.columns(screen)
        found = self.rows(reply)
        rows = order(select(found, settings.filters, self.filters), settings.sort, columns)
        shown = chosen(columns, layout)
        cells = {(self.key(row), item.key): item.text(row) for row in rows for item in shown}
        if not rows:
            fits = " ".join(settings.filters)
            note = f"No {self.noun} fits {fits}." if found else self.empty
            return Frame(lines=[], rows=[], cells=cells, note=note)
        if settings.is_quiet:
            names = [self.name(row) for row in rows]
            plain = [Row(name, name, (name,)) for name in names]
            return Frame(lines=names, rows=plain, cells=cells)
        return self._table(rows, columns, layout, screen, before, cells)

    def _table(
        self,
        rows: Sequence[T],
        columns: Sequence[Column[T]],
        layout: Layout,
        screen: Screen,
        before: Frame | None,
        cells: dict[tuple[str, str], str],
    ) -> Frame:
        def is_new(row: T, column: Column[T]) -> bool:
            place = (self.key(row), column.key)
            return before is not None and before.cells.get(place) != cells[place]

        lines = render(rows, columns, layout, screen, is_new)
        plain = render(rows, columns, layout, screen)
        heads = 1 if layout.has_header else 0
        steady = [column for column in chosen(columns, layout) if not column.is_clock]
        return Frame(
            lines=[*lines, "", self.summary(rows)] if screen.is_terminal else lines,
            rows=[
                Row(self.key(row), line, tuple(column.text(row) for column in steady))
                for row, line in zip(rows, plain[heads:], strict=True)
            ],
            header=tuple(plain[:heads]),
            cells=cells,
        )


def _layout(settings: Settings) -> Layout:
    return Layout(
        columns=tuple(part for part in settings.columns.split(",") if part.strip()),
        is_wide=settings.is_wide,
        has_header=not settings.is_headless,
    )
