"""Start, ready, watchdog, stop and crash loops, as the manager sees them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.process.support import get, is_whole, until
from tests.systemd.service import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.program import FakeNodeProcess
    from tests.process.support import Stream
    from tests.systemd.service import Service

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(120)]

# The limit's own span is too short for a machine that is busy with other things.
_QUICK_RESTART = "[Unit]\nStartLimitIntervalSec=600\n[Service]\nRestartSec=100ms\n"


@pytest.fixture
def started(service: Service, node: FakeNodeProcess) -> Service:
    service.write_config(node.url)
    service.install()
    service.start()
    return service


def test_the_manager_loads_the_units_without_complaint(service: Service) -> None:
    service.install(has_socket=True)
    for unit in ("sollold.service", "sollold.socket"):
        assert service.show("LoadState", unit) == "loaded"
        options = ["--user"] if service.machine.is_user else []
        path = f"{service.machine.unit_dir}/{unit}"
        done = service.machine.run("systemd-analyze", *options, "verify", path)
        said = [line for line in (done.stdout + done.stderr).splitlines() if "sollold" in line]
        assert said == []


def test_start_returns_once_clients_can_connect(started: Service) -> None:
    # No waiting here: that the start has returned has to be enough.
    assert get(started, "/api/version")["version"]
    assert started.state() == ("active", "running")
    assert started.show("Type") == "notify"


def test_start_waits_for_ready(service: Service, node: FakeNodeProcess) -> None:
    service.write_config(node.url)
    service.install()
    # Frozen before it can say anything: the manager must not take it for started.
    stop_first = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -STOP $$$$; exec {}'\n"
    service.drop_in(SERVICE, "late", stop_first.format(_command(service)))
    service.machine.systemctl("start", "--no-block", SERVICE)
    until(lambda: service.show("MainPID") != "0", "a process")
    until(lambda: _process_state(service) == "T", "it has stopped itself")
    assert service.state() == ("activating", "start")
    service.signal("SIGCONT")
    service.wait_for("active")


def test_status_shows_the_sentence_of_the_daemon(
    started: Service, new_stream: Callable[..., Stream]
) -> None:
    sentence = 'Status: "1 of 1 nodes usable, 0 running, 0 queued"'
    until(lambda: sentence in started.status(), sentence)
    with_stream = 'Status: "1 of 1 nodes usable, 1 running, 0 queued"'
    new_stream(started)
    until(lambda: with_stream in started.status(), with_stream)


def test_a_frozen_daemon_is_killed_and_started_again(
    service: Service, node: FakeNodeProcess
) -> None:
    service.write_config(node.url)
    service.install()
    service.drop_in(
        SERVICE,
        "quick",
        "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\nTimeoutStopSec=1s\nRestartSec=100ms\n",
    )
    service.start()
    first, begun_s = service.show("MainPID"), service.fed_s()
    # Fed for longer than the limit.
    until(lambda: service.fed_s() > begun_s + 2.0, "it is fed")
    assert service.show("MainPID") == first
    service.signal("SIGSTOP")
    until(lambda: service.show("NRestarts") == "1", "the manager starts it again")
    service.wait_for("active")
    assert service.show("MainPID") != first
    assert get(service, "/api/version")["version"]


def test_stop_lets_a_running_stream_finish(
    started: Service, new_stream: Callable[..., Stream]
) -> None:
    started.keep_loaded()
    stream = new_stream(started, options={"num_predict": 100})
    started.machine.systemctl("stop", "--no-block", SERVICE)
    until(lambda: started.show("ActiveState") == "deactivating", "stopping")
    assert is_whole(stream.result())
    started.wait_for("inactive")
    # 1: exited, not killed.
    ended = started.properties("Result", "ExecMainStatus", "ExecMainCode")
    assert ended == ("success", "0", "1")


def test_restart_serves_again(started: Service) -> None:
    first = started.show("MainPID")
    started.machine.systemctl("restart", SERVICE)
    assert get(started, "/api/version")["version"]
    assert started.show("MainPID") != first


def test_a_wrong_configuration_is_not_tried_again(service: Service) -> None:
    service.install()
    service.drop_in(SERVICE, "quick", _QUICK_RESTART)
    service.write_raw_config("[listen]\napi = 17\n")
    service.machine.systemctl("start", SERVICE, check=False)
    service.wait_for("failed")
    assert service.properties("ExecMainStatus", "NRestarts") == ("78", "0")


def test_a_taken_port_is_not_tried_again(service: Service, node: FakeNodeProcess) -> None:
    service.install()
    service.drop_in(SERVICE, "quick", _QUICK_RESTART)
    service.api_port = node.port
    service.write_config()
    service.machine.systemctl("start", SERVICE, check=False)
    service.wait_for("failed")
    assert service.properties("ExecMainStatus", "NRestarts") == ("75", "0")


def test_a_crash_loop_ends(service: Service, node: FakeNodeProcess) -> None:
    service.write_config(node.url)
    service.install()
    service.drop_in(SERVICE, "quick", _QUICK_RESTART)
    service.start()
    burst = int(service.show("StartLimitBurst"))
    assert 2 <= burst <= 10
    killed: set[str] = set()
    for _ in range(burst):
        until(lambda: _running_pid(service) not in {"0", *killed}, "running, a new process")
        killed.add(_running_pid(service))
        service.signal("SIGKILL")
    service.wait_for("failed")
    assert len(killed) == burst
    assert service.show("Result") in {"signal", "start-limit-hit"}
    # It stays so until a person has looked.
    service.machine.systemctl("reset-failed", SERVICE)
    service.start()
    assert get(service, "/api/version")["version"]


def test_its_directories_are_for_it_alone(started: Service) -> None:
    control = get(started, "/api/v1/status")["addresses"]["control"]
    mode, kind = started.machine.run("stat", "-c", "%a %F", control).stdout.split(" ", 1)
    assert (mode, kind.strip()) == ("600", "socket")
    document = started.machine.run("sollolctl", "--url", f"unix:{control}", "status", "--json")
    assert json.loads(document.stdout)["addresses"]["control"] == control


def _running_pid(service: Service) -> str:
    pid, state = service.properties("MainPID", "SubState")
    return pid if state == "running" else "0"


def _command(service: Service) -> str:
    text = service.machine.read(f"{service.machine.unit_dir}/{SERVICE}")
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    return line.removeprefix("ExecStart=")


def _process_state(service: Service) -> str:
    pid = service.show("MainPID")
    done = service.machine.run("cat", f"/proc/{pid}/stat", check=False)
    return done.stdout.rpartition(")")[2].split()[0] if done.stdout else ""
