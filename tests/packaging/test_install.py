"""install.sh in an empty home: twice is as once, and it leaves as it came."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sollold import __version__
from tests.fakes.look import Client, ask
from tests.fakes.program import FakeNodeProcess
from tests.packaging.machine import ROOT, empty_home_env, install_env, run, succeed
from tests.process.support import chat
from tests.stack.http import answers, wait_until
from tests.stack.ports import free_port
from tests.stack.processes import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.packaging.conftest import Built

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

_INSTALL = ROOT / "install.sh"
_CONFIG = ".config/sollold/sollold.toml"
_VENV = ".local/share/sollold/venv"
_COMMANDS = ("sollold", "sollolctl")
_SHIPPED = ".local/share/sollold/shipped.toml"
_OWN_CONFIG = "# mine\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home."""
    path = tmp_path / "home"
    path.mkdir()
    return path


def test_install_update_repair_and_uninstall(home: Path, tmp_path: Path, built: Built) -> None:
    env = install_env(home)
    shown = ["--rate", "20", "--answer-tokens", "100", "--slots", "8"]

    with FakeNodeProcess(*shown) as node:
        listen = ["--listen", f"127.0.0.1:{node.port}"]
        first = succeed([_INSTALL, *listen], env=env)
        _assert_the_first_run_told_everything(home, first, node.port)
        files = _files(home)
        update: list[str | Path] = [built.wheel, *listen]
        _assert_an_update_leaves_a_running_daemon_alone(home, tmp_path, env, node, update)

    assert _files(home) == files
    (home / _CONFIG).write_text(_OWN_CONFIG)
    (home / _SHIPPED).write_text("# the defaults before\n")
    _lose_python(home / _VENV)
    with_bin = {**env, "PATH": f"{home}/.local/bin:{env['PATH']}"}
    third = succeed([_INSTALL, built.wheel], env=with_bin)
    assert "PATH" not in third
    assert "still runs" not in third
    assert f"the new file is beside it: {home / _CONFIG}.new" in third
    assert (home / f"{_CONFIG}.new").read_text() == (home / _SHIPPED).read_text()
    assert _files(home) == {*files, f"{_CONFIG}.new"}
    assert len(list((home / _VENV).parent.glob("venvs/*"))) == 1
    assert (home / _CONFIG).read_text() == _OWN_CONFIG
    _assert_commands_work(home, env)

    for _ in range(2):
        succeed([_INSTALL, "--uninstall"], env=env)
        assert _files(home) == {_CONFIG}
    assert (home / _CONFIG).read_text() == _OWN_CONFIG


def _assert_the_first_run_told_everything(home: Path, said: str, port: int) -> None:
    assert f"{home}/.local/bin is not on your PATH" in said
    config = (home / _CONFIG).read_text()
    shipped = (ROOT / "etc" / "sollold.toml").read_text()
    assert config == shipped.replace('#api = "127.0.0.1:11434"', f'api = "127.0.0.1:{port}"')
    # A node of the tests is no service: how to move it is shown, and nothing is moved.
    assert f"Port {port} is taken by an Ollama." in said
    assert "so that Ollama has to move to another port:" in said
    assert "OLLAMA_HOST=127.0.0.1:114" in said


def _assert_an_update_leaves_a_running_daemon_alone(
    home: Path, tmp_path: Path, env: dict[str, str], node: FakeNodeProcess, update: list[str | Path]
) -> None:
    """A stream is open and its node silent while install.sh runs; all of it arrives."""
    before = (home / _VENV).resolve()
    inodes = _inodes(before)
    with _daemon(home, tmp_path, env, node) as (daemon, url), Client(url, 60) as client:
        client.send("POST", "/api/chat", chat(stream=True))
        client.wait()
        node.freeze()

        second = succeed([_INSTALL, *update], env=env)

        assert f'The configuration says it already: api = "{update[-1]}"' in second
        assert "The sollold installed before still runs, undisturbed" in second
        assert str(daemon.pid) in second
        assert (home / _VENV).resolve() != before
        assert _inodes(before) == inodes
        for path in ("/", "/api/tags", "/api/v1/status", "/api/v1/nodes", "/metrics", "/nowhere"):
            assert ask(url, "GET", path).status == (404 if path == "/nowhere" else 200)
        node.thaw()
        assert len(client.receive("POST").lines()) == 101
        wait_until(
            lambda: ask(url, "POST", "/v1/chat/completions", chat(stream=False)).status == 200,
            limit_s=60,
            failure=lambda: "no answer after the node was silent",
        )
        _assert_commands_work(home, env)
        assert daemon.terminate(grace_s=40) == 0


@contextlib.contextmanager
def _daemon(
    home: Path, tmp_path: Path, env: dict[str, str], node: FakeNodeProcess
) -> Iterator[tuple[ProcessGroup, str]]:
    """What was installed, started as people start it."""
    url = f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="sollold-") as runtime:
        settings = {
            "XDG_RUNTIME_DIR": runtime,
            "SOLLOLD_FAILOVER__FROZEN_IDLE_S": "600",
            "SOLLOLD_DISCOVERY__ENABLED": "false",
        }
        command = home / ".local/bin/sollold"
        argv: list[str | Path] = [command, "--listen", url.removeprefix("http://")]
        log = tmp_path / "daemon.log"
        group = ProcessGroup(
            [*argv, "--console", "127.0.0.1:0", "--node", node.url],
            env={**env, **settings},
            log_path=log,
        )
        try:
            wait_until(lambda: answers(f"{url}/api/version"), limit_s=30, failure=log.read_text)
            yield group, url
        finally:
            group.kill()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "0.0.0.0"], "./install.sh --listen 0.0.0.0:11434 --lan-without-keys"),
        (["--listen=192.168.1.5:80"], "--listen 192.168.1.5:80 --lan-without-keys"),
        (["--listen", "[::]"], "--listen [::]:11434 --lan-without-keys"),
        (["--listen", "::1"], "write HOST:PORT, IPv6 in brackets"),
        (["--listen", "a b"], "is no address"),
        (["--listen"], "--listen needs an address"),
        (["--lan-without-keys"], "goes with --listen ADDR"),
        (["--uninstall", "--listen", "127.0.0.1"], "--listen does not go with --uninstall"),
        (["--demo", "--start"], "--start does not go with --demo"),
        (["--socket", "--listen", "[::1]"], "--socket holds 127.0.0.1:11434"),
        (["--no-service", "--restart"], "--start and --restart need the service"),
    ],
)
def test_options_that_cannot_be_followed(home: Path, arguments: list[str], words: str) -> None:
    result = run([_INSTALL, *arguments], env=install_env(home))

    assert result.returncode == 1
    assert words in result.stdout
    assert not _files(home)


