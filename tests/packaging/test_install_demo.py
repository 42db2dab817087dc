"""install.sh --demo: what it needs is told first; then it works, the second time too."""

from __future__ import annotations

import platform
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.packaging.machine import ROOT, install_env, run, succeed
from tests.stack.http import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="there is no engine for this kind of machine",
    ),
]

_INSTALL = ROOT / "install.sh"
_SHOWN_WITHIN_S = 400.0
_STOPPED_WITHIN_S = 30.0
_MODEL_CACHE = ".cache/sollold/demo"

# A Python that has everything but the library; as `python3` in front of the real one.
_WITHOUT_LIBGOMP = """\
#!/bin/sh
case "$*" in *libgomp*) exit 1;; esac
exit 0
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home."""
    path = tmp_path / "home"
    path.mkdir()
    return path


def test_it_works_the_second_time_too(home: Path, tmp_path: Path) -> None:
    env = install_env(home)

    first = _show(env, tmp_path / "first.log")
    # As if the defaults had changed since, and nobody had edited the file.
    config = home / ".config/sollold/sollold.toml"
    shipped = home / ".local/share/sollold/shipped.toml"
    defaults = config.read_text()
    for path in (config, shipped):
        path.write_text("# the defaults before\n")
    second = _show(env, tmp_path / "second.log")

    assert "Engine and model for the demo" in first
    assert "Engine and model for the demo" not in second
    assert f"brought up to date, nobody had edited it: {config}" in second
    assert config.read_text() == shipped.read_text() == defaults
    for said in (first, second):
        assert said.count("(from demo-") == 2
        assert said.endswith("Stopped.\n")
    assert not (home / ".local/state").exists()
    succeed([_INSTALL, "--uninstall"], env=env)
    assert not (home / _MODEL_CACHE).exists()
    assert not (home / ".local/share/sollold").exists()


def test_a_missing_library_is_told_before_anything_is_made(home: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    # No apt-get and no grep among them: nothing is installed, and the loader's cache is not read.
    for name in ("bash", "dirname", "readlink", "cat", "uname"):
        (tools / name).symlink_to(Path("/usr/bin") / name)
    (tools / "python3").write_text(_WITHOUT_LIBGOMP)
    (tools / "python3").chmod(0o755)

    result = run([_INSTALL, "--demo"], env={"HOME": str(home), "PATH": str(tools)})

    assert result.returncode == 1
    assert "apt-get install --no-install-recommends libgomp1" in result.stdout
    assert not list(home.iterdir())


def test_a_dry_run_names_the_demo(home: Path) -> None:
    said = succeed([_INSTALL, "--demo", "--dry-run"], env=install_env(home))

    assert said.endswith("/.local/share/sollold/venv/bin/sollold demo\n")
    assert not list(home.iterdir())


def test_it_does_not_go_with_uninstall(home: Path) -> None:
    for arguments in (["--demo", "--uninstall"], ["--uninstall", "--demo"]):
        result = run([_INSTALL, *arguments], env=install_env(home))

        assert result.returncode == 1
        assert "do not go together" in result.stdout


def _show(env: Mapping[str, str], log_path: Path) -> str:
    """Run it until everything is shown, stop it as Ctrl-C does; all that it said."""
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            [_INSTALL, "--demo"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_until(
                lambda: "babbles" in log_path.read_text() or process.poll() is not None,
                limit_s=_SHOWN_WITHIN_S,
                failure=log_path.read_text,
            )
            process.send_signal(signal.SIGINT)
            code = process.wait(_STOPPED_WITHIN_S)
        finally:
            process.kill()
    said = log_path.read_text()
    assert code == 0, said
    return said
