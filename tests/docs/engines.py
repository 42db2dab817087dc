"""The tables of `docs/engines.md`, made of what the translation says of itself.

`python -m tests.docs.engines docs/engines.md` brings the file up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sollold.wire.translate.feature import Fate, Feature, Way
from sollold.wire.translate.features import NATIVE, OPTIONS
from sollold.wire.translate.features_v1 import V1

if TYPE_CHECKING:
    from collections.abc import Iterable

BEGIN = "<!-- features: begin -->"
END = "<!-- features: end -->"
REMEDY = "run: python -m tests.docs.engines docs/engines.md"

_HEAD = "| part | routes | `llama_server` | `openai` |\n| --- | --- | --- | --- |"
_PARTS = (
    ("On Ollama's routes", NATIVE),
    ("`options`", OPTIONS),
    ("On `/v1`", V1),
)


def render() -> str:
    """Return the tables."""
    parts = []
    for title, features in _PARTS:
        rows = "\n".join(map(_row, features))
        parts.append(f"### {title}\n\n{_HEAD}\n{rows}\n")
    return "\n".join(parts)


def update(path: Path) -> None:
    """Write the tables anew, between their marks."""
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{render()}\n{END}{after}", "utf-8")


def _row(feature: Feature) -> str:
    first, colon, rest = feature.name.partition(": ")
    is_field = first.removeprefix("_").replace("_", "").isalpha()
    name = f"`{first}`{colon}{rest}" if is_field and " " not in first else feature.name
    cells = [name, _routes(feature), _fate(feature.llama), _fate(feature.openai)]
    return f"| {' | '.join(cells)} |"


def _routes(feature: Feature) -> str:
    return ", ".join(f"`{_short(path)}`" for path in _paths(feature))


def _paths(feature: Feature) -> Iterable[str]:
    return (route.path for route in feature.routes)


def _short(path: str) -> str:
    return path.removeprefix("/api/") if path.startswith("/api/") else path.removeprefix("/v1/")


def _fate(fate: Fate) -> str:
    note = f" ({fate.note})" if fate.note else ""
    match fate.way:
        case Way.PASSED | Way.LEFT_OUT:
            return fate.way + note
        case Way.ANSWERED:
            return "answered here; nothing is loaded or unloaded"
        case Way.SAID:
            return f"as `{fate.word}`{note}"
        case Way.HERE:
            return f"done here: {fate.word}"
        case Way.REFUSED:
            return f"400 “{fate.word}”"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        update(Path(argument))
