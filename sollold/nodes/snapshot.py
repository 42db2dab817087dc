"""The picture of all nodes that everybody else reads, made anew only where something changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.core.model import Fleet
from sollold.nodes.records import build_view
from sollold.wire.equality import Equality

if TYPE_CHECKING:
    from sollold.core.model import NodeId, NodeView
    from sollold.nodes.members import Members
    from sollold.nodes.records import Record

_QUIET_S = 5.0


class Snapshot:
    """Views of the records. No method waits."""

    def __init__(self, now_s: float) -> None:
        self.is_stale = False
        self.quiet: set[NodeId] = set()
        """Records in which something only became older."""
        self._fleet = Fleet(0, ())
        self._quiet_since_s = now_s
        self._equality = Equality()

    def fleet(self, members: Members, now_s: float) -> Fleet:
        """Return the picture; the same object until something changed."""
        if self.quiet and now_s - self._quiet_since_s >= _QUIET_S:
            self._show_quiet(members, now_s)
        if self.is_stale:
            self.is_stale = False
            views = [self._view(record, now_s) for record in members if record.is_visible]
            self._fleet = Fleet(self._fleet.generation + 1, self._equality.apply(views))
        return self._fleet

    def view(self, record: Record, now_s: float) -> NodeView:
        """Return one record, its newest probe included."""
        if record.id in self.quiet:
            return self._equality.apply_again(build_view(record, now_s))
        return self._equality.apply_again(self._view(record, now_s))

    def _view(self, record: Record, now_s: float) -> NodeView:
        if record.view is None:
            record.view = build_view(record, now_s)
        return record.view

    def _show_quiet(self, members: Members, now_s: float) -> None:
        """Let views catch up with what only became older, all at once and not too often."""
        for node in self.quiet:
            record = members.get(node)
            if record is not None:
                record.view = None
        self.quiet.clear()
        self._quiet_since_s = now_s
        self.is_stale = True
