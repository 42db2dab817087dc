"""`/api/show` for models that no Ollama node holds, made of what their servers say.

Owns the document's shape. Leaves out what is not known instead of guessing it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sollold.wire.gojson import go_json

if TYPE_CHECKING:
    from sollold.core.model import EngineModel, ModelView

_ZERO_TIME: Final = "0001-01-01T00:00:00Z"
_ARCHITECTURE: Final = "unknown"
"""Clients look for the context length under the architecture's name."""
_MODELFILE: Final = """\
# This model runs on another server than Ollama; there it is called:
# {name}
"""
# As Ollama orders them.
_CAPABILITIES: Final = ("completion", "embedding", "vision", "audio", "tools", "insert", "thinking")
# Details that only lists have.
_LISTED_ONLY: Final = frozenset({"context_length", "embedding_length"})


def show(view: ModelView, engine: EngineModel) -> bytes:
    """Return the body of `/api/show`."""
    document: dict[str, object] = {
        "modelfile": _MODELFILE.format(name=" ".join(engine.name.split())),
        "parameters": "",
        "template": engine.template,
        "details": _details(view),
        "model_info": _model_info(engine),
    }
    if view.capabilities is not None:
        document["capabilities"] = capability_list(view.capabilities)
    document["modified_at"] = view.modified_at or _ZERO_TIME
    return go_json(document)


def capability_list(capabilities: frozenset[str]) -> list[str]:
    """Return capabilities in a fixed order."""
    known = [name for name in _CAPABILITIES if name in capabilities]
    return known + sorted(capabilities.difference(_CAPABILITIES))


def _details(view: ModelView) -> dict[str, object]:
    details = view.entry.get("details")
    if not isinstance(details, dict):
        return {}
    return {name: value for name, value in details.items() if name not in _LISTED_ONLY}


def _model_info(engine: EngineModel) -> dict[str, object]:
    info = {
        "general.architecture": _ARCHITECTURE,
        "general.parameter_count": engine.parameter_count,
        f"{_ARCHITECTURE}.context_length": engine.context_length or engine.train_context_length,
        f"{_ARCHITECTURE}.embedding_length": engine.embedding_length,
        f"{_ARCHITECTURE}.vocab_size": engine.vocabulary_length,
    }
    return {name: value for name, value in info.items() if value is not None}
