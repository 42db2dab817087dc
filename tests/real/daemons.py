"""Starts daemons over real nodes, and waits for what they must have seen."""

from __future__ import annotations

import collections
import contextlib
from typing import TYPE_CHECKING

from tests.stack.daemon import DaemonProcess
from tests.stack.http import get_json, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
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
    with _started(directory, "".join(tables) + config) as daemon:
        wait_for_nodes(daemon, len(nodes))
        yield daemon


@contextlib.contextmanager
def daemon_that_lists(
    directory: Path,
    config: str,
    holders: Mapping[str, int],
    *,
    env: Mapping[str, str] | None = None,
) -> Iterator[DaemonProcess]:
    """A daemon over nodes of any kind; it knows that so many of them hold each of these models."""
    with _started(directory, config, env) as daemon:
        wait_for_holders(daemon, holders)
        yield daemon


@contextlib.contextmanager
def _started(
    directory: Path, config: str, env: Mapping[str, str] | None = None
) -> Iterator[DaemonProcess]:
    daemon = DaemonProcess(directory, config=config + _PROBE_OFTEN, env=env)
    try:
        daemon.start()
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


def wait_for_holders(daemon: DaemonProcess, holders: Mapping[str, int]) -> None:
    """Wait until a daemon finds so many nodes that hold each of these models, and all usable."""
    wait_until(
        lambda: holders.items() <= _holders(daemon).items() and _is_whole(daemon),
        limit_s=_SEEN_WITHIN_S,
        failure=lambda: f"{_holders(daemon)}; {daemon.log_text()[-2000:]}",
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


def _is_whole(daemon: DaemonProcess) -> bool:
    return _usable(daemon) == len(get_json(f"{daemon.api_url}/api/v1/nodes")["nodes"])


def _holders(daemon: DaemonProcess) -> dict[str, int]:
    models = get_json(f"{daemon.api_url}/api/tags")["models"]
    return {model["name"]: len(model["nodes"]) for model in models}


def _has_read_lists(daemon: DaemonProcess, count: int) -> bool:
    models = get_json(f"{daemon.api_url}/api/tags")["models"]
    return all(len(model["nodes"]) == count for model in models)
