"""The daemon at work: its control socket, clients that leave, what is left afterwards."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sollold.api_types import (
    EventsDocument,
    NodeDocument,
    NodesDocument,
    RequestsDocument,
    StatusDocument,
    decode,
)
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.look import Client, ask
from tests.process.support import LIMIT_S, chat, get, post, sollolctl, until
from tests.unit.ctl import documents as golden

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

    from tests.fakes.program import FakeNodeProcess
    from tests.stack.daemon import DaemonProcess

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("settled")]


# The control socket and the CLI ----------------------------------------------------------------


def test_the_control_socket_is_for_this_user_alone(daemon: DaemonProcess) -> None:
    found = daemon.control_socket.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(daemon.control_socket.parent.stat().st_mode) == 0o700
    assert get(daemon, "/api/v1/status")["addresses"]["control"] == str(daemon.control_socket)


def test_the_control_socket_serves_what_the_others_serve(daemon: DaemonProcess) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(daemon.control_socket))
        # No name is wrong here: browsers cannot come this way.
        sock.sendall(b"GET /api/tags HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := sock.recv(65_536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"llama3.2" in answer
    refused = ask(daemon.api_url, "GET", "/api/tags", headers=[("Host", "evil.example")])
    assert refused.status == 403


VOLATILE = re.compile(r'"(\w*(?:_ms|_rate|at)|events|requests|recent|speed)":[^,}\]]+')


def steady(text: str) -> str:
    """A document without what changes from one moment to the next."""
    return VOLATILE.sub("", text.strip())


CASES: list[tuple[tuple[str, ...], str, type[msgspec.Struct], Any]] = [
    (("status",), "/api/v1/status", StatusDocument, golden.HEALTHY),
    (("nodes",), "/api/v1/nodes", NodesDocument, golden.NODES),
    (("nodes", "gpu-1"), "/api/v1/nodes/gpu-1", NodeDocument, golden.NODE_GPU_2),
    (("requests",), "/api/v1/requests", RequestsDocument, golden.REQUESTS),
]


@pytest.mark.parametrize(
    ("words", "path", "kind", "example"), CASES, ids=lambda item: str(item)[:20]
)
def test_sollolctl_prints_the_documents_of_the_http_api(
    daemon: DaemonProcess,
    words: tuple[str, ...],
    path: str,
    kind: type[msgspec.Struct],
    example: msgspec.Struct,
) -> None:
    printed = sollolctl(daemon, *words, "--json")
    assert (printed.returncode, printed.stderr) == (0, "")
    asked = ask(daemon.api_url, "GET", path).body.decode()
    assert steady(printed.stdout) == steady(asked)
    # The very fields of the documents that sollolctl's own tests draw.
    assert type(example) is kind
    assert tuple(json.loads(printed.stdout)) == kind.__struct_fields__
    decode(printed.stdout, kind)


def test_sollolctl_shows_them_in_words(daemon: DaemonProcess) -> None:
    status = sollolctl(daemon, "status")
    assert (status.returncode, status.stderr) == (0, "")
    assert "serving" in status.stdout.splitlines()[0]
    assert f"pid {daemon.group.pid}" in status.stdout
    assert "2: 2 up" in status.stdout
    assert "Redis" not in status.stdout
    assert str(daemon.config_path) in status.stdout
    short = sollolctl(daemon, "status", "--short")
    assert short.stdout.startswith("sollold serving 2/2 nodes")
    nodes = sollolctl(daemon, "nodes")
    assert [line.split()[0] for line in nodes.stdout.splitlines()[:3]] == ["NODE", "gpu-1", "gpu-2"]
    one = sollolctl(daemon, "nodes", "gpu-1")
    assert "became up" in one.stdout
    assert "gpu-1 unknown -> up" not in one.stdout
    with StreamOf(daemon):
        until(lambda: "gpu-" in sollolctl(daemon, "requests").stdout, "the request is listed")
    logs = sollolctl(daemon, "logs", "-n", "5", "--json")
    found = decode(logs.stdout, EventsDocument)
    assert len(found.events) == 5
    assert sollolctl(daemon, "logs", "-n", "3").stdout.count("\n") == 3


def test_sollolctl_tells_what_is_wrong(daemon: DaemonProcess) -> None:
    unknown = sollolctl(daemon, "nodes", "gpu-7")
    assert (unknown.returncode, unknown.stdout) == (4, "")
    assert "gpu-7" in unknown.stderr
    wrong = sollolctl(daemon, "logs", "--kind", "nonsense")
    assert wrong.returncode == 1
    assert "nonsense" in wrong.stderr
    elsewhere = sollolctl(daemon, "--url", "http://127.0.0.1:1", "status")
    assert elsewhere.returncode == 3


class StreamOf:
    """A stream that lasts while the block does."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._client = Client(daemon.api_url, LIMIT_S)
        self._client.send("POST", "/api/chat", chat(stream=True))
        self._client.wait()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        self._client.close()


