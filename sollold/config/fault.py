"""What the checks find."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sollold.config.keys import Path


class Fault(NamedTuple):
    """One thing that is wrong, and the keys whose values make it so, the main one first."""

    paths: tuple[Path, ...]
    text: str
