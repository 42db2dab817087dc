"""The configuration as a daemon started here would read it; the only way to it from the CLI."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sollold.config import LoadArgs, LoadedConfig, UnusableConfig, load
from sollold.config.document import config_document, problem_document
from sollold.system.dirs import find_dirs
from sollold.system.netif import interfaces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sollold.api_config import ConfigDocument, ConfigProblem


def read(environ: Mapping[str, str]) -> tuple[ConfigDocument | None, list[ConfigProblem]]:
    """Return the configuration as a document, or every problem of it."""
    loaded, problems = _load(environ, None)
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return None if loaded is None else config_document(loaded, at), problems


def check_files(
    environ: Mapping[str, str], file: str | None
) -> tuple[list[str], list[ConfigProblem], list[str]]:
    """Return the files that were read, every problem, and what was noticed besides."""
    loaded, problems = _load(environ, None if file is None else Path(file))
    if loaded is None:
        return ([] if file is None else [file]), problems, []
    return [str(path) for path in loaded.files], problems, list(loaded.notes)


def _load(
    environ: Mapping[str, str], file: Path | None
) -> tuple[LoadedConfig | None, list[ConfigProblem]]:
    args = LoadArgs(
        files=find_dirs(environ).config_files,
        config=file,
        environ=dict(environ),
        own_addresses=interfaces(),
    )
    try:
        return load(args), []
    except UnusableConfig as error:
        return None, [problem_document(problem) for problem in error.found]
