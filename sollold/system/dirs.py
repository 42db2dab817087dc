"""Where files live: configuration, state, runtime.

Follows systemd's variables, then the XDG ones, then their defaults. Standard library only, since
sollolctl looks for the control socket here.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sollold.errors import SollolError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = "sollold"
_SYSTEM_CONFIG = Path("/etc") / _NAME
_TEMPORARY = Path("/tmp")  # noqa: S108 - the directory below it is checked for its owner


class DirectoryError(SollolError):
    """A directory the daemon needs cannot be used."""

    code = "directory"
    exit_code = 75


class Dirs(NamedTuple):
    """The daemon's directories; none of them need exist yet."""

    config_files: tuple[Path, Path]
    """The system's file and the user's, which wins."""
    state: Path
    runtime: Path

    @property
    def control_socket(self) -> Path:
        """Where sollolctl finds the daemon."""
        return self.runtime / "control.sock"

    @property
    def lock_file(self) -> Path:
        """What a running daemon holds locked."""
        return self.runtime / "lock"


def find_dirs(
    environ: Mapping[str, str], uid: int | None = None, temporary: Path = _TEMPORARY
) -> Dirs:
    """Work out the directories from the environment; nothing is created."""
    user = os.getuid() if uid is None else uid
    home = _home(environ, user)
    system = _first(environ, "CONFIGURATION_DIRECTORY") or _SYSTEM_CONFIG
    config = _xdg(environ, "XDG_CONFIG_HOME") or home / ".config"
    state = _xdg(environ, "XDG_STATE_HOME") or home / ".local" / "state"
    file = f"{_NAME}.toml"
    return Dirs(
        config_files=(system / file, config / _NAME / file),
        state=_first(environ, "STATE_DIRECTORY") or state / _NAME,
        runtime=_first(environ, "RUNTIME_DIRECTORY") or _runtime(environ, user, temporary),
    )


def prepare(directory: Path, uid: int | None = None) -> None:
    """Create a directory for this user alone; DirectoryError when it cannot be trusted."""
    owner = os.getuid() if uid is None else uid
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.stat()
        # A link laid by root is systemd's, which keeps directories of dynamic users elsewhere.
        owners = {found.st_uid} | ({directory.lstat().st_uid} - {0})
    except OSError as exc:
        raise DirectoryError(
            f"{directory} cannot be created: {exc.strerror}; "
            "make its parent writable for this user, or set XDG_RUNTIME_DIR and XDG_STATE_HOME"
        ) from exc
    if owners != {owner}:
        others = ", ".join(str(other) for other in sorted(owners - {owner}))
        raise DirectoryError(
            f"{directory} belongs to user {others}, not to {owner}, and is not used; "
            "remove it, or set XDG_RUNTIME_DIR to a directory of your own"
        )
    if found.st_mode & 0o077:
        directory.chmod(0o700)


def _runtime(environ: Mapping[str, str], uid: int, temporary: Path) -> Path:
    base = _xdg(environ, "XDG_RUNTIME_DIR")
    if base is not None:
        return base / _NAME
    return Path("/run") / _NAME if uid == 0 else temporary / f"{_NAME}-{uid}"


def _first(environ: Mapping[str, str], name: str) -> Path | None:
    """Read a list of directories as systemd writes it; the first counts."""
    return _absolute(environ.get(name, "").partition(":")[0])


def _xdg(environ: Mapping[str, str], name: str) -> Path | None:
    """Read one directory; the specification says to ignore relative ones."""
    return _absolute(environ.get(name, ""))


def _absolute(text: str) -> Path | None:
    return Path(text) if text.startswith("/") else None


def _home(environ: Mapping[str, str], uid: int) -> Path:
    home = _absolute(environ.get("HOME", ""))
    if home is not None:
        return home
    try:
        return Path(pwd.getpwuid(uid).pw_dir)
    except KeyError:
        return Path("/")
