"""Lists of models, loaded models and versions, merged over all nodes.

Owns the answers that no node is asked for. Must not decide where requests go; which digest a name
stands for is decided here, because lists and routing must agree on it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from sollold.core.model import NodeKind, NodeState
from sollold.core.names import display_of, parse
from sollold.wire.gojson import go_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sollold.core.model import (
        Digest,
        Fleet,
        ModelKey,
        ModelView,
        NodeId,
        NodeView,
        ResidentView,
    )

    _Holder = tuple[int, NodeId, ModelView]
    """Rank, the lowest being the best; a node; and how it lists a model."""

_ABSENT: Final = frozenset({NodeState.DOWN, NodeState.UNKNOWN})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ZERO_TIME: Final = "0001-01-01T00:00:00Z"
_ZERO_TIME_NS: Final = -62_135_596_800_000_000_000
_NS_PER_S: Final = 1_000_000_000
_SECONDS_CHARS: Final = len("2006-01-02T15:04:05")
# What `datetime` cuts off a fraction.
_NANOS: Final = re.compile(r"\.[0-9]{6}([0-9]{1,3})")
_NO_DETAILS: Final = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": None,
    "parameter_size": "",
    "quantization_level": "",
}
# Clients take these for granted; the CLI breaks on a short digest.
_NEEDED: Final = frozenset({"name", "model", "modified_at", "size", "digest", "details"})
_NEEDED_LOADED: Final = frozenset(
    {"name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"}
)
_VERSION: Final = re.compile(
    r"v?([0-9]{1,9})\.([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)


class Merged(NamedTuple):
    """One model of the union: the entry to show, and who holds exactly that."""

    view: ModelView
    nodes: tuple[NodeId, ...]
    modified_ns: int


def merge(fleet: Fleet) -> list[Merged]:
    """Return one entry per name, newest first, with the holders of the digest it stands for."""
    merged = [item for item in merging(fleet) if item is not None]
    merged.sort(key=_display_order)
    return merged


def merging(fleet: Fleet) -> Iterator[Merged | None]:
    """Yield the entries of `merge` step by step, in no order; None for a step without one."""
    found: dict[ModelKey, list[_Holder]] = {}
    for node in fleet.nodes:
        _add_holders(found, node)
        yield None
    for holders in found.values():
        yield _newest(_preferred(holders))


def tags(fleet: Fleet) -> bytes:
    """Return the body of `/api/tags`."""
    return go_json({"models": [_tag(item) for item in merge(fleet)]})


def v1_models(fleet: Fleet) -> bytes:
    """Return the body of `/v1/models`."""
    return go_json({"object": "list", "data": [_card(item) for item in merge(fleet)]}) + b"\n"


def ps(fleet: Fleet) -> bytes:
    """Return the body of `/api/ps`: one row per node and model, those that stay longest first."""
    rows = [
        (moment_ns(resident.expires_at), node, resident)
        for node in fleet.nodes
        if node.state not in _ABSENT
        for resident in node.residents
    ]
    rows.sort(key=lambda row: -row[0])
    return go_json({"models": [_row(node, resident) for _, node, resident in rows]})


def version(fleet: Fleet, floor: str) -> bytes:
    """Return the body of `/api/version`."""
    return go_json({"version": lowest_version(fleet, floor)})


def lowest_version(fleet: Fleet, floor: str) -> str:
    """Return the lowest version among the Ollama nodes that are there, `floor` if none says."""
    known = [
        (order, node.version)
        for node in fleet.nodes
        if node.kind is NodeKind.OLLAMA and node.state not in _ABSENT and node.version
        if (order := _version_order(node.version)) is not None
    ]
    return min(known)[1].removeprefix("v") if known else floor


def preferred_digests(fleet: Fleet) -> dict[ModelKey, Digest]:
    """Return the digest that each name stands for.

    Where nodes differ it is the most recent one that a node which is there holds; those of absent
    nodes count when nobody else has the name, models of other servers when no Ollama has it, and
    remote stubs when nobody has the weights.
    """
    digests: dict[ModelKey, Digest] = {}
    disputed: set[ModelKey] = set()
    for node in fleet.nodes:
        for key, view in node.models.items():
            if digests.setdefault(key, view.digest) != view.digest:
                disputed.add(key)
    if disputed:
        for key, holders in _holders(fleet, disputed).items():
            digests[key] = _preferred(holders)[0][2].digest
    return digests


def preferred_views(fleet: Fleet, only: set[ModelKey]) -> dict[ModelKey, ModelView]:
    """Return what each of these names stands for, as its best holder lists it."""
    found = _holders(fleet, only).items()
    return {key: _newest(_preferred(holders)).view for key, holders in found}


def moment_ns(timestamp: str) -> int:
    """Return nanoseconds since 1970 of an RFC 3339 timestamp; the zero time if it is none."""
    try:
        moment = datetime.fromisoformat(timestamp)
        micros = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return _ZERO_TIME_NS
    since_ns = micros // _MICROSECOND * 1000
    nanos = _NANOS.match(timestamp, _SECONDS_CHARS)
    return since_ns + int(nanos[1].ljust(3, "0")) if nanos else since_ns


def is_later(left: str, right: str) -> bool:
    """Whether one RFC 3339 timestamp is later than another, most often without reading them."""
    if left == right:
        return False
    # Down to the second, timestamps of one zone sort as text.
    left_s, right_s = left[:_SECONDS_CHARS], right[:_SECONDS_CHARS]
    if left_s != right_s and (left[-1:] == "Z" == right[-1:] or left[-6:] == right[-6:]):
        return left_s > right_s
    return moment_ns(left) > moment_ns(right)


def _holders(fleet: Fleet, only: set[ModelKey]) -> dict[ModelKey, list[_Holder]]:
    """Group what the nodes list by name."""
    found: dict[ModelKey, list[_Holder]] = {}
    for node in fleet.nodes:
        _add_holders(found, node, only)
    return found


def _add_holders(
    found: dict[ModelKey, list[_Holder]], node: NodeView, only: set[ModelKey] | None = None
) -> None:
    absence = 1 if node.state in _ABSENT else 0
    models = node.models
    for key in models if only is None else only & models.keys():
        view = models[key]
        holder = (_rank(view, absence), node.id, view)
        known = found.get(key)
        if known is None:
            found[key] = [holder]
        else:
            known.append(holder)


def _rank(view: ModelView, absence: int) -> int:
    """Order what a name may stand for.

    Weights that an Ollama names come first, even absent ones: another server's model of the same
    name need not be the same model.
    """
    if view.is_remote:
        return absence + 4
    return absence + 2 if view.is_synthetic else absence


def _preferred(holders: list[_Holder]) -> list[_Holder]:
    """Return the holders of the digest that the name stands for."""
    if len(holders) == 1:
        return holders
    best = min(rank for rank, _, _ in holders)
    candidates = [view for rank, _, view in holders if rank == best]
    digest = candidates[0].digest
    if any(view.digest != digest for view in candidates):
        digest = max((moment_ns(view.modified_at), view.digest) for view in candidates)[1]
    is_remote = candidates[0].is_remote
    return [
        holder
        for holder in holders
        if holder[2].digest == digest and holder[2].is_remote == is_remote
    ]


def _newest(holders: list[_Holder]) -> Merged:
    newest = holders[0][2]
    for _, _, view in holders:
        if is_later(view.modified_at, newest.modified_at):
            newest = view
    nodes = tuple([node for _, node, _ in holders])
    return Merged(newest, nodes, moment_ns(newest.modified_at))


def _display_order(item: Merged) -> tuple[int, str]:
    return -item.modified_ns, item.view.key


def _tag(item: Merged) -> dict[str, object]:
    """Return a node's own element with what clients need filled in, and who holds the model."""
    view = item.view
    if view.entry.keys() >= _NEEDED:
        return {**view.entry, "nodes": item.nodes}
    shown = _display(view)
    return {
        "name": shown,
        "model": shown,
        "modified_at": view.modified_at or _ZERO_TIME,
        "size": view.size_bytes,
        "digest": view.digest,
        "details": _NO_DETAILS,
        **view.entry,
        "nodes": item.nodes,
    }


