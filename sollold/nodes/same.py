"""Whether two claims on one IP address, port and path may be one node.

What somebody wrote down with another host name or other settings stays a node of its own: the name
in `Host` and SNI chooses the server, and the key and the models belong to what was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.nodes.candidates import CONFIG, HOSTS_FILE
from sollold.nodes.own import is_literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sollold.nodes.candidates import Candidate

_WRITTEN = frozenset({CONFIG, HOSTS_FILE})


def is_written(claims: Iterable[Candidate]) -> bool:
    """Whether one of the claims is configuration rather than found."""
    return any(claim.source in _WRITTEN for claim in claims)


def may_be_one(some: Iterable[Candidate], others: Iterable[Candidate]) -> bool:
    """Whether nothing that was written keeps these claims apart."""
    written = [claim for claim in others if claim.source in _WRITTEN]
    return all(_is_alike(one, other) for one in some if one.source in _WRITTEN for other in written)


def _is_alike(one: Candidate, other: Candidate) -> bool:
    name, other_name = _host_name(one), _host_name(other)
    if name == other_name != "" and one.source != other.source:
        return True  # A line of the hosts file: the rest is taken from configuration.
    names = {name, other_name} - {""}
    return len(names) < 2 and _settings(one, other) == _settings(other, one)


def _host_name(candidate: Candidate) -> str:
    """Return the name of the host; empty when it is an address, which chooses nothing."""
    host = candidate.place().address.host
    return "" if is_literal(host) else host.casefold().rstrip(".")


def _settings(candidate: Candidate, other: Candidate) -> tuple[object, ...]:
    """Return what makes it another node; a line of the hosts file says no tier and slots."""
    settings = (
        candidate.kind,
        candidate.key_env,
        candidate.trust,
        candidate.offer,
    )
    is_full = candidate.source == other.source == CONFIG
    return (*settings, candidate.tier, candidate.slots) if is_full else settings
