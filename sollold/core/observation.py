"""What can be learned about a node's health, and the numbers by which it is judged."""

from __future__ import annotations

import msgspec


class HealthPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Every number of the state machine."""

    interval_s: float = 5.0
    """Between two probes of a node that answers."""
    retry_s: float = 0.5
    """From a first failed probe to the next; doubles with every further one."""
    retry_cap_s: float = 30.0
    jitter: float = 0.2
    """Part of each pause that dice decide, either way."""
    down_after: int = 2
    """Probes without an answer, in a row, that make a node down."""
    stale_s: float = 90.0
    """Evidence older than this is none."""
    eject_after: float = 3.0
    """Failed requests in a row."""
    window_s: float = 60.0
    window_failures: float = 5.0
    eject_s: float = 5.0
    """The first ejection; each further one lasts so much longer."""
    eject_cap_s: float = 60.0
    forgive_s: float = 60.0
    """Time without ejection that takes one off their count."""
    trial_s: float = 30.0
    """How long one trial may keep others out."""
    busy_s: float = 1.0
    busy_cap_s: float = 60.0
    retry_after_cap_s: float = 300.0
    warming_s: float = 10.0
    misconfigured_s: float = 1.0
    """The first pause after a refusal for reasons of configuration; each further one doubles it."""
    misconfigured_cap_s: float = 15.0
    """A refusal costs little, as another node is asked, and mended nodes are soon found out."""


class ProbeOk(msgspec.Struct, frozen=True):
    """A probe was answered as it should be."""

    latency_s: float


class ProbeFailed(msgspec.Struct, frozen=True):
    """A probe was not answered; `is_refused`: the host said that nothing listens."""

    code: str
    text: str
    is_refused: bool = False


class Refused(msgspec.Struct, frozen=True):
    """A request saw its connection refused."""

    text: str


class TrafficOk(msgspec.Struct, frozen=True):
    """A request succeeded. `first_s` only where it found model and slot free: it is compared."""

    first_s: float | None = None
    trial: int | None = None


class TrafficFailed(msgspec.Struct, frozen=True):
    """A request failed through the node's fault."""

    code: str
    text: str
    weight: float = 1.0
    trial: int | None = None


class Saturated(msgspec.Struct, frozen=True):
    """The node said: not now (429, 503)."""

    retry_after_s: float | None = None


class Misconfigured(msgspec.Struct, frozen=True):
    """The node wants another key or speaks another protocol."""

    text: str
    is_probe: bool = True


class Frozen(msgspec.Struct, frozen=True):
    """Probes sent because requests waited were not answered."""

    text: str


class Drain(msgspec.Struct, frozen=True):
    """The operator takes the node out, or lets it back in."""

    is_on: bool
    until_s: float | None = None
    text: str = "draining on request"


class Warming(msgspec.Struct, frozen=True):
    """The node answers but is still loading; `is_probe`: a probe was told so."""

    text: str = "still loading its model"
    is_probe: bool = True


class TrialEnded(msgspec.Struct, frozen=True):
    """A trial request ended without a verdict on the node."""

    trial: int


Observation = (
    ProbeOk
    | ProbeFailed
    | Refused
    | TrafficOk
    | TrafficFailed
    | Saturated
    | Misconfigured
    | Frozen
    | Drain
    | Warming
    | TrialEnded
)
