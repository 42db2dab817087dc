from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sollold.system.lock import AlreadyRunning, InstanceLock, LockFailed
from sollold.system.unit import SYSTEM, USER, Unit

if TYPE_CHECKING:
    from pathlib import Path


def test_the_file_names_the_process_while_the_lock_is_held(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with InstanceLock(path) as lock:
        assert path.read_text() == f"{os.getpid()}\n"
        assert path.stat().st_mode & 0o777 == 0o600
    lock.release()
    assert path.exists()
    assert path.read_text() == ""


def test_a_second_instance_is_told_who_runs(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with InstanceLock(path):
        for _ in range(2):
            with pytest.raises(AlreadyRunning) as caught:
                InstanceLock(path)
            assert caught.value.pid == os.getpid()
            assert caught.value.exit_code == 75
            assert f"another sollold is running (pid {os.getpid()})" in caught.value.message
            assert f"stop it first: kill {os.getpid()}" in caught.value.message
    InstanceLock(path).release()


@pytest.mark.parametrize(
    ("unit", "command"), [(USER, "systemctl --user stop sollold"), (SYSTEM, "sudo systemctl stop")]
)
def test_a_holder_that_is_a_service_is_stopped_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: Unit, command: str
) -> None:
    monkeypatch.setattr("sollold.system.lock.unit_of", lambda _: unit)
    with InstanceLock(tmp_path / "lock"), pytest.raises(AlreadyRunning, match=command):
        InstanceLock(tmp_path / "lock")


def test_a_holder_without_a_number_is_still_a_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("garbage")
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunning, match="another sollold is running and holds") as caught:
            InstanceLock(path)
        assert caught.value.pid is None
    with InstanceLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_the_lock_ends_with_its_process_even_when_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys, pathlib, sollold.system.lock as l\n"
        "lock = l.InstanceLock(pathlib.Path(sys.argv[1])); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning) as caught:
            InstanceLock(path)
        assert caught.value.pid == child.pid
        child.kill()
    InstanceLock(path).release()


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = InstanceLock(path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        lock.release()
        InstanceLock(path).release()


def test_a_path_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "no" / "lock", tmp_path, link):
        with pytest.raises(LockFailed, match="cannot be opened") as caught:
            InstanceLock(path)
        assert caught.value.exit_code == 75
    assert not (tmp_path / "elsewhere").exists()
