"""Where the files lie that come with the program and are no code."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

_PACKAGED = {"static": "static", "systemd": "share/systemd", "etc": "share/etc"}


def shipped(folder: Literal["static", "systemd", "etc"]) -> Path:
    """Return a folder as installed, in a checkout the one beside the package.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    package = Path(str(files("sollold")))
    for path in (package / _PACKAGED[folder], package.parent / folder):
        if path.is_dir():
            return path
    raise FileNotFoundError(
        f"{package / _PACKAGED[folder]} is missing: this installation is incomplete, install again"
    )
