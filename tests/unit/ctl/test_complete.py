from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
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


def test_the_socket_named_in_the_environment_is_asked(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve({}).on_socket(str(tmp_path / "s")) as daemon:
        monkeypatch.setenv("SOLLOLD_URL", daemon.url)
        monkeypatch.setenv("SOLLOLD_KEY", "secret")
        assert len(node_names(CONTEXT, PARAM, "")) == 6
    assert daemon.keys == ["Bearer secret"]


def test_over_the_network_nobody_is_asked(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({}).on_tcp() as daemon, serve({}).on_socket(str(runtime)) as other:
        monkeypatch.setenv("SOLLOLD_URL", daemon.url)
        assert node_names(CONTEXT, PARAM, "") == []
        assert (daemon.asked, other.asked) == ([], [])


def test_a_daemon_that_answers_drop_by_drop_is_given_up(runtime: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime))
        listener.listen()
        is_over = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                while not is_over.wait(0.05):
                    connection.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        begin_s = time.monotonic()
        assert node_names(CONTEXT, PARAM, "") == []
        assert time.monotonic() - begin_s < 5
        is_over.set()
        thread.join()


def test_a_tab_press_loads_click_and_the_standard_library_only(runtime: Path) -> None:
    code = (
        "import sys, click; from click.shell_completion import ShellComplete\n"
        "from sollold.ctl.main import cli\n"
        "found = ShellComplete(cli, {}, 'x', 'y').get_completions(['models'], '')\n"
        "print(len(found), [name for name in sys.modules if name.startswith('msgspec')])"
    )
    with serve({}).on_socket(str(runtime)):
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.strip() == f"{len(MODELS.models)} []", shown.stderr


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
