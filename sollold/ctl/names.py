"""Finding what a person meant: exact name, else unique prefix, else the nearest name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.ctl.failure import Exit, Failure
from sollold.wire.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence


def resolve(wanted: str, names: Sequence[str], noun: str) -> str:
    """Return the one name that `wanted` means.

    Raises:
        Failure: none fits, or several do.
    """
    if wanted in names:
        return wanted
    folded = wanted.casefold()
    fitting = [name for name in names if name.casefold() == folded]
    fitting = fitting or [name for name in names if folded and name.casefold().startswith(folded)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise Failure(
            Exit.NOT_FOUND,
            f"{noun}_ambiguous",
            f"{wanted!r} fits more than one {noun}: {', '.join(map(visible, sorted(fitting)))}",
        )
    raise Failure(
        Exit.NOT_FOUND, f"{noun}_not_found", f"no {noun} {wanted!r}", _nearest(wanted, names, noun)
    )


def _nearest(wanted: str, names: Sequence[str], noun: str) -> tuple[tuple[str, str], ...]:
    import difflib

    by_folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(wanted.casefold(), by_folded, n=1, cutoff=0.5)
    if near:
        return (("did you mean", visible(by_folded[near[0]])),)
    return ((f"all {noun}s", f"sollolctl {noun}s"),)
