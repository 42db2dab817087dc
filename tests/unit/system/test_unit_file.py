from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sollold.config import Config
from sollold.config.address import parse_listen
from sollold.system.dirs import DirectoryError
from sollold.system.listen import AddressTaken, ListenError
from sollold.system.lock import AlreadyRunning, LockFailed

UNITS = Path(__file__).parents[3] / "systemd"
MANAGERS = ("user", "system")
PROGRAMS = {
    "user": "%h/.local/share/sollold/venv/bin/sollold",
    "system": "/opt/sollold/venv/bin/sollold",
}
WANTED_BY = {"user": "default.target", "system": "multi-user.target"}
MOST_EXPOSED = 3.0

both = pytest.mark.parametrize("manager", MANAGERS)
analysed = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here"
)


def section(manager: str, name: str, kind: str = "service") -> dict[str, list[str]]:
    """Return the settings of one section; a repeated one has several values."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in (UNITS / manager / f"sollold.{kind}").read_text("utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif current == name and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@both
def test_errors_that_another_start_would_not_mend_do_not_start_again(manager: str) -> None:
    (prevented,) = section(manager, "Service")["RestartPreventExitStatus"]
    errors = (AddressTaken, AlreadyRunning, DirectoryError, ListenError, LockFailed)
    assert {str(error.exit_code) for error in errors} | {"78"} == set(prevented.split())


@both
def test_there_is_time_to_drain(manager: str) -> None:
    server = Config().server
    (limit,) = section(manager, "Service")["TimeoutStopSec"]
    assert float(limit) >= server.drain_s + 2 * server.cancel_after_s


@both
def test_the_unit_is_what_the_daemon_needs(manager: str) -> None:
    service = section(manager, "Service")
    assert service["Type"] == ["notify"]
    assert service["NotifyAccess"] == ["main"]
    assert service["KillMode"] == ["mixed"]
    assert service["Restart"] == ["on-failure"]
    assert service["WatchdogSec"] == ["30"]
    assert service["ExecStart"] == [PROGRAMS[manager]]
    assert service["ExecReload"] == ["/bin/sh -c 'kill -HUP $MAINPID'"]
    assert section(manager, "Install")["WantedBy"] == [WANTED_BY[manager]]


@both
def test_a_crash_loop_ends(manager: str) -> None:
    unit, service = section(manager, "Unit"), section(manager, "Service")
    starts, pause_s = int(unit["StartLimitBurst"][0]), float(service["RestartSec"][0])
    # Crashes within a second of every start have to reach the limit inside its interval.
    assert starts * (pause_s + 1.0) < float(unit["StartLimitIntervalSec"][0])


@both
def test_both_managers_run_the_same_service_but_for_what_only_one_can(manager: str) -> None:
    other = MANAGERS[1 - MANAGERS.index(manager)]
    own, others = section(manager, "Service"), section(other, "Service")
    shared = own.keys() & others.keys() - {"ExecStart", "EnvironmentFile", "SystemCallFilter"}
    assert {key: own[key] for key in shared} == {key: others[key] for key in shared}


@both
def test_the_sockets_are_the_default_addresses(manager: str) -> None:
    listed = section(manager, "Socket", "socket")["ListenStream"]
    listen = Config().listen
    expected = {*listen.api_addresses(), *listen.console_addresses()}
    assert {parse_listen(text) for text in listed if "/" not in text} == expected


def test_no_option_hides_the_graphics_card_from_a_child() -> None:
    hiding = {"PrivateDevices", "ProtectClock", "DevicePolicy", "DeviceAllow"}
    assert not hiding & section("system", "Service").keys()
    for manager in MANAGERS:
        # Drivers of graphics cards write code; engines pin their threads.
        assert "MemoryDenyWriteExecute" not in section(manager, "Service")
        assert "~@resources" not in section(manager, "Service")["SystemCallFilter"]


def test_the_user_unit_has_nothing_that_needs_a_namespace() -> None:
    needing = re.compile(
        "(Private|Protect|Inaccessible|ReadOnly|ReadWrite|Bind|Temporary|Dynamic).*"
    )
    assert not [key for key in section("user", "Service") if needing.fullmatch(key)]


@analysed
@both
def test_systemd_finds_nothing_to_complain_about(manager: str, tmp_path: Path) -> None:
    units = _startable(manager, tmp_path)
    found = _analyze(tmp_path, f"--{manager}", "verify", *map(str, units))
    assert (found.returncode, found.stderr) == (0, "")


@analysed
def test_the_system_unit_is_little_exposed(tmp_path: Path) -> None:
    service = _startable("system", tmp_path)[0]
    found = _analyze(tmp_path, "security", "--offline=yes", "--no-pager", str(service))
    exposure = re.search(r"exposure level for sollold\.service: ([0-9.]+)", found.stdout)
    assert exposure is not None, found.stderr
    assert float(exposure[1]) <= MOST_EXPOSED


def _startable(manager: str, folder: Path) -> list[Path]:
    """Copy the units, with a program that exists."""
    program = folder / "sollold"
    program.touch(0o755)
    units = []
    for kind in ("service", "socket"):
        text = (UNITS / manager / f"sollold.{kind}").read_text("utf-8")
        units.append(folder / f"sollold.{kind}")
        units[-1].write_text(text.replace(f"ExecStart={PROGRAMS[manager]}", f"ExecStart={program}"))
    return units


def _analyze(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
