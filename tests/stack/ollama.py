"""A real Ollama that a test starts, freezes, kills and starts again on the same port."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from tests.stack.http import answers, get_json, post_json, wait_until
from tests.stack.logs import tail_text
from tests.stack.ports import free_port
from tests.stack.processes import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.stack.parts import Parts

_READY_WITHIN_S = 30.0


class OllamaServer:
    """One Ollama with a home, a store and a port of its own; not started yet."""

    def __init__(
        self,
        directory: Path,
        parts: Parts,
        *,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.models_dir = directory / "models"
        self.log_path = directory / "ollama.log"
        self._parts = parts
        self._env = {
            "HOME": str(directory),
            "PATH": os.environ.get("PATH", os.defpath),
            "LD_LIBRARY_PATH": str(parts.engine_dir),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.models_dir),
            # Without it every start asks ollama.com for news.
            "OLLAMA_NO_CLOUD": "1",
            # More threads than cores spin against each other: three busy nodes on two cores took
            # seven times as long with the engine's own choice.
            "LLAMA_ARG_THREADS": "1",
            **(env or {}),
        }
        self._group: ProcessGroup | None = None

    @property
    def is_running(self) -> bool:
        """Whether the process runs, frozen or not."""
        return self._group is not None and self._group.is_running()

    @property
    def group(self) -> ProcessGroup:
        """The processes of the running server: Ollama and its engines."""
        if self._group is None:
            raise RuntimeError("this Ollama was never started")
        return self._group

    def start(self) -> None:
        """Start and wait until it answers. Does nothing when it runs already."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start without waiting."""
        if not self.is_running:
            argv = [str(self._parts.ollama), "serve"]
            self._group = ProcessGroup(argv, env=self._env, log_path=self.log_path)

    def wait_ready(self, *, limit_s: float = _READY_WITHIN_S) -> None:
        """Wait until it answers; raises with the end of its log when it does not."""
        wait_until(self._has_settled, limit_s=limit_s, failure=self._describe)
        if not self.is_running:
            raise RuntimeError(self._describe())

    def stop(self) -> None:
        """End it as a service manager would."""
        if self._group is not None:
            self._group.terminate()

    def kill(self) -> None:
        """End it with its engines, without warning."""
        if self._group is not None:
            self._group.kill()

    def restart(self) -> None:
        """End it, start it on the same port, wait until it answers."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop it and its engines where they stand: connections open, nothing answered."""
        self.group.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self.group.thaw()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen inside the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def model_digests(self) -> dict[str, str]:
        """What it lists: name with tag, and digest."""
        listing = get_json(f"{self.url}/api/tags")
        return {model["name"]: model["digest"] for model in listing["models"]}

    def load(self, model: str, *, limit_s: float = 60.0) -> None:
        """Load a model and wait for it."""
        post_json(f"{self.url}/api/generate", {"model": model, "stream": False}, limit_s=limit_s)

    def log_tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return tail_text(self.log_path, lines)

    def _has_settled(self) -> bool:
        return not self.is_running or answers(f"{self.url}/api/version")

    def _describe(self) -> str:
        return f"Ollama on port {self.port} does not answer; its log ends:\n{self.log_tail()}"
