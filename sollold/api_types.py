"""The documents of `/api/v1`: what the daemon encodes and `sollolctl` decodes.

Durations end in `_ms`, sizes in `_bytes`, times are RFC 3339 in UTC, what is not known is None.
Within a schema number fields are only added.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from sollold.core.model import Reason


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the daemon listens, as URLs; `control` is a path."""

    api: tuple[str, ...] = ()
    console: tuple[str, ...] = ()
    control: str | None = None


class NodeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes by state."""

    total: int = 0
    up: int = 0
    slow: int = 0
    draining: int = 0
    down: int = 0
    unknown: int = 0


class ModelCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Distinct model names known and loaded, and the nodes that have one loaded."""

    known: int = 0
    loaded: int = 0
    loaded_nodes: int = 0


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Requests under way; `oldest_ms` is the longest wait in the queue."""

    running: int = 0
    queued: int = 0
    oldest_ms: float | None = None


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """How requests of the last `window_ms` ended.

    A request that failed over is counted there and again by how it ended.
    """

    window_ms: float
    ok: int = 0
    failed_over: int = 0
    failed: int = 0


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of late; None: nothing was."""

    first_token_p50_ms: float | None = None
    first_token_p95_ms: float | None = None
    tokens_per_s: float | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that needs attention. `kind` says what `subject` names, usually `node`."""

    subject: str
    state: str
    since_ms: float | None = None
    reason: Reason
    kind: str = "node"


class ConfigInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration in force; `path` None: defaults only."""

    path: str | None = None
    loaded_ms: float | None = None
    """How long ago it was read."""
    waiting: tuple[str, ...] = ()
    """Keys that were changed and take effect at the next start."""
    refused: str | None = None
    """Why the last reload changed nothing; None: it did, or there was none."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Where events are kept."""

    place: str
    events: int = 0
    since: str | None = None
    """Time of the oldest event kept."""


class LookedAt(msgspec.Struct, frozen=True, kw_only=True):
    """One thing discovery did, in words such as `mDNS for 20 s`."""

    source: str
    text: str


class CoordinatorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One coordinator that shards a model over RPC backends."""

    state: str
    model: str | None = None
    rpc_backends: tuple[str, ...] = ()
    port: int | None = None
    uptime_ms: float | None = None
    reason: Reason | None = None


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/v1/status`."""

    schema: Literal["sollold.status/1"] = "sollold.status/1"
    at: str
    version: str
    state: str
    """`serving`, `degraded`, `cannot_serve`, `starting` or `stopping`."""
    reason: Reason | None = None
    uptime_ms: float
    pid: int
    instance_id: str | None = None
    addresses: Addresses = Addresses()
    nodes: NodeCounts = NodeCounts()
    models: ModelCounts = ModelCounts()
    requests: RequestCounts = RequestCounts()
    recent: Outcomes | None = None
    speed: Speed = Speed()
    problems: tuple[Problem, ...] = ()
    """Worst first."""
    looked_at: tuple[LookedAt, ...] | None = None
    coordinators: tuple[CoordinatorSummary, ...] | None = None
    history: History | None = None
    config: ConfigInfo | None = None
    loop: str | None = None
    """`asyncio` or `uvloop`."""
    not_configured: tuple[str, ...] = ()
    """Optional parts that are off, such as `Redis`."""


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model in a node's memory."""

    name: str
    size_bytes: int | None = None
    size_vram_bytes: int | None = None
    context_length: int | None = None
    expires_at: str | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node in a list."""

    name: str
    id: str
    state: str
    """`up`, `slow`, `draining`, `down` or `unknown`."""
    reason: Reason | None = None
    since_ms: float | None = None
    """How long it has been in this state."""
    kind: str
    url: str
    version: str | None = None
    tier: int | None = None
    slots: int | None = None
    running: int | None = None
    queued: int | None = None
    first_token_ms: float | None = None
    """Median of the last minutes."""
    tokens_per_s: float | None = None
    vram_bytes: int | None = None
    vram_total_bytes: int | None = None
    vram_total_from: str | None = None
    """Where the total comes from, such as `config`."""
    seen_ms: float | None = None
    """Since the last successful probe."""
    loaded: tuple[LoadedModel, ...] | None = None
    models: int | None = None
    """Models in its catalogue."""
    ok_rate: float | None = None
    """Share of attempts that succeeded, 0 to 1."""
    last_hour: Outcomes | None = None
    breaker: str | None = None
    """`closed`, `open` or `half_open`."""
    found_by: tuple[str, ...] = ()


class NodesDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/v1/nodes`."""

    schema: Literal["sollold.nodes/1"] = "sollold.nodes/1"
    at: str
    nodes: tuple[Node, ...]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request that is running or waiting."""

    id: str
    model: str
    task: str | None = None
    """`chat`, `generate` or `embed`."""
    phase: str
    node: str | None = None
    """None while it waits."""
    age_ms: float
    queue_ms: float | None = None
    priority: int | None = None
    attempt: int | None = None
    ahead: int | None = None
    """Requests before it in the queue."""
    tokens: int | None = None
    tokens_per_s: float | None = None
    client: str | None = None
    is_stream: bool | None = None
    reason: str | None = None
    """Why it waits, or why it is where it is."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a node, in words such as `became slow`."""

    at: str
    text: str


class NodeDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/v1/nodes/{name}`."""

    schema: Literal["sollold.node/1"] = "sollold.node/1"
    at: str
    node: Node
    running: tuple[Request, ...] | None = None
    waiting: tuple[Request, ...] | None = None
    changes: tuple[Change, ...] | None = None
    """Newest first."""


class RequestsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/v1/requests`."""

    schema: Literal["sollold.requests/1"] = "sollold.requests/1"
    at: str
    running: tuple[Request, ...]
    waiting: tuple[Request, ...]
    """In the order of the queue."""


class EventsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/v1/events` without `follow`; the fields of each event are in `docs/events.md`."""

    schema: Literal["sollold.events/1"] = "sollold.events/1"
    at: str
    events: tuple[msgspec.Raw, ...]
    """Oldest first."""


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """What people read of an event; `kind` is `gap` where a slow reader lost some."""

    timestamp: str
    event_type: str
    kind: str
    text: str
    seq: int | None = None
    instance_id: str | None = None


class HostHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One node, as older tools read it."""

    host: str
    """Its URL."""
    name: str
    healthy: bool
    """Whether it is given requests."""
    state: str
    reason: str | None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/health`, in the shape older tools read."""

    status: str
    """`healthy`, `degraded` or `unhealthy`."""
    service: Literal["sollold"] = "sollold"
    version: str
    timestamp: str
    hosts: tuple[HostHealth, ...]


LogLevel = Literal["debug", "info", "warning", "error", "critical"]


class LogLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the daemon's own log. `dropped` lines were lost here by a slow reader."""

    at: str
    level: LogLevel
    source: str
    """The logger that wrote it."""
    message: str
    request: str | None = None
    dropped: int | None = None


class LogsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/v1/logs` without `follow`."""

    schema: Literal["sollold.logs/1"] = "sollold.logs/1"
    at: str
    lines: tuple[LogLine, ...]
    """Oldest first."""


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """A stable code, a sentence, and what to do where that is known."""

    code: str
    message: str
    hint: str | None = None


class ErrorDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to anything under `/api/v1` that failed."""

    schema: Literal["sollold.error/1"] = "sollold.error/1"
    error: ErrorBody


_T = TypeVar("_T")


def encode(document: msgspec.Struct) -> bytes:
    """Return a document as JSON."""
    return msgspec.json.encode(document)


def decode(data: bytes | str, document: type[_T]) -> _T:
    """Return the document in `data`; fields this version does not know are skipped.

    Raises:
        msgspec.DecodeError: it is not JSON, or another document.
    """
    return msgspec.json.decode(data, type=document)
