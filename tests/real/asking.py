"""Sends cases, and waits for what a daemon must have seen before it is compared with its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes.look import Client
from tests.real.cases import RawCase
from tests.stack.daemon import DaemonProcess
from tests.stack.http import get_json, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.fakes.cases import Case
    from tests.fakes.look import Answer
    from tests.stack.ollama import OllamaServer

_KNOWN_WITHIN_S = 20.0


class _RawClient(Client):
    def send_raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._socket.sendall(data)


def send(url: str, case: Case | RawCase) -> Answer:
    """The answer to a case, on a connection of its own."""
    with _RawClient(url) as client:
        if isinstance(case, RawCase):
            client.send_raw(case.raw)
        else:
            client.send(case.method, case.path, case.body, case.headers)
        return client.receive(case.method)


def node_tables(nodes: Sequence[OllamaServer]) -> str:
    """Configuration that calls nodes n1, n2 and so on."""
    return "".join(
        f'[[nodes]]\nurl = "{node.url}"\nname = "n{number}"\n\n'
        for number, node in enumerate(nodes, 1)
    )


def start_daemon(
    directory: Path, nodes: Sequence[OllamaServer], *, config: str = ""
) -> DaemonProcess:
    """Start a daemon over nodes; it has seen all of them when this returns."""
    daemon = DaemonProcess(directory, config=node_tables(nodes) + config)
    try:
        daemon.start()
        wait_for_nodes(daemon, len(nodes))
    except BaseException:
        daemon.close()
        raise
    return daemon


def wait_for_nodes(daemon: DaemonProcess, count: int) -> None:
    """Wait until a daemon finds so many nodes usable."""
    wait_until(
        lambda: count_up(daemon) == count,
        limit_s=_KNOWN_WITHIN_S,
        failure=lambda: (
            f"{count_up(daemon)} nodes are up, not {count}: {daemon.log_text()[-2000:]}"
        ),
    )


def count_up(daemon: DaemonProcess) -> int:
    """How many nodes a daemon finds usable now."""
    status: dict[str, Any] = get_json(f"{daemon.api_url}/api/v1/status")
    return int(status["nodes"]["up"])
