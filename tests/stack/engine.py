"""Chooses an engine that this machine's processor can run, and makes it fit for Ollama.

The wheels are compiled for whatever processor their builder had: some stop with an illegal
instruction on the first matrix product. Only a loaded model tells.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.stack.http import answers, wait_until
from tests.stack.logs import tail_text
from tests.stack.ports import free_port
from tests.stack.processes import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LOADED_WITHIN_S = 120.0
_LOG_LINES = 10

_ENGINE = "llama-server"
_REAL_ENGINE = "llama-server.engine"

# Ollama 0.33.0 starts its engine with an option that older engines do not know.
_ADAPTER = """\
#!/bin/sh
# Spells --load-mode as this engine knows it.
previous=
for word do
  shift
  case "$previous $word" in
    *' --load-mode') ;;
    '--load-mode none') set -- "$@" --no-mmap ;;
    '--load-mode '*) set -- "$@" --mmap ;;
    *) set -- "$@" "$word" ;;
  esac
  previous=$word
done
exec "$(dirname "$0")/llama-server.engine" "$@"
"""


class NoEngineError(RuntimeError):
    """None of the engines runs here."""


def choose_engine(candidates: Sequence[Path], model: Path, scratch_dir: Path) -> Path:
    """The first folder whose `llama-server` loads the model and answers."""
    complaints = []
    for folder in candidates:
        complaint = _try_engine(folder, model, scratch_dir / "engine.log")
        if complaint is None:
            return folder
        complaints.append(f"{folder}: {complaint}")
    raise NoEngineError("no engine runs on this machine:\n" + "\n".join(complaints))


def adapt_engine(folder: Path) -> None:
    """Put an adapter in front of an engine that is older than Ollama expects."""
    engine = folder / _ENGINE
    options = subprocess.run(
        [engine, "--help"], env=_env(folder), capture_output=True, text=True, check=True
    ).stdout
    if "--load-mode" in options:
        return
    shutil.move(engine, folder / _REAL_ENGINE)
    engine.write_text(_ADAPTER)
    engine.chmod(0o755)


def _try_engine(folder: Path, model: Path, log_path: Path) -> str | None:
    port = free_port()
    argv = [str(folder / _ENGINE), "-m", str(model), "--host", "127.0.0.1", "--port", str(port)]
    log_path.unlink(missing_ok=True)
    group = ProcessGroup(argv, env=_env(folder), log_path=log_path)
    health = f"http://127.0.0.1:{port}/health"
    try:
        wait_until(
            lambda: not group.is_running() or answers(health),
            limit_s=_LOADED_WITHIN_S,
            failure=lambda: "it does not load the model",
        )
        if group.is_running():
            return None
    except TimeoutError as error:
        return str(error)
    finally:
        exit_code = group.kill()
    return f"exit code {exit_code}\n{tail_text(log_path, _LOG_LINES)}"


def _env(folder: Path) -> dict[str, str]:
    return {"LD_LIBRARY_PATH": str(folder)}
