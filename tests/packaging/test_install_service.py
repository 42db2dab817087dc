"""install.sh and systemd: a service of the user, one of the machine, an Ollama in the way.

A stand-in for systemctl notes what it is asked; the tests of the layer `systemd` have the real one.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes.program import FakeNodeProcess
from tests.packaging.machine import ROOT, install_env, run, succeed
from tests.process.support import until
from tests.stack.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.packaging.conftest import Built

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

_INSTALL = ROOT / "install.sh"
_UNIT = ".config/systemd/user/sollold.service"
_CONFIG = ".config/sollold/sollold.toml"
_PERSON = 61235
_AS_A_PERSON = ("setpriv", f"--reuid={_PERSON}", f"--regid={_PERSON}", "--clear-groups")
_AS_A_MACHINE = ("unshare", "--mount", "--propagation", "unchanged")

_SYSTEMCTL = """\
#!/bin/sh
printf '%s\\n' "$*" >>"$SYSTEMCTL_CALLS"
case "$*" in
  *MainPID*) echo "$OLLAMA_PID" ;;
  *Version*) echo Version=252 ;;
  *is-active*) [ -e "$SYSTEMCTL_CALLS.active" ] || exit 3 ;;
  *" start "*) [ ! -e "$SYSTEMCTL_CALLS.broken" ] || { echo "Job failed." >&2; exit 1; } ;;
esac
"""

# What is written to these is seen by nobody else, and gone afterwards.
_PRIVATE = """\
set -eu
# A chroot has no root to say so of: its path is that of the namespace, where nsenter leads.
mount --make-rprivate / 2>/dev/null || nsenter --mount=/proc/self/ns/mnt mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
for folder in /etc /opt /usr/local; do
  mkdir -p "$1$folder/upper" "$1$folder/work"
  mount -t overlay overlay \\
    -o "lowerdir=$folder,upperdir=$1$folder/upper,workdir=$1$folder/work" "$folder"
