"""The service manager, asked through `systemctl` and `loginctl`."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sollold.ctl.failure import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ASK_S = 10.0
_SYSTEM_UNITS = Path("/etc/systemd/system")
_LINGER_DIR = Path("/var/lib/systemd/linger")


class Done(NamedTuple):
    """A command that was run: how it ended and what it said."""

    code: int
    output: str
    errors: str


def run_command(argv: list[str], environ: Mapping[str, str], limit_s: float | None) -> Done:
    """Run a program and wait for it; without a limit for as long as it takes."""
    try:
        done = subprocess.run(  # noqa: S603 - programs of this module, arguments of no stranger
            argv,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except FileNotFoundError:
        return Done(127, "", f"there is no {argv[0]} here")
    except OSError as error:
        return Done(126, "", f"{argv[0]}: {error.strerror}")
    except subprocess.TimeoutExpired:
        return Done(124, "", f"{argv[0]} did not answer in {limit_s:.0f} s")
    return Done(done.returncode, done.stdout, done.stderr.strip())


class ServiceManager:
    """The manager of the user who asks, or the system's."""

    def __init__(
        self,
        *,
        is_system: bool,
        environ: Mapping[str, str],
        run: Callable[[list[str], Mapping[str, str], float | None], Done] = run_command,
        linger_dir: Path = _LINGER_DIR,
        system_units: Path = _SYSTEM_UNITS,
    ) -> None:
        self.is_system = is_system
        self._environ = {**environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"}
        self._run = run
        self._linger_dir = linger_dir
        self.system_units = system_units
        runtime = Path(f"/run/user/{os.getuid()}")
        # After `su` nothing names it, though it may be there.
        if "XDG_RUNTIME_DIR" not in environ and runtime.is_dir():
            self._environ["XDG_RUNTIME_DIR"] = str(runtime)

    @property
    def name(self) -> str:
        """`user` or `system`."""
        return "system" if self.is_system else "user"

    @property
    def units(self) -> Path:
        """Where units of a person with this manager belong."""
        if self.is_system:
            return self.system_units
        config = self._environ.get("XDG_CONFIG_HOME", "")
        base = Path(config) if config.startswith("/") else Path.home() / ".config"
        return base / "systemd" / "user"

    def argv(self, *args: str) -> list[str]:
        """Return a command line for the manager."""
        return ["systemctl", *([] if self.is_system else ["--user"]), *args]

    def refusal(self) -> str:
        """Return why the manager cannot be had; empty when it answers."""
        # In a chroot systemctl ignores what it is asked, and is content.
        done = self.ask("show", "--property=Version")
        if done.code == 0 and "Version=" in done.output:
            return ""
        return _last_line(done.errors) or "it does not say its version"

    def ask(self, *args: str) -> Done:
        """Run a query that answers at once."""
        return self._run(self.argv(*args), self._environ, _ASK_S)

    def command(self, *args: str) -> None:
        """Run a command, however long it takes.

        Raises:
            Failure: it failed; with what systemctl said.
        """
        done = self._run(self.argv(*args), self._environ, None)
        if done.code != 0:
            raise Failure(
                Exit.FAILED,
                "systemctl",
                f"{' '.join(self.argv(*args))} failed: {_last_line(done.errors)}",
                (("See", " ".join(self.argv("status", args[-1]))), ("and", self.journal())),
            )

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit; nothing of one that the manager does not tell."""
        done = self.ask("show", unit, f"--property={','.join(names)}")
        pairs = (line.partition("=") for line in done.output.splitlines())
        return {name: value for name, _, value in pairs}

    def last_errors(self, unit: str) -> list[str]:
        """Return what a unit that has just failed to start said; empty when nobody may tell."""
        invocation = self.properties(unit, "InvocationID").get("InvocationID", "")
        if not invocation:
            return []
        scope = [] if self.is_system else ["--user"]
        field = f"_SYSTEMD_INVOCATION_ID={invocation}"
        argv = ["journalctl", *scope, "-p", "err", "-o", "cat", "-n", "5", "--quiet", field]
        lines = self._run(argv, self._environ, _ASK_S).output.splitlines()
        return [line.strip() for line in lines if line.strip()]

    def journal(self) -> str:
        """Return the command that shows what the daemon wrote."""
        return f"journalctl {'' if self.is_system else '--user '}-u sollold.service -n 20"

    def is_lingering(self) -> bool | None:
        """Return whether services of the user outlive the logout; None: not of interest."""
        if self.is_system:
            return None
        user = user_name()
        argv = ["loginctl", "show-user", user, "--property=Linger", "--value"]
        said = self._run(argv, self._environ, _ASK_S).output.strip()
        # Of a user who is not logged in loginctl says nothing.
        return said == "yes" if said else (self._linger_dir / user).exists()

    def linger(self) -> None:
        """Let services of the user outlive the logout.

        Raises:
            Failure: not allowed, or no loginctl.
        """
        done = self._run(linger_argv(), self._environ, _ASK_S)
        if done.code != 0:
            command = " ".join(linger_argv())
            message = f"{command} failed: {_last_line(done.errors)}"
            raise Failure(Exit.FAILED, "linger", message, (("As root", f"sudo {command}"),))


def user_name() -> str:
    """Return the name of the user who asks; the number of one without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def linger_argv() -> list[str]:
    """Return the command that turns lingering on."""
    return ["loginctl", "enable-linger", user_name()]


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("See ")]
    return lines[-1].strip() if lines else ""
