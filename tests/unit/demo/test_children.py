"""Child processes: how they end, and that they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from sollold.demo.children import Children, ending_of, wait_until

if TYPE_CHECKING:
    from pathlib import Path

_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""

_PARENT = """
import os, pathlib, sys, time
from sollold.demo.children import Children
with Children(lambda: None) as children:
    child = children.start(
        "child",
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env=os.environ,
        folder=pathlib.Path(sys.argv[1]),
        grace_s=1.0,
    )
    print(child.pid, flush=True)
    time.sleep(60)
"""


def _nothing() -> None:
    return None


def _start(children: Children, folder: Path, code: str, *, grace_s: float = 5.0) -> int:
    argv = [sys.executable, "-c", code]
    child = children.start("child", argv, env=os.environ, folder=folder, grace_s=grace_s)
    is_ready = wait_until(
        lambda: child.tail(1) == ["ready"] or not child.is_running, limit_s=20, on_wait=_nothing
    )
    assert is_ready
    return child.pid


def _is_alive(pid: int) -> bool:
    """Whether it runs; what nobody has fetched yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_all_are_stopped_at_the_end(tmp_path: Path) -> None:
    told: list[str] = []

    with Children(lambda: told.append("stopping")) as children:
        code = "import time; print('ready', flush=True); time.sleep(60)"
        pids = [_start(children, tmp_path, code) for _ in range(2)]
        assert all(_is_alive(pid) for pid in pids)
        assert not told

    assert told == ["stopping"]
    assert not any(_is_alive(pid) for pid in pids)


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    with Children(_nothing) as children:
        pid = _start(children, tmp_path, _STUBBORN, grace_s=0.1)

    assert not _is_alive(pid)


def test_none_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _PARENT, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert _is_alive(pid)
        parent.kill()

    assert wait_until(lambda: not _is_alive(pid), limit_s=10, on_wait=_nothing)


def test_a_child_tells_its_end_and_its_last_words(tmp_path: Path) -> None:
    with Children(_nothing) as children:
        code = "print('one'); print('two'); raise SystemExit(3)"
        argv = [sys.executable, "-c", code]
        child = children.start("child", argv, env=os.environ, folder=tmp_path, grace_s=1.0)
        assert wait_until(lambda: not child.is_running, limit_s=20, on_wait=_nothing)

        assert child.ending() == "ended with exit code 3"
        assert child.tail(1) == ["two"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "runs"),
        (0, "ended with exit code 0"),
        (-signal.SIGKILL, "was ended by SIGKILL"),
        (-63, "was ended by 63"),
    ],
)
def test_an_end_in_words(code: int | None, words: str) -> None:
    assert ending_of(code) == words


def test_an_illegal_instruction_is_explained() -> None:
    assert "another processor" in ending_of(-signal.SIGILL)


def test_waiting_has_a_limit() -> None:
    waits: list[int] = []

    assert not wait_until(lambda: False, limit_s=0.1, on_wait=lambda: waits.append(1))
    assert waits
