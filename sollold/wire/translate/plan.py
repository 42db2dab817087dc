"""What translating a request leads to, before anybody reads the reply."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, NamedTuple

from sollold.wire.translate.seam import Answer, Call, Done, Engine

if TYPE_CHECKING:
    from sollold.wire.routes import InferenceRoute
    from sollold.wire.translate.asked import Asked


class Plan(NamedTuple):
    """The call that does the work, and what its reply depends on."""

    call: Call
    asked: Asked


Plans = Generator[Call, Answer, Plan | Done]
"""Yields calls to be made first; raises `Unsupported` or `BodyProblem`."""


class Job(NamedTuple):
    """One request on its way to one node."""

    route: InferenceRoute
    engine: Engine
    wall_ns: Callable[[], int]
    started_ns: int
    include_usage: bool = False
    """A `/v1` client asked for usage in the stream."""
