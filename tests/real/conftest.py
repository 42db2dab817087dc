"""Fixtures of the tests against real servers."""

from __future__ import annotations

from tests.stack.fixtures import (
    _session_llama_servers,
    _session_nodes,
    llama_servers,
    model_store,
    new_daemon,
    new_llama_server,
    new_node,
    ollama_nodes,
    parts,
)

__all__ = [
    "_session_llama_servers",
    "_session_nodes",
    "llama_servers",
    "model_store",
    "new_daemon",
    "new_llama_server",
    "new_node",
    "ollama_nodes",
    "parts",
]
