"""The daemon's end: what finishes, what is cut, what is left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import Answer, Client, End, ask
from tests.process.support import LIMIT_S, Stream, chat, get, is_whole, post, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fakes.program import FakeNodeProcess
    from tests.stack.daemon import DaemonProcess

pytestmark = pytest.mark.process

QUICK_STOP_S = 2.0
"""More than any stop takes that has nothing to wait for."""


def running(daemon: DaemonProcess) -> int:
    """Requests the daemon counts as under way."""
    found = get(daemon, "/api/v1/status")["requests"]
    return int(found["running"]) + int(found["queued"])


def server(drain_s: float, loop: str = "auto") -> str:
    return f'[server]\ndrain_s = {drain_s}\ncancel_after_s = 3\nloop = "{loop}"\n'


@contextlib.contextmanager
def asking(daemon: DaemonProcess, **fields: Any) -> Iterator[list[Answer]]:
    """A request that is not streamed, asked in the background; its answer is there at the end."""
    answers: list[Answer] = []
    body = chat(stream=False, **fields)
    thread = threading.Thread(target=lambda: answers.append(post(daemon, "/api/chat", body)))
    thread.start()
    try:
        yield answers
    finally:
        thread.join(LIMIT_S)


# What finishes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "loop"), [(signal.SIGTERM, "asyncio"), (signal.SIGINT, "uvloop")]
)
def test_what_runs_finishes_and_what_comes_is_refused(
    new_daemon: Callable[..., DaemonProcess],
    node: FakeNodeProcess,
    number: signal.Signals,
    loop: str,
) -> None:
    daemon = new_daemon(nodes=[node.url], config=server(20, loop))
    daemon.start()
    stream = Stream(daemon, options={"num_predict": 60})
    daemon.group.send(number)
    until(lambda: "stopping" in daemon.log_text(), "the stop begins")
    for path in ("/api/chat", "/v1/chat/completions"):
        refused = post(daemon, path, chat(stream=False))
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert b"sollold is stopping" in refused.body
    assert get(daemon, "/api/v1/status")["state"] == "stopping"
    answer = stream.result()
    assert is_whole(answer)
    assert len(answer.lines()) == 61
    assert daemon.wait_exit() == 0
    assert time.monotonic() - stream.ended_s < QUICK_STOP_S
    assert not daemon.control_socket.exists()
    assert "Traceback" not in daemon.log_text()


def test_what_waits_in_the_queue_is_refused_at_once(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    config = server(20) + "[queue]\nper_client_running = 1\n"
    daemon = new_daemon(nodes=[node.url], config=config)
    daemon.start()
    stream = Stream(daemon, options={"num_predict": 60})
    with asking(daemon) as answers:
        until(lambda: running(daemon) == 2, "the second request waits")
        daemon.group.send(signal.SIGTERM)
        until(lambda: bool(answers), "the second request is refused", 1.0)
    assert (answers[0].status, answers[0].headers["retry-after"]) == (503, "5")
    assert is_whole(stream.result())
    assert daemon.wait_exit() == 0


# What is cut ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_lasts_longer_is_cut_and_never_looks_whole(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess, loop: str
) -> None:
    slots = f'[[nodes]]\nurl = "{node.url}"\nslots = 4\n'
    daemon = new_daemon(config=slots + server(0.5, loop))
    daemon.start()
    stream = Stream(daemon)
    with asking(daemon) as answers:
        until(lambda: node.state()["active"] == 2, "both requests run")
        stopped_s = time.monotonic()
        daemon.group.send(signal.SIGTERM)
        assert daemon.wait_exit() == 0
        assert time.monotonic() - stopped_s < 0.5 + QUICK_STOP_S
    answer = stream.result()
    assert answer.end in (End.CUT, End.RESET)
    told = answer.lines()[-1]
    assert list(told) == ["error"]
    assert re.fullmatch(r"sollold: sollold is stopping \(request r-\w+\)", str(told["error"]))
    log = daemon.log_text()
    cut = re.search(r"status=200 bytes=(\d+) .* outcome=interrupted", log)
    assert cut is not None, log
    assert int(cut[1]) > 0
    assert re.search(r"status=503 bytes=0 .* outcome=refused", log)
    assert "outcome=canceled" not in log
    # Nothing of this one had been sent, so it can be told.
    assert (answers[0].status, answers[0].end) == (503, End.CLEAN)
    assert answers[0].json() == {"error": "sollold is stopping"}
    until(lambda: node.state()["active"] == 0, "the node's work ends too", 2.0)
    assert "Traceback" not in daemon.log_text()


def test_a_second_signal_skips_the_wait(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    daemon = new_daemon(nodes=[node.url], config=server(60))
    daemon.start()
    stream = Stream(daemon)
    daemon.group.send(signal.SIGINT)
    until(lambda: "stopping" in daemon.log_text(), "the stop begins")
    assert daemon.is_running
    hurried_s = time.monotonic()
    daemon.group.send(signal.SIGINT)
    assert daemon.wait_exit() == 0
    assert time.monotonic() - hurried_s < QUICK_STOP_S
    answer = stream.result()
    assert answer.end in (End.CUT, End.RESET)
    assert "sollold is stopping" in str(answer.lines()[-1]["error"])


def test_connections_without_a_request_delay_nothing(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    """And the end of the terminal is a reason to stop like any other."""
    daemon = new_daemon(nodes=[node.url], config=server(20))
    daemon.start()
    with (
        Client(daemon.api_url) as idle,
        Client(daemon.api_url) as listener,
        Client(daemon.api_url) as follower,
        Client(daemon.api_url),
    ):
        idle.send("GET", "/")
        assert idle.receive().status == 200
        follower.send("GET", "/api/v1/events?follow=1")
        follower.wait()
        upgrade = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]
        listener.send("GET", "/ws/routing_events", headers=upgrade)
        listener.wait()
        stopped_s = time.monotonic()
        daemon.group.send(signal.SIGINT)
        assert daemon.wait_exit() == 0
        assert time.monotonic() - stopped_s < QUICK_STOP_S
        assert b"sollold is stopping" in b"".join(listener.pieces())
        assert follower.receive().end is End.CLEAN


def test_an_unfinished_upload_is_refused_at_once(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    daemon = new_daemon(nodes=[node.url], config=server(20))
    daemon.start()
    with socket.create_connection(("127.0.0.1", daemon.api_port), LIMIT_S) as upload:
        upload.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        until(lambda: "joined" in daemon.log_text(), "the daemon is at work")
        assert ask(daemon.api_url, "GET", "/").status == 200
        stopped_s = time.monotonic()
        daemon.group.send(signal.SIGTERM)
        answer = upload.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b'{"error":"sollold is stopping"}')
        assert daemon.wait_exit() == 0
        assert time.monotonic() - stopped_s < 2 * QUICK_STOP_S
    assert "Traceback" not in daemon.log_text()


def test_a_question_to_a_node_is_answered_before_the_end(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    daemon = new_daemon(nodes=[node.url], config=server(20))
    daemon.start()
    until(lambda: get(daemon, "/api/v1/status")["nodes"]["up"] == 1, "the node is up")
    node.set_faults(Fault(kind=FaultKind.SLOW_HEAD, scope="/api/show", delay_s=1.0))
    with Client(daemon.api_url, LIMIT_S) as client:
        client.send("POST", "/api/show", {"model": "llama3.2"})
        assert ask(daemon.api_url, "GET", "/").status == 200
        daemon.group.send(signal.SIGTERM)
        answer = client.receive("POST")
    assert answer.status == 200
    assert daemon.wait_exit() == 0


def test_a_frozen_node_does_not_hold_the_end_up(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    daemon = new_daemon(nodes=[node.url], config=server(0.3))
    daemon.start()
    until(lambda: get(daemon, "/api/v1/status")["nodes"]["up"] == 1, "the node is up")
    node.set_faults(Fault(kind=FaultKind.HANG))
    with asking(daemon) as answers:
        until(lambda: running(daemon) == 1, "the request runs")
        stopped_s = time.monotonic()
        daemon.group.send(signal.SIGTERM)
        assert daemon.wait_exit() == 0
        assert time.monotonic() - stopped_s < 0.3 + QUICK_STOP_S
    assert answers[0].status == 503


# What makes it stop by itself, and what does not ------------------------------------------------


def test_a_loop_that_keeps_crashing_ends_the_daemon_with_1(
    new_daemon: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    """The real program, but for one loop that crashes and pauses shorter than usual between."""
    program = tmp_path / "crashing.py"
    program.write_text(
        textwrap.dedent("""\
            import functools, sys
            from sollold import daemon
            from sollold.tasks import CrashPolicy, Loops

            async def crash():
                raise ZeroDivisionError("on purpose")

            start = daemon._start_loops
            def start_loops(loops, built):
                start(loops, built)
                loops.start("crashing", crash)

            daemon.Loops = functools.partial(Loops, policy=CrashPolicy(delay_s=0.05))
            daemon._start_loops = start_loops
            from sollold.__main__ import main
            main()
        """)
    )
    made = new_daemon(config=server(20))
    with made.log_path.open("wb") as log:
        result = subprocess.run(
            [sys.executable, str(program), "--config", str(made.config_path)],
            env=made._env | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            stdout=log,
            stderr=log,
            timeout=30,
            check=False,
        )
    text = made.log_text()
    assert result.returncode == 1
    assert text.count("loop crashed, it restarts loop=crashing") == 4
    assert "ZeroDivisionError: on purpose" in text
    assert "sollold stops: the background loop crashing crashed 5 times" in text
    assert "sollold stopped" in text
    assert not made.control_socket.exists()


def test_a_hangup_that_was_to_be_ignored_is_ignored(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does for its child
    try:
        daemon = new_daemon(nodes=[node.url])
        daemon.launch()
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    daemon.wait_ready()
    daemon.group.send(signal.SIGHUP)
    assert post(daemon, "/api/chat", chat(stream=False, options={"num_predict": 5})).status == 200
    assert "stopping" not in daemon.log_text()
    assert daemon.stop() == 0
