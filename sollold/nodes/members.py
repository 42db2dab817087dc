"""Who is a node: identity, the sources that vouch for each, and who turned out to be the same.

Owns the records' membership. Two candidates are one node when they share a URL, or an address, port
and path, and nothing that was written about them differs (`sollold.nodes.same`); all addresses of
this machine count as one. This daemon itself never becomes a node.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from sollold.core.model import NodeId, NodeKind
from sollold.nodes.own import is_literal
from sollold.nodes.records import Record
from sollold.nodes.same import is_written, may_be_one
from sollold.system.netif import normal_literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sollold.config.address import NodeUrl
    from sollold.nodes.candidates import Candidate
    from sollold.nodes.own import OwnAddresses

log = logging.getLogger(__name__)

_Socket = tuple[str, int, str]


class Audience(Protocol):
    """Hears about membership, while it changes."""

    def joined(self, record: Record) -> None:
        """Take in a new record."""

    def left(self, record: Record, text: str) -> None:
        """Take in that a record is gone."""

    def changed(self, record: Record) -> None:
        """Take in that a record's view is out of date."""


class Members:
    """The records by id. No method waits."""

    def __init__(
        self, audience: Audience, own: OwnAddresses, ranks: Sequence[str], max_nodes: int
    ) -> None:
        self.own = own
        self._audience = audience
        self._ranks = ranks
        self._max_nodes = max_nodes
        self._records: dict[NodeId, Record] = {}
        self._urls: dict[str, Record] = {}
        self._sockets: dict[_Socket, list[Record]] = {}
        """Several share a socket where what was written keeps them apart."""

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def get(self, node: NodeId) -> Record | None:
        """Return a record."""
        return self._records.get(node)

    def add(self, candidate: Candidate, now_s: float) -> Record | None:
        """Take in what a source found; None when it is this daemon, or there are too many.

        Raises ValueError when the candidate's URL cannot be read.
        """
        place = candidate.place()
        if self._is_daemon(place):
            _log_own(candidate)
            return None
        record = self._find(candidate, place)
        if record is None:
            return self._create(candidate, place, now_s)
        self._urls[str(place)] = record
        if record.claim(candidate, self._ranks):
            self._settle(record)
        return record

    def reconcile(self, source: str, candidates: Iterable[Candidate], now_s: float) -> None:
        """Make these candidates all that the source vouches for."""
        places = [(candidate, candidate.place()) for candidate in candidates]
        kept = {id(self._find_url(candidate, place)) for candidate, place in places}
        for record in tuple(self):
            if source in record.claims and id(record) not in kept:
                self._unclaim(record, source)
        added: dict[int, Candidate] = {}
        for candidate, place in places:
            known = self._find(candidate, place)
            if known is not None and id(known) in added:
                names = [c.name or c.url for c in (added[id(known)], candidate)]
                log.warning("%s and %s are the same node, named twice in %s", *names, source)
                continue
            taken = self.add(candidate, now_s)
            if taken is not None:
                added[id(taken)] = candidate
        for record in tuple(self):
            # Settings that kept two apart may be the same now.
            if self.get(record.id) is record:
                self._merge_with_twin(record)

    def drop(self, record: Record, text: str) -> None:
        """Forget a node."""
        if self._records.pop(record.id, None) is None:
            return
        self._urls = {url: other for url, other in self._urls.items() if other is not record}
        self._forget_sockets(record)
        self._audience.left(record, text)

    def set_addresses(self, record: Record, addresses: Sequence[str]) -> None:
        """Replace the literals of a node; it may turn out to be another one, or this daemon."""
        place = record.place
        usable = [a for a in addresses if not self.own.is_daemon(a, place.address.port)]
        if addresses and not usable:
            _log_own(record.candidate)
            self.drop(record, "it is this daemon itself")
            return
        if set(usable) == set(record.addresses):
            return
        good = record.addresses[:1]
        # The address that works stays first, whatever order the name server likes today.
        record.addresses = (
            *(a for a in good if a in usable),
            *(a for a in usable if a not in good),
        )
        self._forget_sockets(record)
        self._audience.changed(record)
        self._hold_sockets(record)
        self._merge_with_twin(record)

    def set_kind(self, record: Record, kind: NodeKind) -> None:
        """Note what a record turned out to speak; a name made of that changes with it."""
        record.found_kind = kind
        self._settle(record)

    def set_own(self, own: OwnAddresses) -> None:
        """Replace what is known of this machine and look at every node again."""
        self.own = own
        self._sockets.clear()
        for record in tuple(self):
            if self.get(record.id) is record:
                addresses, record.addresses = record.addresses, ()
                self.set_addresses(record, addresses)

    def _find(self, candidate: Candidate, place: NodeUrl) -> Record | None:
        record = self._find_url(candidate, place)
        if record is None and is_literal(place.address.host):
            holders = self._sockets.get(self._socket(place.address.host, place), ())
            record = next((r for r in holders if may_be_one([candidate], r.claims.values())), None)
        return record

    def _find_url(self, candidate: Candidate, place: NodeUrl) -> Record | None:
        """Return the node of a URL, unless it was merged with one that now has other settings."""
        record = self._urls.get(str(place))
        if record is None or str(record.place) == str(place):
            return record
        return record if may_be_one([candidate], record.claims.values()) else None

    def _is_daemon(self, place: NodeUrl) -> bool:
        host, port = place.address
        return is_literal(host) and self.own.is_daemon(host, port)

    def _create(self, candidate: Candidate, place: NodeUrl, now_s: float) -> Record | None:
        if len(self._records) >= self._max_nodes:
            log.warning("%s is left out: there are %d nodes already", place, self._max_nodes)
            return None
        record = Record(self._free_id(candidate, place), place, now_s)
        record.claim(candidate, self._ranks)
        self._records[record.id] = record
        self._urls[str(place)] = record
        self._audience.joined(record)
        if is_literal(place.address.host):
            self.set_addresses(record, (normal_literal(place.address.host),))
        return record

    def _settle(self, record: Record) -> None:
        """Let the strongest claim name the record."""
        candidate = record.candidate
        place = candidate.place()
        wanted = _id(candidate, place, record.found_kind)
        if wanted != record.id and wanted not in self._records:
            self._audience.left(record, f"it is called {wanted} now")
            del self._records[record.id]
            record.id = wanted
            self._records[wanted] = record
            self._audience.joined(record)
        record.place = place
        self._audience.changed(record)

    def _unclaim(self, record: Record, source: str) -> None:
        if len(record.claims) == 1:
            self.drop(record, f"it is no longer in {source}")
            return
        record.claims = {name: claim for name, claim in record.claims.items() if name != source}
        self._settle(record)

    def _merge_with_twin(self, record: Record) -> None:
        claims = record.claims.values()
        for key in self._keys(record):
            for twin in self._sockets.get(key, ()):
                if twin is not record and may_be_one(claims, twin.claims.values()):
                    self._merge(record, twin)
                    return

    def _merge(self, one: Record, other: Record) -> None:
        """Make two records of one server one; the better named survives."""
        winner, loser = sorted((one, other), key=self._precedence)
        is_both = is_written(winner.claims.values()) and is_written(loser.claims.values())
        level = logging.WARNING if is_both else logging.INFO
        log.log(level, "%s and %s are the same server, used as %s", winner.id, loser.id, winner.id)
        urls = [url for url, record in self._urls.items() if record is loser]
        claims, addresses = loser.claims, loser.addresses
        self.drop(loser, f"it is the same server as {winner.id}")
        for url in urls:
            self._urls[url] = winner
        for source, candidate in claims.items():
            if source not in winner.claims:
                winner.claim(candidate, self._ranks)
        if loser.has_answered and not winner.has_answered:
            winner.adopt(loser)
        merged = dict.fromkeys((*winner.addresses, *addresses))
        winner.addresses = tuple(merged)
        self._hold_sockets(winner)
        self._settle(winner)

    def _precedence(self, record: Record) -> tuple[bool, int, int]:
        source = next(iter(record.claims))
        rank = self._ranks.index(source) if source in self._ranks else len(self._ranks)
        return record.candidate.name is None, rank, list(self._records).index(record.id)

    def _free_id(self, candidate: Candidate, place: NodeUrl) -> NodeId:
        wanted = _id(candidate, place)
        if wanted in self._records and candidate.name is not None:
            log.warning(
                "two nodes are called %s; %s gets a name made from its address",
                candidate.name,
                place,
            )
            wanted = _address_id(candidate, place)
        number = 2
        free = wanted
        while free in self._records:
            free = NodeId(f"{wanted}#{number}")
            number += 1
        return free

    def _keys(self, record: Record) -> list[_Socket]:
        return [self._socket(address, record.place) for address in record.addresses]

    def _socket(self, address: str, place: NodeUrl) -> _Socket:
        return self.own.machine(address), place.address.port, place.path

    def _hold_sockets(self, record: Record) -> None:
        for key in self._keys(record):
            holders = self._sockets.setdefault(key, [])
            if record not in holders:
                holders.append(record)

    def _forget_sockets(self, record: Record) -> None:
        for key, holders in tuple(self._sockets.items()):
            if record in holders:
                holders.remove(record)
                if not holders:
                    del self._sockets[key]


def _id(candidate: Candidate, place: NodeUrl, found: NodeKind | None = None) -> NodeId:
    return NodeId(candidate.name) if candidate.name else _address_id(candidate, place, found)


def _address_id(candidate: Candidate, place: NodeUrl, found: NodeKind | None = None) -> NodeId:
    return NodeId(f"{candidate.kind or found or NodeKind.OLLAMA}:{place.address}{place.path}")


def _log_own(candidate: Candidate) -> None:
    level = logging.DEBUG if candidate.is_silent else logging.WARNING
    log.log(level, "%s (%s) is this daemon itself, not a node", candidate.url, candidate.source)
