"""Questions to one Ollama node and what its answers mean.

Never asks anything that loads a model or costs tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sollold.core.health import Misconfigured
from sollold.core.model import NodeKind, ResidentView
from sollold.nodes.ask import Reply, is_daemon, is_llama, judge
from sollold.nodes.parse import (
    ReplyError,
    Shared,
    parse_daemon,
    parse_ps,
    parse_show,
    parse_tags,
    parse_version,
)

if TYPE_CHECKING:
    from sollold.nodes.ask import Asker, Failure, Target
    from sollold.nodes.parse import Shown, Tags


class Version(msgspec.Struct, frozen=True):
    """A node said which version it is."""

    version: str
    latency_s: float


class Memory(msgspec.Struct, frozen=True):
    """A node said what it has in memory."""

    residents: tuple[ResidentView, ...]
    latency_s: float


class Peer(msgspec.Struct, frozen=True):
    """Another sollold answered."""

    version: str | None


class Stranger(msgspec.Struct, frozen=True):
    """Another server than Ollama answered."""

    kind: NodeKind


class NodeClient:
    """Asks nodes; every call has a time limit and returns failures as values."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self._shared = Shared()

    async def version(self, target: Target, limit_s: float) -> Version | Peer | Stranger | Failure:
        """Ask who is there."""
        reply = await self.asker.ask(target, "GET", "/api/version", limit_s)
        if not isinstance(reply, Reply):
            return reply
        if is_daemon(reply):
            return Peer(_peer_version(reply.body))
        if is_llama(reply):
            return Stranger(NodeKind.LLAMA_SERVER)
        failure = judge(reply, target, "/api/version")
        if failure is not None:
            return failure
        try:
            return Version(parse_version(reply.body), reply.latency_s)
        except ReplyError as exc:
            return Misconfigured(f"{exc}, not as Ollama does, on {target.port}")

    async def peer(self, target: Target, limit_s: float) -> Peer | None:
        """Ask whether another sollold is there; it imitates Ollama everywhere but here."""
        reply = await self.asker.ask(target, "GET", "/api/v1/status", limit_s)
        if not isinstance(reply, Reply) or reply.status != 200:
            return None
        version = parse_daemon(reply.body)
        return None if version is None else Peer(version or None)

    async def tags(
        self, target: Target, limit_s: float, known: Tags | None = None
    ) -> Tags | Failure:
        """Ask which models are stored; the answer is `known` itself when nothing changed."""
        reply = await self._get(target, "/api/tags", limit_s)
        if not isinstance(reply, Reply):
            return reply
        try:
            return parse_tags(reply.body, self._shared, known)
        except ReplyError as exc:
            return Misconfigured(f"{exc} to /api/tags")

    async def ps(self, target: Target, limit_s: float) -> Memory | Peer | Failure | None:
        """Ask which models are in memory; None: the node does not know this question."""
        reply = await self.asker.ask(target, "GET", "/api/ps", limit_s)
        if not isinstance(reply, Reply):
            return reply
        if is_daemon(reply):
            return Peer(None)
        if reply.status in (404, 405, 501):
            return None
        failure = judge(reply, target, "/api/ps")
        if failure is not None:
            return failure
        try:
            return Memory(parse_ps(reply.body), reply.latency_s)
        except ReplyError as exc:
            return Misconfigured(f"{exc} to /api/ps")

    async def show(self, target: Target, name: str, limit_s: float) -> Shown | Failure | None:
        """Ask what a model can do; None: it is gone, or the node cannot tell."""
        body = msgspec.json.encode({"model": name})
        reply = await self.asker.ask(target, "POST", "/api/show", limit_s, body)
        if not isinstance(reply, Reply):
            return reply
        if reply.status in (400, 404, 405, 501):
            return None
        failure = judge(reply, target, "/api/show")
        if failure is not None:
            return failure
        try:
            return parse_show(reply.body)
        except ReplyError:
            return None

    async def _get(self, target: Target, path: str, limit_s: float) -> Reply | Failure:
        reply = await self.asker.ask(target, "GET", path, limit_s)
        if not isinstance(reply, Reply):
            return reply
        return judge(reply, target, path) or reply


def _peer_version(body: bytes) -> str | None:
    try:
        return parse_version(body)
    except ReplyError:
        return None
