"""One node's record: what sources, probes and requests said about it, and the view made of that.

Only the registry changes records. Nothing here waits or calls anybody.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING

import msgspec

from sollold.config.address import NodeUrl
from sollold.core import health as hl
from sollold.core.health import Health
from sollold.core.model import (
    Digest,
    LoadOptions,
    ModelKey,
    ModelView,
    NodeId,
    NodeKind,
    NodeState,
    NodeView,
    Reason,
    ResidentView,
)
from sollold.nodes.offer import Offer
from sollold.nodes.tls import Trust

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sollold.nodes.candidates import Candidate

Judgement = tuple[NodeState, str, Reason | None, bool, bool, bool, float]
"""What makes a change worth telling: state, reason code, failure, and what routing looks at."""


_LEARNED = (
    "has_answered",
    "found_kind",
    "health",
    "judgement",
    "loaded_s",
    "models",
    "notes",
    "probe_ms",
    "reason",
    "resident_room",
    "residents",
    "seen_s",
    "since_s",
    "told_slots",
    "version",
)


class Note(msgspec.Struct, frozen=True):
    """A load of ours that succeeded."""

    resident: ResidentView
    options: LoadOptions
    at_s: float


class ProbeTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What a prober has to know of a node."""

    id: NodeId
    kind: NodeKind
    place: NodeUrl
    addresses: tuple[str, ...]
    key_env: str | None
    is_peer: bool
    is_kind_given: bool = False
    """Configuration says what it speaks."""
    trust: Trust | None = None
    offer: Offer = Offer()


class PeerView(msgspec.Struct, frozen=True, kw_only=True):
    """Another sollold; never given work."""

    url: str
    host: str
    port: int
    version: str | None
    found_by: tuple[str, ...]
    seen_s: float | None


class Record:
    """Everything known of one node."""

    __slots__ = (
        "addresses",
        "claims",
        "found_kind",
        "has_answered",
        "health",
        "id",
        "judgement",
        "loaded_s",
        "models",
        "notes",
        "peer_version",
        "place",
        "probe_ms",
        "reason",
        "resident_room",
        "residents",
        "seen_s",
        "since_s",
        "target",
        "told_slots",
        "version",
        "view",
    )

    def __init__(self, node: NodeId, place: NodeUrl, now_s: float) -> None:
        self.id = node
        self.place = place
        self.claims: dict[str, Candidate] = {}
        """By source, the strongest first."""
        self.addresses: tuple[str, ...] = ()
        self.health = Health()
        self.judgement, self.reason = judge(self.health, now_s)
        self.since_s = now_s
        self.has_answered = False
        self.found_kind: NodeKind | None = None
        """What it turned out to be, where configuration does not say."""
        self.peer_version: str | None = None
        """Set while another sollold answers there; empty when it did not say which version."""
        self.version: str | None = None
        self.told_slots: int | None = None
        """Parallel requests per model, as the node itself says."""
        self.models: dict[ModelKey, ModelView] = {}
        self.residents: tuple[ResidentView, ...] = ()
        self.loaded_s: dict[ModelKey, float] = {}
        self.notes: dict[Digest, Note] = {}
        self.resident_room = 1
        self.seen_s: float | None = None
        self.probe_ms: float | None = None
        self.view: NodeView | None = None
        self.target: tuple[tuple[object, ...], ProbeTarget] | None = None

    @property
    def candidate(self) -> Candidate:
        """The claim that decides name, tier and slots."""
        return next(iter(self.claims.values()))

    @property
    def kind(self) -> NodeKind:
        """What the node speaks; Ollama until something else is known."""
        return self.candidate.kind or self.found_kind or NodeKind.OLLAMA

    @property
    def is_visible(self) -> bool:
        """Whether it appears as a node: it is no peer, and worth a word."""
        if self.peer_version is not None:
            return False
        return self.has_answered or not all(claim.is_silent for claim in self.claims.values())

    def claim(self, candidate: Candidate, ranks: Sequence[str]) -> bool:
        """Add or replace what one source says; True when that changed something."""
        if self.claims.get(candidate.source) == candidate:
            return False
        claims = {**self.claims, candidate.source: candidate}
        self.claims = dict(sorted(claims.items(), key=lambda item: _rank(item[0], ranks)))
        return True

    def adopt(self, other: Record) -> None:
        """Take over what was learned under another identity."""
        for name in _LEARNED:
            setattr(self, name, getattr(other, name))


def _rank(source: str, ranks: Sequence[str]) -> int:
    return ranks.index(source) if source in ranks else len(ranks)


def judge(health: Health, now_s: float) -> tuple[Judgement, Reason | None]:
    """Return the derived facts on which others act, and the reason for people."""
    state, reason = hl.assess(health, now_s)
    judgement = (
        state,
        "" if reason is None else reason.code,
        health.active.failure,
        hl.is_routable(health, now_s),
        hl.is_ejected(health, now_s),
        hl.takes_trial(health, now_s),
        hl.penalty_until_s(health, now_s),
    )
    return judgement, reason


