"""The nouns: value types that every layer shares.

Times are seconds on one monotonic clock unless a name says otherwise; sizes are bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, NewType

import msgspec

NodeId = NewType("NodeId", str)
"""Configured name, else advertised instance id, else ``kind:host:port``."""

RequestId = NewType("RequestId", str)
"""``r-`` and 12 base32 characters."""

Digest = NewType("Digest", str)
"""64 hex digits that identify a model's manifest, as `/api/tags` lists them."""

ModelKey = NewType("ModelKey", str)
"""Fully qualified, case-folded model name; see `sollold.core.names`."""


class NodeKind(StrEnum):
    """What a node speaks."""

    OLLAMA = "ollama"
    LLAMA_SERVER = "llama_server"
    OPENAI = "openai"
    RPC_BACKEND = "rpc_backend"
    COORDINATOR = "coordinator"


class NodeState(StrEnum):
    """The state words of every surface; finer states are reason codes."""

    UP = "up"
    SLOW = "slow"
    DRAINING = "draining"
    DOWN = "down"
    UNKNOWN = "unknown"


class Dialect(StrEnum):
    """API family a client speaks."""

    OLLAMA = "ollama"
    OPENAI = "openai"


class TaskKind(StrEnum):
    """What a request asks an engine to do."""

    CHAT = "chat"
    GENERATE = "generate"
    EMBED = "embed"


class Reason(msgspec.Struct, frozen=True):
    """A stable code for machines and a sentence for people."""

    code: str
    text: str


LoadOptions = tuple[tuple[str, str | int | float | bool], ...]
"""Options that force a runner to be reloaded, sorted by name; empty means automatic."""


class RunnerKey(NamedTuple):
    """A loaded model: digest plus the options it was loaded with."""

    digest: Digest
    options: LoadOptions


class EngineModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a server other than Ollama says of a model it runs."""

    name: str
    """The engine's own name, which its requests have to carry."""
    context_length: int | None = None
    """Tokens per slot."""
    train_context_length: int | None = None
    parameter_count: int | None = None
    embedding_length: int | None = None
    vocabulary_length: int | None = None
    template: str = ""
    """Its chat template, in the engine's own language."""
    is_same_as_ollama: bool = False
    """Configuration says that it is the model of this name on Ollama nodes."""


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """One model in one node's catalogue."""

    key: ModelKey
    name: str
    digest: Digest
    size_bytes: int
    modified_at: str
    """RFC 3339, as the node printed it."""
    capabilities: frozenset[str] | None = None
    """None: the node did not say."""
    is_remote: bool = False
    """A stub whose requests the node forwards elsewhere; it holds no weights."""
    entry: dict[str, object] = {}
    """The node's own `/api/tags` element, for catalogues."""
    engine: EngineModel | None = None
    """Set for models of servers other than Ollama."""
    is_synthetic: bool = False
    """Its digest was made here: it identifies the model, but no manifest."""


class ResidentView(msgspec.Struct, frozen=True, kw_only=True):
    """One model in a node's memory, as `/api/ps` lists it."""

    key: ModelKey
    digest: Digest
    context_length: int | None
    expires_at: str
    size_bytes: int
    size_vram_bytes: int
    options: LoadOptions | None = None
    """What this daemon loaded it with; None when somebody else did or nobody knows."""
    entry: dict[str, object] = {}


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One node as everybody sees it: an immutable snapshot."""

    id: NodeId
    kind: NodeKind
    url: str
    host: str
    port: int
    state: NodeState
    reason: Reason | None
    since_s: float
    """When the state began."""
    found_by: tuple[str, ...]
    tier: int = 5
    """1 is best."""
    slots: int | None = None
    """Parallel requests per resident runner, as configured or as the node says; None: learned."""
    version: str | None = None
    is_routable: bool = False
    """A probe succeeded and nothing forbids new work; derived from health."""
    is_ejected: bool = False
    """Left out after failed requests, until `penalty_until_s`; may be overruled when all are."""
    penalty_until_s: float = 0.0
    penalty_rank: float = 0.0
    """Among penalised nodes the lowest is the least bad."""
    takes_trial: bool = False
    """An ejection is over: one request, and no more, may go there and decides what follows."""
    addresses: tuple[str, ...] = ()
    """Literals to connect to, the one that answered last first; empty until resolved."""
    models: dict[ModelKey, ModelView] = {}
    residents: tuple[ResidentView, ...] = ()
    resident_room: int = 1
    """Most models seen in memory together, at least 1."""
    seen_s: float | None = None
    """Last successful probe."""
    probe_ms: float | None = None

    @property
    def tells_memory(self) -> bool:
        """Whether it is known what it has in memory: OpenAI's API has no word for that."""
        return self.kind is not NodeKind.OPENAI


