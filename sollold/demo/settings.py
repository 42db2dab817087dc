"""How the children are started: arguments, configuration, environment. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MODEL = "tiny"
"""The name clients ask for."""

# Settings of the person and of the service manager are for other programs than these.
_FOREIGN = (
    "OLLAMA_", "SOLLOL", "LLAMA_", "GGML_", "HF_", "XDG_RUNTIME_DIR", "XDG_STATE_HOME",
    "XDG_CONFIG_HOME", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "JOURNAL_STREAM",
)  # fmt: skip

# The model continues texts and knows no chat; this text is one it continues with an answer.
_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}Answer: {{ message.content }}\n\n"
    "{% else %}Question: {{ message.content }}\n{% endif %}"
    "{% endfor %}Answer:"
)
_CONTEXT_TOKENS = 2048
_ANSWER_TOKENS = 128
_MAX_THREADS = 4
_DRAIN_S = 2


class EngineNode(NamedTuple):
    """One llama-server, as a node."""

    name: str
    port: int


def threads_for(cores: int) -> int:
    """Return how many threads each of two engines gets; more than cores would only wait."""
    return max(1, min(_MAX_THREADS, cores // 2))


def engine_argv(binary: Path, model: Path, node: EngineNode, threads: int) -> list[str]:
    """Return the command line of one engine.

    It computes on the processor, so that the demo is the same with and without a GPU.
    """
    options = {
        "--model": str(model),
        "--alias": MODEL,
        "--host": "127.0.0.1",
        "--port": str(node.port),
        "--threads": str(threads),
        "--parallel": "1",
        "--ctx-size": str(_CONTEXT_TOKENS),
        # A base model hardly ever stops by itself.
        "--predict": str(_ANSWER_TOKENS),
        "--device": "none",
        "--chat-template": _TEMPLATE,
    }
    words = [word for pair in options.items() for word in pair]
    return [str(binary), *words, "--jinja", "--no-webui", "--offline"]


def daemon_config(api_port: int, console_port: int, nodes: Sequence[EngineNode]) -> str:
    """Return the daemon's configuration file."""
    head = f"""\
[listen]
api = "127.0.0.1:{api_port}"
console = "127.0.0.1:{console_port}"

[server]
drain_s = {_DRAIN_S}

[discovery]
enabled = false
"""
    tables = [
        f'\n[[nodes]]\nname = "{node.name}"\nkind = "llama_server"\n'
        f'url = "http://127.0.0.1:{node.port}"\n'
        for node in nodes
    ]
    return head + "".join(tables)


def own_environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return an environment in which a daemon has its files in `folder` and meets no other one."""
    kept = {name: text for name, text in environ.items() if not name.startswith(_FOREIGN)}
    return {
        **kept,
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
    }
