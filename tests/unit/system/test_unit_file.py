from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sollold.config import Config
from sollold.system.dirs import DirectoryError
from sollold.system.listen import AddressTaken, ListenError
from sollold.system.lock import AlreadyRunning, LockFailed

UNIT = Path(__file__).parents[3] / "systemd" / "sollold.service"


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = lambda optionstr: optionstr  # type: ignore[method-assign]
    parser.read_string(UNIT.read_text("utf-8"))
    return parser


def test_errors_that_another_start_would_not_mend_do_not_start_again() -> None:
    prevented = set(unit()["Service"]["RestartPreventExitStatus"].split())
    errors = (AddressTaken, AlreadyRunning, DirectoryError, ListenError, LockFailed)
    assert {str(error.exit_code) for error in errors} | {"78"} == prevented


def test_there_is_time_to_drain() -> None:
    server = Config().server
    assert float(unit()["Service"]["TimeoutStopSec"]) >= server.drain_s + 2 * server.cancel_after_s


def test_the_unit_is_what_the_daemon_needs() -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert service["KillMode"] == "mixed"
    assert service["ExecStart"] == "%h/.local/share/sollold/venv/bin/sollold"
    assert "WatchdogSec" not in service
    assert unit()["Install"]["WantedBy"] == "default.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    program = tmp_path / ".local/share/sollold/venv/bin/sollold"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    found = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(UNIT)],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
