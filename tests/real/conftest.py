"""Fixtures of the tests against real servers."""

from __future__ import annotations

from tests.stack.fixtures import (
    _session_nodes,
    model_store,
    new_daemon,
    new_node,
    ollama_nodes,
    parts,
)

__all__ = ["_session_nodes", "model_store", "new_daemon", "new_node", "ollama_nodes", "parts"]
