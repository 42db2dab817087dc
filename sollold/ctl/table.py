"""Tables: which rows, in which order, which columns, and how they fit the terminal.

On a terminal columns drop in a fixed order until the table fits, then long names shorten in the
middle. In a pipe nothing drops and nothing shortens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from sollold.ctl.failure import Exit, Failure
from sollold.ctl.screen import Screen, pad, shorten, width_of
from sollold.words.figures import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
V = TypeVar("V", int, float)
SortKey = tuple[str | float, ...]

_GAP = "  "
_LEAST_NAME = 8


class Column(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One column. Its key is the header in lower case, as `--sort` and `--columns` name it."""

    header: str
    text: Callable[[T], str]
    sort_key: Callable[[T], SortKey | None]
    """None sorts last in either direction."""
    is_right: bool = False
    is_wide: bool = False
    """Shown with `--wide` only."""
    drop_rank: int | None = None
    """The lowest drops first; None: never."""
    is_name: bool = False
    """May shorten in the middle when nothing is left to drop."""
    style: Callable[[T], str | None] | None = None
    is_clock: bool = False
    """It changes with time alone, which is no news of its row."""

    @property
    def key(self) -> str:
        """The column's name in options."""
        return self.header.lower().replace(" ", "-")


def text_column(
    header: str,
    text: Callable[[T], str],
    *,
    drop_rank: int | None = None,
    is_wide: bool = False,
    is_name: bool = False,
) -> Column[T]:
    """Return a column that sorts by what it shows."""

    def sort_key(row: T) -> SortKey | None:
        shown = text(row)
        return None if shown == UNKNOWN else (shown.casefold(),)

    return Column(
        header=header,
        text=text,
        sort_key=sort_key,
        drop_rank=drop_rank,
        is_wide=is_wide,
        is_name=is_name,
    )


