"""`sollolctl service` with a manager that really runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.support import get
from tests.systemd.machine import Manager
from tests.systemd.service import SERVICE, SOCKET, Service, ctl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.program import FakeNodeProcess

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(120)]


@pytest.fixture
def configured(service: Service, node: FakeNodeProcess) -> Iterator[Service]:
    """A machine with a configuration and without units."""
    service.write_config(node.url)
    yield service
    ctl(service, "uninstall", "--force")


def state_of(service: Service) -> Any:
    """What `sollolctl service status` says."""
    return json.loads(ctl(service, "status", "--json", check=False).stdout)


def test_install_start_and_uninstall(configured: Service) -> None:
    unit = f"{configured.machine.unit_dir}/{SERVICE}"
    assert f"written: {unit}" in ctl(configured, "install", "--now").stdout
    assert get(configured, "/api/version")["version"]
    state = state_of(configured)
    assert (state["active"], state["enabled"], state["service"]) == (
        "active",
        "enabled",
        "installed",
    )
    assert state["status"].endswith("0 queued")
    pid = configured.show("MainPID")
    # Again, as an upgrade does: what runs keeps running.
    assert f"unchanged: {unit}" in ctl(configured, "install", "--now").stdout
    assert configured.show("MainPID") == pid
    assert f"removed: {unit}" in ctl(configured, "uninstall").stdout
    assert not configured.machine.exists(unit)
    assert configured.show("LoadState") == "not-found"
    assert state_of(configured)["active"] == "inactive"
    assert "nothing to do" in ctl(configured, "uninstall").stdout


def test_the_written_unit_is_what_the_manager_understands(configured: Service) -> None:
    ctl(configured, "install", "--socket")
    options = ["--user"] if configured.machine.is_user else []
    for name in (SERVICE, SOCKET):
        path = f"{configured.machine.unit_dir}/{name}"
        done = configured.machine.run("systemd-analyze", *options, "verify", path)
        assert "sollold" not in done.stdout + done.stderr
    assert "/opt/sollold/venv/bin/sollold" in configured.show("ExecStart")


def test_a_drop_in_outlives_the_next_installation(configured: Service) -> None:
    ctl(configured, "install")
    configured.drop_in(SERVICE, "mine", "[Service]\nRestartSec=7s\n")
    ctl(configured, "install")
    assert configured.show("RestartUSec") == "7s"


def test_sockets_take_the_place_of_a_running_daemon(configured: Service) -> None:
    configured.set_ports()
    ctl(configured, "install", "--now")
    assert get(configured, "/api/version")["version"]
    ctl(configured, "install", "--socket", "--now")
    assert configured.show("ActiveState", SOCKET) == "active"
    assert get(configured, "/api/version")["version"]
    assert state_of(configured)["socket"] == "installed"


def test_a_start_that_fails_says_where_to_look(configured: Service) -> None:
    configured.write_raw_config("[listen\n")
    done = ctl(configured, "install", "--now", check=False)
    assert done.returncode == 1
    assert "failed" in done.stderr
    assert "journalctl" in done.stderr


@pytest.mark.parametrize("machine", [Manager.SYSTEM], indirect=True, ids=str)
def test_a_closed_folder_is_refused_for_the_system(configured: Service) -> None:
    configured.machine.run("mkdir", "-p", "-m", "700", "/root/closed/bin")
    configured.machine.run(
        "cp",
        "-a",
        "/opt/sollold/venv/bin/sollold",
        "/opt/sollold/venv/bin/python",
        "/root/closed/bin",
    )
    script = (
        "import sys; sys.path.insert(0, '/opt/sollold/tree'); sys.executable = "
        "'/root/closed/bin/python'; from sollold.ctl.main import main; "
        "sys.argv = ['sollolctl', 'service', 'install', '--system']; main()"
    )
    done = configured.machine.run("/opt/sollold/venv/bin/python", "-c", script, check=False)
    assert done.returncode == 1
    assert "is closed" in done.stderr
    assert not configured.machine.exists(f"{configured.machine.unit_dir}/{SERVICE}")
