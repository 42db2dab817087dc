from __future__ import annotations

import pytest

from sollold.ctl.failure import Exit, Failure
from sollold.ctl.screen import Screen, width_of
from sollold.ctl.table import Column, Layout, number_column, order, render, select, text_column
from sollold.words import figures as words

Row = tuple[str, int | None]

COLUMNS: list[Column[Row]] = [
    text_column("NAME", lambda row: row[0], is_name=True),
    number_column("COUNT", lambda row: row[1], words.count, drop_rank=2),
    text_column("FIRST LETTER", lambda row: row[0][:1] or "-", drop_rank=1),
    text_column("EXTRA", lambda row: row[0] * 2, is_wide=True),
]
ROWS: list[Row] = [("bb", 2), ("a", None), ("ccc", 10)]


def lines(width: int | None = None, rows: list[Row] = ROWS, **layout: object) -> list[str]:
    screen = Screen(is_terminal=width is not None, width=width)
    return render(rows, COLUMNS, Layout(**layout), screen)  # type: ignore[arg-type]


def test_numbers_stand_right_and_text_left() -> None:
    assert lines() == [
        "NAME  COUNT  FIRST LETTER",
        "bb        2  b",
        "a         -  a",
        "ccc      10  c",
    ]


def test_columns_drop_in_order_until_the_table_fits() -> None:
    assert lines(25)[0] == "NAME  COUNT  FIRST LETTER"
    assert lines(24)[0] == "NAME  COUNT"
    assert lines(10)[0] == "NAME"


def test_names_shorten_when_nothing_is_left_to_drop() -> None:
    table = lines(12, [("a-rather-long-name", 1)])

    assert table == ["NAME", "a-rat...name"]


def test_names_keep_a_readable_rest() -> None:
    assert lines(2, [("a-rather-long-name", 1)]) == ["NAME", "a-r...me"]


def test_in_a_pipe_nothing_drops_and_nothing_shortens() -> None:
    long_name = "n" * 300

    table = lines(None, [(long_name, 1)])

    assert table[0].split() == ["NAME", "COUNT", "FIRST", "LETTER"]
    assert long_name in table[1]


def test_wide_shows_all_and_columns_choose() -> None:
    assert lines(10, is_wide=True)[1].split() == ["bb", "2", "b", "bbbb"]
    assert lines(10, columns=("extra", "First-Letter"))[1] == "bbbb    b"
    assert lines(has_header=False)[0] == "bb    2  b"


def test_an_unknown_column_is_wrong_usage() -> None:
    with pytest.raises(Failure, match="'size'; there are: name, count") as refused:
        lines(columns=("size",))
    assert refused.value.exit_code == Exit.USAGE


def test_wide_characters_keep_the_columns_straight() -> None:
    table = lines(None, [("\u6a21\u578b", 1), ("abcd", 2)])

    assert [width_of(line.rpartition("  ")[0]) for line in table[1:]] == [11, 11]


def test_only_the_text_of_a_cell_is_painted() -> None:
    column: Column[Row] = Column(
        header="STATE",
        text=lambda row: row[0],
        sort_key=lambda row: (row[0],),
        style=lambda _: "down",
    )
    table = render(ROWS, [column, COLUMNS[1]], Layout(), Screen(has_color=True))

    assert table[1] == "\x1b[97;41mbb\x1b[0m         2"


def test_sorting_puts_the_unknown_last_both_ways() -> None:
    assert order(ROWS, "count", COLUMNS) == [("bb", 2), ("ccc", 10), ("a", None)]
    assert order(ROWS, "-count", COLUMNS) == [("ccc", 10), ("bb", 2), ("a", None)]
    assert order(ROWS, "", COLUMNS) == ROWS
    assert order(ROWS, "NAME", COLUMNS)[0] == ("a", None)
    with pytest.raises(Failure, match="no column 'size'"):
        order(ROWS, "size", COLUMNS)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ((), ["bb", "a", "ccc"]),
        (("name=a",), ["a"]),
        (("name=A, bb",), ["bb", "a"]),
        (("name!=a",), ["bb", "ccc"]),
        (("name!=a", "name!=bb"), ["ccc"]),
        (("NAME=zzz",), []),
    ],
)
def test_filters(filters: tuple[str, ...], names: list[str]) -> None:
    chosen = select(ROWS, filters, {"name": lambda row: (row[0],)})

    assert [row[0] for row in chosen] == names


@pytest.mark.parametrize("text", ["name", "=a", "!=a", "size=1"])
def test_a_filter_that_cannot_be_read_is_wrong_usage(text: str) -> None:
    with pytest.raises(Failure) as refused:
        select(ROWS, (text,), {"name": lambda row: (row[0],)})
    assert refused.value.exit_code == Exit.USAGE
