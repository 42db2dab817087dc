"""The daemon as people run it: a process with a configuration file and directories of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stack.http import answers, wait_until
from tests.stack.logs import tail_text
from tests.stack.ports import free_port
from tests.stack.processes import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_READY_WITHIN_S = 20.0
_LOG_LINES = 60

_CONFIG = """\
[listen]
api = "127.0.0.1:{api_port}"
console = "127.0.0.1:{console_port}"

"""
# A test knows its nodes; what else runs on this machine is none of its business.
_NO_DISCOVERY = """\
[discovery]
enabled = false

"""


class DaemonProcess:
    """One `python -m sollold --config FILE`; not started yet.

    `config` is TOML that is added to the listeners and nodes; `env` adds to a clean environment.
    Discovery is off unless `config` has its table.
    """

    def __init__(
        self,
        directory: Path,
        *,
        nodes: Sequence[str] = (),
        config: str = "",
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.api_port = free_port()
        self.console_port = free_port()
        self.api_url = f"http://127.0.0.1:{self.api_port}"
        self.console_url = f"http://127.0.0.1:{self.console_port}"
        self.config_path = directory / "sollold.toml"
        self.state_dir = directory / "state"
        self.log_path = directory / "sollold.log"
        # A socket's path must fit into 107 bytes; a test's own folder may not leave room for it.
        self.runtime_dir = Path(tempfile.mkdtemp(prefix="sollold-"))
        self.control_socket = self.runtime_dir / "sollold" / "control.sock"
        self._directory = directory
        self._args = tuple(args)
        self._env = {**self._base_env(), **(env or {})}
        self._group: ProcessGroup | None = None
        self.write_config(nodes=nodes, config=config)

    @property
    def group(self) -> ProcessGroup:
        """The daemon's processes."""
        if self._group is None:
            raise RuntimeError("this daemon was never started")
        return self._group

    @property
    def is_running(self) -> bool:
        """Whether the process runs, frozen or not."""
        return self._group is not None and self._group.is_running()

    @property
    def exit_code(self) -> int | None:
        """How it ended, once it has."""
        return self.group.exit_code

    def write_config(self, *, nodes: Sequence[str] = (), config: str = "") -> None:
        """Write the configuration file anew, for the next start: a running daemon keeps its own."""
        text = _CONFIG.format(api_port=self.api_port, console_port=self.console_port)
        tables = "".join(f'[[nodes]]\nurl = "{url}"\n\n' for url in nodes)
        discovery = "" if "[discovery]" in config else _NO_DISCOVERY
        self.config_path.write_text(text + tables + discovery + config)

    def start(self) -> None:
        """Start and wait until the API listener answers."""
        self.launch()
        self.wait_ready()

    def launch(
        self, program: Sequence[str] = ("-m", "sollold"), *, fds: Sequence[int] = ()
    ) -> None:
        """Start without waiting. Does nothing when it runs already.

        `program` is what Python runs in place of the daemon's own; it inherits `fds`.
        """
        if not self.is_running:
            argv = [sys.executable, *program, "--config", str(self.config_path), *self._args]
            self._group = ProcessGroup(
                argv, env=self._env, log_path=self.log_path, cwd=self._directory, pass_fds=fds
            )

    def wait_ready(self, *, limit_s: float = _READY_WITHIN_S) -> None:
        """Wait until the API listener answers; raises with the log when it does not."""
        wait_until(self._has_settled, limit_s=limit_s, failure=self._describe)
        if not self.is_running:
            code = self.wait_exit(limit_s=1.0)
            raise RuntimeError(f"exit code {code}; {self._describe()}")

    def stop(self, *, grace_s: float = 30.0) -> int:
        """SIGTERM, wait; the exit code (-9 when it had to be killed)."""
        return self.group.terminate(grace_s=grace_s)

    def close(self) -> None:
        """End it if it runs and remove its runtime directory."""
        if self._group is not None:
            self._group.terminate()
        shutil.rmtree(self.runtime_dir, ignore_errors=True)

    def wait_exit(self, *, limit_s: float = 30.0) -> int:
        """Wait until it ends by itself; the exit code."""
        return self.group.wait(limit_s=limit_s)

    def kill(self) -> None:
        """End it without warning; its state and sockets stay as they are."""
        self.group.kill()

    def log_text(self) -> str:
        """All that it has written."""
        return self.log_path.read_text(errors="replace")

    def _base_env(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in {"PATH", "PYTHONPATH"} or name.startswith("COVERAGE_")
        }
        directories = {
            "HOME": self._directory / "home",
            "XDG_CONFIG_HOME": self._directory / "config",
            "XDG_STATE_HOME": self.state_dir,
            "XDG_DATA_HOME": self._directory / "data",
            "XDG_CACHE_HOME": self._directory / "cache",
            "XDG_RUNTIME_DIR": self.runtime_dir,
        }
        for path in directories.values():
            path.mkdir(parents=True, exist_ok=True)
        return {
            **inherited,
            "LANG": "C.UTF-8",
            **{name: str(path) for name, path in directories.items()},
        }

    def _has_settled(self) -> bool:
        return not self.is_running or answers(f"{self.api_url}/api/version")

    def _describe(self) -> str:
        log = tail_text(self.log_path, _LOG_LINES)
        return f"the daemon does not answer on {self.api_url}; its log ends:\n{log}"
