"""The daemon's log: no secrets in it, lines of bounded length, forms for people and machines."""

from __future__ import annotations

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import ask
from tests.process.conftest import NODE_KEY, config_for
from tests.process.support import LIMIT_S, chat, get, post, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.program import FakeNodeProcess
    from tests.stack.daemon import DaemonProcess

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("settled")]

MARKER = "xyzzy-7f3c"
"""What no line of the log may have."""

SECRETS = {
    "Authorization": f"Bearer {MARKER}-bearer",
    "x_api_key": f"{MARKER}-key",
    "Cookie": f"session={MARKER}",
    "User_Agent": "tests",
}
LONGEST_LINE = 2000


def test_no_prompt_and_no_key_is_ever_logged(
    new_daemon: Callable[..., DaemonProcess], nodes: tuple[FakeNodeProcess, FakeNodeProcess]
) -> None:
    daemon = new_daemon(config=config_for(nodes), env={"GPU_KEY": NODE_KEY})
    daemon.start()
    text = f"{MARKER} my secret prompt"
    quick: dict[str, Any] = {"options": {"num_predict": 3}, "max_tokens": 3}
    bodies: list[object] = [
        chat(stream=True, text=text, **quick),
        chat(stream=False, text=text, **quick),
        chat(stream=False, text=text, **quick) | {"model": "nobody-has-it"},
        chat(stream=False, text=text, tools=[{"name": MARKER}], format=MARKER, **quick),
        chat(stream=False, text=text, options=MARKER, max_tokens=3),
        f'{{"model": "llama3.2", "prompt": "{text}'.encode(),
        f"{text} is no JSON".encode(),
        {"model": "llama3.2", "prompt": text, "input": text, "images": [MARKER], **quick},
        {"model": "llama3.2", "name": 5, "prompt": text, "stream": False, **quick},
        text.encode() * 100_000,
    ]
    faults: list[list[Fault]] = [
        [],
        [Fault(kind=FaultKind.CRASH)],
        [Fault(kind=FaultKind.CUT_RESET, after_frames=1)],
        [Fault(kind=FaultKind.STATUS, status=500, text=f"cannot parse {text}")],
        [Fault(kind=FaultKind.ENGINE_ERROR, after_frames=1, text=f"stuck at {text}")],
        [Fault(kind=FaultKind.UNAUTHORIZED, text=f"bad key {text}", scope="inference")],
    ]
    for path in ("/api/generate", "/api/embed", "/api/show", "/v1/completions"):
        for body in bodies:
            post(daemon, path, body, **SECRETS)
    for fault in faults:
        for node in nodes:
            node.set_faults(*fault)
        for path in ("/api/chat", "/v1/chat/completions"):
            for body in bodies[: 3 if fault else None]:
                post(daemon, path, body, **SECRETS)
    for path in (f"/api/chat?key={MARKER}", f"/{MARKER}", f"/api/v1/nodes/{MARKER}"):
        ask(daemon.api_url, "GET", path, limit_s=LIMIT_S)
    for data in (
        f"POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{text}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\n{text}\r\n\r\n",
        f"{text}\r\n\r\n",
        f"POST /api/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{text}\r\n",
    ):
        with socket.create_connection(("127.0.0.1", daemon.api_port), 5) as sock:
            sock.settimeout(5)
            sock.sendall(data.encode())
            sock.recv(65_536)
    seen = nodes[0].state()["inference"] + nodes[1].state()["inference"]
    assert seen > 20
    kept = "/api/v1/logs?n=10000"
    for path in (kept, "/api/v1/events?n=1000", "/api/v1/nodes", "/api/v1/status"):
        told = ask(daemon.api_url, "GET", path, limit_s=LIMIT_S)
        assert (told.status, MARKER in told.body.decode()) == (200, False), path
    assert daemon.stop() == 0
    log = daemon.log_text()
    assert "request route=" in log
    lines = [line for line in log.splitlines() if MARKER in line]
    assert lines == []


def test_the_log_can_be_read_from_the_daemon_too(daemon: DaemonProcess) -> None:
    post(daemon, "/api/chat", chat(stream=False, options={"num_predict": 1}))
    lines = get(daemon, "/api/v1/logs?n=10000")["lines"]
    log = daemon.log_text()
    assert any("serves on" in line["message"] for line in lines)
    assert any(line["message"].startswith("request route=") for line in lines)
    for line in lines:
        assert line["message"] in log


