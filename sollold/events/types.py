"""The event types: what happened, as cheap frozen structs.

Owns names, fields, the kind word and the sentence of each type. Nothing here formats text or builds
JSON before somebody asks; a new type is one struct plus its place in `Event`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self, get_args

import msgspec

from sollold.core.model import Candidate
from sollold.events.base import EventBase, nth_try, span, subject
from sollold.events.candidates import CandidateView, best_candidates, candidate_view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sollold.core.model import Decision, NodeId, NodeState, Reason


class RouteDecision(EventBase, frozen=True, kw_only=True, tag="ROUTE_DECISION"):
    """A request was given a node; the candidates say what was weighed."""

    kind: ClassVar[str] = "route"

    reason: str
    cached: bool = False
    parameter_count: str | None = None
    task: str | None = None
    priority: int | None = None
    queue_ms: float | None = None
    candidates: tuple[Candidate | CandidateView, ...] = ()
    candidates_total: int = 0

    @classmethod
    def of(
        cls,
        decision: Decision,
        *,
        model: str,
        backend: str | None = None,
        request_id: str | None = None,
        task: str | None = None,
        priority: int | None = None,
        queue_ms: float | None = None,
    ) -> Self:
        """Return the event for a decision, with its best candidates."""
        return cls(
            model=model,
            backend=backend,
            node=decision.node,
            request_id=decision.request if request_id is None else request_id,
            reason=decision.reason,
            task=task,
            priority=priority,
            queue_ms=queue_ms,
            candidates=best_candidates(decision),
            candidates_total=len(decision.candidates),
        )

    def sentence(self) -> str:
        """Name the target: the node where known, else the backend."""
        return f"{subject(self)} -> {self.node or self.backend or '?'}: {self.reason}"

    def wire(self) -> EventBase:
        """Return a copy whose candidates are objects instead of rows."""
        return msgspec.structs.replace(
            self,
            candidates=tuple(
                candidate_view(item) if isinstance(item, Candidate) else item
                for item in self.candidates
            ),
        )


class OllamaNodeSelected(EventBase, frozen=True, kw_only=True, tag="OLLAMA_NODE_SELECTED"):
    """An attempt is about to be made on an Ollama node."""

    kind: ClassVar[str] = "route"

    node_url: str
    reason: str
    confidence: float | None = None
    priority: int | None = None
    attempt: int = 1
    is_load: bool = False
    """The node has to load the model first."""
    expected_first_ms: float | None = None
    expected_ms: float | None = None

    def sentence(self) -> str:
        """Name node and address."""
        load = ", loads it first" if self.is_load else ""
        return f"{subject(self)} -> {self.node or '?'} at {self.node_url}: {self.reason}{load}"


class FallbackTriggered(EventBase, frozen=True, kw_only=True, tag="FALLBACK_TRIGGERED"):
    """An attempt was given up; `node` is the next one, None while none is chosen."""

    kind: ClassVar[str] = "failover"

    from_node: str | None = None
    from_backend: str | None = None
    reason: str
    reason_code: str | None = None
    attempt: int
    """Number of the attempt that follows."""
    after_ms: float | None = None

    def sentence(self) -> str:
        """Say from where to where, and why."""
        source = self.from_node or self.from_backend or "?"
        target = self.node or "queue"
        return f"{subject(self)} {source} -> {target}: {self.reason}, try {self.attempt}"

    def nodes(self) -> tuple[str | None, ...]:
        """Return both ends."""
        return (self.node, self.from_node)


class TaskQueued(EventBase, frozen=True, kw_only=True, tag="TASK_QUEUED"):
    """A request waits for a slot; `node` is the node it waits for, where that is decided."""

    kind: ClassVar[str] = "queue"

    reason: str
    ahead: int | None = None
    priority: int | None = None

    def sentence(self) -> str:
        """Say why it waits and how many go first."""
        place = {None: "", 0: ", first in line"}.get(self.ahead, f", {self.ahead} ahead")
        return f"{subject(self)} waits: {self.reason}{place}"

    def seed_fields(self) -> Mapping[str, object]:
        """Return the task's older names."""
        return {"task_id": self.request_id}


