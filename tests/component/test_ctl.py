"""`sollolctl` as a process: in pipes, on a terminal, and what it loads."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sollold.api_types import encode
from tests.unit.ctl.canned import ASCII, EVENT_LINES, LOG_TEXT, answers
from tests.unit.ctl.documents import GPU_2, HEALTHY, NODES
from tests.unit.ctl.fake_daemon import Answer, FakeDaemon
from tests.unit.ctl.test_nodes import LIST_TEXT
from tests.unit.ctl.test_status import HEALTHY_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

SOLLOLCTL = (sys.executable, "-c", "from sollold.ctl.main import main; main()")


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(answers()).on_tcp() as fake:
        monkeypatch.setenv("SOLLOLD_URL", fake.url)
        yield fake


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE", "SOLLOLD_KEY", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    monkeypatch.setenv("TERM", "xterm")


# As a process --------------------------------------------------------------------------------


def process(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SOLLOLCTL, *args],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("args", [["nodes"], ["nodes", "--json"], ["logs", "-f"]])
def test_a_pipe_that_closes_early_is_silent(
    daemon: FakeDaemon, args: list[str], unbuffered: str
) -> None:
    many = tuple(replace(GPU_2, name=f"node-{number}", id=str(number)) for number in range(2000))
    daemon.answers["/api/v1/nodes"] = Answer(encode(replace(NODES, nodes=many)))
    daemon.answers["/api/v1/events"] = Answer(lines=EVENT_LINES * 2000)
    ctl = subprocess.Popen(
        [*SOLLOLCTL, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    assert ctl.stdout is not None
    assert ctl.stderr is not None
    with ctl:
        assert ctl.stdout.read(10)
        ctl.stdout.close()
        complaint = ctl.stderr.read()
    assert (complaint, ctl.returncode) == (b"", 0)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_long_list_arrives_whole(daemon: FakeDaemon, unbuffered: str) -> None:
    many = tuple(replace(GPU_2, name=f"node-{number}", id=str(number)) for number in range(2000))
    daemon.answers["/api/v1/nodes"] = Answer(encode(replace(NODES, nodes=many)))

    words = process("nodes", PYTHONUNBUFFERED=unbuffered)
    document = process("nodes", "--json", PYTHONUNBUFFERED=unbuffered)

    assert len(words.stdout.splitlines()) == 2001
    assert document.stdout.encode() == daemon.answers["/api/v1/nodes"].body + b"\n"


def test_ctrl_c_ends_following_with_130(daemon: FakeDaemon) -> None:
    daemon.answers["/api/v1/events"] = Answer(lines=EVENT_LINES, ends=False)
    ctl = subprocess.Popen(
        [*SOLLOLCTL, "logs", "-f", "--utc"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ,
    )
    assert ctl.stdout is not None
    assert ctl.stderr is not None
    with ctl:
        shown = ctl.stdout.readline() + ctl.stdout.readline()
        ctl.send_signal(signal.SIGINT)
        code = ctl.wait(30)
        complaint = ctl.stderr.read()
    assert shown.decode() == LOG_TEXT
    assert code == 130
    assert b"Traceback" not in complaint
    daemon.stopping.set()


def test_the_c_locale_gives_ascii(daemon: FakeDaemon) -> None:
    result = process("nodes", LANG="C", LC_ALL="")
    assert result.returncode == 0
    assert result.stdout == LIST_TEXT.translate(ASCII)


SERVER_CODE = {
    "aiohttp", "redis", "zeroconf", "asyncio", "rich", "prometheus_client", "psutil",
    "sollold.config", "sollold.nodes", "sollold.web",
}  # fmt: skip
ASKING = {"http.client", "msgspec"}
TAB = {"_SOLLOLCTL_COMPLETE": "bash_complete", "COMP_CWORD": "1", "COMP_WORDS": "sollolctl st"}
BUDGET_S = 0.15
WALL_S = 5.0
"""A slow machine that is busy with other things still keeps this."""


@pytest.mark.parametrize(
    ("args", "env", "absent"),
    [
        (["--version"], {}, SERVER_CODE | ASKING),
        ([], TAB, SERVER_CODE | ASKING),
        ([], TAB | {"COMP_CWORD": "2", "COMP_WORDS": "sollolctl nodes gp"}, SERVER_CODE),
        (["status"], {}, SERVER_CODE | {"sollold.ctl.table", "sollold.ctl.nodes"}),
        (["nodes"], {}, SERVER_CODE),
    ],
    ids=["version", "tab on a command", "tab on a node", "status", "nodes"],
)
def test_starting_loads_little(
    daemon: FakeDaemon, args: list[str], env: dict[str, str], absent: set[str]
) -> None:
    code = (
        "import atexit, sys, time\n"
        "def tell():\n"
        "    print('cpu', time.process_time(), *sys.modules, file=sys.stderr)\n"
        "atexit.register(tell)\n"
        f"sys.argv = ['sollolctl', *{args!r}]\n"
        "from sollold.ctl.main import main\n"
        "main()\n"
    )
    started_s = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    wall_s = time.monotonic() - started_s
    _, cpu_s, *modules = result.stderr.splitlines()[-1].split()
    print(f"{args or env['COMP_WORDS']}: {float(cpu_s) * 1000:.0f} ms of {BUDGET_S * 1000:.0f} ms")
    assert result.returncode == 0
    assert result.stdout
    assert not absent & set(modules)
    assert wall_s < WALL_S


# On a terminal -------------------------------------------------------------------------------


def on_terminal(*args: str, columns: int = 80, **env: str) -> str:
    """Return what a terminal of this width would be sent, stdout and stderr together."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen(
        [*SOLLOLCTL, *args],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | env,
    )
    os.close(terminal)
    chunks = []
    deadline_s = time.monotonic() + 30
    with child, contextlib.suppress(OSError):
        while time.monotonic() < deadline_s:
            if select.select([controller], [], [], 1)[0]:
                chunk = os.read(controller, 65536)
                if not chunk:
                    break
                chunks.append(chunk)
    os.close(controller)
    return b"".join(chunks).decode().replace("\r\n", "\n")


def test_a_terminal_of_80_columns_shows_the_whole_table(daemon: FakeDaemon) -> None:
    shown = on_terminal("nodes", NO_COLOR="1")
    assert shown == LIST_TEXT + "\n6 nodes: 3 up, 1 slow, 1 draining, 1 down\n"


def test_a_narrow_terminal_drops_columns_and_a_terminal_has_colour(daemon: FakeDaemon) -> None:
    shown = on_terminal("nodes", columns=62)
    assert (
        shown.splitlines()[0]
        == "NODE      STATE       RUN  1ST TOKEN  TOK/S         VRAM  SEEN"[:62]
    )
    assert "\x1b[97;41m✖ down\x1b[0m" in shown


def test_status_on_a_terminal(daemon: FakeDaemon) -> None:
    daemon.answers["/api/v1/status"] = Answer(encode(HEALTHY))
    assert on_terminal("status", "--utc", NO_COLOR="1") == HEALTHY_TEXT


def test_a_terminal_is_told_when_an_answer_takes_long(daemon: FakeDaemon) -> None:
    daemon.answers["/api/v1/status"] = Answer(is_silent=True)
    shown = on_terminal("--timeout", "1", "status", "--short", NO_COLOR="1")
    daemon.stopping.set()

    assert shown.startswith("waiting for sollold ...\r")
    assert shown.endswith("sollold not running\n")
