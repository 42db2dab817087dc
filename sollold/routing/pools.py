"""One keep-alive pool per node, made when first needed and closed when the node leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.upstream.pool import NodePool

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.core.model import NodeId
    from sollold.upstream.pool import Address
    from sollold.upstream.wheel import TimerWheel


class Pools:
    """Pools by node; an address that changes gets a new pool."""

    def __init__(
        self,
        address_of: Callable[[NodeId], Address | None],
        *,
        wheel: TimerWheel,
        connect_timeout_s: float,
    ) -> None:
        self._address_of = address_of
        self._wheel = wheel
        self._connect_timeout_s = connect_timeout_s
        self._pools: dict[NodeId, tuple[Address, NodePool]] = {}
        self._leaving: list[NodePool] = []

    def get(self, node: NodeId) -> NodePool | None:
        """Return the node's pool; None when the node is gone or has no address. No await."""
        address = self._address_of(node)
        known = self._pools.get(node)
        if known is not None:
            if known[0] == address:
                return known[1]
            self.forget(node)
        if address is None:
            return None
        pool = NodePool(address, wheel=self._wheel, connect_timeout_s=self._connect_timeout_s)
        self._pools[node] = (address, pool)
        return pool

    def set_connect_timeout(self, connect_timeout_s: float) -> None:
        """Give connections that are opened from now on so long. No await."""
        self._connect_timeout_s = connect_timeout_s
        for _, pool in self._pools.values():
            pool.set_connect_timeout(connect_timeout_s)

    def forget(self, node: NodeId) -> None:
        """Open no more connections to it; idle ones expire, those in use finish. No await."""
        known = self._pools.pop(node, None)
        self._leaving = [pool for pool in self._leaving if pool.open]
        if known is not None:
            self._leaving.append(known[1])

    def close(self) -> None:
        """Close every connection. No await."""
        for pool in (*(pool for _, pool in self._pools.values()), *self._leaving):
            pool.close()
        self._pools.clear()
        self._leaving.clear()

    @property
    def open_connections(self) -> int:
        """Sockets to nodes, idle ones included."""
        live = (pool for _, pool in self._pools.values())
        return sum(pool.open for pool in (*live, *self._leaving))
