"""Small builders for the routing tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings

from sollold.core.assign import AssignPolicy, NodeTable, assign
from sollold.core.load import Load
from sollold.core.model import (
    Digest,
    Fleet,
    ModelKey,
    ModelView,
    NodeId,
    NodeKind,
    NodeState,
    NodeView,
    RequestId,
    ResidentView,
    RunnerKey,
    Running,
    TaskKind,
    WaitingRequest,
)
from sollold.core.rates import RateTable, Sample
from sollold.core.slots import SlotTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sollold.core.model import Assignment, LoadOptions

A = "a" * 64
B = "b" * 64
C = "c" * 64
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Properties hold however busy the machine is."""


def model(name: str = "m", digest: str = A, *, is_remote: bool = False) -> ModelView:
    return ModelView(
        key=ModelKey(name),
        name=name,
        digest=Digest(digest),
        size_bytes=1,
        modified_at="",
        is_remote=is_remote,
    )


def resident(
    digest: str = A,
    *,
    options: LoadOptions | None = (),
    context_length: int | None = 4096,
    expires_at: str = "",
) -> ResidentView:
    return ResidentView(
        key=ModelKey("m"),
        digest=Digest(digest),
        context_length=context_length,
        expires_at=expires_at,
        size_bytes=1,
        size_vram_bytes=1,
        options=options,
    )


def node(
    name: str,
    *,
    models: Iterable[ModelView] | None = None,
    residents: Iterable[ResidentView] | None = None,
    kind: NodeKind = NodeKind.OLLAMA,
    state: NodeState = NodeState.UP,
    **fields: Any,
) -> NodeView:
    """A healthy node that holds model m and has it in memory."""
    held = [model()] if models is None else list(models)
    fields.setdefault("is_routable", state in {NodeState.UP, NodeState.SLOW})
    return NodeView(
        id=NodeId(name),
        kind=kind,
        url=f"http://{name}",
        host=name,
        port=11434,
        state=state,
        reason=None,
        since_s=0.0,
        found_by=("config",),
        models={one.key: one for one in held},
        residents=(resident(),) if residents is None else tuple(residents),
        **fields,
    )


def request(number: int = 1, **fields: Any) -> WaitingRequest:
    """A chat of 100 prompt and 100 answer tokens, not streamed."""
    values: dict[str, Any] = {
        "id": RequestId(f"r-{number}"),
        "model": ModelKey("m"),
        "digest": None,
        "kind": TaskKind.CHAT,
        "is_stream": False,
        "arrival_s": 0.0,
        "prompt_tokens": 100.0,
        "output_tokens": 100.0,
    }
    return WaitingRequest(**(values | fields))


def running(
    number: int, on: str, *, digest: str = A, options: LoadOptions = (), **fields: Any
) -> Running:
    values: dict[str, Any] = {
        "request": RequestId(f"r-{number}"),
        "node": NodeId(on),
        "runner": RunnerKey(Digest(digest), options),
        "client": "",
        "started_s": 0.0,
        "expected_s": 10.0,
        "is_loading": False,
    }
    return Running(**(values | fields))


def sample(
    decode_tps: float = 20.0,
    *,
    prefill_tps: float = 1000.0,
    load_s: float = 0.0,
    overhead_s: float = 0.1,
    **fields: Any,
) -> Sample:
    """A chat of 100 prompt and 100 answer tokens at these rates."""
    prompt_s, output_s = 100.0 / prefill_tps, 100.0 / decode_tps
    values: dict[str, Any] = {
        "kind": TaskKind.CHAT,
        "prompt_tokens": 100.0,
        "prompt_s": prompt_s,
        "output_tokens": 100.0,
        "output_s": output_s,
        "load_s": load_s,
        "total_s": load_s + overhead_s + prompt_s + output_s,
        "prefill_is_known": True,
        "is_load": load_s > 0,
    }
    return Sample(**(values | fields))


class House:
    """Nodes with known rates, and a load to fill."""

    def __init__(self, *nodes: NodeView) -> None:
        self.rates = RateTable()
        self.slots = SlotTable()
        self.load = Load()
        self.table = NodeTable(self.rates, self.slots, Fleet(1, nodes))

    def teach(self, on: str, decode_tps: float, *, digest: str = A, load_s: float = 8.0) -> None:
        """Let a node be measured well: decode rate, load time, nothing unusual else."""
        for _ in range(4):
            taught = sample(decode_tps, load_s=load_s)
            self.rates.observe(NodeId(on), Digest(digest), taught, 0.0)

    def run(self, *jobs: Running) -> None:
        for job in jobs:
            self.load.add(job)

    def assign(
        self,
        *queue: WaitingRequest,
        now_s: float = 0.0,
        dice: float = 0.5,
        policy: AssignPolicy | None = None,
    ) -> Assignment:
        chosen = AssignPolicy() if policy is None else policy
        return assign(queue, self.table, self.load, now_s, policy=chosen, dice=dice)

    def update(self, *nodes: NodeView) -> None:
        self.table.update(Fleet(self.table.fleet.generation + 1, nodes))


def granted(assignment: Assignment) -> dict[str, str]:
    return {grant.request: grant.node for grant in assignment.grants}


def reserved(assignment: Assignment) -> dict[str, str]:
    return {one.request: one.node for one in assignment.reservations}


def ids(queue: Sequence[WaitingRequest]) -> list[str]:
    return [one.id for one in queue]
