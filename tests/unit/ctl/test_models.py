"""The words of `models`, `models MODEL` and `ps`, and of `config show`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec.structs import replace

from sollold.api_models import Model, NextNode
from sollold.core.model import Reason
from sollold.ctl.main import run
from sollold.ctl.models import (
    loaded_columns,
    loaded_summary,
    model_columns,
    model_lines,
    models_summary,
    next_text,
)
from sollold.ctl.screen import Screen
from sollold.ctl.table import Layout, render
from tests.unit.ctl.canned import ASCII, LINES_TEXT, answers
from tests.unit.ctl.documents import LLAMA, LOADED, MODEL_LLAMA, MODELS
from tests.unit.ctl.fake_daemon import FakeDaemon

TERMINAL = Screen(is_terminal=True, width=80, is_unicode=True)
PIPE = Screen()
NOW = datetime(2026, 11, 21, 9, 14, 3, tzinfo=UTC)

LIST_TEXT = """\
NAME                      SIZE  LOADED  ON DISK      NEXT   WHY
llama3.1:8b              4.9GB  gpu-1   gpu-2, pi-5  gpu-1  resident, free; 1 as good
llama3.2:latest              -  -       pi-5         -      pi-5 is not available
nomic-embed-text:latest  0.3GB  gpu-2   -            gpu-2  gpu-2 is full
"""

MODEL_TEXT = """\
llama3.1:8b
  Size       4.9GB, modified 14 Nov
  Id         46e0c10c039e
  Can        completion, tools
  Next       gpu-1: resident, free (as good: gpu-2)
  On         gpu-1     ● up        loaded
             gpu-2     ▲ slow      on disk
             mac-mini  ● up        on disk, another version (888888888888); holds another one
             pi-5      ✖ down      there; is not available

Expected cost in seconds of a request of 512 tokens with an answer of 256 (chat):
  NODE   WAIT  LOAD  SWAP  OTHERS  PROMPT  ANSWER   RISK  TIER  TOTAL
  gpu-1  0.00  0.00  0.00    0.00    0.41    5.60   0.00  0.00   3.21
  gpu-2  0.00  1.00  0.00    0.00    0.41    4.00  -0.11  0.00   3.30  ~
  ~ not measured on that node yet: taken from other nodes, or assumed
"""

PS_TEXT = """\
NAME          SIZE  PROCESSOR        CONTEXT  UNTIL  NODE
llama3.1:8b  5.4GB  50%/50% CPU/GPU     8192  stays  gpu-1
qwen2.5:14b      -  -                      -  -      gpu-2
"""

CONFIG_TEXT = """\
KEY           VALUE
listen.api    ["127.0.0.1:11434"]
nodes[0].url  "https://***@gpu:1"
queue.length  64
"""

NODES_CONFIG_TEXT = """\
nodes[0].url   "https://***@gpu:1"  /etc/sollold/sollold.toml:12:7
nodes[0].tier  5                    default
"""


def table(screen: Screen) -> str:
    lines = render(MODELS.models, model_columns(UTC), Layout(), screen)
    return "".join(f"{line}\n" for line in lines)


def test_times_are_the_readers() -> None:
    east = timezone(timedelta(hours=9))
    model = replace(MODELS.models[0], modified_at="2026-11-20T22:05:59.123456789Z")
    shown = {
        zone: "\n".join(render([model], model_columns(zone), Layout(is_wide=True), Screen()))
        for zone in (UTC, east)
    }

    assert "2026-11-20 22:05 " in shown[UTC]
    assert "2026-11-21 07:05 " in shown[east]
    unknown = replace(model, modified_at=None)
    assert model_columns(UTC)[7].text(unknown) == "-"


def test_the_list_of_models() -> None:
    assert table(PIPE) == LIST_TEXT
    assert max(map(len, table(TERMINAL).splitlines())) <= 80
    # The reason goes first where there is no room, the node that would get it never.
    assert table(TERMINAL).splitlines()[0].split() == [
        "NAME", "SIZE", "LOADED", "ON", "DISK", "NEXT",
    ]  # fmt: skip
    assert models_summary(MODELS.models) == "3 models, 2 loaded, 1 without a usable node"
    assert models_summary(MODELS.models[:1]) == "1 model, 1 loaded"


def test_one_model() -> None:
    lines = model_lines(MODEL_LLAMA, TERMINAL, UTC)
    assert "".join(f"{line}\n" for line in lines) == MODEL_TEXT
    lines = model_lines(MODEL_LLAMA, PIPE, UTC)
    assert "".join(f"{line}\n" for line in lines) == MODEL_TEXT.translate(ASCII)


def test_one_model_of_which_little_is_known() -> None:
    bare = Model(name="m", digest="", next=None)
    lines = model_lines(replace(MODEL_LLAMA, model=bare, costs=()), PIPE, UTC)
    assert lines == ["m", "  Size       -", "  Next       -"]


def test_who_is_next_in_a_sentence() -> None:
    full = NextNode(node="gpu-2", wait_ms=12_340, reason=Reason("waits", "gpu-2 is full"))
    assert next_text(full) == "gpu-2: gpu-2 is full, free in about 12.3 s"
    lost = NextNode(reason=Reason("no_usable_node", "pi-5 is not available"))
    assert next_text(lost) == "nobody: pi-5 is not available"


def test_what_is_in_memory() -> None:
    lines = render(LOADED.loaded, loaded_columns(NOW), Layout(), PIPE)
    assert "".join(f"{line}\n" for line in lines) == PS_TEXT
    assert loaded_summary(LOADED.loaded) == "2 loaded on 2 nodes"
    wide = render(LOADED.loaded, loaded_columns(NOW), Layout(is_wide=True), PIPE)
    assert wide[1].split()[1] == LLAMA.digest[:12]


# Through the program -------------------------------------------------------------------------


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> object:
    for name in ("NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE", "SOLLOLD_KEY", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    with FakeDaemon(answers()).on_tcp() as fake:
        monkeypatch.setenv("SOLLOLD_URL", fake.url)
        yield fake


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["models"], LIST_TEXT),
        (["models", "LLAMA3.1", "--utc"], MODEL_TEXT),
        (["models", "-q", "--filter", "loaded=gpu-2"], "nomic-embed-text:latest\n"),
        (["models", "--no-header", "--columns", "name", "--filter", "next="], "llama3.2:latest\n"),
        (["ps"], PS_TEXT),
        (["ps", "-q", "--sort", "-name"], "qwen2.5:14b\nllama3.1:8b\n"),
        (["logs", "--daemon", "--utc"], LINES_TEXT),
        (
            ["config", "show"],
            CONFIG_TEXT,
        ),
        (
            [
                "config",
                "show",
                "--origin",
                "--filter",
                "key=nodes[0].url,nodes[0].tier",
                "--no-header",
            ],
            NODES_CONFIG_TEXT,
        ),
        (["config", "show", "-q", "--filter", "origin=environment"], "queue.length\n"),
        (["check", "--node", "gpu-1"], "ok\n"),
        (["check", "--node", "gpu-1", "--model", "llama3.1:8b"], "ok\n"),
    ],
)
def test_words(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], args: list[str], text: str
) -> None:
    assert run(args) == 0
    assert capsys.readouterr().out == text
