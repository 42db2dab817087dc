"""Every command against a daemon that answers, refuses, hangs or is not there."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sollold.api_types import NodesDocument, RequestsDocument, encode
from sollold.ctl.main import run
from tests.unit.ctl.canned import EVENT_LINES, LOG_TEXT, answers, event
from tests.unit.ctl.documents import AT, GPU_2, HEALTHY, NODES, NOTHING_FOUND
from tests.unit.ctl.fake_daemon import Answer, FakeDaemon, error
from tests.unit.ctl.test_nodes import LIST_TEXT, NODE_TEXT
from tests.unit.ctl.test_status import DEGRADED_TEXT, NOTHING_FOUND_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(answers()).on_tcp() as fake:
        monkeypatch.setenv("SOLLOLD_URL", fake.url)
        yield fake


@pytest.fixture
def closed_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE", "SOLLOLD_KEY", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    monkeypatch.setenv("TERM", "xterm")


# Words in a pipe -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["status", "--utc"], DEGRADED_TEXT.replace("9 failed over", "9 failed over, 0 failed")),
        (["status", "--short"], "sollold degraded 4/6 nodes 4 run 1 queue p95 940ms\n"),
        (["nodes"], LIST_TEXT),
        (["nodes", "gpu-2", "--utc"], NODE_TEXT),
        (["nodes", "GPU-2", "--utc"], NODE_TEXT),
        (["nodes", "192.168.1.22", "--utc"], NODE_TEXT),
        (["nodes", "-q", "--filter", "state=up"], "gpu-1\nrpc-a\nrpc-b\n"),
        (["nodes", "--no-header", "--columns", "node,run", "--sort", "-run"], None),
        (["requests", "-q"], "r-7f3d\nr-7f43\nr-7f40\n"),
        (["logs", "--utc"], LOG_TEXT),
    ],
)
def test_words_in_a_pipe(
    daemon: FakeDaemon, capsys: Captured, args: list[str], text: str | None
) -> None:
    assert run(args) == 0

    captured = capsys.readouterr()
    assert captured.err == ""
    if text is None:
        assert captured.out.splitlines()[:2] == ["gpu-1     2", "gpu-2     1"]
    else:
        assert captured.out == text


def test_without_utf8_the_marks_are_ascii(
    daemon: FakeDaemon, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "C")
    renamed = replace(NODES, nodes=(*NODES.nodes, replace(GPU_2, name="m\u00fcller", state="up")))
    daemon.answers["/api/v1/nodes"] = Answer(encode(renamed))

    run(["nodes"])

    out = capsys.readouterr().out
    assert out.isascii()
    assert "* up" in out
    assert "m\\xfcller" in out


def test_colour_can_be_forced_into_a_pipe(daemon: FakeDaemon, capsys: Captured) -> None:
    run(["nodes", "--color", "always"])
    assert "\x1b[97;41m✖ down\x1b[0m" in capsys.readouterr().out


def test_nothing_found_yet_is_no_failure(daemon: FakeDaemon, capsys: Captured) -> None:
    daemon.answers["/api/v1/status"] = Answer(encode(NOTHING_FOUND))
    assert run(["status"]) == 0
    assert capsys.readouterr().out == NOTHING_FOUND_TEXT


def test_hostile_names_cannot_reach_the_terminal(daemon: FakeDaemon, capsys: Captured) -> None:
    nodes = tuple(replace(node, name=f"{node.name}\x1b]0;x\x07\u202e") for node in NODES.nodes)
    daemon.answers["/api/v1/nodes"] = Answer(encode(replace(NODES, nodes=nodes)))
    line = event(1, "route", "r-1 \x1b[2J evil\u202e") | {"kind": "ro\x1bute"}
    daemon.answers["/api/v1/events"] = Answer(lines=[json.dumps(line).encode() + b"\n"])

    run(["nodes", "--wide"])
    run(["nodes", "-q"])
    run(["logs", "-f"])

    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "gpu-1\\x1b]0;x\\x07\\u202e" in out
    assert "\\x1b[2J evil\\u202e" in out


# Documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "path"),
    [
        (["status", "--json"], "/api/v1/status"),
        (["--json", "status", "--short"], "/api/v1/status"),
        (["nodes", "--json", "--wide"], "/api/v1/nodes"),
        (["nodes", "gpu-2", "--json"], "/api/v1/nodes/gpu-2"),
        (["requests", "--json"], "/api/v1/requests"),
        (["logs", "--json"], "/api/v1/events"),
    ],
)
def test_json_is_the_daemons_document_unchanged(
    daemon: FakeDaemon, capfdbinary: pytest.CaptureFixture[bytes], args: list[str], path: str
) -> None:
    assert run(args) == 0
    assert capfdbinary.readouterr().out == daemon.answers[path].body + b"\n"


def test_following_as_json_is_one_object_a_line(daemon: FakeDaemon, capsys: Captured) -> None:
    run(["logs", "-f", "--json"])
    assert capsys.readouterr().out == b"".join(EVENT_LINES).decode()


def test_errors_as_json_leave_stdout_empty(closed_url: str, capsys: Captured) -> None:
    assert run(["--json", "--url", closed_url, "nodes"]) == 3

    captured = capsys.readouterr()
    assert captured.out == ""
    problem = json.loads(captured.err)["error"]
    assert problem["code"] == "not_reachable"
    assert closed_url in problem["message"]
    assert "systemctl --user start sollold" in problem["hint"]


@pytest.mark.parametrize("args", [["--json", "nope"], ["nodes", "--json", "--filter", "state=up"]])
def test_wrong_usage_as_json(daemon: FakeDaemon, capsys: Captured, args: list[str]) -> None:
    assert run(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["error"]["code"] == "usage"


# Failures ------------------------------------------------------------------------------------


def test_not_running(closed_url: str, capsys: Captured) -> None:
    assert run(["--url", closed_url, "status"]) == 3

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"✖ sollold does not answer at {closed_url} (connection refused)\n"
        "  running?        systemctl --user status sollold\n"
        "  start it        systemctl --user start sollold\n"
        "  elsewhere?      sollolctl --url http://HOST:PORT status, or set SOLLOLD_URL\n"
    )


def test_not_running_in_one_line_for_status_bars(closed_url: str, capsys: Captured) -> None:
    assert run(["--url", closed_url, "status", "--short"]) == 3
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("sollold not running\n", "")


def test_verbose_says_what_was_tried(daemon: FakeDaemon, closed_url: str, capsys: Captured) -> None:
    run(["-v", "status"])
    assert capsys.readouterr().err == f"answered by {daemon.url}\n"
    run(["-v", "--url", closed_url, "status"])
    assert capsys.readouterr().err.startswith(f"tried {closed_url}: connection refused\n")


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (error("internal", "a bug", 500), 1, "sollolctl: a bug\n"),
        (
            error("key_role", "this key may only view", 403),
            7,
            (
                "sollolctl: this key may only view\n"
                "  use another     SOLLOLD_KEY=... sollolctl ..., or --key-file FILE\n"
            ),
        ),
        (error("key_missing", "no key", 401, "ask"), 7, "sollolctl: no key\n  ask\n"),
        (Answer(b'{"schema":"sollold.status/1"}'), 1, "sollolctl: sollold's answer cannot be read"),
    ],
)
def test_refusals(
    daemon: FakeDaemon, capsys: Captured, answer: Answer, code: int, words: str
) -> None:
    daemon.answers["/api/v1/status"] = answer
    assert run(["status"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(words)


def test_a_hanging_daemon(daemon: FakeDaemon, capsys: Captured) -> None:
    daemon.answers["/api/v1/status"] = Answer(is_silent=True)
    assert run(["--timeout", "0.1", "status"]) == 3
    assert "(no answer within 0.1 s)" in capsys.readouterr().err
    daemon.stopping.set()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu", "sollolctl: 'gpu' fits more than one node: gpu-1, gpu-2\n"),
        ("gpux-2", "sollolctl: no node 'gpux-2'\n  did you mean    gpu-2\n"),
        ("zzz", "sollolctl: no node 'zzz'\n  all nodes       sollolctl nodes\n"),
        ("10.0.0", "sollolctl: no node '10.0.0'\n  all nodes       sollolctl nodes\n"),
    ],
)
def test_names_that_name_no_node(
    daemon: FakeDaemon, capsys: Captured, name: str, words: str
) -> None:
    assert run(["nodes", name]) == 4
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", words)


@pytest.mark.parametrize(
    "args",
    [
        ["nodes", "--filter", "state"],
        ["nodes", "--filter", "size=1"],
        ["nodes", "--sort", "size"],
        ["nodes", "--columns", "node,size"],
        ["logs", "--filter", "size=1"],
        ["logs", "--since", "whenever"],
        ["logs", "-n", "-1"],
        ["--timeout", "0", "status"],
        ["--url", "ftp://x", "status"],
        ["--key-file", "/nonexistent/key", "status"],
        ["requests", "-q", "--json"],
    ],
)
def test_wrong_usage(daemon: FakeDaemon, capsys: Captured, args: list[str]) -> None:
    assert run(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_empty_lists_say_why_and_what_to_do(daemon: FakeDaemon, capsys: Captured) -> None:
    daemon.answers |= {
        "/api/v1/nodes": Answer(encode(NodesDocument(at=AT, nodes=()))),
        "/api/v1/requests": Answer(encode(RequestsDocument(at=AT, running=(), waiting=()))),
        "/api/v1/events": Answer(b'{"schema":"sollold.events/1","at":"","events":[]}'),
    }
    for args, words in (
        (["nodes"], "No nodes yet."),
        (["requests"], "No requests running or waiting."),
        (["logs"], f"No events yet. Send a request to {daemon.url}\n"),
        (["logs", "--node", "pi-5"], "No event fits."),
    ):
        assert run(args) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(words)


def test_a_filter_that_finds_nothing_says_so(daemon: FakeDaemon, capsys: Captured) -> None:
    assert run(["nodes", "--filter", "kind=openai"]) == 0
    assert capsys.readouterr().err == "No node fits kind=openai.\n"
    assert run(["requests", "--filter", "phase=dreaming"]) == 0
    assert capsys.readouterr().err == "No request fits phase=dreaming.\n"


# Logs ----------------------------------------------------------------------------------------


def test_filters_of_logs_are_sent_to_the_daemon(daemon: FakeDaemon, capsys: Captured) -> None:
    line = "logs -n 7 --model a --model b --kind route --backend rpc --instance i --request r-7f"
    line += " --since 10m --until 2026-11-21T09:14:00Z --filter kind=node --node rpc-a,gone-9"
    run([*line.split(), "--node", "pi", "--backend", "llama"])

    assert daemon.asked[-1] == (
        "/api/v1/events",
        {
            "n": "7",
            "model": "a,b",
            "event_type": "route,node",
            "backend": "rpc,llama_server",
            "instance": "i",
            "request": "r-7f",
            "node": "rpc-a,gone-9,pi-5",
            "since": "10m",
            "until": "2026-11-21T09:14:00Z",
        },
    )


@pytest.mark.parametrize("follow", [[], ["-f"]])
def test_the_daemon_looks_for_texts_and_leaves_out(
    daemon: FakeDaemon, capsys: Captured, follow: list[str]
) -> None:
    run(
        [
            "logs",
            *follow,
            "-n",
            "3",
            "--grep",
            "Reset",
            "--filter",
            "node!=pi",
            "--filter",
            "backend!=llama",
        ]
    )
    asked = {"n": "3", "grep": "Reset", "node!": "pi-5", "backend!": "llama_server"}
    more = {"follow": "1"} if follow else {}
    assert [query for path, query in daemon.asked if "events" in path] == [asked | more]

    run(["logs", "--daemon", *follow, "-n", "3", "--grep", "Reset"])
    assert daemon.asked[-1] == ("/api/v1/logs", {"n": "3", "grep": "Reset"} | more)


def test_an_ambiguous_node_is_not_guessed(daemon: FakeDaemon, capsys: Captured) -> None:
    assert run(["logs", "--node", "gpu"]) == 4
    assert "gpu-1, gpu-2" in capsys.readouterr().err


def test_a_stream_that_ends_is_said_and_is_a_failure(daemon: FakeDaemon, capsys: Captured) -> None:
    assert run(["logs", "-f", "--utc"]) == 3

    captured = capsys.readouterr()
    assert captured.out == LOG_TEXT
    assert captured.err.startswith("sollolctl: sollold ended the stream of events\n")


# Versions and places -------------------------------------------------------------------------


def test_versions_that_differ_are_noticed(daemon: FakeDaemon, capsys: Captured) -> None:
    assert run(["version"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1] == "sollold    0.4.0"
    assert "differ" in captured.err

    own = captured.out.splitlines()[0].split()[1]
    daemon.answers["/api/v1/status"] = Answer(encode(replace(HEALTHY, version=own)))
    run(["version", "--json"])
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "schema": "sollold.version/1",
        "sollolctl": own,
        "sollold": own,
    }
    assert captured.err == ""


def test_the_own_version_is_known_without_a_daemon(closed_url: str, capsys: Captured) -> None:
    assert run(["--url", closed_url, "version"]) == 3
    assert capsys.readouterr().out.startswith("sollolctl  ")


def test_the_control_socket_is_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.delenv("SOLLOLD_URL", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "sollold").mkdir()
    path = tmp_path / "sollold" / "control.sock"
    with FakeDaemon(answers()).on_socket(str(path)):
        assert run(["-v", "status", "--short"]) == 0
    assert capsys.readouterr().err == f"answered by unix:{path}\n"


def test_a_key_comes_from_the_environment_or_a_file(
    daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("SOLLOLD_KEY", "k-env")
    run(["status"])
    (tmp_path / "key").write_text("k-file\n")
    run(["--key-file", str(tmp_path / "key"), "status"])
    assert daemon.keys == ["Bearer k-env", "Bearer k-file"]

    (tmp_path / "key").write_bytes(b"\xff\xfe")
    assert run(["--key-file", str(tmp_path / "key"), "status"]) == 2


@pytest.mark.parametrize(
    ("args", "has_color"),
    [
        (["--color", "always", "status"], True),
        (["status", "--color=always"], True),
        (["status", "--color", "never"], False),
        (["status"], False),
    ],
)
def test_failures_follow_the_colour_option(
    closed_url: str, capsys: Captured, args: list[str], *, has_color: bool
) -> None:
    assert run(["--url", closed_url, *args]) == 3
    assert ("\x1b[97;41m" in capsys.readouterr().err) is has_color
