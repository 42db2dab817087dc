"""The daemon's start: configuration, addresses, the lock, the first client."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import Client, ask
from tests.fakes.program import FakeNodeProcess
from tests.process.support import NotifySocket, chat, frozen, post
from tests.stack.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stack.daemon import DaemonProcess

pytestmark = pytest.mark.process

BAD = """\
[listen]
api = "127.0.0.1:99999"
consol = "127.0.0.1:8080"

[queue]
length = 0
max_wait_s = "soon"

[[nodes]]
url = "ftp://gpu-1"
tier = 11

[redis]
url = "redis://localhost"
"""
BAD_LINES = {
    2: "listen.api",
    3: "consol",
    6: "queue.length",
    7: "queue.max_wait_s",
    10: "nodes[0].url",
    11: "nodes[0].tier",
    13: "redis",
}


def sollold(
    tmp_path: Path, *args: str, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with nothing of this machine's settings."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if name in ("PATH", "PYTHONPATH") or name.startswith("COVERAGE_")
    }
    env = kept | {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "LANG": "C.UTF-8",
    }
    return subprocess.run(
        [*before, sys.executable, "-m", "sollold", *args],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def blamed_lines(text: str, path: Path) -> set[int]:
    """The lines of the file that the messages name."""
    found = set()
    for line in text.splitlines():
        if line.startswith(f"sollold: {path}:"):
            found.add(int(line.removeprefix(f"sollold: {path}:").split(":")[0]))
    return found


# Configuration and arguments -----------------------------------------------------------------


def test_a_good_configuration_is_said_to_be_good(tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text('[listen]\napi = "127.0.0.1:0"\n')
    result = sollold(tmp_path, "--check-config", "--config", str(path))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"configuration is good: {path}\n"
    assert not (tmp_path / "run").exists()


def test_every_problem_of_a_bad_configuration_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(BAD)
    result = sollold(tmp_path, "--check-config", "--config", str(path))
    assert (result.returncode, result.stdout) == (78, "")
    assert blamed_lines(result.stderr, path) == set(BAD_LINES)
    for line, key in BAD_LINES.items():
        assert any(
            text.startswith(f"sollold: {path}:{line}") and key in text
            for text in result.stderr.splitlines()
        ), (line, key)
    assert "Traceback" not in result.stderr
    start = sollold(tmp_path, "--config", str(path))
    assert (start.returncode, start.stderr) == (78, result.stderr)
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_toml_and_one_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('[listen]\napi = "127.0.0.1:0"\nthis is no toml\n')
    result = sollold(tmp_path, "--config", str(path))
    assert result.returncode == 78
    assert blamed_lines(result.stderr, path) == {3}
    missing = sollold(tmp_path, "--config", str(tmp_path / "nowhere.toml"))
    assert missing.returncode == 78
    assert "does not exist" in missing.stderr


def test_a_file_that_is_closed_to_the_user_is_a_bad_configuration(tmp_path: Path) -> None:
    path = tmp_path / "closed.toml"
    path.touch(mode=0)
    # Root may read everything, unless it is given up.
    bounds = "--bounding-set=-dac_override,-dac_read_search"
    other = ("setpriv", bounds) if os.geteuid() == 0 else ()
    result = sollold(tmp_path, "--config", str(path), before=other)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr.startswith(f"sollold: {path}: cannot be read: Permission denied")


def test_wrong_usage_and_help(tmp_path: Path) -> None:
    wrong = sollold(tmp_path, "--colour", "red")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--colour" in wrong.stderr
    shown = sollold(tmp_path, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\\b" not in shown.stdout
    assert "\n    sollold --check-config\n" in shown.stdout
    for name in ("--config", "--check-config", "--listen", "--console", "--node", "--log-level"):
        assert name in shown.stdout


# Addresses and the lock ----------------------------------------------------------------------


@contextlib.contextmanager
def taken(port: int) -> Iterator[None]:
    """A program that listens and closes every connection."""
    with socket.create_server(("127.0.0.1", port)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_port_that_another_program_holds(new_daemon: Callable[..., DaemonProcess]) -> None:
    daemon = new_daemon()
    for port, setting in (
        (daemon.api_port, "listen.api"),
        (daemon.console_port, "listen.console"),
    ):
        daemon.log_path.write_text("")
        with taken(port):
            daemon.launch()
            assert daemon.wait_exit() == 75
        log = daemon.log_text()
        assert f"127.0.0.1:{port} is taken by" in log
        assert f"(pid {os.getpid()})" in log
        assert setting in log
        assert "Traceback" not in log
        assert not daemon.control_socket.exists()


def test_an_ollama_on_its_own_port_is_told_how_to_move(
    new_daemon: Callable[..., DaemonProcess],
) -> None:
    # Its port on an address that nobody else has: all of 127/8 is this machine.
    host = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(2, 254)}"
    with FakeNodeProcess("--host", host, "--port", "11434"):
        daemon = new_daemon()
        daemon.config_path.write_text(f'[listen]\napi = "{host}:11434"\nconsole = []\n')
        daemon.launch()
        assert daemon.wait_exit() == 75
    log = daemon.log_text()
    assert f"{host}:11434 is taken by Ollama" in log
    for step in ("OLLAMA_HOST=", "[[nodes]]", "start sollold"):
        assert step in log, step


def test_a_second_daemon_is_refused_and_the_first_goes_on(
    new_daemon: Callable[..., DaemonProcess],
) -> None:
    first, second = new_daemon(), new_daemon()
    first.start()
    second._env["XDG_RUNTIME_DIR"] = str(first.runtime_dir)
    second.launch()
    assert second.wait_exit() == 75
    assert f"another sollold is running (pid {first.group.pid})" in second.log_text()
    assert ask(first.api_url, "GET", "/").status == 200
    assert first.control_socket.exists()


def test_a_killed_daemon_leaves_nothing_in_the_way(
    new_daemon: Callable[..., DaemonProcess],
) -> None:
    daemon = new_daemon()
    daemon.start()
    daemon.kill()
    assert daemon.control_socket.exists()
    daemon.start()
    assert daemon.stop() == 0


# The order of the start ----------------------------------------------------------------------


def connected(port: int, pid: int) -> socket.socket:
    """Connect as soon as anybody listens."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 5)
        except ConnectionRefusedError:
            assert Path(f"/proc/{pid}").exists()
            time.sleep(0.0005)


