"""How the children are started."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sollold.config import LoadArgs, load
from sollold.demo.settings import (
    EngineNode,
    daemon_config,
    engine_argv,
    own_environment,
    threads_for,
)

_NODES = (EngineNode("demo-1", 11441), EngineNode("demo-2", 11442))


def test_the_daemon_takes_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "sollold.toml"
    path.write_text(daemon_config(11435, 8081, _NODES))

    args = LoadArgs(files=(), config=path, environ={})
    config = load(args).config

    assert config.listen.api_addresses() == (("127.0.0.1", 11435),)
    assert config.listen.console_addresses() == (("127.0.0.1", 8081),)
    assert not config.discovery.enabled
    assert [(node.name, node.kind, node.url) for node in config.nodes] == [
        ("demo-1", "llama_server", "http://127.0.0.1:11441"),
        ("demo-2", "llama_server", "http://127.0.0.1:11442"),
    ]


def test_an_engine_is_bounded_and_stays_on_this_machine() -> None:
    argv = engine_argv(Path("/x/llama-server"), Path("/y/m.gguf"), _NODES[1], 3)

    options = dict(itertools.pairwise(argv))
    assert argv[0] == "/x/llama-server"
    assert options["--model"] == "/y/m.gguf"
    assert (options["--host"], options["--port"]) == ("127.0.0.1", "11442")
    assert options["--alias"] == "tiny"
    assert options["--threads"] == "3"
    assert int(options["--predict"]) > 0
    assert "--offline" in argv


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (64, 4)])
def test_two_engines_share_the_cores(cores: int, threads: int) -> None:
    assert threads_for(cores) == threads


def test_the_environment_has_nothing_of_an_installed_daemon(tmp_path: Path) -> None:
    foreign = {
        "OLLAMA_HOST": "x",
        "SOLLOLD_LISTEN__API": "x",
        "SOLLOL_REDIS_URL": "x",
        "LLAMA_ARG_PORT": "x",
        "NOTIFY_SOCKET": "x",
        "RUNTIME_DIRECTORY": "/run/sollold",
        "XDG_STATE_HOME": "/home/me/state",
    }

    env = own_environment(foreign | {"PATH": "/bin", "HOME": "/home/me"}, tmp_path)

    assert env == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }
