"""A service manager in a machine of its own: a user's, or the system's."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.stack.http import wait_until
from tests.stack.logs import tail_text

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCRIPT = Path(__file__).with_name("machine.sh")
_TREE = Path(__file__).resolve().parents[2]
_START_S = 30.0
_STOP_S = 20.0
_RUN_S = 60.0
_USER_ID = 61234
_HOME = "/home/sollold-test"
_PATH = "/opt/sollold/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SYSTEM_CONFIG = "/etc/sollold/sollold.toml"
_UP = frozenset({"running", "degraded"})


class Manager(StrEnum):
    """Whose service manager it is."""

    USER = "user"
    SYSTEM = "system"


class NotPossible(Exception):
    """The kernel refuses such a manager; the text says why, and what it would take."""


class Lacking(Exception):
    """Root or a package is missing; the text says which."""


_EXCUSES: dict[int, type[Exception]] = {77: NotPossible, 69: Lacking}
"""By the exit code of the script; any other is a fault."""


class Machine:
    """The manager, its files and its processes; all of it goes when the machine is closed."""

    def __init__(self, manager: Manager, directory: Path) -> None:
        self.manager = manager
        self.log_path = directory / "manager.log"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Start and wait until the manager has.

        Raises:
            NotPossible: the kernel does not allow it.
            Lacking: a person could mend it.
            RuntimeError: it went wrong.
        """
        state = self._directory / "machine"
        state.mkdir()
        argv = ["bash", str(_SCRIPT), str(self.manager), str(state), str(_TREE), sys.prefix]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(
                lambda: (state / "pid").exists() or self._has_ended(),
                limit_s=_START_S,
                failure=self._describe,
            )
            if not self._has_ended():
                self._pid = int((state / "pid").read_text())
                wait_until(self._is_up, limit_s=_START_S, failure=self._describe)
        except BaseException:
            self.close()
            raise
        if self._has_ended():
            code = self._process.returncode
            self.close()
            said = tail_text(self.log_path, 5).strip()
            if code in _EXCUSES:
                raise _EXCUSES[code](said)
            raise RuntimeError(f"no {self.manager} manager, exit code {code}:\n{said}")

    def close(self) -> None:
        """End everything in it."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)

    @property
    def is_user(self) -> bool:
        """Whether it is a user's manager."""
        return self.manager is Manager.USER

    @property
    def home(self) -> str:
        """The folder of the person whose manager it is."""
        return _HOME if self.is_user else "/root"

    @property
    def unit_dir(self) -> str:
        """Where units of that person belong."""
        return f"{_HOME}/.config/systemd/user" if self.is_user else "/etc/systemd/system"

    @property
    def config_path(self) -> str:
        """Where the daemon looks for its configuration."""
        return f"{_HOME}/.config/sollold/sollold.toml" if self.is_user else _SYSTEM_CONFIG

    def run(
        self, *argv: str, check: bool = True, env: Sequence[str] = (), limit_s: float = _RUN_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, as the person whose manager it is."""
        done = subprocess.run(
            [*self._enter(), *env, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def systemctl(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run systemctl against the manager."""
        options = ["--user"] if self.is_user else []
        return self.run("systemctl", *options, "--no-pager", *args, check=check)

    def read(self, path: str) -> str:
        """The text of a file in the machine."""
        return self._outside(path).read_text()

    def exists(self, path: str) -> bool:
        """Whether there is such a file in the machine; a link may lead nowhere."""
        found = self._outside(path)
        return found.exists() or found.is_symlink()

    def write(self, path: str, text: str) -> None:
        """Write a file in the machine, as the person whose manager it is."""
        self.run("mkdir", "-p", str(Path(path).parent))
        subprocess.run(
            [*self._enter(), "tee", path],
            input=text,
            stdout=subprocess.DEVNULL,
            text=True,
            timeout=_RUN_S,
            check=True,
        )

    def remove(self, *paths: str) -> None:
        """Remove files and folders."""
        self.run("rm", "-rf", *paths)

    def _enter(self) -> list[str]:
        argv = ["nsenter", "--target", str(self._pid), "--mount", "--pid", "--cgroup"]
        argv += ["--ipc", "--uts", "--root", "--wd"]
        env = [f"PATH={_PATH}", "LANG=C.UTF-8", f"HOME={self.home}"]
        if self.is_user:
            argv += ["setpriv", f"--reuid={_USER_ID}", f"--regid={_USER_ID}", "--clear-groups"]
            env.append(f"XDG_RUNTIME_DIR=/run/user/{_USER_ID}")
        return [*argv, "env", "-i", *env]

    def _outside(self, path: str) -> Path:
        return Path(f"/proc/{self._pid}/root{path}")

    def _is_up(self) -> bool:
        if self._has_ended():
            return True
        return self.systemctl("is-system-running", check=False).stdout.strip() in _UP

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _describe(self) -> str:
        return f"no {self.manager} manager in {_START_S} s:\n{tail_text(self.log_path, 30)}"