def test_a_person_is_asked_before_anyone_may_use_it(home: Path) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [_INSTALL, "--listen", "0.0.0.0"],
        env=install_env(home),
        stdin=follower,
        stdout=follower,
        stderr=subprocess.STDOUT,
    ) as process:
        os.close(follower)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(leader, 4096)
        os.write(leader, b"n\n")
        assert process.wait(30) == 1
    os.close(leader)

    assert b"whoever reaches 0.0.0.0:11434 may use every model on every node" in said
    assert not _files(home)


def test_xdg_directories_are_honoured(home: Path, tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "config"
    env = {
        **install_env(home),
        "XDG_DATA_HOME": str(data),
        "XDG_CONFIG_HOME": str(config),
    }

    said = succeed([_INSTALL, "--dry-run"], env=env)

    assert f"{data}/sollold/venv" in said
    assert f"{config}/sollold/sollold.toml" in said


def test_a_dry_run_changes_nothing(home: Path) -> None:
    env = install_env(home)

    said = succeed([_INSTALL, "--dry-run"], env=env)
    succeed([_INSTALL, "--dry-run", "--uninstall"], env=env)

    assert "would run: python3 -m venv" in said
    assert not _files(home)


def test_commands_go_where_the_shell_looks_for_them(home: Path) -> None:
    env = empty_home_env(home)
    folder = "/usr/local/bin" if os.geteuid() == 0 else f"{home}/.local/bin"

    # Where this machine has a sollold of its own there, that one is named and left alone.
    assert f"{folder}/sollold" in run([_INSTALL, "--dry-run"], env=env).stdout


def test_a_strange_command_of_that_name_is_kept(home: Path) -> None:
    strange = home / ".local" / "bin" / "sollold"
    strange.parent.mkdir(parents=True)
    strange.write_text("#!/bin/sh\n")

    result = run([_INSTALL], env=install_env(home))

    assert result.returncode == 1
    assert f"{strange} exists" in result.stdout
    assert _files(home) == {".local/bin/sollold"}
    succeed([_INSTALL, "--uninstall"], env=install_env(home))
    assert _files(home) == {".local/bin/sollold"}


@pytest.mark.parametrize(
    ("python", "advice"),
    [
        (None, "apt install python3 python3-venv"),
        ("too old", "needs Python 3.11 or later"),
        ("no venv", "apt install python3-venv"),
    ],
)
def test_an_unfit_python_is_told_before_anything_is_made(
    home: Path, tmp_path: Path, python: str | None, advice: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "readlink", "cat"):
        (tools / name).symlink_to(Path("/usr/bin") / name)
    if python is not None:
        _write_unfit_python(tools / "python3", python)

    result = run([_INSTALL], env={"HOME": str(home), "PATH": str(tools)})

    assert result.returncode == 1
    assert advice in result.stdout
    assert not _files(home)


def test_what_is_not_a_distribution_is_refused(home: Path, tmp_path: Path) -> None:
    stray = tmp_path / "notes.txt"
    stray.touch()

    for argument in (str(stray), str(tmp_path / "absent.whl"), "--typo"):
        result = run([_INSTALL, argument], env=install_env(home))

        assert result.returncode == 1
        assert "install.sh: " in result.stdout
    assert not _files(home)


def _write_unfit_python(path: Path, fault: str) -> None:
    refused = "version_info" if fault == "too old" else "ensurepip"
    path.write_text(
        f'#!/bin/sh\ncase "$*" in *{refused}*) exit 1;; *--version*) echo Python 3.9.2;; esac\n'
    )
    path.chmod(0o755)


def _lose_python(venv: Path) -> None:
    """Leave the environment as an upgrade of the system's Python does."""
    for link in venv.glob("bin/python*"):
        link.unlink()
        link.symlink_to("/nowhere/python3")


def _assert_commands_work(home: Path, env: dict[str, str]) -> None:
    for command in _COMMANDS:
        said = succeed([home / ".local" / "bin" / command, "--version"], env=env, cwd=home)
        assert __version__ in said


def _files(home: Path) -> set[str]:
    """Every file of a home but those that others write on their own.

    Python compiles; pip asks for the version of a Rust compiler, and rustup then settles in.
    """
    return {
        re.sub(r"/venvs/[0-9]+/", "/venvs/N/", str(path.relative_to(home)))
        for path in home.rglob("*")
        if not path.is_dir() and not {"__pycache__", ".rustup"} & set(path.parts)
    }


def _inodes(folder: Path) -> dict[str, int]:
    """Which file each path leads to; an update in place would write others."""
    return {
        str(path): path.stat().st_ino
        for path in folder.rglob("*")
        if not path.is_dir() and "__pycache__" not in path.parts
    }
