"""The registry: the only owner of what is known about nodes.

Every change is synchronous and announced; readers get an immutable snapshot. It asks nobody and
forwards nothing.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING

from sollold.core import health as hl
from sollold.core.health import Drain, HealthPolicy, ProbeOk, TrafficOk
from sollold.core.model import NodeKind
from sollold.errors import NodeNotFound
from sollold.nodes.announce import Announcer
from sollold.nodes.candidates import SOURCES
from sollold.nodes.members import Members
from sollold.nodes.own import OwnAddresses
from sollold.nodes.records import (
    PeerView,
    ProbeTarget,
    confirm_residents,
    essence,
    is_plainly_up,
    judge,
    note_load,
    peer_view,
    probe_target,
)
from sollold.nodes.snapshot import Snapshot
from sollold.nodes.tls import Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sollold.core.health import Observation
    from sollold.core.model import (
        Digest,
        Fleet,
        LoadOptions,
        ModelKey,
        ModelView,
        NodeId,
        NodeView,
        ResidentView,
    )
    from sollold.nodes.announce import EventHandler
    from sollold.nodes.candidates import Candidate
    from sollold.nodes.records import Record

log = logging.getLogger(__name__)

MAX_NODES = 1024


class Registry:
    """Records, snapshots, announcements. No method waits."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        on_event: EventHandler,
        policy: HealthPolicy | None = None,
        own: OwnAddresses | None = None,
        ranks: Sequence[str] = SOURCES,
        max_nodes: int = MAX_NODES,
    ) -> None:
        self.policy = policy or HealthPolicy()
        self._clock = clock
        self._announcer = Announcer(on_event)
        self._members = Members(self, own or OwnAddresses(), ranks, max_nodes)
        self._snapshot = Snapshot(clock())
        self._next_change_s = inf
        self._on_doubt: Callable[[NodeId], None] | None = None

    # Reading

    def fleet(self) -> Fleet:
        """Return the snapshot; the same object until something changed."""
        now_s = self._clock()
        if now_s >= self._next_change_s:
            self._sweep(now_s)
        return self._snapshot.fleet(self._members, now_s)

    def get(self, node: NodeId) -> NodeView | None:
        """Return one node's view, its newest probe included; None when it is unknown."""
        self.fleet()
        record = self._members.get(node)
        is_seen = record is not None and record.is_visible
        return self._snapshot.view(record, self._clock()) if record and is_seen else None

    def peers(self) -> tuple[PeerView, ...]:
        """Return the other daemons that were met."""
        return tuple(peer_view(r) for r in self._members if r.peer_version is not None)

    def ids(self) -> set[NodeId]:
        """Return everything to be probed, peers and unseen candidates included."""
        return {record.id for record in self._members}

    def target(self, node: NodeId) -> ProbeTarget | None:
        """Return what to probe for one id."""
        record = self._members.get(node)
        return None if record is None else probe_target(record)

    def next_probe_in_s(self, node: NodeId, dice: float) -> float:
        """Return the pause before the next probe of a node."""
        record = self._members.get(node)
        if record is None:
            return 0.0
        return hl.next_probe_in_s(record.health, self._clock(), self.policy, dice)

    @property
    def next_change_s(self) -> float:
        """When `tick` will have something to do; infinite when nothing changes by itself."""
        return self._next_change_s

    # Announcing

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called after each change; returns what ends that.

        What only becomes older (last probe, its duration, a count of tries) is no change.
        """
        return self._announcer.subscribe(callback)

    def when_in_doubt(self, callback: Callable[[NodeId], None]) -> None:
        """Have `callback` told of nodes that traffic says should be probed soon."""
        self._on_doubt = callback

    def tick(self) -> None:
        """Let changes happen that only time brings: ends of penalties, evidence growing old."""
        now_s = self._clock()
        if now_s >= self._next_change_s:
            self._sweep(now_s)
        self._announcer.tell()

    def set_policy(self, policy: HealthPolicy) -> None:
        """Judge what is observed from now on by another policy. No await."""
        self.policy = policy

    def trusts(self) -> set[Trust]:
        """Return what the certificates of nodes have to be. No await."""
        return {record.candidate.trust or Trust() for record in self._members}

    # Membership

    def add(self, candidate: Candidate) -> NodeId | None:
        """Take in a candidate; None when it is this daemon or one too many."""
        record = self._members.add(candidate, self._clock())
        self._announcer.tell()
        return None if record is None else record.id

    def reconcile(self, source: str, candidates: Iterable[Candidate]) -> None:
        """Make these all that a source vouches for; nodes without any source leave."""
        self._members.reconcile(source, candidates, self._clock())
        self._announcer.tell()

    def remove(self, node: NodeId, text: str = "it was removed") -> None:
        """Forget a node, whoever vouches for it."""
        self._members.drop(self._known(node), text)
        self._announcer.tell()

    def set_own(self, own: OwnAddresses) -> None:
        """Replace what is known of this machine's addresses."""
        self._members.set_own(own)
        self._announcer.tell()

    def set_addresses(self, node: NodeId, addresses: Sequence[str]) -> None:
        """Replace a node's literals; it may be merged with another node by that."""
        record = self._members.get(node)
        if record is not None:
            self._members.set_addresses(record, addresses)
            self._announcer.tell()

    def prefer_address(self, node: NodeId, address: str) -> None:
        """Put the literal that answers first."""
        record = self._members.get(node)
        if record is None or address not in record.addresses or record.addresses[0] == address:
            return
        record.addresses = (address, *(a for a in record.addresses if a != address))
        self.changed(record)
        self._announcer.tell()

    def mark_peer(self, node: NodeId, version: str | None) -> None:
        """Note that another sollold answers there."""
        record = self._members.get(node)
        if record is None:
            return
        record.seen_s = self._clock()
        if record.peer_version is None:
            log.info("%s is another sollold, not a node", record.place)
            if record.is_visible:
                self._announcer.left(record, "another sollold answers there")
            record.health = hl.Health()
            record.models, record.residents, record.has_answered = {}, (), False
        record.peer_version = version or ""
        self._judge(record, record.seen_s)
        self.changed(record)
        self._announcer.tell()

    def unmark_peer(self, node: NodeId) -> None:
        """Note that a node answers where a sollold was."""
        record = self._members.get(node)
        if record is not None and record.peer_version is not None:
            record.peer_version = None
            self.joined(record)
            self._announcer.tell()

    # Evidence

    def observe(self, node: NodeId, seen: Observation) -> None:
        """Take in one observation; unknown nodes are ignored, they may have left meanwhile."""
        record = self._members.get(node)
        if record is None:
            return
        now_s = self._clock()
        health = hl.observe(record.health, seen, now_s, self.policy)
        if health is record.health:
            return
        record.health = health
        if isinstance(seen, TrafficOk) and is_plainly_up(record) and not hl.is_slow(health):
            return  # The usual case, once per request: nobody sees a difference.
        if isinstance(seen, ProbeOk):
            self._answered(record, seen, now_s)
        self._judge(record, now_s)
        self._announcer.tell()
        is_refusal = isinstance(seen, hl.Misconfigured | hl.Warming) and not seen.is_probe
        if is_refusal or isinstance(seen, hl.Refused | hl.TrafficFailed):
            self._doubt(node)

    def take_trial(self, node: NodeId) -> int | None:
        """Begin the trial that decides about an ejected node; None when there is none to begin."""
        record = self._members.get(node)
        if record is None:
            return None
        now_s = self._clock()
        taken = hl.take_trial(record.health, now_s, self.policy)
        if taken is None:
            return None
        record.health = taken[0]
        self._judge(record, now_s)
        self._announcer.tell()
        return taken[1]

    def drain(self, node: NodeId, *, until_s: float | None = None, text: str = "") -> None:
        """Let a node finish what it has. Raises NodeNotFound."""
        drain = Drain(is_on=True, until_s=until_s, text=text or "draining on request")
        self.observe(self._known(node).id, drain)

    def resume(self, node: NodeId) -> None:
        """Give a node work again. Raises NodeNotFound."""
        self.observe(self._known(node).id, Drain(is_on=False))

    # Facts

    def set_version(self, node: NodeId, version: str | None) -> None:
        """Note the node's version."""
        record = self._members.get(node)
        if record is not None and record.version != version:
            record.version = version
            self.changed(record)
            self._announcer.tell()

    def set_kind(self, node: NodeId, kind: NodeKind) -> None:
        """Note what a node turned out to speak; what was known of another server is dropped."""
        record = self._members.get(node)
        if record is None or record.kind is kind or record.candidate.kind is not None:
            return
        log.info("node %s is of kind %s", record.place, kind)
        record.models, record.version, record.told_slots = {}, None, None
        self._replace_residents(record, ())
        self._members.set_kind(record, kind)
        self._announcer.tell()

    def set_slots(self, node: NodeId, slots: int | None) -> None:
        """Note how many parallel requests per model the node says it takes."""
        record = self._members.get(node)
        if record is not None and record.told_slots != slots:
            record.told_slots = slots
            self.changed(record)
            self._announcer.tell()

    def set_catalogue(self, node: NodeId, models: Mapping[ModelKey, ModelView]) -> None:
        """Replace the list of stored models; an equal one changes nothing."""
        record = self._members.get(node)
        if record is not None and record.models != models:
            record.models = dict(models)
            self.changed(record)
            self._announcer.tell()

    def set_residents(
        self, node: NodeId, listed: Sequence[ResidentView], *, asked_s: float
    ) -> None:
        """Replace what is in memory by what the node listed when asked at `asked_s`."""
        record = self._members.get(node)
        if record is None:
            return
        self._replace_residents(record, confirm_residents(record, listed, asked_s))
        if len(listed) > record.resident_room:
            record.resident_room = len(listed)
            self.changed(record)
        self._announcer.tell()

    def note_resident(
        self,
        node: NodeId,
        key: ModelKey,
        digest: Digest,
        options: LoadOptions,
        context_length: int | None = None,
    ) -> None:
        """Note that a request of ours loaded a model; the node's next list confirms it or not."""
        record = self._members.get(node)
        if record is None or record.kind is not NodeKind.OLLAMA:
            return  # Others have in memory what they say they have.
        noted = note_load(record, key, digest, options, context_length, self._clock())
        if noted is not None:
            others = tuple(r for r in record.residents if r.digest != digest)
            self._replace_residents(record, (*others, noted))
            self._announcer.tell()
            self._doubt(node)

    # What membership says (Audience)

    def joined(self, record: Record) -> None:
        """Take in a record that is new, or new to readers."""
        self.changed(record)
        if record.is_visible:
            self._announcer.joined(record)

    def left(self, record: Record, text: str) -> None:
        """Take in that a record is gone."""
        self.changed(record)
        self._snapshot.quiet.discard(record.id)
        if record.is_visible:
            self._announcer.left(record, text)

    def changed(self, record: Record) -> None:
        """Have the record's view made anew for the next reader, and subscribers told."""
        record.view = None
        self._snapshot.is_stale = True
        self._announcer.mark()

    # Inside

    def _known(self, node: NodeId) -> Record:
        record = self._members.get(node)
        if record is None:
            raise NodeNotFound(f"there is no node called {node}")
        return record

    def _doubt(self, node: NodeId) -> None:
        if self._on_doubt is not None:
            self._on_doubt(node)

    def _answered(self, record: Record, seen: ProbeOk, now_s: float) -> None:
        record.seen_s = now_s
        record.probe_ms = seen.latency_s * 1000
        self._snapshot.quiet.add(record.id)
        if not record.has_answered:
            was_visible = record.is_visible
            record.has_answered = True
            if not was_visible and record.is_visible:
                self.joined(record)

    def _judge(self, record: Record, now_s: float) -> None:
        """Derive state and reason anew; tell when something changed on which others act."""
        self._next_change_s = min(self._next_change_s, hl.next_change_s(record.health, now_s))
        before = record.judgement
        judgement, reason = judge(record.health, now_s)
        if reason != record.reason:
            record.reason = reason
            self._snapshot.quiet.add(record.id)
        if judgement == before:
            return
        record.judgement = judgement
        self.changed(record)
        if judgement[0] is not before[0]:
            record.since_s = now_s
            if record.is_visible:
                self._announcer.state(record, before[0])

    def _sweep(self, now_s: float) -> None:
        self._next_change_s = inf
        for record in self._members:
            self._judge(record, now_s)

    def _replace_residents(self, record: Record, residents: tuple[ResidentView, ...]) -> None:
        before, record.residents = record.residents, residents
        if [essence(r) for r in residents] == [essence(r) for r in before]:
            if residents != before:
                self._snapshot.quiet.add(record.id)
            return
        self.changed(record)
        self._announcer.residents(record, before, self._clock())
