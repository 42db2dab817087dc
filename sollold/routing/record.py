"""What is kept of one request: for headers, the log line, events, metrics and the request list."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sollold.core.model import Decision, NodeId, Reason, RequestId, TaskKind
    from sollold.wire.routes import InferenceRoute


class Phase(StrEnum):
    """What a request is doing now, in the words people see."""

    WAITING = "waiting"
    CONNECTING = "connecting"
    READING = "reading prompt"
    GENERATING = "generating"
    EMBEDDING = "embedding"
    DONE = "done"


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    CALLER = "caller_error"
    REFUSED = "refused"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELED = "canceled"
    STALLED = "stalled"
    """The client took nothing for so long that it was cut."""


class Failure:
    """Why one attempt was given up; `is_nodes`: its node failed, and was not just unfit."""

    __slots__ = ("code", "is_nodes", "node", "text")

    def __init__(self, node: NodeId, code: str, text: str, *, is_nodes: bool = True) -> None:
        self.node = node
        self.is_nodes = is_nodes
        self.code = code
        self.text = text


class RequestRecord:
    """The running account of one request. Times are seconds on the loop's clock."""

    __slots__ = (
        "attempts",
        "bytes_out",
        "client",
        "decision",
        "ended_s",
        "failures",
        "first_content_s",
        "granted_s",
        "id",
        "is_stalled",
        "is_stream",
        "kind",
        "model",
        "node",
        "outcome",
        "output_tokens",
        "phase",
        "priority",
        "prompt_tokens",
        "reason",
        "received_s",
        "route",
        "status",
    )

    def __init__(
        self,
        *,
        request: RequestId,
        route: InferenceRoute,
        kind: TaskKind,
        model: str,
        client: str,
        priority: int,
        is_stream: bool,
        received_s: float,
    ) -> None:
        self.id = request
        self.route = route
        self.kind = kind
        self.model = model
        self.client = client
        self.priority = priority
        self.is_stream = is_stream
        self.received_s = received_s
        self.granted_s: float | None = None
        self.first_content_s: float | None = None
        self.ended_s: float | None = None
        self.phase = Phase.WAITING
        self.node: NodeId | None = None
        self.decision: Decision | None = None
        self.attempts = 0
        self.failures: list[Failure] = []
        self.status = 0
        self.bytes_out = 0
        self.prompt_tokens: int | None = None
        self.output_tokens: int | None = None
        self.outcome: Outcome | None = None
        self.reason: Reason | None = None
        """Why it ended as it did, where that is more than how its last attempt failed."""
        self.is_stalled = False
        """Its client was cut because it took nothing."""

    @property
    def unfit(self) -> int:
        """Attempts that were given up although their nodes did not fail."""
        return sum(not failure.is_nodes for failure in self.failures)

    @property
    def queue_s(self) -> float:
        """Seconds from arrival to the first grant, or to the end without one."""
        until_s = self.granted_s if self.granted_s is not None else self.ended_s
        return 0.0 if until_s is None else until_s - self.received_s
