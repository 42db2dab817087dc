"""The mock-ups of `status`, `check`, `nodes` and `logs`, byte for byte, in every way to show them.

`NAME.mock-up` is the specification's own text. `NAME.txt` is what a UTF-8 terminal of 80 columns
shows without colour; `.color.txt` with it; `.ascii.txt` in the C locale; `.pipe.txt` in a pipe;
`.json` with `--json`. The mock-up for a key that may not drain is left out: there are no keys and
nothing drains yet; what a refusal looks like is in `test_commands.py`.
"""

from __future__ import annotations

import difflib
import json
import os
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from msgspec.structs import replace

from sollold.api_models import (
    AskedRequest,
    Model,
    ModelCopy,
    ModelDocument,
    ModelsDocument,
    NextNode,
)
from sollold.api_types import ConfigInfo, encode
from sollold.core.model import Reason
from tests.component.terminal import SOLLOLCTL, Terminal
from tests.unit.ctl.canned import answers
from tests.unit.ctl.documents import AT, DEGRADED, HEALTHY, MINUTE, NODE_GPU_2, NODES, NOTHING_FOUND
from tests.unit.ctl.fake_daemon import Answer, FakeDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parents[1] / "unit" / "ctl" / "golden"
HOME = "/home/ann"
CONFIG = ConfigInfo(path=f"{HOME}/.config/sollold/sollold.toml", loaded_ms=3 * 1440 * MINUTE)
GONE_URL = "http://127.0.0.1:11434"
LLAMA = Model(
    name="llama3.1:8b",
    digest="a" * 64,
    copies=(ModelCopy(node="gpu-1", state="up", digest="a" * 64, is_loaded=True),),
    next=NextNode(node="gpu-1", wait_ms=0, reason=Reason("resident_free", "resident, free")),
)

TODAY, DAY = datetime.now(UTC).date().isoformat(), AT[:10]
"""Events of another day would carry their date; in the golden files the day is `DAY`."""
EVENTS = [
    ("09:10:21.771", "failover", "r-7f3c mistral:7b pi-5 -> gpu-1: connection reset, try 2"),
    ("09:10:21.774", "node", "pi-5 up -> down: 3 failed checks in 30 s"),
    ("09:13:58.411", "queue", "r-7f40 qwen2.5:14b waits: gpu-2 is full, first in line"),
    ("09:14:03.120", "route", "r-7f41 phi3:mini -> gpu-1: only node that has it"),
    ("09:14:03.402", "route", "r-7f42 llama3.1:8b -> gpu-1: loaded, fastest first token"),
    ("09:14:20.006", "model", "gpu-1 unloaded gemma2:9b after 5m idle"),
    ("09:15:02.330", "llama", "llama3.1:70b started over rpc-a, rpc-b, ready in 94 s"),
    ("09:15:40.118", "config", "reloaded: queue.max 64 -> 128"),
    ("09:15:41.002", "auth", 'key "laptop" refused: rate limit 30/min'),
]


def event_lines() -> bytes:
    events = [
        {"timestamp": f"{TODAY}T{clock}Z", "event_type": "ANY", "kind": kind, "text": text}
        for clock, kind, text in EVENTS
    ]
    return json.dumps({"schema": "sollold.events/1", "at": AT, "events": events}).encode()


class Case(NamedTuple):
    """One mock-up: what is typed, what the daemon answers, what differs and why."""

    args: tuple[str, ...]
    answers: dict[str, Answer] | None
    """None: no daemon."""
    exit_code: int = 0
    differs: tuple[str, ...] = ()
    """The lines of the mock-up that are not shown so."""
    on_stderr: bool = False


