"""States of nodes and of the daemon: their order, their words, and the shape each has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sollold.api_types import StatusDocument

WORST_FIRST = ("down", "unknown", "slow", "draining", "up")
"""States of nodes."""

DAEMON_WORDS = {
    "serving": "serving",
    "degraded": "serving, degraded",
    "cannot_serve": "cannot serve",
    "starting": "starting",
    "stopping": "stopping",
}
"""States of the daemon in words."""

_SHAPES = {"serving": "up", "stopping": "draining", "starting": "unknown"}


def badness(state: str) -> int:
    """Return a sort key that puts the worst state first; a word nobody knows is `unknown`."""
    return WORST_FIRST.index(state if state in WORST_FIRST else "unknown")


def glyph_state(status: StatusDocument) -> str:
    """Return the node state whose mark stands for the daemon's."""
    if status.state == "cannot_serve":
        return "down" if status.nodes.total else "slow"
    return _SHAPES.get(status.state, "slow")