# Clients that leave ---------------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_stops_the_nodes_work(
    daemon: DaemonProcess, nodes: tuple[FakeNodeProcess, FakeNodeProcess], *, is_stream: bool
) -> None:
    def active() -> int:
        return sum(node.state()["active"] for node in nodes)

    def left() -> int:
        return sum(node.state()["disconnects"] for node in nodes)

    before = left()
    with Client(daemon.api_url, LIMIT_S) as client:
        client.send("POST", "/api/chat", chat(stream=is_stream))
        if is_stream:
            client.wait()
        until(lambda: active() == 1, "a node works on it")
    until(lambda: active() == 0, "the node stops", 1.0)
    assert left() == before + 1
    until(lambda: get(daemon, "/api/v1/requests")["running"] == [], "the daemon forgets it")


# What is left ---------------------------------------------------------------------------------


def descriptors(pid: int) -> dict[str, int]:
    """Open files of a process by sort."""
    found: dict[str, int] = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sort = re.sub(r"[0-9:\[\]]+$", "", str(entry.readlink()))
        except FileNotFoundError:
            continue
        found[sort] = found.get(sort, 0) + 1
    return found


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def one_of_many(daemon: DaemonProcess, number: int) -> None:
    """One request of twelve sorts; most of them go wrong in some way."""
    sort = number % 12
    quick: dict[str, Any] = {"options": {"num_predict": 3}}
    if sort in (0, 1, 2):
        post(daemon, "/api/chat", chat(stream=True, **quick))
    elif sort in (3, 4):
        post(daemon, "/v1/chat/completions", chat(stream=False, max_tokens=3))
    elif sort == 5:
        post(daemon, "/api/chat", chat(stream=False, **quick) | {"model": "nobody-has-it"})
    elif sort == 6:
        post(daemon, "/api/chat", b"{broken")
    elif sort == 7:
        with Client(daemon.api_url, LIMIT_S) as client:
            client.send("POST", "/api/chat", chat(stream=True))
            client.wait()
    elif sort == 8:
        with Client(daemon.api_url, LIMIT_S) as client:
            client.send("POST", "/api/chat", chat(stream=False))
    elif sort == 9:
        with Client(daemon.api_url, LIMIT_S) as client:
            client._socket.sendall(
                b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
            )
    elif sort == 10:
        post(daemon, "/api/chat", b"x" * 2_000_000)
    else:
        get(daemon, "/api/v1/nodes")
        ask(daemon.api_url, "GET", "/metrics")


def test_nothing_is_left_of_hundreds_of_requests(
    daemon: DaemonProcess, nodes: tuple[FakeNodeProcess, FakeNodeProcess]
) -> None:
    pid = daemon.group.pid

    def storm(count: int) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: one_of_many(daemon, number), range(count)))
        for node in nodes:
            node.set_faults()

        def is_idle() -> bool:
            page = get(daemon, "/api/v1/requests")
            return not page["running"] and not page["waiting"]

        until(is_idle, "all requests end")
        until(lambda: sum(node.state()["active"] for node in nodes) == 0, "the nodes are idle")

    storm(60)
    before, threads_before = descriptors(pid), threads(pid)
    for fault in (
        Fault(kind=FaultKind.CRASH, count=20),
        Fault(kind=FaultKind.CUT_RESET, after_frames=1, count=20),
        Fault(kind=FaultKind.REFUSE),
        Fault(kind=FaultKind.CUT_CLOSE, after_frames=2, count=20),
        Fault(kind=FaultKind.GARBAGE, scope="inference", count=20),
        Fault(kind=FaultKind.STALE_KEEPALIVE, count=40),
    ):
        nodes[1].set_faults(fault)
        storm(100)

    def is_back() -> bool:
        now = descriptors(pid)
        # Connections kept for the nodes are no leak: as many as were in use at once.
        return all(
            count <= before.get(sort, 0) + 16 * (sort == "socket") for sort, count in now.items()
        )

    until(is_back, f"descriptors go back to {before}, now {descriptors(pid)}")
    first = descriptors(pid).get("socket", 0)
    storm(100)
    until(lambda: descriptors(pid).get("socket", 0) <= first + 2, "and do not grow with more")
    assert threads(pid) <= max(threads_before, 8)
    assert "Traceback" not in daemon.log_text()


def test_it_survives_running_out_of_descriptors(
    new_daemon: Callable[..., DaemonProcess], nodes: tuple[FakeNodeProcess, FakeNodeProcess]
) -> None:
    made = new_daemon(nodes=[nodes[0].url], config="[health]\ninterval_s = 0.5\ntimeout_s = 0.5\n")
    made.start()
    pid = made.group.pid
    has = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (has + 6, 4096))
    clients = [Client(made.api_url, LIMIT_S) for _ in range(20)]
    for client in clients:
        client.send("GET", "/")
    assert clients[0].receive().status == 200
    for client in clients:
        client.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4096, 4096))

    def is_well() -> bool:
        body = chat(stream=False, options={"num_predict": 1})
        return post(made, "/api/chat", body).status == 200

    until(is_well, "it serves again")
    assert made.is_running
    assert os.path.getsize(made.log_path) < 200_000
    assert made.stop() == 0
