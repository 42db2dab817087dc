"""Daemons and fake nodes as processes, ended with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.program import FakeNodeProcess
from tests.process.support import chat, get, post, until
from tests.stack.daemon import DaemonProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NODE_KEY = "xyzzy-7f3c-node"
"""What the first of two nodes is asked with; it must not show up anywhere."""


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


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[FakeNodeProcess, FakeNodeProcess]]:
    arguments = ("--rate", "100", "--answer-tokens", "400", "--slots", "4")
    with FakeNodeProcess(*arguments) as one, FakeNodeProcess(*arguments) as other:
        yield one, other


def config_for(nodes: tuple[FakeNodeProcess, FakeNodeProcess]) -> str:
    """Two nodes, one with a key; a log of all there is; little patience."""
    return f"""\
[[nodes]]
url = "{nodes[0].url}"
name = "gpu-1"
key_env = "GPU_KEY"

[[nodes]]
url = "{nodes[1].url}"
name = "gpu-2"

[log]
level = "debug"

[limits]
body_bytes = "1 MiB"

[queue]
holder_down_s = 0.2

[health]
interval_s = 0.5
timeout_s = 0.5
backoff_max_s = 0.5
eject_s = 0.1
eject_max_s = 0.2
"""


@pytest.fixture(scope="module")
def daemon(
    new_shared_daemon: Callable[..., DaemonProcess], nodes: tuple[FakeNodeProcess, FakeNodeProcess]
) -> DaemonProcess:
    """The daemon of most tests."""
    return new_shared_daemon(config=config_for(nodes), env={"GPU_KEY": NODE_KEY})


@pytest.fixture
def settled(
    daemon: DaemonProcess, nodes: tuple[FakeNodeProcess, FakeNodeProcess]
) -> Iterator[None]:
    """Both nodes are well and known to be; a node left out needs a request to come back."""

    def is_well() -> bool:
        for node in get(daemon, "/api/v1/nodes")["nodes"]:
            loaded = [model["context_length"] for model in node["loaded"] or ()]
            if node["state"] != "up" or not any(loaded):
                body = chat(stream=False, options={"num_predict": 1})
                post(daemon, "/api/chat", body, X_Sollold_Pin=node["name"])
                return False
        return True

    until(is_well, "both nodes are up and have the model in memory")
    yield
    for node in nodes:
        node.set_faults()
