"""One machine for each manager, which all tests of a run share; a service for each test."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.program import FakeNodeProcess
from tests.process.support import Stream
from tests.systemd.machine import Lacking, Machine, Manager, NotPossible
from tests.systemd.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REFUSALS = pytest.StashKey[dict[Manager, NotPossible | Lacking]]()


def pytest_configure(config: pytest.Config) -> None:
    """Prepare for what this machine does not allow."""
    config.stash[_REFUSALS] = {}


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which manager was not possible here, and why."""
    for manager, reason in config.stash[_REFUSALS].items():
        terminalreporter.write_line(f"{manager} manager: not possible here: {reason}")


@pytest.fixture(scope="session", params=list(Manager), ids=str)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The manager, started once."""
    manager: Manager = request.param
    refusals = request.config.stash[_REFUSALS]
    if manager in refusals:
        refuse(manager, refusals[manager])
    with tempfile.TemporaryDirectory(prefix="sollold-machine.") as directory:
        made = Machine(manager, Path(directory))
        try:
            made.start()
        except (NotPossible, Lacking) as failure:
            refusals[manager] = failure
        if manager in refusals:
            refuse(manager, refusals[manager])
        yield made
        made.close()


def refuse(manager: Manager, reason: NotPossible | Lacking) -> None:
    """End the test. A kernel may refuse to boot a system; a user's manager runs on all."""
    if manager is Manager.SYSTEM and isinstance(reason, NotPossible):
        pytest.xfail(f"not possible here: {reason}")
    if os.environ.get("CI", "false") not in {"", "false"}:
        pytest.fail(f"no {manager} manager: {reason}", pytrace=False)
    pytest.skip(f"no {manager} manager: {reason}")


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    """The daemon's units, not yet installed."""
    made = Service(machine)
    yield made
    made.remove()


@pytest.fixture(scope="session")
def node_process() -> Iterator[FakeNodeProcess]:
    with FakeNodeProcess("--rate", "50", "--answer-tokens", "1000", "--slots", "64") as node:
        yield node


@pytest.fixture
def node(node_process: FakeNodeProcess) -> Iterator[FakeNodeProcess]:
    """A node with slow streams; many requests at once."""
    node_process.set_faults()
    yield node_process
    node_process.set_faults()


@pytest.fixture
def new_stream(service: Service) -> Iterator[Callable[..., Stream]]:
    """Open streams; what is left of them ends before their daemon does."""
    made: list[Stream] = []

    def make(*args: Any, **fields: Any) -> Stream:
        stream = Stream(*args, **fields)
        made.append(stream)
        return stream

    yield make
    for stream in made:
        stream.abort()
