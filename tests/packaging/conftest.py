"""The distribution, built once, and a clean environment that holds its wheel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.packaging.machine import ROOT, empty_home_env, succeed

if TYPE_CHECKING:
    from pathlib import Path


class Built(NamedTuple):
    """What `python -m build` made of this tree."""

    sdist: Path
    wheel: Path


class Installed(NamedTuple):
    """A clean environment that holds the wheel and what it requires, nothing else."""

    bin_dir: Path
    env: dict[str, str]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist and the wheel of this tree."""
    out = tmp_path_factory.mktemp("dist")
    succeed(
        [sys.executable, "-m", "build", "--sdist", "--wheel", "--outdir", out, ROOT],
        env=empty_home_env(tmp_path_factory.mktemp("home")),
    )
    return Built(sdist=_only(out, "*.tar.gz"), wheel=_only(out, "*.whl"))


@pytest.fixture(scope="session")
def wheel_from_sdist(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the sdist gives."""
    out = tmp_path_factory.mktemp("again")
    pip = [sys.executable, "-m", "pip"]
    succeed(
        [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", out, built.sdist],
        env=empty_home_env(tmp_path_factory.mktemp("home")),
    )
    return _only(out, "*.whl")


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own."""
    folder = tmp_path_factory.mktemp("clean")
    env = empty_home_env(tmp_path_factory.mktemp("home"))
    succeed([sys.executable, "-m", "venv", folder / "venv"], env=env)
    bin_dir = folder / "venv" / "bin"
    succeed([bin_dir / "python", "-m", "pip", "install", "--quiet", built.wheel], env=env)
    return Installed(bin_dir=bin_dir, env=env)


def _only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path