CASES = {
    # The dashboard is on a listener of its own: on the API listener `/` says what Ollama says.
    "status-healthy": Case(
        ("status",),
        {"/api/v1/status": Answer(encode(replace(HEALTHY, config=CONFIG)))},
        differs=("  Address    http://127.0.0.1:11434  (dashboard at /)",),
    ),
    # The mock-up breaks off with "..."; what follows is as when healthy. The address as above.
    "status-degraded": Case(
        ("status",),
        {"/api/v1/status": Answer(encode(replace(DEGRADED, config=CONFIG)))},
        differs=("  Address    http://127.0.0.1:11434  (dashboard at /)", "  ..."),
    ),
    "status-not-running": Case(("status",), None, exit_code=3, on_stderr=True),
    # The age ends in one column on all screens. `nodes add` and `discover` do not exist: the hints
    # name the file and what does.
    "status-nothing-found": Case(
        ("status",),
        {"/api/v1/status": Answer(encode(replace(NOTHING_FOUND, config=CONFIG)))},
        differs=(
            "▲ sollold 0.4.0  cannot serve: no nodes found yet       up 20s   pid 21877",
            "  add one         sollolctl nodes add HOST[:PORT]",
            "  what was tried  sollolctl discover -v",
        ),
    ),
    "status-short": Case(("status", "--short"), {"/api/v1/status": Answer(encode(DEGRADED))}),
    "check-model": Case(
        ("check", "--model", "llama3.1:8b"),
        {
            "/api/v1/models": Answer(encode(ModelsDocument(at=AT, models=(LLAMA,)))),
            "/api/v1/models/llama3.1:8b": Answer(
                encode(
                    ModelDocument(
                        at=AT,
                        model=LLAMA,
                        asked=AskedRequest(task="chat", prompt_tokens=512, output_tokens=256),
                    )
                )
            ),
        },
    ),
    "nodes": Case(("nodes",), {"/api/v1/nodes": Answer(encode(NODES))}),
    # Nothing drains a node yet, so the next step does not name it.
    "nodes-one": Case(
        ("nodes", "gpu-2"),
        {
            "/api/v1/nodes": Answer(encode(NODES)),
            "/api/v1/nodes/gpu-2": Answer(encode(NODE_GPU_2)),
        },
        differs=("  next       sollolctl logs --node gpu-2    sollolctl drain gpu-2",),
    ),
    "logs": Case(("logs", "-n", "9"), {"/api/v1/events": Answer(event_lines())}),
}
JSON_CASES = [name for name, case in CASES.items() if case.answers is not None]


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the daemon of the case is, or is not."""
    case = CASES[request.getfixturevalue("name")]
    if case.answers is None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"
        return
    with FakeDaemon(answers() | case.answers).on_tcp() as fake:
        yield fake.url


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE", "SOLLOLD_KEY", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("HOME", HOME)


def golden(name: str, way: str) -> str:
    return (GOLDEN / f"{name}.{way}").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("way", "env"),
    [
        ("txt", {"NO_COLOR": "1"}),
        ("color.txt", {}),
        ("ascii.txt", {"NO_COLOR": "1", "LANG": "C"}),
    ],
)
@pytest.mark.parametrize("name", CASES)
def test_on_a_terminal(name: str, url: str, way: str, env: dict[str, Any]) -> None:
    case = CASES[name]
    with Terminal("--url", url, *case.args, "--utc", **env) as terminal:
        assert terminal.end() == case.exit_code
    shown = terminal.sent.replace("\r\n", "\n")
    assert shown.replace(url, GONE_URL).replace(TODAY, DAY) == golden(name, way)


@pytest.mark.parametrize("way", ["pipe.txt", "json"])
@pytest.mark.parametrize("name", CASES)
def test_in_a_pipe(name: str, url: str, way: str) -> None:
    case = CASES[name]
    options = ["--json"] if way == "json" else []
    result = subprocess.run(
        [*SOLLOLCTL, "--url", url, *case.args, "--utc", *options],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == case.exit_code
    shown, other = (result.stdout, result.stderr)[:: -1 if case.on_stderr else 1]
    assert shown.replace(url, GONE_URL).replace(TODAY, DAY) == golden(name, way)
    assert other == ""


@pytest.mark.parametrize("name", CASES)
def test_what_differs_from_the_mock_up_is_known(name: str) -> None:
    mock_up, ours = golden(name, "mock-up").splitlines(), golden(name, "txt").splitlines()
    gone = [line[2:] for line in difflib.ndiff(mock_up, ours) if line.startswith("- ")]
    assert tuple(gone) == CASES[name].differs


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.txt")), ids=lambda path: path.name)
def test_the_screens_keep_to_80_columns_and_their_characters(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ("\x1b" in text) is (path.name in COLOURED)
    if ".ascii." in path.name:
        assert text.isascii()
    if "\x1b" not in text and ".pipe." not in path.name:
        assert max(len(line) for line in text.splitlines()) <= 80


COLOURED = {f"{name}.color.txt" for name in CASES if name not in {"status-short", "check-model"}}
