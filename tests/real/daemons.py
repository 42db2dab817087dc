"""Starts daemons over real nodes, and waits for what they must have seen."""

from __future__ import annotations

import collections
import contextlib
from typing import TYPE_CHECKING

from tests.stack.daemon import DaemonProcess
from tests.stack.http import get_json, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.stack.ollama import OllamaServer

_SEEN_WITHIN_S = 20.0

# A node that a test killed and brought back is found soon.
_PROBE_OFTEN = """\
[health]
interval_s = 0.5
timeout_s = 0.5
backoff_max_s = 0.5
"""


@contextlib.contextmanager
def running_daemon(
    directory: Path, nodes: Sequence[OllamaServer], *, config: str = ""
) -> Iterator[DaemonProcess]:
    """A daemon over nodes n1, n2 and so on; it knows all of them and their models."""
    tables = [
        f'[[nodes]]\nurl = "{node.url}"\nname = "n{number}"\n\n'
        for number, node in enumerate(nodes, 1)
    ]
    daemon = DaemonProcess(directory, config="".join(tables) + _PROBE_OFTEN + config)
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


def running_on(daemon: DaemonProcess) -> dict[str, int]:
    """How many requests run on each node that has some."""
    running = get_json(f"{daemon.api_url}/api/v1/requests")["running"]
    return dict(collections.Counter(request["node"] for request in running))


def failed_over(daemon: DaemonProcess) -> int:
    """How many of the last requests moved to another node."""
    return int(get_json(f"{daemon.api_url}/api/v1/status")["recent"]["failed_over"])


def _usable(daemon: DaemonProcess) -> int:
    counts = get_json(f"{daemon.api_url}/api/v1/status")["nodes"]
    return int(counts["up"]) + int(counts["slow"])


def _has_read_lists(daemon: DaemonProcess, count: int) -> bool:
    models = get_json(f"{daemon.api_url}/api/tags")["models"]
    return all(len(model["nodes"]) == count for model in models)
