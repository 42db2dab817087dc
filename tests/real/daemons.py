"""Starts daemons over real nodes, and waits for what they must have seen."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tests.stack.daemon import DaemonProcess
from tests.stack.http import get_json, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.stack.ollama import OllamaServer

_SEEN_WITHIN_S = 20.0


@contextlib.contextmanager
def running_daemon(
    directory: Path, nodes: Sequence[OllamaServer], *, config: str = ""
) -> Iterator[DaemonProcess]:
    """A daemon over nodes n1, n2 and so on; it knows all of them and their models."""
    tables = [
        f'[[nodes]]\nurl = "{node.url}"\nname = "n{number}"\n\n'
        for number, node in enumerate(nodes, 1)
    ]
    daemon = DaemonProcess(directory, config="".join(tables) + config)
    try:
        daemon.start()
        wait_for_nodes(daemon, len(nodes))
        yield daemon
    finally:
        daemon.close()


def wait_for_nodes(daemon: DaemonProcess, count: int) -> None:
    """Wait until a daemon finds so many nodes usable, and knows what each of them holds."""
    wait_until(
        lambda: _usable(daemon) == count and _has_read_lists(daemon, count),
        limit_s=_SEEN_WITHIN_S,
        failure=lambda: f"{_usable(daemon)} of {count} nodes; {daemon.log_text()[-2000:]}",
    )


def usage(daemon: DaemonProcess) -> dict[str, Any]:
    """What a daemon says about its requests: running, queued, and how the last ones ended."""
    status: dict[str, Any] = get_json(f"{daemon.api_url}/api/v1/status")
    return {**status["requests"], **status["recent"]}


def _usable(daemon: DaemonProcess) -> int:
    return int(get_json(f"{daemon.api_url}/api/v1/status")["nodes"]["up"])


def _has_read_lists(daemon: DaemonProcess, count: int) -> bool:
    models = get_json(f"{daemon.api_url}/api/tags")["models"]
    return all(len(model["nodes"]) == count for model in models)
