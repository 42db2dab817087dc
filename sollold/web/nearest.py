"""What may have been meant by a name that does not exist."""

from __future__ import annotations

from difflib import SequenceMatcher
from heapq import nlargest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sollold.web.turns import Turns

_MAX_NAME = 200
_MAX_COMPARED = 200
_LEAST_RATIO = 0.6


async def nearest(name: str, known: Iterable[str], turns: Turns) -> str | None:
    """Return the known name that looks most like `name`; None when none does.

    Of many names only those that begin most alike are compared in full.
    """
    if len(name) > _MAX_NAME:
        return None
    begun = await turns.all((_shared_start(name, item), item) for item in known)
    alike = nlargest(_MAX_COMPARED, begun)
    found = await turns.all(_ratios(name, [item for _, item in alike]))
    return max(found)[1] if found else None


def _shared_start(one: str, other: str) -> int:
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))


def _ratios(name: str, known: list[str]) -> Iterator[tuple[float, str] | None]:
    matcher = SequenceMatcher()
    matcher.set_seq2(name)
    for item in known:
        matcher.set_seq1(item[:_MAX_NAME])
        ratio = matcher.ratio()
        yield (ratio, item) if ratio >= _LEAST_RATIO else None
