"""Routing benchmark in simulated time, driving the product's own decision code.

``python -m tests.bench.routing.sim --fleet mixed --load 60 --seeds 5``
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from typing import TYPE_CHECKING

import msgspec

from tests.bench.routing.policies import Knowing, Late, LateKnowing, LeastConnections
from tests.bench.routing.world import FLEETS, Clock, Job, Node, capacity, make_job, make_jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.routing.policies import Policy

POLICIES: dict[str, Callable[[list[Node], Clock, random.Random], Policy]] = {
    "least_connections": LeastConnections,
    "late": Late,
    "late_told": LateKnowing,
    "knowing": Knowing,
}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one run, or their medians over several."""

    p50_s: float
    p95_s: float
    mean_s: float
    first_p50_s: float
    loads: float
    longest_s: float


def simulate(fleet: str, load: float, policy: str, seed: int, number: int = 1000) -> Result:
    """Run one policy through one day."""
    clock = Clock()
    specs = FLEETS[fleet]
    nodes = [Node(spec, clock) for spec in specs]
    ours = sum(capacity(spec) * load * (1.0 - spec.foreign) for spec in specs)
    jobs = make_jobs(random.Random(f"jobs {seed}"), ours, number)
    brain = POLICIES[policy](nodes, clock, random.Random(f"dice {seed}"))
    left = [number]

    def first(node: Node, job: Job) -> None:
        if not job.is_foreign:
            brain.first(node, job)

    def done(node: Node, job: Job) -> None:
        if not job.is_foreign:
            left[0] -= 1
            brain.done(node, job)

    for node in nodes:
        node.on_first, node.on_done, node.on_residents = first, done, brain.residents
        _bring_others(node, load, clock, random.Random(f"others {seed} {node.spec.name}"))
    for job in jobs:
        clock.at(job.arrival_s, lambda job=job: brain.submit(job))  # type: ignore[misc]
    clock.run(lambda: left[0] == 0)
    return _result(jobs, nodes)


def _bring_others(node: Node, load: float, clock: Clock, rng: random.Random) -> None:
    """Let other people use the node."""
    rate = capacity(node.spec) * load * node.spec.foreign
    if not rate:
        return

    def come() -> None:
        node.send(make_job(rng, -1, clock.now_s, is_foreign=True))
        clock.at(clock.now_s + rng.expovariate(rate), come)

    clock.at(rng.expovariate(rate), come)


def _result(jobs: list[Job], nodes: list[Node]) -> Result:
    times = sorted(job.done_s - job.arrival_s for job in jobs)
    firsts = sorted(job.prefilled_s - job.arrival_s for job in jobs)
    return Result(
        p50_s=times[len(times) // 2],
        p95_s=times[int(len(times) * 0.95)],
        mean_s=statistics.fmean(times),
        first_p50_s=firsts[len(firsts) // 2],
        loads=sum(node.loads for node in nodes),
        longest_s=times[-1],
    )


def median(results: list[Result]) -> Result:
    """Return the median of every figure."""
    return Result(
        **{
            field: statistics.median(getattr(result, field) for result in results)
            for field in Result.__struct_fields__
        }
    )


def table(fleet: str, load: float, seeds: int, number: int, policies: list[str]) -> str:
    """Run every policy and lay the medians side by side."""
    results = {
        policy: median([simulate(fleet, load, policy, seed, number) for seed in range(seeds)])
        for policy in policies
    }
    heads = "".join(f"{head:>8}" for head in ("p50", "p95", "mean", "first", "max", "loads"))
    lines = [
        f"{fleet} at {load:.0%}, {number} requests, median of {seeds} seeds",
        f"{'policy':<18}{heads}{'p95/knowing':>13}{'p95/least':>11}",
    ]
    for policy, one in results.items():
        ratios = [
            f"{one.p95_s / results[other].p95_s:.2f}" if other in results else "-"
            for other in ("knowing", "least_connections")
        ]
        lines.append(
            f"{policy:<18}{one.p50_s:8.1f}{one.p95_s:8.1f}{one.mean_s:8.1f}"
            f"{one.first_p50_s:8.1f}{one.longest_s:8.1f}{one.loads:8.0f}"
            f"{ratios[0]:>13}{ratios[1]:>11}"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fleet", choices=[*FLEETS, "all"], default="all")
    parser.add_argument("--load", default="30,60,85", help="percent, comma separated")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--policies", default=",".join(POLICIES))
    options = parser.parse_args()
    fleets = list(FLEETS) if options.fleet == "all" else [options.fleet]
    for fleet in fleets:
        for load in options.load.split(","):
            text = table(
                fleet,
                float(load) / 100,
                options.seeds,
                options.requests,
                options.policies.split(","),
            )
            sys.stdout.write(text + "\n\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
