from __future__ import annotations

import pytest
from msgspec.structs import replace

from sollold.ctl.requests import REQUEST_FILTERS, request_columns, summary
from sollold.ctl.screen import Screen
from sollold.ctl.table import Layout, order, render, select
from tests.unit.ctl.documents import RUNNING, WAITING

TERMINAL = Screen(is_terminal=True, width=80, is_unicode=True)
ALL = [*RUNNING, *WAITING]

TEXT = """\
ID      MODEL             NODE       FOR  PHASE       TOKENS  TOK/S  CLIENT
r-7f3d  qwen2.5:14b       gpu-2     31 s  generating     402   12.9  laptop
r-7f43  nomic-embed-text  mac-mini   2 s  embedding        -      -  ci
r-7f40  qwen2.5:14b       (queue)   23 s  waiting          -      -  laptop
"""


def test_the_list_on_a_terminal() -> None:
    assert render(ALL, request_columns(), Layout(), TERMINAL) == TEXT.splitlines()
    assert summary(ALL) == "2 running, 1 waiting"


def test_wide_says_why_a_request_waits() -> None:
    lines = render(ALL, request_columns(), Layout(is_wide=True), TERMINAL)

    assert lines[0].split()[8:] == ["PRIORITY", "TRY", "QUEUED", "TASK", "WHY"]
    assert lines[3].endswith("gpu-2 is full")
    assert lines[1].split()[9:] == ["5", "1", "12", "ms", "chat", "-"]


def test_full_ids_are_never_shortened() -> None:
    rows = [
        replace(item, id="r-abcdefgh234" + str(number), model="a-very-long-model-name:latest" * 2)
        for number, item in enumerate(ALL)
    ]

    lines = render(rows, request_columns(), Layout(), TERMINAL)

    assert all(len(line) <= 80 for line in lines)
    assert lines[1].startswith("r-abcdefgh2340  a-very-")
    assert "\u2026" in lines[1]


@pytest.mark.parametrize(
    ("sort", "first"), [("-for", "r-7f3d"), ("for", "r-7f43"), ("id", "r-7f3d")]
)
def test_sorting(sort: str, first: str) -> None:
    assert order(ALL, sort, request_columns())[0].id == first


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("node=gpu-2", ["r-7f3d"]),
        ("node=(queue)", ["r-7f40"]),
        ("phase=embedding", ["r-7f43"]),
        ("task=chat", ["r-7f3d", "r-7f40"]),
        ("client!=laptop", ["r-7f43"]),
        ("model=nomic-embed-text", ["r-7f43"]),
        ("id=r-7f40", ["r-7f40"]),
    ],
)
def test_filtering(text: str, ids: list[str]) -> None:
    assert [item.id for item in select(ALL, (text,), REQUEST_FILTERS)] == ids