def number_column(
    header: str,
    value: Callable[[T], V | None],
    word: Callable[[V | None], str],
    *,
    drop_rank: int | None = None,
    is_wide: bool = False,
    is_clock: bool = False,
) -> Column[T]:
    """Return a column that sorts by a number and shows it in words."""

    def sort_key(row: T) -> SortKey | None:
        number = value(row)
        return None if number is None else (number,)

    return Column(
        header=header,
        text=lambda row: word(value(row)),
        sort_key=sort_key,
        is_right=True,
        drop_rank=drop_rank,
        is_wide=is_wide,
        is_clock=is_clock,
    )


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What the person asked for; empty values ask for the default."""

    columns: tuple[str, ...] = ()
    sort: str = ""
    filters: tuple[str, ...] = ()
    is_wide: bool = False
    has_header: bool = True


def select(
    rows: Sequence[T], filters: Sequence[str], fields: dict[str, Callable[[T], Sequence[str]]]
) -> list[T]:
    """Return the rows that pass every `KEY=VALUE,...` and `KEY!=VALUE,...`.

    Raises:
        Failure: a filter cannot be read or its key does not exist.
    """
    chosen = list(rows)
    for text in filters:
        key, is_not, values = split_filter(text)
        if key not in fields:
            raise _usage(f"no filter {key!r}; there are: {', '.join(fields)}")
        of_row = fields[key]
        chosen = [row for row in chosen if _has_any(of_row(row), values) != is_not]
    return chosen


def split_filter(text: str) -> tuple[str, bool, frozenset[str]]:
    """Return key, whether it is inverted, and the values in lower case.

    Raises:
        Failure: there is no `=`.
    """
    key, sign, value = text.partition("=")
    if not sign or not key.strip("!"):
        raise _usage(f"a filter is KEY=VALUE or KEY!=VALUE, not {text!r}")
    values = frozenset(part.strip().casefold() for part in value.split(","))
    return key.removesuffix("!").strip().lower(), key.endswith("!"), values


def order(rows: Sequence[T], sort: str, columns: Sequence[Column[T]]) -> list[T]:
    """Return the rows sorted by a column; `-COLUMN` reverses; empty keeps the order.

    Raises:
        Failure: there is no such column.
    """
    if not sort:
        return list(rows)
    column = _find(sort.removeprefix("-"), columns)
    known = [(key, row) for row in rows if (key := column.sort_key(row)) is not None]
    unknown = [row for row in rows if column.sort_key(row) is None]
    known.sort(key=lambda pair: pair[0], reverse=sort.startswith("-"))
    return [row for _, row in known] + unknown


def chosen(columns: Sequence[Column[T]], layout: Layout) -> list[Column[T]]:
    """Return the columns to show where there is room for all.

    Raises:
        Failure: a column was asked for that does not exist.
    """
    if layout.columns:
        return [_find(key, columns) for key in layout.columns]
    return [column for column in columns if layout.is_wide or not column.is_wide]


def render(
    rows: Sequence[T],
    columns: Sequence[Column[T]],
    layout: Layout,
    screen: Screen,
    is_new: Callable[[T, Column[T]], bool] | None = None,
) -> list[str]:
    """Return the table's lines; cells that are new are bold.

    Raises:
        Failure: a column was asked for that does not exist.
    """
    shown = chosen(columns, layout)
    cells = [[column.text(row) for row in rows] for column in shown]
    if screen.width is not None and not layout.columns and not layout.is_wide:
        shown, cells = _fit(shown, cells, screen.width, screen.ellipsis(), layout)
    widths = [
        _cell_width(column, texts, layout) for column, texts in zip(shown, cells, strict=True)
    ]
    lines = []
    if layout.has_header:
        lines.append(_line([column.header for column in shown], shown, widths))
    for index, row in enumerate(rows):
        styles = [column.style(row) if column.style else None for column in shown]
        texts = [texts[index] for texts in cells]
        bold = [is_new is not None and is_new(row, column) for column in shown]
        lines.append(_line(texts, shown, widths, styles, bold, screen))
    return lines


def _fit(
    shown: list[Column[T]], cells: list[list[str]], width: int, mark: str, layout: Layout
) -> tuple[list[Column[T]], list[list[str]]]:
    pairs = list(zip(shown, cells, strict=True))

    def excess() -> int:
        sizes = [_cell_width(column, texts, layout) for column, texts in pairs]
        return sum(sizes) + len(_GAP) * (len(sizes) - 1) - width

    droppable = sorted(
        (pair for pair in pairs if pair[0].drop_rank is not None),
        key=lambda pair: pair[0].drop_rank or 0,
    )
    for pair in droppable:
        if excess() <= 0:
            break
        pairs.remove(pair)
    for index in sorted(
        (index for index, (column, _) in enumerate(pairs) if column.is_name),
        key=lambda index: -_cell_width(*pairs[index], layout),
    ):
        over = excess()
        if over <= 0:
            break
        column, texts = pairs[index]
        room = max(_LEAST_NAME, _cell_width(column, texts, layout) - over)
        pairs[index] = (column, [shorten(text, room, mark) for text in texts])
    return [column for column, _ in pairs], [texts for _, texts in pairs]


def _cell_width(column: Column[T], texts: list[str], layout: Layout) -> int:
    header = len(column.header) if layout.has_header else 0
    return max(header, *map(width_of, texts)) if texts else header


def _line(
    texts: list[str],
    columns: list[Column[T]],
    widths: list[int],
    styles: list[str | None] | None = None,
    bold: list[bool] | None = None,
    screen: Screen | None = None,
) -> str:
    last = len(texts) - 1
    parts = []
    for index, (text, column, width) in enumerate(zip(texts, columns, widths, strict=True)):
        cell = (
            text
            if index == last and not column.is_right
            else pad(text, width, is_right=column.is_right)
        )
        style = styles[index] if styles else None
        if screen is not None and text:
            # Only the text is painted, so that a filled badge does not run to the next column.
            painted = screen.paint(text, style)
            painted = screen.embolden(painted) if bold and bold[index] else painted
            cell = cell.replace(text, painted, 1)
        parts.append(cell)
    return _GAP.join(parts).rstrip()


def _find(key: str, columns: Sequence[Column[T]]) -> Column[T]:
    for column in columns:
        if column.key == key.strip().lower().replace(" ", "-"):
            return column
    known = ", ".join(column.key for column in columns)
    raise _usage(f"no column {key!r}; there are: {known}")


def _has_any(found: Sequence[str], wanted: frozenset[str]) -> bool:
    return any(text.casefold() in wanted for text in found)


def _usage(message: str) -> Failure:
    return Failure(Exit.USAGE, "usage", message)
