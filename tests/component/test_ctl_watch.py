"""`--watch`: in place on a real terminal, as news in a pipe, across a daemon's restart."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from typing import IO, TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sollold.api_types import encode
from tests.component.terminal import ENTER, LEAVE, SOLLOLCTL, Terminal
from tests.unit.ctl.canned import answers
from tests.unit.ctl.documents import GPU_2, HEALTHY, NODES
from tests.unit.ctl.fake_daemon import Answer, FakeDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSIER = Answer(encode(replace(NODES, nodes=(*NODES.nodes[:1], replace(GPU_2, running=7)))))
OLDER = Answer(
    encode(replace(NODES, nodes=tuple(replace(node, seen_ms=9000) for node in NODES.nodes)))
)


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


# On a terminal -------------------------------------------------------------------------------


def test_it_redraws_in_place_with_news_in_bold(daemon: FakeDaemon) -> None:
    with Terminal("nodes", "--watch", "0.1", NO_COLOR="1") as terminal:
        terminal.until_shown("every 0.1 s, q quits")
        assert terminal.sent.count(ENTER) == 1
        assert terminal.shown.splitlines()[2].startswith("gpu-2     ▲ slow      ollama    1")
        assert len(terminal.shown.splitlines()) == 24
        assert "\x1b[1m" not in terminal.frame
        daemon.answers["/api/v1/nodes"] = BUSIER
        terminal.until_shown("2 nodes: 1 up, 1 slow")
        terminal.until(lambda: "\x1b[1m7\x1b[0m" in terminal.sent)
        terminal.until(lambda: "\x1b[1m7" not in terminal.frame)
        assert terminal.shown.splitlines()[1].split()[:5] == ["gpu-2", "▲", "slow", "ollama", "7"]
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.sent.endswith(LEAVE)
        assert terminal.modes() == terminal.before


def test_bold_and_colour_do_not_fight(daemon: FakeDaemon) -> None:
    with Terminal("nodes", "--watch", "0.1") as terminal:
        terminal.until_shown("6 nodes")
        changed = replace(NODES.nodes[0], state="down")
        daemon.answers["/api/v1/nodes"] = Answer(encode(replace(NODES, nodes=(changed,))))
        terminal.until(lambda: "\x1b[1m\x1b[97;41m✖ down\x1b[0m\x1b[1m\x1b[0m" in terminal.sent)


@pytest.mark.parametrize(
    ("end", "code"), [("key", 130), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_the_terminal_is_given_back(
    daemon: FakeDaemon, end: str | signal.Signals, code: int
) -> None:
    with Terminal("status", "--watch") as terminal:
        terminal.until_shown("every 2 s, q quits")
        assert terminal.modes() != terminal.before
        if isinstance(end, str):
            terminal.type("\x03")
        else:
            terminal.child.send_signal(end)
        assert terminal.end() == code
        assert terminal.modes() == terminal.before
        assert LEAVE in terminal.sent
        assert "Traceback" not in terminal.sent


def test_a_key_works_while_the_daemon_hangs(daemon: FakeDaemon) -> None:
    with Terminal("nodes", "--watch", "0.1") as terminal:
        terminal.until_shown("6 nodes")
        asked = len(daemon.asked)
        daemon.answers["/api/v1/nodes"] = Answer(is_silent=True)
        terminal.until(lambda: len(daemon.asked) > asked)
        terminal.type("q")
        assert terminal.end() == 0
    daemon.stopping.set()


def test_it_follows_the_size_of_the_terminal(daemon: FakeDaemon) -> None:
    with Terminal("nodes", "--watch", "60") as terminal:
        terminal.until_shown("QUEUE")
        terminal.resize(5, 50)
        terminal.until(lambda: terminal.shown.startswith("NODE") and "QUEUE" not in terminal.shown)
        assert terminal.shown.splitlines()[-1] == "every 60 s, q quits; 5 more lines below"
        assert len(terminal.shown.splitlines()) == 5


def test_stopped_and_continued(daemon: FakeDaemon) -> None:
    with Terminal("nodes", "--watch", "60") as terminal:
        terminal.until_shown("6 nodes")
        terminal.type("\x1a")
        terminal.until(lambda: terminal.sent.endswith(LEAVE))
        terminal.until(lambda: terminal.modes() == terminal.before)
        terminal.child.send_signal(signal.SIGCONT)
        terminal.until(lambda: terminal.sent.count(ENTER) == 2)
        terminal.until_shown("6 nodes")
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.modes() == terminal.before


def test_a_daemon_that_goes_and_comes(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with contextlib.ExitStack() as stack:
        fake = FakeDaemon(answers())
        stack.enter_context(fake.on_socket(str(path)))
        with Terminal("nodes", "--watch", "0.1", SOLLOLD_URL=f"unix:{path}") as terminal:
            terminal.until_shown("6 nodes")
            stack.close()
            path.unlink()
            terminal.until_shown("lost sollold 1 s ago, retrying")
            lines = terminal.frame.split("\r\n")
            assert lines[0].startswith("lost sollold ")
            assert lines[2].startswith("\x1b[2mpi-5      ✖ down      ollama")
            with FakeDaemon(answers()).on_socket(str(path)):
                terminal.until(lambda: terminal.shown.startswith("NODE "))
                terminal.type("q")
                assert terminal.end() == 0


def test_a_refusal_ends_it_and_is_seen(daemon: FakeDaemon) -> None:
    with Terminal("nodes", "--watch", "0.1") as terminal:
        terminal.until_shown("6 nodes")
        daemon.answers["/api/v1/nodes"] = Answer(b"{}", status=401)
        assert terminal.end() == 7
        assert terminal.modes() == terminal.before
        assert "use another" in terminal.sent.rpartition(LEAVE)[2]


def test_without_a_daemon_the_screen_is_not_taken(daemon: FakeDaemon) -> None:
    with Terminal("--url", "http://127.0.0.1:1", "nodes", "--watch") as terminal:
        assert terminal.end() == 3
        assert ENTER not in terminal.sent


def test_a_terminal_that_cannot_move_its_cursor(daemon: FakeDaemon) -> None:
    with Terminal("nodes", "--watch", "0.1", TERM="dumb") as terminal:
        terminal.until(lambda: "rpc-b" in terminal.sent)
        assert "\x1b" not in terminal.sent


def test_an_empty_list_says_so_in_place(daemon: FakeDaemon) -> None:
    daemon.answers["/api/v1/nodes"] = Answer(encode(replace(NODES, nodes=())))
    with Terminal("nodes", "--watch", "0.1") as terminal:
        terminal.until_shown("No nodes yet.")


def test_a_terminal_that_goes_away_ends_it(daemon: FakeDaemon) -> None:
    with Terminal("nodes", "--watch", "0.1") as terminal:
        terminal.until_shown("6 nodes")
        terminal.child.send_signal(signal.SIGHUP)
        assert terminal.end() == -signal.SIGHUP


# In a pipe -----------------------------------------------------------------------------------


@contextlib.contextmanager
def piped(*args: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    child = subprocess.Popen(
        [*SOLLOLCTL, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=os.environ | env,
        text=True,
    )
    assert child.stdout is not None
    with child:
        try:
            yield child, child.stdout
        finally:
            child.kill()


def test_a_pipe_gets_a_line_for_each_row_that_changed(daemon: FakeDaemon) -> None:
    with piped("nodes", "--watch", "0.1") as (child, out):
        first = [out.readline() for _ in range(7)]
        assert first[0].startswith("NODE ")
        daemon.answers["/api/v1/nodes"] = OLDER
        asked = len(daemon.asked)
        while len(daemon.asked) < asked + 3:
            assert child.poll() is None
        daemon.answers["/api/v1/nodes"] = BUSIER
        # Ages have changed too, but no line was printed for that.
        assert out.readline().split()[:5] == ["gpu-2", "▲", "slow", "ollama", "7"]
        gone = {out.readline().strip() for _ in range(4)}
        assert gone == {f"-- {name} is gone --" for name in ("pi-5", "mac-mini", "rpc-a", "rpc-b")}


def test_status_in_a_pipe_is_not_news_for_growing_older(daemon: FakeDaemon) -> None:
    daemon.answers["/api/v1/status"] = Answer(encode(HEALTHY))
    with piped("status", "--watch", "0.1", "--utc") as (child, out):
        first = [out.readline() for _ in range(9)]
        assert first[-1].startswith("  Config ")
        assert HEALTHY.config is not None
        later = replace(HEALTHY, uptime_ms=9e9, config=replace(HEALTHY.config, loaded_ms=9e9))
        daemon.answers["/api/v1/status"] = Answer(encode(later))
        asked = len(daemon.asked)
        while len(daemon.asked) < asked + 3:
            assert child.poll() is None
        busy = replace(later, requests=replace(later.requests, running=9))
        daemon.answers["/api/v1/status"] = Answer(encode(busy))
        assert out.readline().startswith("  Requests   9 running")


def test_json_is_one_document_a_line(daemon: FakeDaemon) -> None:
    with piped("--json", "nodes", "--watch", "0.1") as (_, out):
        lines = [out.readline() for _ in range(3)]
    assert {json.loads(line)["schema"] for line in lines} == {"sollold.nodes/1"}
    assert lines[0].encode() == daemon.answers["/api/v1/nodes"].body + b"\n"


@pytest.mark.parametrize("options", [["--watch", "60"], ["--watch", "60", "--json"]])
def test_a_closed_pipe_ends_it_silently_at_once(daemon: FakeDaemon, options: list[str]) -> None:
    with piped("nodes", *options) as (child, out):
        out.readline()
        out.close()
        assert child.stderr is not None
        assert child.stderr.read() == ""
        assert child.wait(30) == 0


@pytest.mark.parametrize("is_json", [False, True])
def test_a_lost_daemon_is_told_once_and_waited_for(tmp_path: Path, is_json: bool) -> None:
    path = tmp_path / "socket"
    options = ["--json"] if is_json else []
    with contextlib.ExitStack() as stack:
        stack.enter_context(FakeDaemon(answers()).on_socket(str(path)))
        url = f"unix:{path}"
        with piped("nodes", "--watch", "0.1", *options, SOLLOLD_URL=url) as (child, out):
            out.readline()
            stack.close()
            path.unlink()
            assert child.stderr is not None
            said = child.stderr.readline()
            assert "lost sollold, retrying" in said
            assert not is_json or json.loads(said)["error"]["code"] == "not_reachable"
            changed = FakeDaemon(answers() | {"/api/v1/nodes": BUSIER})
            with changed.on_socket(str(path)):
                if not is_json:
                    assert child.stderr.readline() == "sollold is back\n"
                while not changed.asked:
                    assert child.poll() is None
                seen = out.readline()
                while " 7 " not in seen and '"running":7' not in seen:
                    seen = out.readline()
                    assert seen
