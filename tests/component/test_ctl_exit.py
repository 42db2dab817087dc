"""Every exit code, from the process, against a daemon that is there, gone, hanging or refusing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sollold.api_types import StatusDocument, encode
from tests.component.terminal import SOLLOLCTL
from tests.unit.ctl.canned import answers
from tests.unit.ctl.documents import DEGRADED, HEALTHY, NOTHING_FOUND
from tests.unit.ctl.fake_daemon import Answer, FakeDaemon, error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMANDS = (
    ("status",),
    ("status", "--short"),
    ("nodes",),
    ("nodes", "gpu-2"),
    ("requests",),
    ("ps",),
    ("models",),
    ("models", "llama3.1:8b"),
    ("logs",),
    ("logs", "-f"),
    ("logs", "--daemon"),
    ("logs", "--daemon", "-f"),
    ("check",),
    ("check", "--node", "gpu-1"),
    ("check", "--model", "llama3.1:8b"),
    ("config", "show"),
    ("open",),
    ("version",),
)
IDS = [" ".join(command) for command in COMMANDS]


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon(answers()).on_tcp() as fake:
        yield fake
        fake.stopping.set()


@pytest.fixture
def gone() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def ctl(url: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in {"DISPLAY"}}
    return subprocess.run(
        [*SOLLOLCTL, "--url", url, *args],
        env={**clean, "LC_ALL": "C.UTF-8", **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("args", COMMANDS, ids=IDS)
def test_0_when_the_daemon_answers(daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    daemon.answers["/api/v1/status"] = Answer(encode(HEALTHY))
    result = ctl(daemon.url, *args)
    # A stream ends only when the daemon does.
    assert result.returncode == (3 if "-f" in args else 0), result.stderr
    assert result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("args", COMMANDS, ids=IDS)
def test_3_when_nobody_is_there(gone: str, args: tuple[str, ...]) -> None:
    result = ctl(gone, *args)
    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr
    result = ctl(gone, *args, "--json")
    assert (result.returncode, result.stdout) == (3, "")
    assert json.loads(result.stderr)["error"]["code"] == "not_reachable"


@pytest.mark.parametrize("args", COMMANDS, ids=IDS)
def test_3_when_it_hangs(daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    for path in daemon.answers:
        daemon.answers[path] = Answer(is_silent=True)
    result = ctl(daemon.url, "--timeout", "0.2", *args)
    assert result.returncode == 3, result.stderr
    assert "(no answer within 0.2 s)" in result.stderr or "--short" in args


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (error("internal", "a bug", 500), 1),
        (error("key_role", "this key may only view", 403), 7),
    ],
)
@pytest.mark.parametrize("args", COMMANDS, ids=IDS)
def test_1_and_7_when_it_refuses(
    daemon: FakeDaemon, args: tuple[str, ...], answer: Answer, code: int
) -> None:
    for path in daemon.answers:
        daemon.answers[path] = answer
    result = ctl(daemon.url, *args, "--json")
    assert (result.returncode, result.stdout) == (code, "")
    body = json.loads(result.stderr)["error"]
    assert body.keys() == {"code", "message", "hint"}
    assert body["code"] in {"internal", "key_role"}


@pytest.mark.parametrize(
    "args",
    [
        ("nope",),
        ("nodes", "--filter", "state"),
        ("ps", "--columns", "size,none"),
        ("models", "--sort", "none"),
        ("logs", "--level", "info"),
        ("logs", "--daemon", "--model", "x"),
        ("logs", "--watch"),
        ("check", "--watch"),
        ("config", "show", "--watch"),
        ("config", "nope"),
        ("completion", "tcsh"),
        ("ps", "--json", "--sort", "name"),
    ],
)
def test_2_when_it_cannot_be_meant(daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    result = ctl(daemon.url, *args)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("nodes", "gpux-2"), "did you mean    gpu-2"),
        (("nodes", "gpu"), "fits more than one node: gpu-1, gpu-2"),
        (("models", "llama3.1:9b"), "did you mean    llama3.1:8b"),
        (("models", "llama"), "fits more than one model: llama3.1:8b, llama3.2:latest"),
        (("check", "--model", "none"), "all models      sollolctl models"),
        (("check", "--node", "none"), "all nodes       sollolctl nodes"),
    ],
)
def test_4_when_there_is_no_such_thing(
    daemon: FakeDaemon, args: tuple[str, ...], words: str
) -> None:
    result = ctl(daemon.url, *args)
    assert (result.returncode, result.stdout) == (4, "")
    assert words in result.stderr
    result = ctl(daemon.url, *args, "--json")
    assert (result.returncode, result.stdout) == (4, "")
    assert json.loads(result.stderr)["error"]["code"].endswith(("_not_found", "_ambiguous"))


@pytest.mark.parametrize(
    ("status", "word", "code"),
    [
        (HEALTHY, "ok", 0),
        (DEGRADED, "degraded", 5),
        (NOTHING_FOUND, "cannot_serve", 6),
        (replace(HEALTHY, state="starting"), "cannot_serve", 6),
        (replace(HEALTHY, state="stopping"), "cannot_serve", 6),
    ],
)
def test_5_and_6_of_check(daemon: FakeDaemon, status: StatusDocument, word: str, code: int) -> None:
    daemon.answers["/api/v1/status"] = Answer(encode(status))
    result = ctl(daemon.url, "check")
    assert (result.returncode, result.stdout) == (code, f"{word}\n")
    assert bool(result.stderr) is (code != 0)
    assert ctl(daemon.url, "status").returncode == 0
    shown = json.loads(ctl(daemon.url, "check", "--json").stdout)
    assert (shown["schema"], shown["result"]) == ("sollold.check/1", word)


def test_78_when_the_configuration_is_bad(tmp_path: Path, gone: str) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[queue]\nlength = 5\n")
    bad.write_text('[queue]\nlength = 0\nlenght = 1\n[listen]\napi = "x:y"\n')
    result = ctl(gone, "config", "check", str(good))
    assert (result.returncode, result.stdout) == (0, f"configuration is good: {good}\n")
    result = ctl(gone, "config", "check", str(bad))
    assert result.returncode == 78
    assert [line.partition(": ")[0] for line in result.stdout.splitlines()] == [
        f"{bad}:2:10", f"{bad}:3:1", f"{bad}:5:7"
    ] or len(result.stdout.splitlines()) == 3  # fmt: skip
    result = ctl(gone, "config", "check", "--json", str(bad))
    problems = json.loads(result.stdout)["problems"]
    assert (result.returncode, len(problems)) == (78, 3)
    assert [(item["where"], item["line"]) for item in problems] == [
        (str(bad), line) for line in (2, 3, 5)
    ]
    assert {"key", "text", "remedy", "shown", "source"} < problems[0].keys()
    assert problems[0]["key"] == "queue.length"


def test_the_daemon_that_was_named_is_not_replaced_by_this_machines_files(gone: str) -> None:
    result = subprocess.run(
        [*SOLLOLCTL, "config", "show"],
        env=os.environ | {"SOLLOLD_URL": gone},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stdout) == (3, "")


def test_the_configuration_without_a_daemon(tmp_path: Path) -> None:
    home = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "SOLLOLD_QUEUE__LENGTH": "9",
    }
    (tmp_path / "sollold").mkdir()
    file = tmp_path / "sollold" / "sollold.toml"
    file.write_text('[[nodes]]\nurl = "http://gpu:1"\nname = "gpu"\n[log]\nlevel = "debug"\n')
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SOLLOLD")}
    # The usual ports of this machine may be anybody's: nothing answers there as a daemon.
    result = subprocess.run(
        [*SOLLOLCTL, "config", "show", "--origin"],
        env={**clean, **home, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if "this is what it would start with" not in result.stderr:
        pytest.skip("a sollold answers on this machine's usual ports")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in result.stdout.splitlines()}
    assert result.returncode == 0
    assert rows["queue.length"] == ["9", "environment SOLLOLD_QUEUE__LENGTH"]
    assert rows["nodes[0].url"] == ['"http://gpu:1"', f"{file}:2:7"] or rows["nodes[0].url"]
    assert rows["queue.look_ahead"] == ["64", "default"]
    assert "nodes[0].tier" not in rows
    file.write_text("[queue]\nlenght = 1\n")
    result = subprocess.run(
        [*SOLLOLCTL, "config", "show"],
        env={**clean, **home, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stdout) == (78, "")
    assert "lenght" in result.stderr