def is_plainly_up(record: Record) -> bool:
    """Whether there is nothing to remark on a node."""
    return record.judgement[0] is NodeState.UP and not record.judgement[1]


def build_view(record: Record, now_s: float) -> NodeView:
    """Return the record as others see it; the catalogue is shared, not copied."""
    state, _, _, is_routable, is_ejected, takes_trial, penalty_until_s = record.judgement
    candidate, place = record.candidate, record.place
    return NodeView(
        id=record.id,
        kind=record.kind,
        url=str(place),
        host=place.address.host,
        port=place.address.port,
        state=state,
        reason=record.reason,
        since_s=record.since_s,
        found_by=tuple(record.claims),
        tier=candidate.tier,
        slots=record.told_slots if candidate.slots is None else candidate.slots,
        version=record.version,
        is_routable=is_routable,
        is_ejected=is_ejected,
        penalty_until_s=penalty_until_s,
        penalty_rank=hl.penalty_rank(record.health, now_s),
        takes_trial=takes_trial,
        addresses=record.addresses,
        models=record.models,
        residents=record.residents,
        resident_room=record.resident_room,
        seen_s=record.seen_s,
        probe_ms=record.probe_ms,
    )


def probe_target(record: Record) -> ProbeTarget:
    """Return the record as a prober sees it; the same object until that changes."""
    # Every request asks for it. What it is made of is replaced, never changed.
    made_of = (
        record.id,
        record.place,
        record.addresses,
        record.claims,
        record.peer_version,
        record.found_kind,
    )
    known = record.target
    if known is not None and all(map(is_, known[0], made_of)):
        return known[1]
    target = ProbeTarget(
        id=record.id,
        kind=record.kind,
        place=record.place,
        addresses=record.addresses,
        key_env=record.candidate.key_env,
        is_peer=record.peer_version is not None,
        is_kind_given=record.candidate.kind is not None,
        trust=record.candidate.trust,
        offer=record.candidate.offer,
    )
    record.target = (made_of, target)
    return target


def peer_view(record: Record) -> PeerView:
    """Return the record of another daemon as others see it."""
    return PeerView(
        url=str(record.place),
        host=record.place.address.host,
        port=record.place.address.port,
        version=record.peer_version or None,
        found_by=tuple(record.claims),
        seen_s=record.seen_s,
    )


def confirm_residents(
    record: Record, listed: Iterable[ResidentView], asked_s: float
) -> tuple[ResidentView, ...]:
    """Return what is in memory, given what the node listed when asked at `asked_s`.

    Our own loads keep their options while the node lists them with the context we know. A load that
    ended after the question was asked is newer than the answer and stays. Updates the notes.
    """
    found: dict[Digest, ResidentView] = {}
    notes: dict[Digest, Note] = {}
    for resident in listed:
        note = record.notes.get(resident.digest)
        found[resident.digest] = resident
        if note is not None and _is_same_load(note.resident, resident):
            ours = msgspec.structs.replace(resident, options=note.options)
            found[ours.digest] = ours
            notes[ours.digest] = Note(ours, note.options, note.at_s)
    for digest, note in record.notes.items():
        if digest not in notes and note.at_s >= asked_s:
            notes[digest] = note
            found[digest] = note.resident
    record.notes = notes
    return tuple(found.values())


def note_load(
    record: Record,
    key: ModelKey,
    digest: Digest,
    options: LoadOptions,
    context_length: int | None,
    now_s: float,
) -> ResidentView | None:
    """Note a load of ours; returns the resident as now believed, None when that is no news."""
    known = next((r for r in record.residents if r.digest == digest), None)
    is_same = known is not None and known.options == options
    if known is not None and is_same and context_length in (None, known.context_length):
        return None
    noted = ResidentView(
        key=key if known is None else known.key,
        digest=digest,
        context_length=context_length,
        expires_at="" if known is None else known.expires_at,
        size_bytes=0 if known is None else known.size_bytes,
        size_vram_bytes=0 if known is None else known.size_vram_bytes,
        options=options,
        entry={} if known is None else known.entry,
    )
    record.notes[digest] = Note(noted, options, now_s)
    return noted


def model_name(record: Record, key: ModelKey) -> str:
    """Return a model's name as the node spells it, where it lists it."""
    model = record.models.get(key)
    return key if model is None else model.name


def _is_same_load(noted: ResidentView, listed: ResidentView) -> bool:
    contexts = {noted.context_length, listed.context_length} - {None}
    return len(contexts) < 2


def essence(resident: ResidentView) -> tuple[object, ...]:
    """Return what routing looks at; a later end of its stay is no news."""
    return (
        resident.key,
        resident.digest,
        resident.context_length,
        resident.size_bytes,
        resident.size_vram_bytes,
        resident.options,
    )