class TaskStart(EventBase, frozen=True, kw_only=True, tag="TASK_START"):
    """An attempt holds a slot and is sent to its node."""

    kind: ClassVar[str] = "task"

    attempt: int = 1
    queue_ms: float | None = None
    is_load: bool = False

    def sentence(self) -> str:
        """Name the node and the wait before it."""
        has_waited = self.queue_ms is not None and self.queue_ms >= 1
        wait = f" after {span(self.queue_ms or 0)} in the queue" if has_waited else ""
        return f"{subject(self)} starts on {self.node or '?'}{wait}{nth_try(self.attempt)}"

    def seed_fields(self) -> Mapping[str, object]:
        """Return the task's older names."""
        return {"task_id": self.request_id, "worker": self.node}


class TaskComplete(EventBase, frozen=True, kw_only=True, tag="TASK_COMPLETE"):
    """An attempt gave its slot back."""

    kind: ClassVar[str] = "task"

    success: bool
    duration_ms: float
    attempt: int = 1
    status: int | None = None
    reason: str | None = None
    """Why it failed."""

    def sentence(self) -> str:
        """Say how it ended and how long it took."""
        verb = "finished" if self.success else "failed"
        why = f": {self.reason}" if self.reason else ""
        end = f"after {span(self.duration_ms)}{nth_try(self.attempt)}{why}"
        return f"{subject(self)} {verb} on {self.node or '?'} {end}"

    def seed_fields(self) -> Mapping[str, object]:
        """Return the task's older names; `duration` is in seconds."""
        return {
            "task_id": self.request_id,
            "worker": self.node,
            "duration": self.duration_ms / 1000,
        }


class NodeStateChanged(EventBase, frozen=True, kw_only=True, tag="NODE_STATE"):
    """A node's state word changed."""

    kind: ClassVar[str] = "node"

    from_state: str
    to_state: str
    reason: str | None = None
    reason_code: str | None = None

    @classmethod
    def of(
        cls,
        node: NodeId,
        before: NodeState,
        after: NodeState,
        reason: Reason | None,
        backend: str | None,
    ) -> Self:
        """Return the event for a change of state."""
        return cls(
            node=node,
            backend=backend,
            from_state=before,
            to_state=after,
            reason=None if reason is None else reason.text,
            reason_code=None if reason is None else reason.code,
        )

    def sentence(self) -> str:
        """Say from which state to which."""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.node or '?'} {self.from_state} -> {self.to_state}{why}"

    def change(self) -> str:
        """Return the new state."""
        return f"became {self.to_state}"


class NodeJoined(EventBase, frozen=True, kw_only=True, tag="NODE_JOINED"):
    """A node entered the list."""

    kind: ClassVar[str] = "node"

    node_url: str
    node_kind: str
    found_by: tuple[str, ...] = ()
    version: str | None = None

    def sentence(self) -> str:
        """Say what it is and how it was found."""
        found = f", found by {', '.join(self.found_by)}" if self.found_by else ""
        what = self.node_kind if self.version is None else f"{self.node_kind} {self.version}"
        return f"{self.node or '?'} joined: {what} at {self.node_url}{found}"

    def change(self) -> str:
        """Return the bare fact."""
        return "joined"


class NodeLeft(EventBase, frozen=True, kw_only=True, tag="NODE_LEFT"):
    """A node was taken from the list."""

    kind: ClassVar[str] = "node"

    reason: str

    def sentence(self) -> str:
        """Say why."""
        return f"{self.node or '?'} left: {self.reason}"

    def change(self) -> str:
        """Return the bare fact."""
        return "left"


class ModelLoaded(EventBase, frozen=True, kw_only=True, tag="MODEL_LOADED"):
    """A model appeared in a node's memory."""

    kind: ClassVar[str] = "model"

    size_bytes: int | None = None
    size_vram_bytes: int | None = None
    context_length: int | None = None
    load_ms: float | None = None

    def sentence(self) -> str:
        """Say what was loaded, and how large it is where that is known."""
        size = "" if self.size_bytes is None else f", {self.size_bytes / 1e9:.1f}GB"
        time = "" if self.load_ms is None else f" in {span(self.load_ms)}"
        return f"{self.node or '?'} loaded {self.model or '?'}{time}{size}"

    def change(self) -> str:
        """Return what was loaded."""
        return f"loaded {self.model or '?'}"


