"""A real Ollama that a test starts, freezes, kills and starts again on the same port."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.stack.http import get_json, post_json
from tests.stack.server import RealServer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.stack.parts import Parts


class OllamaServer(RealServer):
    """One Ollama with a home, a store and a port of its own; not started yet."""

    name = "Ollama"
    ready_path = "/api/version"

    def __init__(
        self,
        directory: Path,
        parts: Parts,
        *,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, port=port)
        self.models_dir = directory / "models"
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

    def argv(self) -> list[str]:
        """The command."""
        return [str(self._parts.ollama), "serve"]

    def env(self) -> Mapping[str, str]:
        """All of its environment."""
        return self._env

    def model_digests(self) -> dict[str, str]:
        """What it lists: name with tag, and digest."""
        listing = get_json(f"{self.url}/api/tags")
        return {model["name"]: model["digest"] for model in listing["models"]}

    def load(self, model: str, *, limit_s: float = 60.0) -> None:
        """Load a model and wait for it."""
        post_json(f"{self.url}/api/generate", {"model": model, "stream": False}, limit_s=limit_s)
