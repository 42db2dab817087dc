from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import pytest
from msgspec.structs import replace

from sollold.api_types import NodesDocument, encode
from sollold.ctl.complete import model_names, node_names, request_ids
from tests.unit.ctl.documents import AT, GPU_2, MODELS, NODES, REQUESTS
from tests.unit.ctl.fake_daemon import Answer, FakeDaemon

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT = click.Context(click.Command("nodes"))
PARAM = click.Argument(["node"])


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("SOLLOLD_URL", raising=False)
    (tmp_path / "sollold").mkdir()
    return tmp_path / "sollold" / "control.sock"


def serve(answers: dict[str, Answer]) -> FakeDaemon:
    return FakeDaemon(
        {
            "/api/v1/nodes": Answer(encode(NODES)),
            "/api/v1/models": Answer(encode(MODELS)),
            "/api/v1/requests": Answer(encode(REQUESTS)),
        }
        | answers
    )


def test_nodes_come_with_their_state(runtime: Path) -> None:
    with serve({}).on_socket(str(runtime)):
        items = node_names(CONTEXT, PARAM, "gpu")
    assert [(item.value, item.help) for item in items] == [("gpu-1", "up"), ("gpu-2", "slow")]


def test_models_come_with_their_nodes(runtime: Path) -> None:
    with serve({}).on_socket(str(runtime)):
        items = model_names(CONTEXT, PARAM, "n")
    assert [(item.value, item.help) for item in items] == [("nomic-embed-text:latest", "on gpu-2")]


def test_requests_come_with_their_model(runtime: Path) -> None:
    with serve({}).on_socket(str(runtime)):
        items = request_ids(CONTEXT, PARAM, "r-7f4")
    assert [(item.value, item.help) for item in items] == [
        ("r-7f40", "qwen2.5:14b"),
        ("r-7f43", "nomic-embed-text"),
    ]


def test_the_daemon_named_in_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({}).on_tcp() as daemon:
        monkeypatch.setenv("SOLLOLD_URL", daemon.url)
        assert len(node_names(CONTEXT, PARAM, "")) == 6


def test_names_a_shell_could_run_are_not_offered(runtime: Path) -> None:
    names = ["ok-1", "$(reboot)", "a b", "x\ny", "`id`", "a;b", "-q\u202e", "host:11434"]
    nodes = tuple(replace(GPU_2, name=name, state="up\x1b") for name in names)
    hostile = Answer(encode(NodesDocument(at=AT, nodes=nodes)))
    with serve({"/api/v1/nodes": hostile}).on_socket(str(runtime)):
        items = node_names(CONTEXT, PARAM, "")
    assert [item.value for item in items] == ["host:11434", "ok-1"]
    assert all("\x1b" not in (item.help or "") for item in items)


def test_without_a_daemon_there_is_nothing(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for complete in (node_names, model_names, request_ids):
        assert complete(CONTEXT, PARAM, "") == []
    monkeypatch.setenv("SOLLOLD_URL", "nonsense://")
    assert node_names(CONTEXT, PARAM, "") == []


def test_a_hanging_daemon_is_given_up_soon(runtime: Path) -> None:
    silent = serve({"/api/v1/nodes": Answer(is_silent=True)})
    with silent.on_socket(str(runtime)):
        begin_s = time.monotonic()
        assert node_names(CONTEXT, PARAM, "") == []
        assert time.monotonic() - begin_s < 5
        silent.stopping.set()