class Fleet(msgspec.Struct, frozen=True):
    """All nodes at one moment. `generation` changes whenever a view does."""

    generation: int
    nodes: tuple[NodeView, ...]


class WaitingRequest(msgspec.Struct, kw_only=True, eq=False):
    """A request in the queue, as far as choosing a node needs it."""

    id: RequestId
    model: ModelKey
    digest: Digest | None
    """Restricts routing to holders of this digest; None: any holder of the name."""
    options: LoadOptions = ()
    kind: TaskKind
    is_stream: bool
    priority: int = 5
    """1 to 10, 10 is the most urgent."""
    arrival_s: float
    prompt_tokens: float
    output_tokens: float
    """Expected, not known."""
    pinned: NodeId | None = None
    excluded: frozenset[NodeId] = frozenset()
    client: str = ""
    """Fairness key."""
    deadline_s: float | None = None
    warm: dict[NodeId, float] = {}
    """Prompt tokens that a node is expected to hold in its cache."""


class Running(msgspec.Struct, kw_only=True, eq=False):
    """A request that holds a slot."""

    request: RequestId
    node: NodeId
    runner: RunnerKey
    client: str
    started_s: float
    expected_s: float
    """Whole service time expected when it was granted, load included."""
    is_loading: bool
    """The runner was not resident and no byte has come yet."""
    has_first_byte: bool = False
    expected_first_s: float = 0.0
    """To the first token, as granted; zero: unknown."""
    expected_load_s: float = 0.0
    """The loading in `expected_s`."""


class Candidate(NamedTuple):
    """One node's part in a decision: every factor in seconds, or why it was left out."""

    node: NodeId
    cost_s: float
    """What was compared; infinite when left out."""
    wait_s: float = 0.0
    load_s: float = 0.0
    swap_s: float = 0.0
    foreign_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    risk_s: float = 0.0
    tier_s: float = 0.0
    is_measured: bool = False
    """False while a prior stands in for a rate of this node and model."""
    excluded: str = ""
    """Reason code; empty when the node was eligible."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request went where it went."""

    request: RequestId
    model: ModelKey
    node: NodeId
    reason: str
    """A short phrase, fit for a response header."""
    at_s: float
    candidates: tuple[Candidate, ...]


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A slot for a request, now."""

    request: RequestId
    node: NodeId
    runner: RunnerKey
    expected_first_s: float
    expected_s: float
    is_load: bool
    decision: Decision
    expected_load_s: float = 0.0
    """The loading in `expected_first_s`."""
    is_first_measured: bool = False
    """The prefill rate behind `expected_first_s` was measured, so missing it says something."""


class Reservation(NamedTuple):
    """A request that waits for a busy node because that is sooner."""

    request: RequestId
    node: NodeId
    expected_start_s: float
    """Seconds from now."""
    runner: RunnerKey | None = None
    """What it waits for."""


class Assignment(NamedTuple):
    """What `assign` decided in one pass."""

    grants: tuple[Grant, ...]
    reservations: tuple[Reservation, ...]
    next_wakeup_s: float | None
    """Absolute time at which to ask again even if nothing happens."""
