"""What happened to nodes, told three ways: events, log lines, calls to subscribers.

Owns no facts. A state is told when it changes, not each time it is seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from sollold.core.model import NodeState
from sollold.nodes.records import model_name

if TYPE_CHECKING:
    from sollold.core.model import ResidentView
    from sollold.nodes.records import Record

log = logging.getLogger(__name__)

_MAX_ROUNDS = 16

EventHandler = Callable[[str, dict[str, object]], None]
"""Gets an event type, such as `NODE_STATE`, and the event's fields."""


class Announcer:
    """Tells. No method waits."""

    def __init__(self, on_event: EventHandler) -> None:
        self._on_event = on_event
        self._subscribers: list[Callable[[], None]] = []
        self._must_tell = False
        self._is_telling = False

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called by `tell`; returns what ends that."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def mark(self) -> None:
        """Note that there is something to tell."""
        self._must_tell = True

    def tell(self) -> None:
        """Call the subscribers; a change made by one of them is told after this round."""
        if self._is_telling:
            return
        self._is_telling = True
        try:
            for _ in range(_MAX_ROUNDS):
                if not self._must_tell:
                    break
                self._must_tell = False
                for callback in tuple(self._subscribers):
                    _call(callback)
        finally:
            self._is_telling = False

    def state(self, record: Record, before: NodeState) -> None:
        """Tell that a node's state word changed."""
        state, reason = record.judgement[0], record.reason
        text = "" if reason is None else f": {reason.text}"
        level = logging.WARNING if state is NodeState.DOWN else logging.INFO
        log.log(level, "node %s is %s, was %s%s", record.id, state, before, text)
        self._send(
            record,
            "NODE_STATE",
            from_state=before.value,
            to_state=state.value,
            reason=None if reason is None else reason.text,
            reason_code=None if reason is None else reason.code,
        )

    def joined(self, record: Record) -> None:
        """Tell that a node entered the list."""
        found_by = tuple(record.claims)
        log.info("node %s joined: %s, from %s", record.id, record.place, ", ".join(found_by))
        self._send(
            record,
            "NODE_JOINED",
            node_url=str(record.place),
            node_kind=record.kind.value,
            found_by=found_by,
            version=record.version,
        )

    def left(self, record: Record, text: str) -> None:
        """Tell that a node is no longer in the list."""
        log.info("node %s left: %s", record.id, text)
        self._send(record, "NODE_LEFT", reason=text)

    def residents(self, record: Record, before: tuple[ResidentView, ...], now_s: float) -> None:
        """Tell what came into memory and what went."""
        old = {resident.key: resident for resident in before}
        new = {resident.key: resident for resident in record.residents}
        for key in old.keys() - new.keys():
            for_s = now_s - record.loaded_s.pop(key, now_s)
            name = model_name(record, key)
            self._send(record, "MODEL_UNLOADED", model=name, resident_ms=for_s * 1000)
        for key in new.keys() - old.keys():
            record.loaded_s[key] = now_s
            resident = new[key]
            self._send(
                record,
                "MODEL_LOADED",
                model=model_name(record, key),
                size_bytes=resident.size_bytes or None,
                size_vram_bytes=resident.size_vram_bytes if resident.size_bytes else None,
                context_length=resident.context_length,
            )

    def _send(self, record: Record, event: str, **fields: object) -> None:
        self._on_event(event, {"node": record.id, "backend": record.kind.value, **fields})


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        log.exception("a listener failed after a change of nodes")
