"""The watchdog: only a loop that turns feeds it, and a kill says where it hung."""

from __future__ import annotations

import contextlib
import signal
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from tests.process.support import NotifySocket, frozen, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.stack.daemon import DaemonProcess

pytestmark = pytest.mark.process

PATIENCE_S = 0.5

# The real program; a signal makes its main thread do nothing until a file appears.
BLOCKABLE = """\
    import os, signal, sys, time

    def hang_until_released(*_):
        sys.stderr.write("hangs now\\n")
        while not os.path.exists(os.environ["RELEASE"]):
            time.sleep(0.01)

    signal.signal(signal.SIGUSR1, hang_until_released)
    from sollold.__main__ import main
    main()
"""


class Watched:
    """A daemon whose loop can be blocked, and the manager that watches it."""

    def __init__(self, daemon: DaemonProcess, notify: NotifySocket, release: Path) -> None:
        self.daemon = daemon
        self.notify = notify
        self.release = release

    def block(self) -> None:
        self.daemon.group.send(signal.SIGUSR1)
        until(lambda: "hangs now" in self.daemon.log_text(), "it hangs")

    def assert_silent(self) -> None:
        """Nothing comes for several times the manager's patience."""
        self.notify.poll()
        self.notify.messages.clear()
        time.sleep(3 * PATIENCE_S)
        self.notify.poll()
        assert "WATCHDOG" not in self.notify.words()


@pytest.fixture
def watched(new_daemon: Callable[..., DaemonProcess], tmp_path: Path) -> Iterator[Watched]:
    program, release = tmp_path / "blockable.py", tmp_path / "release"
    program.write_text(textwrap.dedent(BLOCKABLE))
    with NotifySocket(tmp_path / "notify") as notify:
        env = {
            "NOTIFY_SOCKET": str(notify.path),
            "WATCHDOG_USEC": str(round(PATIENCE_S * 1_000_000)),
            "RELEASE": str(release),
        }
        daemon = new_daemon(env=env)
        daemon.launch([str(program)])
        notify.wait_for("WATCHDOG=1")
        yield Watched(daemon, notify, release)
        with contextlib.suppress(ProcessLookupError):
            release.touch()


def test_a_blocked_loop_is_not_fed_for_and_recovers(watched: Watched) -> None:
    watched.block()
    watched.assert_silent()
    watched.release.touch()
    watched.notify.wait_for("WATCHDOG=1")
    assert watched.daemon.stop() == 0


def test_a_stopped_process_is_not_fed_for(watched: Watched) -> None:
    with frozen(watched.daemon.group.pid):
        watched.assert_silent()
    watched.notify.wait_for("WATCHDOG=1")


def test_the_managers_kill_leaves_in_the_log_where_it_hung(watched: Watched) -> None:
    watched.block()
    watched.daemon.group.send(signal.SIGABRT)
    assert watched.daemon.wait_exit() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in watched.daemon.log_text()
    assert "hang_until_released" in watched.daemon.log_text()
