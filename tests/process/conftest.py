"""Daemons and fake nodes as processes, ended with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.program import FakeNodeProcess
from tests.stack.daemon import DaemonProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NewDaemon = "Callable[..., DaemonProcess]"


@pytest.fixture(scope="module")
def node_process() -> Iterator[FakeNodeProcess]:
    """A node with slow streams of many tokens; several requests at once."""
    with FakeNodeProcess("--rate", "50", "--answer-tokens", "1000", "--slots", "8") as node:
        yield node


@pytest.fixture
def node(node_process: FakeNodeProcess) -> Iterator[FakeNodeProcess]:
    """The module's node, without faults."""
    node_process.set_faults()
    yield node_process
    node_process.set_faults()


@pytest.fixture
def new_daemon(tmp_path: Path) -> Iterator[Callable[..., DaemonProcess]]:
    """Make daemons that are not started yet; arguments are those of `DaemonProcess`."""
    made: list[DaemonProcess] = []

    def make(**arguments: object) -> DaemonProcess:
        daemon = DaemonProcess(tmp_path / f"daemon-{len(made)}", **arguments)  # type: ignore[arg-type]
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.close()


@pytest.fixture(scope="module")
def new_shared_daemon(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., DaemonProcess]]:
    """Make and start daemons that several tests of a module use."""
    made: list[DaemonProcess] = []

    def make(**arguments: object) -> DaemonProcess:
        directory = tmp_path_factory.mktemp("daemon")
        daemon = DaemonProcess(directory, **arguments)  # type: ignore[arg-type]
        made.append(daemon)
        daemon.start()
        return daemon

    yield make
    for daemon in made:
        daemon.close()
