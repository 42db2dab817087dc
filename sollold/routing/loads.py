"""Waits for nodes that are loading a model, when nobody else can answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from sollold.core.model import NodeId
    from sollold.routing.dispatch import Dispatcher
    from sollold.upstream.wheel import Timer

_STEP_S = 0.1
"""Between two looks at what probes have found out."""
_LONGEST_STEP_S = 2.0
"""Probes may not notice the end of a load: the node is asked after so long at the latest."""


class LoadWait:
    """One run's wait. Every method is synchronous."""

    __slots__ = ("_ask_again", "_asked_s", "_kit", "_nodes", "_timer", "_until_s")

    def __init__(
        self, kit: Dispatcher, deadline_s: float | None, ask_again: Callable[[], None]
    ) -> None:
        """`ask_again` is called when one of the nodes may have finished."""
        limit_s = kit.clock() + kit.settings.load_limit_s
        self._kit = kit
        self._until_s = limit_s if deadline_s is None else min(limit_s, deadline_s)
        self._ask_again = ask_again
        self._nodes: AbstractSet[NodeId] = frozenset()
        self._asked_s = 0.0
        self._timer: Timer | None = None

    def goes_on(self, nodes: AbstractSet[NodeId]) -> bool:
        """Wait for any of the nodes; False when it has lasted too long, or the daemon stops."""
        now_s = self._kit.clock()
        if now_s >= self._until_s or self._kit.is_draining:
            self.close()
            return False
        if self._timer is None:
            self._nodes, self._asked_s = frozenset(nodes), now_s
            self._timer = self._kit.wheel.after(_STEP_S, self._look)
        return True

    def close(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now_s = self._kit.clock()
        is_late = now_s >= min(self._asked_s + _LONGEST_STEP_S, self._until_s)
        if is_late or self._kit.is_draining or not all(map(self._is_loading, self._nodes)):
            self._ask_again()
        else:
            self._timer = self._kit.wheel.after(_STEP_S, self._look)

    def _is_loading(self, node: NodeId) -> bool:
        view = self._kit.admission.view(node)
        if view is None or not view.is_routable or view.reason is None:
            return False
        return view.is_ejected and view.reason.code == "warming"