def test_an_early_client_waits_and_ready_means_ready(
    new_daemon: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    with NotifySocket(tmp_path / "notify") as notify:
        for _ in range(5):
            daemon = new_daemon(env={"NOTIFY_SOCKET": str(notify.path)})
            daemon.launch()
            with connected(daemon.api_port, daemon.group.pid) as early:
                with frozen(daemon.group.pid):
                    notify.poll()
                    is_early = "READY" not in notify.words()
                    early.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                early.settimeout(10)
                assert early.recv(4096).startswith(b"HTTP/1.1 200 OK")
            notify.wait_for("READY=1")
            # Whoever waits for readiness may connect everywhere at once.
            for url in (daemon.api_url, daemon.console_url):
                assert ask(url, "GET", "/").status == 200
            assert daemon.control_socket.is_socket()
            assert daemon.stop() == 0
            notify.messages.clear()
            if is_early:
                return
    pytest.fail("no client was early enough to meet a daemon that is not ready")


def test_ready_means_that_answers_come_at_once(
    new_daemon: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    """A node that swallows its first probes delays readiness a little, and nothing after it."""
    with NotifySocket(tmp_path / "notify") as notify, FakeNodeProcess() as node:
        node.set_faults(Fault(kind=FaultKind.HANG))
        daemon = new_daemon(nodes=[node.url], env={"NOTIFY_SOCKET": str(notify.path)})
        daemon.launch()
        notify.wait_for("READY=1")
        ready_s = time.monotonic()
        assert ask(daemon.api_url, "GET", "/api/tags").status == 200
        assert time.monotonic() - ready_s < 0.4


def test_the_service_manager_is_told_in_order(
    new_daemon: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    with NotifySocket(tmp_path / "notify") as notify, FakeNodeProcess() as node:
        env = {"NOTIFY_SOCKET": str(notify.path), "WATCHDOG_USEC": "200000"}
        daemon = new_daemon(nodes=[node.url], env=env, config="[server]\ndrain_s = 7\n")
        daemon.launch()
        ready = notify.wait_for("READY=1")
        assert notify.messages[0] is ready
        assert ready[1].startswith("STATUS=")
        notify.wait_for("STATUS=1 of 1 nodes usable, 0 running, 0 queued")
        notify.messages.clear()
        for _ in range(3):
            notify.wait_for("WATCHDOG=1")
            notify.messages.clear()
        daemon.group.send(signal.SIGTERM)
        stopping = notify.wait_for("STOPPING=1")
        assert stopping[1].startswith("STATUS=")
        extend = notify.wait_for("EXTEND_TIMEOUT_USEC=")
        assert int(extend[0].partition("=")[2]) >= 17_000_000
        assert daemon.wait_exit() == 0
        notify.poll()
        assert "READY" not in notify.words()


def test_from_start_to_the_first_answer(
    new_daemon: Callable[..., DaemonProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeNodeProcess("--rate", "0") as node:
        daemon = new_daemon(nodes=[node.url])
        started_s = time.monotonic()
        daemon.launch()
        with connected(daemon.api_port, daemon.group.pid):
            bound_s = time.monotonic() - started_s
        answer = post(daemon, "/api/chat", chat(stream=False))
        answered_s = time.monotonic() - started_s
        assert answer.status == 200, answer.raw
    with capsys.disabled():
        print(f"\nstart to first answer: {answered_s:.2f} s (listening after {bound_s:.2f} s)")


def test_many_clients_at_once_find_room_in_the_backlog(
    new_daemon: Callable[..., DaemonProcess],
) -> None:
    daemon = new_daemon()
    daemon.start()
    with frozen(daemon.group.pid):
        clients = [Client(daemon.api_url, 5) for _ in range(400)]
        for client in clients:
            client.send("GET", "/")
    for client in clients:
        assert client.receive().status == 200
        client.close()


# The loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "auto"])
def test_either_event_loop(new_daemon: Callable[..., DaemonProcess], loop: str) -> None:
    with FakeNodeProcess("--rate", "0", "--answer-tokens", "50") as node:
        daemon = new_daemon(nodes=[node.url], config=f'[server]\nloop = "{loop}"\n')
        daemon.start()
        answers = []
        threads = [
            threading.Thread(
                target=lambda: answers.append(post(daemon, "/api/chat", chat(stream=True)))
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [len(answer.lines()) for answer in answers] == [51] * 8
        status = json.loads(ask(daemon.api_url, "GET", "/api/v1/status").body)
        assert status["loop"] == ("uvloop" if loop == "auto" else loop)
        assert daemon.stop() == 0


def test_addresses_of_the_command_line_win(new_daemon: Callable[..., DaemonProcess]) -> None:
    port = free_port()
    with FakeNodeProcess("--rate", "0") as node:
        daemon = new_daemon(
            args=["--listen", f"127.0.0.1:{port}", "--console", "127.0.0.1:0", "--node", node.url]
        )
        daemon.api_url = f"http://127.0.0.1:{port}"
        daemon.start()
        assert post(daemon, "/api/chat", chat(stream=False)).status == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", daemon.console_port), 2)
