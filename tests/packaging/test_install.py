"""install.sh in an empty home: twice is as once, and it leaves as it came."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sollold import __version__
from tests.packaging.machine import ROOT, empty_home_env, install_env, run, succeed

if TYPE_CHECKING:
    from tests.packaging.conftest import Built

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

_INSTALL = ROOT / "install.sh"
_CONFIG = ".config/sollold/sollold.toml"
_COMMANDS = ("sollold", "sollolctl")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home."""
    path = tmp_path / "home"
    path.mkdir()
    return path


def test_install_update_repair_and_uninstall(home: Path, built: Built) -> None:
    env = install_env(home)
    own_config = "# mine\n"

    first = succeed([_INSTALL], env=env)
    assert f"{home}/.local/bin is not on your PATH" in first
    assert (home / _CONFIG).read_text() == (ROOT / "etc" / "sollold.toml").read_text()
    files = _files(home)
    (home / _CONFIG).write_text(own_config)

    succeed([_INSTALL], env=env)
    assert _files(home) == files
    _assert_commands_work(home, env)

    _lose_python(home / ".local/share/sollold/venv")
    with_bin = {**env, "PATH": f"{home}/.local/bin:{env['PATH']}"}
    assert "PATH" not in succeed([_INSTALL, built.wheel], env=with_bin)
    assert _files(home) == files
    assert (home / _CONFIG).read_text() == own_config
    _assert_commands_work(home, env)

    for _ in range(2):
        succeed([_INSTALL, "--uninstall"], env=env)
        assert _files(home) == {_CONFIG}
    assert (home / _CONFIG).read_text() == own_config


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
        str(path.relative_to(home))
        for path in home.rglob("*")
        if not path.is_dir() and not {"__pycache__", ".rustup"} & set(path.parts)
    }
