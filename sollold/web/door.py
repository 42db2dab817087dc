"""How nodes are reached: where to connect, and what is constant in what they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.nodes.ask import Target
from sollold.nodes.tls import Trust
from sollold.upstream.pool import Address
from sollold.web.outgoing import NodeHead
from sollold.wire.headers import HeadWriter

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from sollold.core.model import NodeId
    from sollold.nodes.records import ProbeTarget
    from sollold.nodes.registry import Registry
    from sollold.nodes.tls import TlsContexts


class NodeDoor:
    """How a node is reached: address for the pool, constant parts of request heads."""

    def __init__(
        self,
        registry: Registry,
        tls: TlsContexts,
        secret_of: Callable[[str], str | None],
    ) -> None:
        """`secret_of` returns the key that an environment variable holds."""
        self._registry = registry
        self._tls = tls
        self._secret_of = secret_of
        self._doors: dict[NodeId, tuple[ProbeTarget, Address, NodeHead]] = {}

    def address(self, node: NodeId) -> Address | None:
        """Return where to connect; None until a probe has prepared it, or the node is gone."""
        door = self._door(node)
        return None if door is None else door[1]

    def head(self, node: NodeId) -> NodeHead | None:
        """Return what is constant in the heads sent to the node."""
        door = self._door(node)
        return None if door is None else door[2]

    def forget(self, node: NodeId) -> None:
        """Drop what was made for a node that left. No await."""
        self._doors.pop(node, None)

    def _door(self, node: NodeId) -> tuple[ProbeTarget, Address, NodeHead] | None:
        target = self._registry.target(node)
        if target is None or not target.addresses:
            return None
        context = None
        if target.place.scheme == "https":
            context = self._tls.known(target.trust or Trust())
            if context is None:
                return None
        door = self._doors.get(node)
        if door is None or door[0] is not target or door[1].tls is not context:
            address = _make_address(target, context)
            door = self._doors[node] = (target, address, self._make_head(target))
        return door

    def _make_head(self, target: ProbeTarget) -> NodeHead:
        host, port = target.place.address
        scheme, literal = target.place.scheme, target.addresses[0]
        address = Target(scheme=scheme, address=literal, port=port, host=host)
        key = self._secret_of(target.key_env) if target.key_env else None
        writer = HeadWriter(address.authority(), None if key is None else f"Bearer {key}")
        return NodeHead(target.place.path, writer)


def _make_address(target: ProbeTarget, context: ssl.SSLContext | None) -> Address:
    host, port = target.place.address
    literal = target.addresses[0]
    return Address(literal, port) if context is None else Address(literal, port, context, host)
