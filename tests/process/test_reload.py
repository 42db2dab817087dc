"""SIGHUP and `sollolctl reload`, with real files and real signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.fakes.look import ask
from tests.fakes.program import FakeNodeProcess
from tests.process.support import NotifySocket, Stream, chat, get, is_whole, post, sollolctl, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.stack.daemon import DaemonProcess

pytestmark = pytest.mark.process

STREAMS = 50


def reloads(daemon: DaemonProcess) -> list[str]:
    """The sentences of all reloads so far."""
    events = get(daemon, "/api/v1/events?kind=config")["events"]
    return [event["text"].removeprefix("reloaded: ") for event in events]


@pytest.fixture
def daemon(new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess) -> DaemonProcess:
    made = new_daemon(nodes=[node.url], config="[queue]\nlength = 512\n")
    made.start()
    return made


def test_a_good_configuration_takes_effect_by_signal(
    daemon: DaemonProcess, node: FakeNodeProcess
) -> None:
    daemon.write_config(nodes=[node.url], config="[queue]\nlength = 128\n")
    daemon.group.send(signal.SIGHUP)
    until(lambda: reloads(daemon) == ["queue.length 512 -> 128"], "it is reloaded")
    line = "configuration reloaded: queue.length 512 -> 128"
    until(lambda: line in daemon.log_text(), "it is logged")
    assert daemon.is_running
    assert daemon.stop() == 0


def test_sollolctl_says_what_changed_and_what_waits(
    daemon: DaemonProcess, node: FakeNodeProcess
) -> None:
    more = "[queue]\nlength = 128\n[server]\ndrain_s = 7\n"
    daemon.write_config(nodes=[node.url], config=more)
    first = sollolctl(daemon, "reload")
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert lines[:4] == [
        "reloaded: 1 change",
        "  queue.length 512 -> 128",
        "needs a restart: 1 change",
        "  server.drain_s 30 -> 7",
    ]
    assert "systemctl --user restart sollold" in lines[4]
    second = sollolctl(daemon, "reload")
    assert second.stdout.startswith("reloaded, nothing else changed: ")
    document = json.loads(sollolctl(daemon, "reload", "--json").stdout)
    assert (document["schema"], document["result"]) == ("sollold.reload/1", "unchanged")
    assert document["restart"][0]["key"] == "server.drain_s"
    assert document["files"] == [str(daemon.config_path)]


def test_a_broken_configuration_changes_nothing_and_every_problem_is_told(
    daemon: DaemonProcess, node: FakeNodeProcess
) -> None:
    daemon.write_config(nodes=["ftp://x"], config="[queue]\nlength = 0\nmax_wait = 3\n")
    refused = sollolctl(daemon, "reload")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "3 problems; the old one stays in force" in refused.stderr
    keys = [f"{key}: " for key in ("nodes[0].url", "queue.length", "queue.max_wait")]
    assert all(key in refused.stderr for key in keys)
    until(lambda: all(key in daemon.log_text() for key in keys), "they are logged")
    in_json = sollolctl(daemon, "reload", "--json")
    assert (in_json.returncode, in_json.stdout) == (1, "")
    document = json.loads(in_json.stderr)
    assert document["error"]["code"] == "config"
    assert {problem["where"] for problem in document["problems"]} == {str(daemon.config_path)}
    assert all(problem["line"] for problem in document["problems"])
    assert ask(daemon.api_url, "POST", "/api/v1/reload").status == 422
    assert reloads(daemon) == []
    body = chat(stream=False, options={"num_predict": 1})
    assert post(daemon, "/api/chat", body).status == 200
    assert get(daemon, "/api/v1/status")["config"]["refused"].startswith("3 problems")


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_file_that_cannot_be_read_changes_nothing(
    daemon: DaemonProcess, *, is_gone: bool
) -> None:
    daemon.config_path.unlink()
    if not is_gone:
        daemon.config_path.mkdir()
    refused = sollolctl(daemon, "reload")
    assert refused.returncode == 1
    assert str(daemon.config_path) in refused.stderr
    assert get(daemon, "/api/v1/status")["nodes"]["total"] == 1


def test_no_stream_is_lost(new_daemon: Callable[..., DaemonProcess]) -> None:
    arguments = ("--rate", "40", "--answer-tokens", "120", "--slots", str(STREAMS))
    with FakeNodeProcess(*arguments) as node, FakeNodeProcess(*arguments) as other:

        def tables(*urls: str) -> str:
            return "".join(f'[[nodes]]\nurl = "{url}"\nslots = {STREAMS}\n' for url in urls)

        daemon = new_daemon(config=tables(node.url, other.url))
        daemon.start()
        streams = [Stream(daemon) for _ in range(STREAMS)]
        assert len(get(daemon, "/api/v1/requests")["running"]) == STREAMS
        # One node leaves, and comes back, while both are at work.
        for number, urls in enumerate(((node.url,), (node.url, other.url), (other.url,)), 1):
            limits = f"[failover]\noverdue_s = {number}\n[health]\ntimeout_s = {number}\n"
            daemon.write_config(config=tables(*urls) + limits)
            daemon.group.send(signal.SIGHUP)
            until(lambda wanted=number: len(reloads(daemon)) == wanted, "it is reloaded")  # type: ignore[misc]
        assert len(get(daemon, "/api/v1/requests")["running"]) == STREAMS
        assert all(is_whole(stream.result()) for stream in streams)


def test_the_service_manager_is_told(
    new_daemon: Callable[..., DaemonProcess], tmp_path: Path, node: FakeNodeProcess
) -> None:
    with NotifySocket(tmp_path / "notify") as notify:
        daemon = new_daemon(nodes=[node.url], env={"NOTIFY_SOCKET": str(notify.path)})
        daemon.start()
        notify.wait_for("READY=1")
        notify.messages.clear()
        daemon.group.send(signal.SIGHUP)
        reloading = notify.wait_for("RELOADING=1")
        assert reloading[1].startswith("MONOTONIC_USEC=")
        ready = notify.wait_for("READY=1")
        assert ready[1].startswith("STATUS=1 of 1 nodes usable")
        notify.messages.clear()
        daemon.write_config(config="[queue]\nlength = 0\n")
        daemon.group.send(signal.SIGHUP)
        assert "last reload refused" in notify.wait_for("READY=1")[1]


def test_a_pipe_in_the_place_of_the_file_holds_up_neither_reloads_nor_the_end(
    daemon: DaemonProcess, node: FakeNodeProcess
) -> None:
    daemon.config_path.unlink()
    os.mkfifo(daemon.config_path)
    daemon.group.send(signal.SIGHUP)
    until(lambda: "it is a pipe, not a regular file" in daemon.log_text(), "it is refused")
    daemon.config_path.unlink()
    daemon.write_config(nodes=[node.url], config="[queue]\nlength = 128\n")
    daemon.group.send(signal.SIGHUP)
    until(lambda: reloads(daemon) == ["queue.length 512 -> 128"], "it is reloaded")
    assert daemon.stop() == 0


@pytest.mark.parametrize("fault", ['spool_dir = "~nouserhere/x"', f"body_bytes = {'1' * 5000}"])
def test_what_cannot_be_read_by_anybody_ends_no_daemon(
    daemon: DaemonProcess, node: FakeNodeProcess, fault: str
) -> None:
    stream = Stream(daemon, options={"num_predict": 40})
    daemon.write_config(nodes=[node.url], config=f"[limits]\n{fault}\n")
    key = f"limits.{fault.split(maxsplit=1)[0]}: "
    for count in range(1, 4):
        daemon.group.send(signal.SIGHUP)
        until(lambda wanted=count: daemon.log_text().count(key) == wanted, "it is refused")  # type: ignore[misc]
    assert ask(daemon.api_url, "POST", "/api/v1/reload").status == 422
    assert is_whole(stream.result())
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log_text()


def test_what_cannot_be_read_by_anybody_is_told_at_the_start(
    new_daemon: Callable[..., DaemonProcess],
) -> None:
    made = new_daemon(config='[limits]\nspool_dir = "~nouserhere/x"\n')
    made.launch()
    assert made.wait_exit() == 78
    assert "limits.spool_dir: starts with ~nouserhere" in made.log_text()
    assert "Traceback" not in made.log_text()


def test_a_daemon_that_stops_reloads_no_more(
    new_daemon: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    with (
        NotifySocket(tmp_path / "notify") as notify,
        FakeNodeProcess("--rate", "40", "--answer-tokens", "80") as node,
    ):
        daemon = new_daemon(nodes=[node.url], env={"NOTIFY_SOCKET": str(notify.path)})
        daemon.start()
        notify.wait_for("READY=1")
        stream = Stream(daemon)
        daemon.group.send(signal.SIGTERM)
        notify.wait_for("STOPPING=1")
        notify.messages.clear()
        daemon.group.send(signal.SIGHUP)
        until(lambda: "not reloaded: sollold is stopping" in daemon.log_text(), "it is told")
        assert is_whole(stream.result())
        assert daemon.wait_exit() == 0
        notify.poll()
        assert not {"RELOADING", "READY"} & set(notify.words())


@pytest.mark.parametrize("is_redirected", [False, True])
def test_a_hangup_of_its_terminal_still_ends_it(
    new_daemon: Callable[..., DaemonProcess], *, is_redirected: bool
) -> None:
    made = new_daemon()
    keyboard, terminal = pty.openpty()
    # As a shell of that terminal starts it.
    redirected = ["setsid", "--ctty", "sh", "-c", 'exec "$@" </dev/null', "sh"]
    with made.log_path.open("wb") as log:
        process = subprocess.Popen(
            [
                *(redirected if is_redirected else ()),
                *(sys.executable, "-m", "sollold", "--config", str(made.config_path)),
            ],
            env=made._env,
            stdin=terminal,
            stdout=log,
            stderr=log,
        )
    os.close(terminal)
    try:
        until(lambda: "serves on" in made.log_text(), "it serves")
        process.send_signal(signal.SIGHUP)
        until(lambda: "configuration reloaded" in made.log_text(), "a signal reloads")
        os.close(keyboard)
        if not is_redirected:
            process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
