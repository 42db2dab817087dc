"""Ollama's own command works against the daemon as it does against Ollama."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.real.daemons import running_daemon, wait_for_nodes
from tests.stack.http import get_json, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack.daemon import DaemonProcess
    from tests.stack.ollama import OllamaServer
    from tests.stack.parts import Parts

pytestmark = pytest.mark.real

_LIMIT_S = 40.0
_STORE = re.compile(r"^FROM /.*/blobs/", re.MULTILINE)


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    error: str

    def rows(self) -> list[list[str]]:
        """The cells of a printed table, the heading first."""
        return [re.split(r" {2,}", line.strip()) for line in self.out.splitlines()]


class Command:
    """Runs `ollama` against one server."""

    def __init__(self, parts: Parts, home: Path, url: str) -> None:
        self._ollama = parts.ollama
        path = os.environ.get("PATH", os.defpath)
        self._env = {"HOME": str(home), "PATH": path, "OLLAMA_HOST": url, "TERM": "dumb"}

    def __call__(self, *arguments: str, text: str | None = None) -> Said:
        """Run to the end; `text` comes through a pipe."""
        done = subprocess.run(
            [str(self._ollama), *arguments],
            env=self._env,
            input=text or "",
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def _daemon(
    _session_nodes: tuple[OllamaServer, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path_factory.mktemp("cli") / "daemon", _session_nodes) as daemon:
        yield daemon


@pytest.fixture
def daemon(_daemon: DaemonProcess, ollama_nodes: tuple[OllamaServer, ...]) -> DaemonProcess:
    """A daemon over three nodes, all of them up."""
    wait_for_nodes(_daemon, len(ollama_nodes))
    return _daemon


@pytest.fixture
def run(parts: Parts, daemon: DaemonProcess, tmp_path: Path) -> Command:
    """The command, pointed at the daemon."""
    return Command(parts, tmp_path, daemon.api_url)


@pytest.fixture
def direct(parts: Parts, ollama_nodes: tuple[OllamaServer, ...], tmp_path: Path) -> Command:
    """The command, pointed at a node."""
    return Command(parts, tmp_path, ollama_nodes[0].url)


def test_version(run: Command, direct: Command) -> None:
    assert run("--version") == direct("--version")


def test_list(run: Command, direct: Command) -> None:
    shown, expected = run("list"), direct("list")

    assert (shown.code, shown.error) == (0, "")
    assert shown.rows()[0] == ["NAME", "ID", "SIZE", "MODIFIED"]
    # In a fresh store all models are of one age.
    assert sorted(row[:3] for row in shown.rows()) == sorted(row[:3] for row in expected.rows())


def test_run_once(run: Command) -> None:
    said = run("run", "tiny:short", "The sea")

    assert said.code == 0
    assert said.out.strip()
    assert "Error" not in said.error


def test_run_tells_its_figures(run: Command) -> None:
    said = run("run", "--verbose", "--keepalive", "10m", "tiny:short", "The sea")

    assert said.code == 0
    assert re.search(r"eval count: +8 token", said.error)


def test_run_reads_a_pipe(run: Command) -> None:
    said = run("run", "--format", "json", "tiny:short", text="The sea")

    assert said.code == 0
    assert said.out.strip().startswith(("{", "["))


def test_run_embeds(run: Command) -> None:
    said = run("run", "tiny-embed", "The sea")

    assert said.code == 0
    assert len(json.loads(said.out)) == 640


def test_run_of_an_unknown_model_fails(run: Command, direct: Command) -> None:
    said, expected = run("run", "nope", "hi"), direct("run", "nope", "hi")

    assert (said.code, said.out) == (expected.code, expected.out) == (1, "")
    assert "Error: " in said.error


def test_ps_lists_what_was_run(run: Command, daemon: DaemonProcess) -> None:
    run("run", "tiny", "hi")

    said = run("ps")
    assert said.code == 0
    heading, *rows = said.rows()
    assert heading == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    digests = {
        model["name"]: model["digest"] for model in get_json(f"{daemon.api_url}/api/tags")["models"]
    }
    # Models that share weights share a runner, listed by the name that loaded it.
    assert {"tiny:latest", "tiny:short"} & {name for name, *_ in rows}
    assert all(digests[name].startswith(digest) for name, digest, *_ in rows)


@pytest.mark.parametrize(
    "arguments",
    [
        ["tiny"],
        ["tiny-tools"],
        ["TINY:short"],
        ["--template", "tiny-think"],
        ["--parameters", "tiny"],
        ["--modelfile", "tiny"],
        ["-v", "tiny-embed"],
        ["nope"],
        ["a/b/c/d"],
    ],
    ids=" ".join,
)
def test_show(arguments: list[str], run: Command, direct: Command) -> None:
    said, expected = run("show", *arguments), direct("show", *arguments)

    assert (said.code, said.error) == (expected.code, expected.error)
    assert _lines(said.out) == _lines(expected.out)


def _lines(text: str) -> list[str]:
    """What is shown, apart from where a node has its files; parameters come in any order."""
    return sorted(_STORE.sub("FROM ", text).splitlines())


def test_stop(run: Command, ollama_nodes: tuple[OllamaServer, ...]) -> None:
    for node in ollama_nodes:
        node.load("tiny")
    loaded = [f"{node.url}/api/ps" for node in ollama_nodes]
    assert all(_names(url) for url in loaded)

    assert run("stop", "tiny").code == 0

    wait_until(
        lambda: not any("tiny:latest" in _names(url) for url in loaded),
        limit_s=10,
        failure=lambda: f"still loaded: {[_names(url) for url in loaded]}",
    )


def _names(url: str) -> list[str]:
    models: list[dict[str, Any]] = get_json(url)["models"]
    return [model["name"] for model in models]


def test_stop_of_an_unknown_model(run: Command, direct: Command) -> None:
    said, expected = run("stop", "nope"), direct("stop", "nope")

    assert said.code == expected.code == 1
    message = 'Error: couldn\'t find model "nope" to stop'
    assert message in said.error
    assert message in expected.error


def test_a_lost_node_is_not_noticed(run: Command, ollama_nodes: tuple[OllamaServer, ...]) -> None:
    ollama_nodes[0].kill()

    for arguments in (["list"], ["ps"], ["show", "tiny"], ["run", "tiny:short", "hi"]):
        assert run(*arguments).code == 0
