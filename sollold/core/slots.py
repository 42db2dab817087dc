"""How many requests a loaded model may be given at once.

Owns what was learned about Ollama nodes, which do not say how many they take in parallel: one, and
one more on trial whenever requests wait for the runner and first tokens have not become later.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from sollold.core.model import NodeKind, RequestId
from sollold.core.series import ChangeLog, trim

if TYPE_CHECKING:
    from sollold.core.model import NodeId, RunnerKey

OPENAI_SLOTS = 32
MAX_LEARNED = 8
"""No runner is tried with more."""
FLAT_FACTOR = 2.0
"""A first token is on time within so many times its expectation ..."""
FLAT_SLACK_S = 0.5
"""... and this."""
BASELINE_SAMPLES = 3
"""First tokens that must have been on time before anything is tried."""
CONFIRM_SAMPLES = 3
"""On-time first tokens with all slots in use that make a trial succeed."""
RETREAT_SAMPLES = 2
"""Late first tokens in a row, all slots in use, that take a learned slot back."""
TRIAL_INTERVAL_S = 60.0
"""Between trials of one runner ..."""
TRIAL_GROWTH = 4.0
"""... growing by this after each failed one ..."""
TRIAL_INTERVAL_MAX_S = 6 * 3600.0
MAX_RUNNERS = 1024
ROUND_TRIPS = 10.0
"""Service shorter than so many round trips leaves a node idle between two requests."""


class SlotTable:
    """Parallel requests per (node, runner); `changes` tells caches which of them moved."""

    def __init__(self, *, max_runners: int = MAX_RUNNERS) -> None:
        self.changes = ChangeLog()
        self._max_runners = max_runners
        self._learned: OrderedDict[tuple[NodeId, RunnerKey], _Learned] = OrderedDict()

    def slots(self, node: NodeId, runner: RunnerKey, kind: NodeKind, configured: int | None) -> int:
        """Return how many requests the runner may have at once."""
        if configured is not None:
            return max(1, configured)
        if kind is NodeKind.OPENAI:
            return OPENAI_SLOTS
        learned = self._learned.get((node, runner))
        return 1 if learned is None else learned.open_slots()

    def note_waiting(
        self, node: NodeId, runner: RunnerKey, kind: NodeKind, configured: int | None, now_s: float
    ) -> bool:
        """Note that a request waits; True: a slot was added on trial, assign again."""
        if configured is not None or kind is not NodeKind.OLLAMA:
            return False
        learned = self._learned.get((node, runner))
        if learned is None or not learned.may_try(now_s):
            return False
        learned.begin_trial()
        self.changes.add(node, runner.digest)
        return True

    def note_started(
        self, request: RequestId, node: NodeId, runner: RunnerKey, running: int
    ) -> None:
        """Note a request that was sent; `running` counts ours on the runner, it included."""
        learned = self._learned.get((node, runner))
        if learned is not None and learned.is_trial and running >= learned.slots:
            learned.probe = request
            self.changes.add(node, runner.digest)

    def note_ended(self, request: RequestId, node: NodeId, runner: RunnerKey) -> None:
        """Note a request that is over; one that never showed a first token proves nothing."""
        learned = self._learned.get((node, runner))
        if learned is not None and learned.probe == request:
            learned.probe = None
            self.changes.add(node, runner.digest)

    def note_first(
        self,
        request: RequestId,
        node: NodeId,
        runner: RunnerKey,
        now_s: float,
        *,
        started_with: int,
        first_with: int,
        expected_s: float,
        seen_s: float,
    ) -> None:
        """Judge the first token of a request that had to load nothing.

        `started_with` and `first_with` count our requests on the runner, this one included, when
        it was sent and when its first token came. `expected_s` is its prediction without queueing.
        """
        key = (node, runner)
        learned = self._learned.get(key)
        if learned is None:
            learned = self._learned[key] = _Learned()
            trim(self._learned, self._max_runners)
        self._learned.move_to_end(key)
        before = learned.open_slots()
        is_flat = seen_s <= FLAT_FACTOR * expected_s + FLAT_SLACK_S
        if learned.probe == request:
            learned.probe = None
        learned.judge(started_with, first_with, now_s, is_flat=is_flat)
        if learned.open_slots() != before:
            self.changes.add(node, runner.digest)

    def is_trial(self, node: NodeId, runner: RunnerKey) -> bool:
        """Tell whether the runner's last slot is on trial."""
        learned = self._learned.get((node, runner))
        return learned is not None and learned.is_trial

    def forget(self, node: NodeId) -> None:
        """Drop all that was learned about a node."""
        for key in [key for key in self._learned if key[0] == node]:
            del self._learned[key]
        self.changes.add(node, None)


def allowance(slots: int, service_s: float, round_trip_s: float) -> int:
    """Return how many requests may be under way: short service is overlapped by one more."""
    return slots + 1 if service_s < ROUND_TRIPS * round_trip_s else slots


class _Learned(msgspec.Struct):
    slots: int = 1
    is_trial: bool = False
    on_time: int = 0
    """First tokens on time: below the slots in use before a trial, at them during one."""
    late: int = 0
    next_trial_s: float = 0.0
    interval_s: float = TRIAL_INTERVAL_S
    probe: RequestId | None = None
    """The one request that is out to try the last slot."""

    def open_slots(self) -> int:
        return self.slots if self.probe is None else self.slots - 1

    def may_try(self, now_s: float) -> bool:
        return (
            not self.is_trial
            and self.slots < MAX_LEARNED
            and self.on_time >= BASELINE_SAMPLES
            and now_s >= self.next_trial_s
        )

    def begin_trial(self) -> None:
        self.slots += 1
        self.is_trial = True
        self.on_time = self.late = 0

    def judge(self, started_with: int, first_with: int, now_s: float, *, is_flat: bool) -> None:
        if started_with < self.slots:
            # Says nothing about the last slot; outside a trial it is the base line.
            if not self.is_trial:
                self._count_base(is_flat=is_flat)
        elif not is_flat:
            # Late with all slots in use: it waited for another to end.
            self._count_late(now_s)
        elif first_with >= self.slots:
            self._count_on_time(now_s)

    def _count_base(self, *, is_flat: bool) -> None:
        self.on_time = self.on_time + 1 if is_flat else 0

    def _count_late(self, now_s: float) -> None:
        self.on_time = 0
        self.late += 1
        if self.slots > 1 and (self.is_trial or self.late >= RETREAT_SAMPLES):
            self.slots -= 1
            self.is_trial = False
            self.late = 0
            self.next_trial_s = now_s + self.interval_s
            self.interval_s = min(self.interval_s * TRIAL_GROWTH, TRIAL_INTERVAL_MAX_S)

    def _count_on_time(self, now_s: float) -> None:
        self.late = 0
        self.on_time += 1
        if self.is_trial and self.on_time >= CONFIRM_SAMPLES:
            self.is_trial = False
            self.on_time = 0
            self.next_trial_s = now_s
            self.interval_s = TRIAL_INTERVAL_S
