"""What can be shown once or watched: a document, and how it becomes lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from sollold.ctl.client import Reply
from sollold.ctl.screen import Screen, width_of
from sollold.ctl.session import Session


class Row(NamedTuple):
    """One line in a form that can be compared with the same one of an earlier frame."""

    name: str
    line: str
    """Without bold."""
    steady: tuple[str, ...]
    """What it says apart from ages; a change of it is news."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One document as lines."""

    lines: list[str]
    """What a terminal shows; cells that differ from the frame before are bold."""
    rows: list[Row]
    """What a pipe is told, once each and again when it changes."""
    header: tuple[str, ...] = ()
    """What a pipe is told first."""
    cells: dict[tuple[str, str], str]
    """By row and column."""
    note: str = ""
    """Said in place of an empty list."""


class View(Protocol):
    """A document and its way to the reader."""

    @property
    def path(self) -> str:
        """Where the daemon has it."""
        ...

    def frame(self, reply: Reply, session: Session, screen: Screen, before: Frame | None) -> Frame:
        """Return the document as lines for a screen.

        Raises:
            Failure: it cannot be read, or a filter or column does not exist.
        """
        ...


class ScreenView(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that each say one thing, most with a label before it."""

    path: str
    lines: Callable[[Reply, Session, Screen], list[str]]
    steady: Callable[[Reply, Session, Screen], list[str]]
    """The same lines without ages."""

    def frame(self, reply: Reply, session: Session, screen: Screen, before: Frame | None) -> Frame:
        """Return the screen as lines."""
        lines = self.lines(reply, session, screen)
        names = _names(lines)
        same = dict(zip(_names(steady := self.steady(reply, session, screen)), steady, strict=True))
        cells = {(name, ""): line for name, line in zip(names, lines, strict=True)}
        return Frame(
            lines=[
                _emphasised(line, screen, before is not None and before.cells.get((name, "")))
                for name, line in zip(names, lines, strict=True)
            ],
            rows=[
                Row(name, line, (same.get(name, ""),))
                for name, line in zip(names, lines, strict=True)
            ],
            cells=cells,
        )


def _names(lines: Sequence[str]) -> list[str]:
    """Return a name for each line that survives a change of what it says: label and place."""
    found: list[str] = []
    label, place = "", 0
    for number, line in enumerate(lines):
        own = line[:_LABEL_END].strip() if number and line.startswith("  ") else "head"
        place = 0 if own and own != label else place + 1
        label = own or label
        found.append(f"{label} {place}")
    return found


_LABEL_END = 13


def _emphasised(line: str, screen: Screen, earlier: str | bool | None) -> str:
    """Return the line with its words in bold that were not in the line it had before."""
    if earlier is False or earlier == line:
        return line
    known = set(earlier.split()) if isinstance(earlier, str) else set()
    parts = line.split(" ")
    return " ".join(
        screen.embolden(part) if width_of(part) and part not in known else part for part in parts
    )