def _card(item: Merged) -> dict[str, object]:
    namespace = item.view.key.split("/", 2)[1]
    return {
        "id": _display(item.view),
        "object": "model",
        "created": item.modified_ns // _NS_PER_S,
        "owned_by": namespace,
    }


def _display(view: ModelView) -> str:
    """Return the short name; a name that has a tag and neither host nor namespace is short."""
    if ":" in view.name and "/" not in view.name:
        return view.name
    parsed = parse(view.name)
    return parsed.display if parsed else view.name


def _row(node: NodeView, resident: ResidentView) -> dict[str, object]:
    """Return a node's own element with what clients need filled in, and the node."""
    if resident.entry.keys() >= _NEEDED_LOADED:
        return {**resident.entry, "node": node.id}
    shown = display_of(resident.key)
    return {
        "name": shown,
        "model": shown,
        "size": resident.size_bytes,
        "digest": resident.digest,
        "details": _NO_DETAILS,
        "expires_at": resident.expires_at or _ZERO_TIME,
        "size_vram": resident.size_vram_bytes,
        "context_length": resident.context_length or 0,
        **resident.entry,
        "node": node.id,
    }


def _version_order(text: str) -> tuple[int, int, int, int, str] | None:
    """Return what sorts versions; None for what is none, and for builds without a number."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    numbers = int(found[1]), int(found[2]), int(found[3] or 0)
    # A pre-release comes before its release.
    return None if numbers == (0, 0, 0) else (*numbers, 0 if found[4] else 1, found[4] or "")
