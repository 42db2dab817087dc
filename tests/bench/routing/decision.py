"""What one routing decision costs: ``python -m tests.bench.routing.decision``.

One new request over a fleet of which 60 % is busy; before each decision another request has
finished, so a rate has changed and the caches must notice.
"""

from __future__ import annotations

import random
import sys
import time

from sollold.core.assign import NodeTable, assign
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

MODEL = ModelKey("m")
DIGEST = Digest("d" * 64)
BUSY = 0.6
GROUP = 20
"""Decisions per group; the best group is free of what else the machine does."""
BUDGET_US = {16: 20.0, 1000: 1000.0}


def make_view(number: int) -> NodeView:
    """Return a node that holds the model in memory."""
    model = ModelView(key=MODEL, name="m", digest=DIGEST, size_bytes=1, modified_at="")
    resident = ResidentView(
        key=MODEL,
        digest=DIGEST,
        context_length=4096,
        expires_at="",
        size_bytes=1,
        size_vram_bytes=1,
        options=(),
    )
    return NodeView(
        id=NodeId(f"node-{number}"),
        kind=NodeKind.OLLAMA,
        url="",
        host="",
        port=0,
        state=NodeState.UP,
        reason=None,
        since_s=0.0,
        found_by=(),
        is_routable=True,
        models={MODEL: model},
        residents=(resident,),
        probe_ms=1.0,
    )


def make_request(number: int, now_s: float) -> WaitingRequest:
    """Return a chat of the usual size."""
    return WaitingRequest(
        id=RequestId(f"r-{number}"),
        model=MODEL,
        digest=DIGEST,
        kind=TaskKind.CHAT,
        is_stream=True,
        arrival_s=now_s,
        prompt_tokens=500.0,
        output_tokens=200.0,
    )


def make_sample(rng: random.Random, speed: float) -> Sample:
    """Return what a finished chat showed."""
    return Sample(
        kind=TaskKind.CHAT,
        prompt_tokens=500.0,
        prompt_s=500.0 / (speed * 20 * rng.uniform(0.95, 1.05)),
        output_tokens=200.0,
        output_s=200.0 / (speed * rng.uniform(0.95, 1.05)),
        total_s=1.0 + 225.0 / speed,
        prefill_is_known=True,
    )


def measure(nodes: int, rounds: int) -> tuple[float, float, float]:
    """Return microseconds per decision, of the best and the middle group, and per observation."""
    rng = random.Random(nodes)
    rates, slots, load = RateTable(max_pairs=2 * nodes), SlotTable(), Load()
    table = NodeTable(rates, slots, Fleet(1, tuple(make_view(i) for i in range(nodes))))
    speeds = [rng.choice([10.0, 20.0, 40.0, 80.0]) for _ in range(nodes)]
    for number in range(nodes * 3):
        node = NodeId(f"node-{number % nodes}")
        rates.observe(node, DIGEST, make_sample(rng, speeds[number % nodes]), 0.0)
    for number in range(int(nodes * BUSY)):
        load.add(
            Running(
                request=RequestId(f"r-run-{number}"),
                node=NodeId(f"node-{number}"),
                runner=RunnerKey(DIGEST, ()),
                client="",
                started_s=rng.uniform(0.0, 5.0),
                expected_s=225.0 / speeds[number],
                is_loading=False,
            )
        )
    spent = [0, 0]
    groups: list[tuple[float, float]] = []
    for number in range(rounds):
        now_s = 5.0 + number * 0.001
        place = rng.randrange(nodes)
        sample, request = make_sample(rng, speeds[place]), make_request(number, now_s)
        dice = rng.random()
        before = time.perf_counter_ns()
        rates.observe(NodeId(f"node-{place}"), DIGEST, sample, now_s)
        between = time.perf_counter_ns()
        assign([request], table, load, now_s, dice=dice)
        spent[0] += time.perf_counter_ns() - between
        spent[1] += between - before
        if number % GROUP == GROUP - 1:
            groups.append((spent[0] / GROUP / 1000, spent[1] / GROUP / 1000))
            spent = [0, 0]
    decisions = sorted(group[0] for group in groups)
    return decisions[0], decisions[len(decisions) // 2], min(group[1] for group in groups)


def main() -> None:
    """Print the table."""
    lines = [f"{'nodes':>6}{'best us':>9}{'mid us':>9}{'budget':>9}{'observe us':>12}"]
    for nodes, rounds in ((4, 5000), (16, 5000), (64, 2000), (256, 1000), (1000, 500)):
        best, middle, observing = measure(nodes, rounds)
        budget = BUDGET_US.get(nodes, "")
        lines.append(f"{nodes:6}{best:9.1f}{middle:9.1f}{budget:>9}{observing:12.1f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