class ModelUnloaded(EventBase, frozen=True, kw_only=True, tag="MODEL_UNLOADED"):
    """A model is no longer in a node's memory."""

    kind: ClassVar[str] = "model"

    reason: str | None = None
    resident_ms: float | None = None
    """How long it was seen there."""

    def sentence(self) -> str:
        """Say what went, and why where that is known."""
        time = "" if self.resident_ms is None else f" after {span(self.resident_ms)}"
        why = f": {self.reason}" if self.reason else ""
        return f"{self.node or '?'} unloaded {self.model or '?'}{time}{why}"

    def change(self) -> str:
        """Return what went."""
        return f"unloaded {self.model or '?'}"


class RequestDone(EventBase, frozen=True, kw_only=True, tag="REQUEST_DONE"):
    """A request was answered; emitted once per request."""

    kind: ClassVar[str] = "request"

    status: int
    total_ms: float
    attempts: int = 1
    queue_ms: float | None = None
    first_token_ms: float | None = None
    task: str | None = None
    dialect: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    tokens_per_s: float | None = None

    def sentence(self) -> str:
        """Give the figures a person asks for first."""
        where = f" on {self.node}" if self.node else ""
        tokens = "" if self.output_tokens is None else f"{self.output_tokens} tokens in "
        first = (
            ""
            if self.first_token_ms is None
            else f", first token after {span(self.first_token_ms)}"
        )
        return f"{subject(self)}{where} done: {tokens}{span(self.total_ms)}{first}"


class RequestFailed(EventBase, frozen=True, kw_only=True, tag="REQUEST_FAILED"):
    """A request ended without its answer; emitted once per request."""

    kind: ClassVar[str] = "request"

    outcome: str
    """`caller_error`, `refused`, `failed`, `interrupted`, `canceled` or `stalled`."""
    reason: str
    reason_code: str | None = None
    status: int | None = None
    """What the client saw; None when it left first."""
    total_ms: float
    attempts: int = 0
    queue_ms: float | None = None
    task: str | None = None
    dialect: str | None = None

    def sentence(self) -> str:
        """Say how it ended, how long it took and why."""
        where = f" on {self.node}" if self.node else ""
        status = "" if self.status is None else f" with {self.status}"
        word = self.outcome.replace("_", " ")
        return f"{subject(self)}{where} {word}{status} after {span(self.total_ms)}: {self.reason}"


class ConfigReloaded(EventBase, frozen=True, kw_only=True, tag="CONFIG_RELOADED"):
    """The configuration was read anew and took effect, as far as it can without a restart."""

    kind: ClassVar[str] = "config"

    changed: tuple[str, ...] = ()
    """What took effect: `queue.length 512 -> 128`."""
    restart: tuple[str, ...] = ()
    """What will take effect at the next start."""

    def sentence(self) -> str:
        """List the changes."""
        done = ", ".join(self.changed) or "nothing changed"
        later = f"; after a restart: {', '.join(self.restart)}" if self.restart else ""
        return f"reloaded: {done}{later}"


Event = (
    RouteDecision
    | OllamaNodeSelected
    | FallbackTriggered
    | TaskQueued
    | TaskStart
    | TaskComplete
    | NodeStateChanged
    | NodeJoined
    | NodeLeft
    | ModelLoaded
    | ModelUnloaded
    | RequestDone
    | RequestFailed
    | ConfigReloaded
)

EVENT_CLASSES: tuple[type[EventBase], ...] = get_args(Event)


def event_type(event_class: type[EventBase]) -> str:
    """Return the name a class has in JSON, such as `ROUTE_DECISION`."""
    return str(event_class.__struct_config__.tag)


EVENT_TYPES: dict[str, type[EventBase]] = {event_type(item): item for item in EVENT_CLASSES}
EVENT_KINDS: dict[str, frozenset[str]] = {
    kind: frozenset(event_type(item) for item in EVENT_CLASSES if item.kind == kind)
    for kind in dict.fromkeys(item.kind for item in EVENT_CLASSES)
}
"""Kind words and the types they stand for."""