def test_requests_that_no_node_got_have_a_line_too(
    new_daemon: Callable[..., DaemonProcess], nodes: tuple[FakeNodeProcess, FakeNodeProcess]
) -> None:
    made = new_daemon(nodes=[nodes[0].url])
    made.start()
    post(made, "/api/chat", chat(stream=False) | {"model": "nobody-has-it"})
    post(made, "/v1/completions", b"")
    assert made.stop() == 0
    log = made.log_text()
    assert re.search(r"request route=/api/chat status=404 outcome=caller_error", log), log
    assert re.search(r"request route=/v1/completions status=400 outcome=caller_error", log), log


def test_requests_that_are_too_many_for_a_line_each_are_counted(
    new_daemon: Callable[..., DaemonProcess], nodes: tuple[FakeNodeProcess, FakeNodeProcess]
) -> None:
    made = new_daemon(nodes=[nodes[0].url])
    made.start()
    body = chat(stream=False, options={"num_predict": 1})
    asked = 150
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: post(made, "/api/chat", body), range(asked)))
    assert made.stop() == 0
    log = made.log_text()
    counted = sum(int(count) for count in re.findall(r"(\d+) more requests ended", log))
    assert counted > 0
    assert log.count("request route=") + counted == asked


def test_lines_have_a_bound_whatever_clients_write(daemon: DaemonProcess) -> None:
    long = "m" * 5000
    body = chat(stream=False) | {"model": long}
    post(daemon, "/api/chat", body, X_Request_Id="i" * 128)
    post(daemon, "/api/chat", chat(stream=False, options={"num_predict": 1}), User_Agent=long)
    ask(daemon.api_url, "GET", f"/{long}")
    ask(daemon.api_url, "GET", f"/api/v1/nodes/{long}")
    ask(daemon.api_url, "GET", "/", headers=[("Host", long + ".example")])
    ask(daemon.api_url, "GET", "/", headers=[("Host", "evil\x7f\x1b[31m.example")])
    until(lambda: "cannot be read" in daemon.log_text(), "the last of these is logged")
    log = daemon.log_text()
    assert "allowed_hosts" in log
    assert max(map(len, log.splitlines())) < LONGEST_LINE
    assert "\x1b" not in log


def test_a_browser_with_many_cookies_is_served(daemon: DaemonProcess) -> None:
    headers = [("Cookie", "a=" + "x" * 50_000)]
    assert ask(daemon.api_url, "GET", "/api/tags", headers=headers).status == 200


def test_lines_for_the_journal_begin_with_their_priority(
    new_daemon: Callable[..., DaemonProcess], nodes: tuple[FakeNodeProcess, FakeNodeProcess]
) -> None:
    made = new_daemon(nodes=["http://127.0.0.1:1", nodes[0].url])
    made.log_path.touch()
    found = made.log_path.stat()
    made._env["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
    made.start()
    until(lambda: "is down" in made.log_text(), "the absent node is noticed")
    assert made.stop() == 0
    lines = made.log_text().splitlines()
    assert all(re.match(r"<[2-7]>[a-z_.]+: ", line) for line in lines), lines
    assert any(line.startswith("<4>") and "is down" in line for line in lines)
    assert any(line.startswith("<6>daemon: sollold stopped") for line in lines)


def test_lines_for_machines_are_json_and_none_is_lost(
    new_daemon: Callable[..., DaemonProcess], nodes: tuple[FakeNodeProcess, FakeNodeProcess]
) -> None:
    made = new_daemon(nodes=[nodes[0].url], args=["--log-format", "json"])
    made.start()
    body = chat(stream=False, options={"num_predict": 1})
    with ThreadPoolExecutor(4) as pool:
        # As many as are logged one by one in a second.
        answers = list(pool.map(lambda _: post(made, "/api/chat", body), range(16)))
    assert made.stop() == 0
    lines = [json.loads(line) for line in made.log_text().splitlines()]
    assert all(set(line) >= {"at", "level", "logger", "message"} for line in lines)
    logged = {line["request"] for line in lines if line["message"].startswith("request route=")}
    assert logged == {answer.headers["x-request-id"] for answer in answers}
    assert lines[-1]["message"] == "sollold stopped"
