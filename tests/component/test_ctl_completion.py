"""The Tab key in real shells, as far as they are installed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from tests.component.terminal import SOLLOLCTL
from tests.unit.ctl.canned import answers
from tests.unit.ctl.fake_daemon import FakeDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASH = r"""
source "$SCRIPT"
complete_line() {
  read -ra COMP_WORDS <<< "$1"
  [[ $1 == *' ' ]] && COMP_WORDS+=("")
  COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
  COMP_LINE=$1 COMP_POINT=${#1}
  COMPREPLY=()
  _sollolctl_completion sollolctl "${COMP_WORDS[COMP_CWORD]}" ""
  printf '%s\n' "${COMPREPLY[@]}"
}
complete_line "$LINE"
"""
FISH = 'source $SCRIPT; complete --do-complete "$LINE"'
# zsh completes at a prompt only: its own pseudo-terminal types the line and presses Tab.
ZSH = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PROMPT='' ; PATH=$PATH ; SOLLOLD_URL=$SOLLOLD_URL ; export SOLLOLD_URL PATH"
zpty -w z "autoload -U compinit; compinit -u -d $HOME/dump; source $SCRIPT"
zpty -w z "bindkey '^I' complete-word"
zpty -w z "compdef _sollolctl_completion sollolctl; print REA''DY"
until [[ $seen == *READY* ]]; do zpty -r z chunk || break; seen+=$chunk; done
zpty -w -n z "$LINE"$'\t'
seen=
while zpty -r -m z chunk $EXPECTED; do seen+=$chunk; [[ $seen == ${~EXPECTED} ]] && break; done
print -r -- "$seen"
zpty -d z
"""


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    # A path of a socket is short, and pytest's directories are not.
    with (
        tempfile.TemporaryDirectory() as directory,
        FakeDaemon(answers()).on_socket(f"{directory}/s") as fake,
    ):
        yield fake


@pytest.fixture
def environ(tmp_path: Path, daemon: FakeDaemon) -> dict[str, str]:
    """An environment in which `sollolctl` is a command."""
    program = tmp_path / "bin" / "sollolctl"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom sollold.ctl.main import main\nmain()\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    root = os.environ.get("PYTHONPATH") or os.getcwd()
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": root,
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm",
        "SOLLOLD_URL": daemon.url,
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
    }


def completed(shell: str, program: str, line: str, environ: dict[str, str], **more: str) -> str:
    """What the shell offers for a line."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    made = subprocess.run(
        [*SOLLOLCTL, "completion", shell],
        env=os.environ | environ,
        capture_output=True,
        timeout=30,
        check=True,
    )
    script = f"{environ['HOME']}/script"
    with open(script, "wb") as file:
        file.write(made.stdout)
    result = subprocess.run(
        [shell, "-c", program],
        env=environ | {"SCRIPT": script, "LINE": line, **more},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sollolctl sta", ["status"]),
        ("sollolctl nodes gp", ["gpu-1", "gpu-2"]),
        ("sollolctl models llama3.2", ["llama3.2:latest"]),
        ("sollolctl check --node pi", ["pi-5"]),
        ("sollolctl logs --request r-7f40", ["r-7f40"]),
        ("sollolctl config ", ["check", "show"]),
        ("sollolctl nodes --wat", ["--watch"]),
    ],
)
def test_bash(environ: dict[str, str], line: str, offered: list[str]) -> None:
    assert sorted(completed("bash", BASH, line, environ).split()) == offered


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sollolctl sta", "<sollolctl><status>"),
        ("sollolctl models llama3.2", "<sollolctl><models><llama3.2:latest>"),
        ("sollolctl models llama3.2:", "<sollolctl><models><llama3.2:latest>"),
        ("sollolctl models llama3.2:la", "<sollolctl><models><llama3.2:latest>"),
        ("sollolctl check --model llama3.2:la", "<sollolctl><check><--model><llama3.2:latest>"),
        ("sollolctl logs --model a:b --node pi", "<sollolctl><logs><--model><a:b><--node><pi-5>"),
        ("sollolctl nodes gp", "<sollolctl><nodes><gpu->"),
        ("sollolctl models none:", "<sollolctl><models><none:>"),
    ],
)
def test_bash_at_its_prompt(environ: dict[str, str], line: str, words: str) -> None:
    completed("bash", "true", "", environ)
    argv = ["bash", "--norc", "--noprofile", "-i"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, environ | {"PS1": "> "})
    try:
        os.write(terminal, f"source {environ['HOME']}/script; echo REA''DY\n".encode())
        assert "READY" in read_until(terminal, "READY")
        # Tab, then Ctrl-A: what became of the line is printed word by word.
        os.write(terminal, line.encode() + b"\t\x01printf '<%s>' \x05\n")
        os.write(terminal, b"echo ' EN''D'\n")
        assert words in read_until(terminal, " END")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def read_until(terminal: int, end: str) -> str:
    """What a terminal shows up to a text, or within 20 s."""
    shown, end_s = "", time.monotonic() + 20
    while end not in shown and time.monotonic() < end_s:
        if select.select([terminal], [], [], 0.5)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sollolctl sta", ["status"]),
        ("sollolctl nodes gp", ["gpu-1\tup", "gpu-2\tslow"]),
        ("sollolctl models llama3.2", ["llama3.2:latest\ton pi-5"]),
    ],
)
def test_fish_with_descriptions(environ: dict[str, str], line: str, offered: list[str]) -> None:
    shown = completed("fish", FISH, line, environ).splitlines()
    assert [item for item in shown if item.startswith(tuple(offered))] == shown
    assert len(shown) == len(offered)


@pytest.mark.parametrize(
    ("line", "expected"), [("sollolctl sta", "*status*"), ("sollolctl nodes pi", "*pi-5*")]
)
def test_zsh_at_its_prompt(environ: dict[str, str], line: str, expected: str) -> None:
    assert expected.strip("*") in completed("zsh", ZSH, line, environ, EXPECTED=expected)


def test_a_daemon_that_is_gone_offers_nothing_and_says_nothing(environ: dict[str, str]) -> None:
    gone = environ | {"SOLLOLD_URL": "unix:/nowhere/s"}
    assert completed("bash", BASH, "sollolctl nodes g", gone).strip() == ""


def test_powershell_has_what_it_needs(environ: dict[str, str]) -> None:
    """PowerShell itself is not to be had here; what its script asks for is answered."""
    script = subprocess.run(
        [*SOLLOLCTL, "completion", "powershell"],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert "Register-ArgumentCompleter -Native -CommandName sollolctl" in script
    assert "$env:_SOLLOLCTL_COMPLETE = 'powershell_complete'" in script
    asked = {
        "_SOLLOLCTL_COMPLETE": "powershell_complete",
        "COMP_WORDS": "sollolctl nodes gpu-2",
        "COMP_CWORD": "2",
    }
    result = subprocess.run(
        SOLLOLCTL,
        env=os.environ | environ | asked,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.stdout.split() == ["plain", "gpu-2", "slow"]
