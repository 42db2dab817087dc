"""What the demo writes, and where."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from sollold.demo.stage import NobodyWatches, Stage, Typist

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def _typed(pieces: Sequence[str], width: int = 80) -> list[str]:
    written: list[str] = []
    typist = Typist(written.append, width, is_unicode=True)
    for piece in pieces:
        typist.type(piece)
    typist.end()
    return written


def test_each_piece_is_written_as_it_comes() -> None:
    assert _typed([" The", " sea", "", "side", "."]) == ["  The", " sea", "side", ".", "\n"]


def test_a_long_answer_stays_in_its_columns() -> None:
    pieces = [" light", "house", " of", " the"] * 40

    lines = "".join(_typed(pieces, 60)).splitlines()

    assert len(lines) > 5
    assert all(len(line) <= 60 and line.startswith("  ") for line in lines)
    assert " ".join(" ".join(lines).split()) == "".join(pieces).strip()


def test_a_word_longer_than_the_room_is_broken() -> None:
    lines = "".join(_typed(["a" * 20] * 5, 50)).splitlines()

    assert [len(line.strip()) for line in lines] == [40, 40, 20]


def test_empty_lines_of_an_answer_are_left_out() -> None:
    assert "".join(_typed(["\n\n", "one\n", "\n", "two"])) == "  one\n  two\n"


def test_an_answer_cannot_move_the_cursor() -> None:
    assert "".join(_typed(["\x1b[2J\rx"])) == "  \\x1b[2J\\rx\n"


def test_nothing_typed_ends_nothing() -> None:
    assert _typed([""]) == []


def test_without_a_terminal_there_are_plain_lines_and_no_progress(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage = Stage({})

    stage.progress("half")
    stage.head("Title")
    stage.fact("Node", "demo-1")
    stage.note("(quiet)")
    stage.fail("no\nreason")

    said = capsys.readouterr()
    assert said.out == "\nTitle\n  Node      demo-1\n  (quiet)\n"
    assert said.err == "sollold demo: no\nreason\n"


def test_progress_is_taken_away_before_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    both = _Terminal()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    stage = Stage({"NO_COLOR": "1", "LANG": "C.UTF-8"})

    stage.progress("half")
    stage.progress("half")
    stage.progress("whole")
    stage.head("Title")

    assert both.getvalue() == "half\r    \rwhole\r     \r\nTitle\n"


def test_color_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)

    Stage({"TERM": "xterm"}).head("Title")

    assert terminal.getvalue() == "\n\x1b[1mTitle\x1b[0m\n"


def test_a_reader_that_left_ends_the_show(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())

    with pytest.raises(NobodyWatches):
        Stage({}).line("x")
