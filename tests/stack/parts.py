"""Where the real parts lie that `tests/run` prepares; nothing is downloaded or built here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

_RECORD = "parts.json"


class MissingPartsError(RuntimeError):
    """The real parts are not on this machine yet."""


class Weights(NamedTuple):
    """A GGUF file and its SHA-256."""

    path: Path
    sha256: str


class Parts(NamedTuple):
    """The real Ollama with its engine, and the models it can serve."""

    ollama: Path
    engine_dir: Path
    chat: Weights
    embedding: Weights


def cache_dir() -> Path:
    """Where `tests/run` keeps what it prepared."""
    chosen = os.environ.get("SOLLOLD_TEST_CACHE")
    if chosen:
        return Path(chosen)
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "sollold-test"


def find_parts() -> Parts:
    """The prepared parts; raises when there are none."""
    cache = cache_dir()
    try:
        record = json.loads((cache / _RECORD).read_text())
    except FileNotFoundError:
        raise MissingPartsError(
            f"no real Ollama in {cache}: `tests/run real` prepares it once"
        ) from None
    return Parts(
        ollama=cache / record["ollama"],
        engine_dir=cache / record["engine_dir"],
        chat=_weights(cache, record["chat"]),
        embedding=_weights(cache, record["embedding"]),
    )


def _weights(cache: Path, entry: dict[str, str]) -> Weights:
    return Weights(path=cache / entry["path"], sha256=entry["sha256"])
