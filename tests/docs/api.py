"""The table of routes in `docs/api.md`, for the test that compares it with the OpenAPI document."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_TEXT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
_ROW = re.compile(r"^\| `([A-Z]+) (/[^`]*)` \|", re.MULTILINE)
_OTHERS = frozenset({"Ollama", "OpenAI"})


def documented_routes() -> set[tuple[str, str]]:
    """Return method and path of every row."""
    return {(method, path) for method, path in _ROW.findall(_TEXT.read_text("utf-8"))}


def own_routes(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Return method and path of every operation that is not another's."""
    return {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if not _OTHERS & {*operation["tags"]}
    }
