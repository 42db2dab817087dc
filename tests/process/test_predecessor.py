"""A start line of the predecessor, as it stands in people's scripts."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.fakes.program import FakeNodeProcess
from tests.process.support import chat, get, post, until
from tests.stack.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.stack.daemon import DaemonProcess

pytestmark = pytest.mark.process


def test_its_flags_start_a_daemon_that_works(
    new_daemon: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    port = free_port()
    hosts = tmp_path / "hosts.txt"
    with FakeNodeProcess("--rate", "0") as node:
        hosts.write_text(f"{node.url.removeprefix('http://')}\n")
        daemon = new_daemon(
            args=["--port", str(port), "--hosts", str(hosts), "--workers", "4", "--no-autobatch"],
            env={"SOLLOL_ROUTING_LOG_CONSOLE": "true", "SOLLOL_REDIS_URL": "redis://localhost"},
        )
        daemon.api_url = f"http://127.0.0.1:{port}"
        daemon.start()
        assert post(daemon, "/api/chat", chat(stream=False)).status == 200
        until(lambda: "ROUTE_DECISION r-" in daemon.log_text(), "the decision is printed")
        assert daemon.stop() == 0
    log = daemon.log_text()
    for name in ("--workers", "--no-autobatch", "SOLLOL_REDIS_URL"):
        assert log.count(f"{name} has no effect: ") == 1
    assert "redis://" not in log


@pytest.mark.parametrize("is_on", [True, False])
def test_its_switch_of_the_routing_log(
    new_daemon: Callable[..., DaemonProcess], *, is_on: bool
) -> None:
    with FakeNodeProcess("--rate", "0") as node:
        env = {"SOLLOL_ROUTING_LOG": str(is_on)}
        daemon = new_daemon(nodes=[node.url], env=env)
        daemon.start()
        assert post(daemon, "/api/chat", chat(stream=False)).status == 200

        def types() -> set[str]:
            events = get(daemon, "/api/v1/events?n=100")["events"]
            return {event["event_type"] for event in events}

        until(lambda: "REQUEST_DONE" in types(), "the request is an event")
        steps = {"ROUTE_DECISION", "OLLAMA_NODE_SELECTED", "TASK_START", "TASK_COMPLETE"}
        assert steps & types() == (steps if is_on else set())
        assert "ROUTE_DECISION" not in daemon.log_text()


def test_what_would_mislead_ends_with_two(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "sollold", "up", "--dask-scheduler", "tcp://10.0.0.1:8786"]
    result = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert result.returncode == 2
    assert "--dask-scheduler: no cluster is used" in result.stderr