done
rm -rf /etc/sollold /opt/sollold /usr/local/bin/sollold /usr/local/bin/sollolctl
"""


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that others may enter: pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="sollold-install-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH with a systemctl that does nothing."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "systemctl").write_text(_SYSTEMCTL)
    (folder / "systemctl").chmod(0o755)
    return folder


def test_a_user_gets_a_service_that_survives_updates(
    tmp_path: Path, tools: Path, built: Built
) -> None:
    home = tmp_path / "my home"
    config = home / _CONFIG
    config.parent.mkdir(parents=True)
    config.write_text("# mine\n")
    wheel = tmp_path / "my files" / built.wheel.name
    wheel.parent.mkdir()
    shutil.copy(built.wheel, wheel)
    env = _env(home, tools, tmp_path)
    user, install = _as_a_person(tmp_path)

    said = run([*user, install, "--listen", "0.0.0.0", "--lan-without-keys", wheel], env=env)

    assert said.returncode == 1
    assert f"{config} is edited and stays as it is. Write there, below [listen]:" in said.stdout
    assert '  api = "0.0.0.0:11434"\n  lan_without_keys = "anyone on' in said.stdout
    assert config.read_text() == "# mine\n"
    command = home / ".local/share/sollold/venv/bin/sollold"
    assert f'ExecStart="{command}"' in (home / _UNIT).read_text()
    calls = _calls(tmp_path)
    assert "--user daemon-reload" in calls
    assert "--user enable sollold.service" in calls
    assert not [call for call in calls if call.split()[1] in {"start", "restart"}]
    assert "  systemctl --user start sollold\n  sollolctl status\n" in said.stdout
    assert "loginctl enable-linger" in said.stdout

    gone = succeed([*user, install, "--uninstall"], env=env)

    assert "Uninstalled." in gone
    assert "--user disable --now sollold.service" in _calls(tmp_path)
    left = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert {path for path in left if not path.startswith(".rustup/")} == {_CONFIG}


def test_a_start_that_fails_is_told_and_the_next_steps_fit(
    tmp_path: Path, tools: Path, built: Built
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".profile").write_text('PATH="$HOME/.local/bin:$PATH"\n')
    wheel = tmp_path / built.wheel.name
    shutil.copy(built.wheel, wheel)
    env = _env(home, tools, tmp_path)
    user, install = _as_a_person(tmp_path)
    broken, active = tmp_path / "systemctl-calls.broken", tmp_path / "systemctl-calls.active"
    broken.touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listen = ("--listen", f"127.0.0.1:{port}")

        said = run([*user, install, "--start", *listen, wheel], env=env)

    assert said.returncode == 1
    assert f"Port {port} is taken by another program" in said.stdout
    assert "systemctl --user start sollold.service failed: Job failed." in said.stdout
    assert "installed and enabled, but it was not started: the reason is above" in said.stdout
    assert "stays as it is." not in said.stdout
    assert "systemctl --user start sollold\n" in said.stdout
    assert "is not on your PATH yet: log in again" in said.stdout
    assert f"add your nodes to {home / _CONFIG}, one [[nodes]] each" in said.stdout
    assert "sollolctl open " in said.stdout
    assert "loginctl enable-linger" in said.stdout

    broken.unlink()
    active.touch()
    (tools / "loginctl").write_text("#!/bin/sh\necho yes\n")
    (tools / "loginctl").chmod(0o755)
    (home / _CONFIG).write_text('[[nodes]]\nurl = "gpu-1"\n')

    again = succeed([*user, install, "--restart", wheel], env=env)

    assert "Restarting the service: waiting for running requests, up to 30 s" in again
    assert "start sollold\n" not in again
    assert "add your nodes" not in again
    assert "enable-linger" not in again


def test_the_machine_gets_a_service_and_its_ollama_is_moved(
    tmp_path: Path, tools: Path, built: Built
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    port = free_port()
    with FakeNodeProcess("--port", str(port)) as node:
        env = {**_env(home, tools, tmp_path), "OLLAMA_PID": str(node.pid)}
        options = ["--system", "--start", "--move-ollama", "--listen", f"127.0.0.1:{port}"]
        install = shlex.join([str(_INSTALL), *options, str(built.wheel)])
        script = f"""{_PRIVATE}
{install}
cd /
echo "--- files"
cat /etc/systemd/system/ollama.service.d/sollold.conf
grep -v '^#' /etc/sollold/sollold.toml
grep ^ExecStart /etc/systemd/system/sollold.service
readlink /usr/local/bin/sollold
/usr/local/bin/sollold --check-config
{_INSTALL} --system --uninstall
echo "--- left"
cd /usr/local/bin
find /etc/sollold /opt/sollold sollol* /etc/systemd/system/sollold* 2>/dev/null || true
"""
        if os.geteuid() != 0:
            pytest.skip("only root installs for a machine")
        machine = _unless_refused(_AS_A_MACHINE)

        said = succeed([*machine, "bash", "-c", script, "bash", str(private)], env=env)

    files, left = said.partition("--- files")[2].split("--- left")
    assert 'Environment="OLLAMA_HOST=127.0.0.1:114' in files
    assert f'api = "127.0.0.1:{port}"' in files
    assert '[[nodes]]\nurl = "http://127.0.0.1:114' in files
    assert "ExecStart=/opt/sollold/venv/bin/sollold\n" in files
    assert "\n/opt/sollold/venv/bin/sollold\n" in files
    assert "configuration is good: /etc/sollold/sollold.toml" in files
    assert "keeps an Ollama on another port: /etc/systemd/system/ollama.service.d/" in files
    assert left.split() == ["/etc/sollold", "/etc/sollold/sollold.toml"]
    calls = _calls(tmp_path)
    assert calls.index("daemon-reload") < calls.index("restart ollama.service")
    assert "start sollold.service" in calls
    assert "disable --now sollold.service" in calls
    assert not [call for call in calls if "--user" in call]


def test_what_is_asked_of_the_service_is_passed_on(tmp_path: Path, tools: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = _env(home, tools, tmp_path)
    user, install = _as_a_person(tmp_path)
    options = ["--dry-run", "--socket", "--start", "--linger", "--restart"]

    said = succeed([*user, install, *options], env=env)

    assert "/venv/bin/sollolctl service install --socket --linger\n" in said
    assert "/venv/bin/sollolctl service install --socket --linger --now\n" in said
    assert "would run: systemctl --user try-restart sollold.service" in said
    assert all(" is-active " in call for call in _calls(tmp_path))  # it may look
    assert not list(home.iterdir())


def test_a_dry_run_lists_what_happens_to_the_service(tmp_path: Path, tools: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = _env(home, tools, tmp_path)
    user, install = _as_a_person(tmp_path)

    said = succeed([*user, install, "--dry-run", "--start"], env=env)

    assert f"would write: {home / _UNIT}\n" in said
    assert "would run: systemctl --user daemon-reload\n" in said
    assert "would run: systemctl --user enable sollold.service\n" in said


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path: Path, tools: Path) -> None:
    home = tmp_path / "home"
    (home / ".local").mkdir(parents=True)
    (home / ".local/share").write_text("no folder\n")
    user, install = _as_a_person(tmp_path)
    for option in ("--dry-run", "--no-service"):
        result = run([*user, install, option], env=_env(home, tools, tmp_path))

        assert result.returncode == 1
        assert f"{home}/.local/share is no folder that " in result.stdout
        assert "nothing was changed" in result.stdout


def test_a_port_is_checked_before_consent_is_asked_for(tmp_path: Path, tools: Path) -> None:
    for listen in ("bad:99999999", "bad:0", "0.0.0.0:65536"):
        result = run([_INSTALL, "--listen", listen], env=_env(tmp_path, tools, tmp_path))

        assert result.returncode == 1
        assert f"--listen: {listen.partition(':')[2]} is no port" in result.stdout
        assert "no API keys" not in result.stdout


def test_one_address_only(tmp_path: Path, tools: Path) -> None:
    for first in (["--listen", "127.0.0.1:1"], ["--listen=127.0.0.1:1"]):
        result = run(
            [_INSTALL, "--dry-run", *first, "--listen=[::1]:1"], env=_env(tmp_path, tools, tmp_path)
        )

        assert result.returncode == 1
        assert 'api = ["127.0.0.1:1", "[::1]:1"]' in result.stdout
    result = run([_INSTALL, "--listen", "--dry-run"], env=_env(tmp_path, tools, tmp_path))
    assert "--listen needs an address" in result.stdout


def test_an_interruption_shows_nothing_of_pythons_insides(tmp_path: Path, tools: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    argv = [str(_INSTALL), "--no-service"]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv,
            env=_env(home, tools, tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        made = home / ".local/share/sollold/venvs/1/bin"
        until(lambda: made.exists(), "the environment is begun")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    said = log.read_text()
    assert "interrupted; nothing was changed" in said
    assert "Traceback" not in said
    assert not made.exists()


def test_without_systemd_it_says_how_to_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    for program in Path("/usr/bin").iterdir():
        if program.name != "systemctl":
            (tools / program.name).symlink_to(program)
    env = {**install_env(home), "PATH": str(tools)}
    user, install = _as_a_person(tmp_path)

    plain = succeed([*user, install, "--dry-run"], env=env)
    wanted = run([*user, install, "--dry-run", "--start"], env=env)

    assert "service install" not in plain
    assert wanted.returncode == 1
    assert "nothing was started, there is no systemd here" in wanted.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gets this answer")
def test_root_is_told_of_the_service_of_the_machine(tmp_path: Path, tools: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()

    said = succeed([_INSTALL, "--dry-run"], env=_env(home, tools, tmp_path))

    assert "Root gets no service of its own; for one of the machine: ./install.sh --system" in said
    assert all(" is-active " in call for call in _calls(tmp_path))  # it may look


def test_only_root_installs_for_the_machine(tmp_path: Path) -> None:
    user, install = _as_a_person(tmp_path)

    result = run([*user, install, "--system", "--dry-run"], env=install_env(tmp_path))

    assert result.returncode == 1
    assert "--system needs root: sudo ./install.sh --system" in result.stdout


def _as_a_person(tmp_path: Path) -> tuple[list[str], Path]:
    """How to run as somebody who is not root, whose all in this folder is; and install.sh."""
    if os.geteuid() != 0:
        return [], _INSTALL
    shutil.copy(_INSTALL, tmp_path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, _PERSON, _PERSON, follow_symlinks=False)
    return [*_AS_A_PERSON, "env", "-C", str(tmp_path)], tmp_path / _INSTALL.name


def _env(home: Path, tools: Path, tmp_path: Path) -> dict[str, str]:
    env = install_env(home)
    calls = str(tmp_path / "systemctl-calls")
    return {**env, "PATH": f"{tools}:{env['PATH']}", "SYSTEMCTL_CALLS": calls, "OLLAMA_PID": "0"}


def _calls(tmp_path: Path) -> list[str]:
    calls = tmp_path / "systemctl-calls"
    return calls.read_text().splitlines() if calls.exists() else []


def _unless_refused(prefix: tuple[str, ...]) -> tuple[str, ...]:
    """A command's prefix, where this machine allows it."""
    if prefix and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.xfail(f"not possible here: {shlex.join(prefix)} is refused")
    return prefix
