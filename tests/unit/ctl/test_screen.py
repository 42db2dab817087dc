from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.ctl.screen import Screen, clean, detect, pad, shorten, width_of
from sollold.wire.visible import visible


class Stream(io.TextIOWrapper):
    def __init__(self, *, is_terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def seen(environ: dict[str, str], *, is_terminal: bool = True, **options: Any) -> Screen:
    color = options.pop("color", "auto")
    return detect(Stream(is_terminal=is_terminal, **options), environ, color)


@pytest.mark.parametrize(
    ("environ", "is_unicode"),
    [
        ({"LANG": "en_GB.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LC_CTYPE": "UTF-8"}, True),
        ({"LC_ALL": "C.UTF-8"}, True),
        ({"LANG": "C.UTF-8", "LC_CTYPE": "C.UTF-8"}, True),
        ({}, False),
        ({"LANG": "C"}, False),
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "POSIX"}, False),
        ({"LANG": "en_GB.ISO-8859-1"}, False),
    ],
)
def test_glyphs_need_a_utf8_locale(environ: dict[str, str], *, is_unicode: bool) -> None:
    assert seen(environ).is_unicode is is_unicode


def test_glyphs_need_a_stream_that_takes_them() -> None:
    assert not seen({"LANG": "C.UTF-8"}, encoding="latin-1").is_unicode


@pytest.mark.parametrize(
    ("environ", "color", "is_terminal", "has_color"),
    [
        ({}, "auto", True, True),
        ({}, "auto", False, False),
        ({"NO_COLOR": "1"}, "auto", True, False),
        ({"NO_COLOR": ""}, "auto", True, True),
        ({"TERM": "dumb"}, "auto", True, False),
        ({"FORCE_COLOR": "1"}, "auto", False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, "auto", True, False),
        ({"NO_COLOR": "1"}, "always", False, True),
        ({}, "never", True, False),
    ],
)
def test_when_colour_is_used(
    environ: dict[str, str], color: str, *, is_terminal: bool, has_color: bool
) -> None:
    assert seen(environ, is_terminal=is_terminal, color=color).has_color is has_color


def test_only_a_terminal_has_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert seen({}).width == 72
    assert seen({}, is_terminal=False).width is None


def test_marks_differ_in_shape_with_and_without_unicode() -> None:
    states = ("up", "slow", "draining", "down", "unknown")
    for screen in (Screen(is_unicode=True), Screen()):
        assert len({screen.glyph(state) for state in states}) == 5
    assert all(Screen().glyph(state).isascii() for state in states)
    assert Screen().glyph("a new word") == Screen().glyph("unknown")
    assert Screen().ellipsis() == "..."
    assert Screen(is_unicode=True).ellipsis() == "\u2026"


def test_paint_only_where_there_is_colour() -> None:
    assert Screen().paint("x", "up") == "x"
    assert Screen(has_color=True).paint("x", None) == "x"
    assert Screen(has_color=True).paint("x", "up") == "\x1b[34mx\x1b[0m"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("gpu-1", "gpu-1"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("del\x7f", "del\\x7f"),
        ("c1\x9b31m", "c1\\x9b31m"),
        ("evil\u202egnp", "evil\\u202egnp"),
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028", "line\\u2028"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("lone\ud800", "lone\\ud800"),
        ("m\u00fcller", "m\u00fcller"),
    ],
)
def test_what_could_move_the_cursor_is_shown(hostile: str, shown: str) -> None:
    assert visible(hostile) == shown


def test_without_unicode_everything_else_is_escaped() -> None:
    assert visible("m\u00fcller \u6a21", is_unicode=False) == "m\\xfcller \\u6a21"


@given(st.text())
def test_visible_text_prints_and_stays_as_it_is(text: str) -> None:
    shown = visible(text)

    assert all(char.isprintable() or char in "\u00a0\u3000" or char.isspace() for char in shown)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in shown)
    assert visible(shown) == shown
    assert visible(text, is_unicode=False).isascii()


def test_documents_are_cleaned_to_the_bottom() -> None:
    raw = {"a": ["x\x1b", {"b": "y\u202e"}], "n": 1, "t": None}

    assert clean(raw) == {"a": ["x\\x1b", {"b": "y\\u202e"}], "n": 1, "t": None}


def test_widths_count_columns_not_characters() -> None:
    assert width_of("gpu") == 3
    assert width_of("\u6a21\u578b") == 4
    assert width_of("e\u0301") == 1
    assert pad("\u6a21", 4) == "\u6a21  "
    assert pad("7", 3, is_right=True) == "  7"


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("gpu-1", 5, "gpu-1"),
        ("abcdefghij", 7, "ab...ij"),
        ("abcdefghij", 8, "abc...ij"),
        ("abcdefghij", 3, "..."),
        ("abcdefghij", 2, ".."),
        ("\u6a21" * 6, 8, "\u6a21...\u6a21"),
    ],
)
def test_the_middle_goes_first(text: str, width: int, short: str) -> None:
    assert shorten(text, width, "...") == short
    assert width_of(shorten(text, width, "...")) <= width
