"""install.sh with a Python that only pretends: what it keeps, what it replaces, what it leaves."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sollold.ctl.unitfile import unit_text
from tests.packaging.machine import ROOT, install_env, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.packaging]

_INSTALL = ROOT / "install.sh"

# Makes environments of three scripts; the defaults are those of $FAKE.
_PYTHON = """\
#!/bin/bash
case "$*" in
  "-m venv "*)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    printf '#!/bin/sh\\ncase "$*" in *--version*) echo sollold 0;; esac\\n' >"$3/bin/sollold"
    cp "$FAKE/sollolctl" "$3/bin/sollolctl"
    chmod 755 "$3"/bin/*
    ;;
  "-m pip "*) [[ ! -e $FAKE/no_pip ]] ;;
  *share/etc*) echo "$FAKE/defaults.toml" ;;
  */sollolctl*) shift 0; exec "$@" ;;
esac
"""
_SOLLOLCTL = """\
#!/bin/sh
[ -e "$FAKE/broken" ] && exit 127
echo "$*" >>"$FAKE/calls"
case "$*" in *uninstall*) [ ! -e "$FAKE/no_uninstall" ] ;; esac
"""
_SYSTEMCTL = """\
#!/bin/sh
echo "systemctl $*" >>"$FAKE/calls"
case "$*" in *disable*) [ ! -e "$FAKE/no_stop" ] ;; esac
"""
_DEFAULTS = """\
[listen]
#api = "127.0.0.1:11434"
#lan_without_keys = ""
"""


class Place:
    """A home, and the tools that pretend."""

    def __init__(self, tmp_path: Path) -> None:
        self.home, self.fake = tmp_path / "home", tmp_path / "fake"
        self.home.mkdir()
        self.fake.mkdir()
        tools = {"python3": _PYTHON, "systemctl": _SYSTEMCTL, "sollolctl": _SOLLOLCTL}
        for name, text in tools.items():
            (self.fake / name).write_text(text)
            (self.fake / name).chmod(0o755)
        (self.fake / "defaults.toml").write_text(_DEFAULTS)
        self.config = self.home / ".config/sollold/sollold.toml"
        self.data = self.home / ".local/share/sollold"
        self.unit = self.home / ".config/systemd/user/sollold.service"
        env = install_env(self.home)
        self._env = {**env, "FAKE": str(self.fake), "PATH": f"{self.fake}:{env['PATH']}"}

    def set(self, name: str) -> None:
        (self.fake / name).touch()

    def install(self, *args: str, code: int = 0) -> str:
        done = run([_INSTALL, *args], env=self._env)
        assert done.returncode == code, done.stdout
        return done.stdout

    def calls(self) -> list[str]:
        calls = self.fake / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def put_unit(self, more: str = "") -> None:
        text = unit_text(
            "sollold.service", template="[Service]\nExecStart=\n", command="/x", is_system=False
        )
        self.unit.parent.mkdir(parents=True)
        self.unit.write_text(text + more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# The configuration ------------------------------------------------------------------------------


def test_a_file_that_only_this_script_changed_counts_as_unedited(place: Place) -> None:
    place.install("--listen", "127.0.0.1:1111")
    assert 'api = "127.0.0.1:1111"' in place.config.read_text()
    place.install("--listen", "0.0.0.0:2222", "--lan-without-keys")
    assert '\napi = "0.0.0.0:2222"\nlan_without_keys = "anyone' in place.config.read_text()
    place.install("--listen", "127.0.0.1:3333")
    assert '\napi = "127.0.0.1:3333"\n#lan_without_keys' in place.config.read_text()
    # New defaults arrive, and what was asked for stays.
    (place.fake / "defaults.toml").write_text(f"# newer\n{_DEFAULTS}")
    assert "brought up to date" in place.install()
    assert place.config.read_text().startswith("# newer\n[listen]\napi = ")
    assert "kept as it is" in place.install()
    assert not place.config.with_name("sollold.toml.new").exists()


def test_an_edited_file_stays(place: Place) -> None:
    place.install("--listen", "127.0.0.1:1111")
    mine = place.config.read_text() + "# mine\n"
    place.config.write_text(mine)
    said = place.install("--listen", "127.0.0.1:2222", code=1)
    assert "is edited and stays as it is. Write there" in said
    assert place.config.read_text() == mine


def test_defaults_that_were_put_back_stay(place: Place) -> None:
    place.install("--listen", "127.0.0.1:1111")
    place.config.write_text(_DEFAULTS)
    place.install()
    assert place.config.read_text() == _DEFAULTS


def test_the_mode_of_the_file_stays(place: Place) -> None:
    place.install()
    place.config.chmod(0o600)
    place.install("--listen", "127.0.0.1:1111")
    assert place.config.stat().st_mode & 0o777 == 0o600
    (place.fake / "defaults.toml").write_text(f"# newer\n{_DEFAULTS}")
    place.install()
    assert place.config.read_text().startswith("# newer")
    assert place.config.stat().st_mode & 0o777 == 0o600


def test_a_link_is_never_replaced(place: Place) -> None:
    kept = place.home / "dotfiles.toml"
    kept.write_text(_DEFAULTS)
    place.config.parent.mkdir(parents=True)
    place.config.symlink_to(kept)
    said = place.install("--listen", "127.0.0.1:1111", code=1)
    assert "is a link and stays as it is" in said
    assert place.config.readlink() == kept
    assert kept.read_text() == _DEFAULTS


# Environments -----------------------------------------------------------------------------------


def old_layout(place: Place) -> Path:
    """An environment as it was when it was no link."""
    venv = place.data / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "old").write_text("")
    return venv


def test_an_older_layout_stays_until_the_new_environment_is_complete(place: Place) -> None:
    venv = old_layout(place)
    place.set("no_pip")
    place.install(code=1)
    assert (venv / "bin" / "old").exists()
    assert not venv.is_symlink()
    assert list((place.data / "venvs").iterdir()) == []
    (place.fake / "no_pip").unlink()
    place.install()
    assert venv.is_symlink()
    assert [path.name for path in (place.data / "venvs").iterdir()] == [venv.readlink().name]


def test_an_older_layout_comes_back_when_the_exchange_fails(place: Place) -> None:
    venv = old_layout(place)
    # The link is made, the directory moved, and then the link cannot take its place.
    mv = place.fake / "mv"
    mv.write_text('#!/bin/sh\ncase "$*" in *venv.new*) exit 1 ;; esac\nexec /bin/mv "$@"\n')
    mv.chmod(0o755)
    place.install(code=1)
    assert (venv / "bin" / "old").exists()
    assert not venv.is_symlink()


def test_an_older_layout_that_runs_keeps_its_files(place: Place) -> None:
    venv = old_layout(place)
    code = "print(1, flush=True); input()"
    argv = [sys.executable, "-c", code, f"{venv.resolve()}/bin/old"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            said = place.install(code=1)
        finally:
            process.kill()
    assert f"pid {process.pid}" in said
    assert "Stop it, then run this again" in said
    assert (venv / "bin" / "old").exists()


# Uninstalling -----------------------------------------------------------------------------------


def test_a_service_that_cannot_be_removed_keeps_its_environment(place: Place) -> None:
    place.install()
    place.put_unit()
    place.set("no_uninstall")
    said = place.install("--uninstall", code=1)
    assert "the service could not be removed" in said
    assert "Uninstalled." not in said
    assert place.unit.exists()
    assert (place.data / "venv/bin/sollold").exists()
    assert (place.home / ".local/bin/sollold").exists()


def test_a_broken_environment_leaves_an_edited_unit_and_itself(place: Place) -> None:
    place.install()
    place.put_unit("# mine\n")
    place.set("broken")
    said = place.install("--uninstall", code=1)
    assert f"{place.unit} is not as it was written and stays" in said
    assert place.unit.read_text().endswith("# mine\n")
    assert (place.data / "venv").exists()


def test_a_broken_environment_still_lets_the_service_be_removed(place: Place) -> None:
    place.install()
    place.put_unit()
    place.set("broken")
    assert "Uninstalled." in place.install("--uninstall")
    assert "systemctl --user disable --now sollold.service" in place.calls()
    assert not place.unit.exists()
    assert not place.data.exists()


def test_a_broken_environment_stays_while_its_service_cannot_be_stopped(place: Place) -> None:
    place.install()
    place.put_unit()
    place.set("broken")
    place.set("no_stop")
    assert "could not be stopped" in place.install("--uninstall", code=1)
    assert place.unit.exists()
    assert (place.data / "venv").exists()


def test_uninstalling_waits_for_no_installation_and_disturbs_none(place: Place) -> None:
    place.install()
    with subprocess.Popen(
        ["flock", str(place.data), "sh", "-c", "echo; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        said = place.install("--uninstall", code=1)
        assert holder.stdin is not None
        holder.stdin.close()
    assert "another install.sh is at work" in said
    assert (place.data / "venv").exists()
