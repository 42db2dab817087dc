"""Differences on purpose: how one is declared, and what `docs/compatibility.md` lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.look import Answer
    from tests.real.compare import Difference

_DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"
_ROW = re.compile(r"^\| `([a-z0-9-]+)` \|", re.MULTILINE)


class Pair(NamedTuple):
    """The answers to one case, and in what they differ."""

    daemon: str
    direct: Answer
    through: Answer
    found: list[Difference]


class Wanted(NamedTuple):
    """A difference on purpose, in one group of cases or in all (""), and what must be so then."""

    name: str
    group: str
    place: str = ".*"
    holds: Callable[[Answer, Answer], bool] = lambda _direct, _through: True

    def explains(self, group: str, pair: Pair, found: Difference) -> bool:
        """Whether this is the difference that was found."""
        return (
            self.group in {"", group}
            and re.fullmatch(self.place, found.place) is not None
            and self.holds(pair.direct, pair.through)
        )


def statuses(*allowed: int) -> Callable[[Answer, Answer], bool]:
    """That we answer with one of these."""
    return lambda _direct, through: through.status in allowed


_ADDED = r"header (via|server|x-request-id|x-accel-buffering|x-sollold-(?!error).*)"

EVERYWHERE = (
    Wanted("added-headers", "", _ADDED, lambda direct, _: "via" not in direct.headers),
    Wanted("own-errors-marked", "", "header x-sollold-error", lambda _, ours: ours.status >= 400),
)
"""What the daemon adds to every answer, whichever engine it comes from."""


def listed(section: str) -> list[str]:
    """The names in the table under a heading of the document, sorted."""
    _, _, rest = _DOCUMENT.read_text().partition(f"\n## {section}\n")
    return sorted(_ROW.findall(rest.partition("\n## ")[0]))
