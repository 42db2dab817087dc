"""Commands in an empty home that still use this machine's package configuration."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]

_OWN_PREFIXES = ("PYTHON", "XDG_", "SOLLOL", "OLLAMA_", "COVERAGE_", "VIRTUAL_ENV")
_USER_PIP_CONFIGS = (".config/pip/pip.conf", ".pip/pip.conf")


def empty_home_env(home: Path) -> dict[str, str]:
    """The environment of somebody who logs in for the first time on this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_PREFIXES)}
    pip = {"PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR") or str(_pip_cache_dir())}
    for relative in _USER_PIP_CONFIGS:
        config = Path.home() / relative
        if config.exists():
            pip.setdefault("PIP_CONFIG_FILE", os.environ.get("PIP_CONFIG_FILE") or str(config))
    return {**kept, **pip, "HOME": str(home), "PATH": _system_path()}


def install_env(home: Path) -> dict[str, str]:
    """The same for install.sh: the commands go into this home, even where root runs the tests."""
    # Compiling what is not run takes as long as the rest of an installation.
    own = {"XDG_BIN_HOME": str(home / ".local" / "bin"), "PIP_NO_COMPILE": "1"}
    return {**empty_home_env(home), **own}


def run(
    argv: Sequence[str | Path], *, env: dict[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end; both outputs are in the result's `stdout`."""
    return subprocess.run(
        [str(part) for part in argv],
        env=env,
        cwd=cwd or ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def succeed(argv: Sequence[str | Path], *, env: dict[str, str], cwd: Path | None = None) -> str:
    """Run something that must succeed; its output."""
    result = run(argv, env=env, cwd=cwd)
    command = shlex.join(str(part) for part in argv[:3])
    assert result.returncode == 0, f"{command} … ended with {result.returncode}:\n{result.stdout}"
    return result.stdout


def _pip_cache_dir() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "pip"


def _system_path() -> str:
    """PATH without the environment that runs the tests."""
    parts = os.environ["PATH"].split(os.pathsep)
    environment = os.environ.get("VIRTUAL_ENV")
    return os.pathsep.join(
        part for part in parts if not (environment and part.startswith(environment))
    )
