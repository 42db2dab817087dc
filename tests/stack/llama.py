"""A real llama-server without Ollama around it, on the engine that this machine can run."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.stack.server import RealServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.stack.parts import Parts

CHAT_SLOTS = 2
CHAT_CONTEXT = 1024
"""Tokens of one slot."""
EMBEDDING_CONTEXT = 512

# One thread: more than cores wait for each other in busy loops. A little memory for old prompts.
_ALWAYS = ("-t", "1", "--cache-ram", "64")
_CHAT = ("-c", str(CHAT_SLOTS * CHAT_CONTEXT), "-np", str(CHAT_SLOTS))
_EMBEDDING = ("-c", str(EMBEDDING_CONTEXT), "--embedding")

TEMPLATE = """\
{%- if tools %}<tools>{{ tools | tojson }}</tools>{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif -%}
{{ message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is not defined or enable_thinking %}<think>
{% endif %}{%- endif -%}
"""
"""Has tools and, unless a request forbids it, thinking; the base model brings none of its own."""

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"n": {"enum": [1]}},
            "required": ["n"],
            "additionalProperties": False,
        },
    },
}


class LlamaServer(RealServer):
    """One llama-server with a port of its own; not started yet."""

    name = "llama-server"
    ready_path = "/health"

    def __init__(
        self,
        directory: Path,
        parts: Parts,
        *,
        port: int | None = None,
        args: Sequence[str] = (),
        is_embedding: bool = False,
        template: str | None = None,
    ) -> None:
        """`args` come last and win; `template` is Jinja, as `TEMPLATE`."""
        super().__init__(directory, port=port)
        self.model = "tiny-embed" if is_embedding else "tiny"
        self._engine_dir = parts.engine_dir
        self._directory = directory
        weights = parts.embedding if is_embedding else parts.chat
        self._args = [
            *("-m", str(weights.path), "-a", self.model),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *_ALWAYS,
            *(_EMBEDDING if is_embedding else _CHAT),
        ]
        if template is not None:
            path = directory / "template.jinja"
            path.write_text(template)
            self._args += ["--chat-template-file", str(path)]
        self._args += args

    def argv(self) -> list[str]:
        """The command."""
        return [str(self._engine_dir / "llama-server"), *self._args]

    def env(self) -> Mapping[str, str]:
        """All of its environment: settings of whoever runs the tests stay out."""
        return {
            "HOME": str(self._directory),
            "PATH": os.environ.get("PATH", os.defpath),
            "LD_LIBRARY_PATH": str(self._engine_dir),
        }


class LlamaServers(NamedTuple):
    """Two that chat, with the same model under the same name, and one that embeds."""

    one: LlamaServer
    other: LlamaServer
    embedding: LlamaServer


def tool_request(**fields: Any) -> dict[str, Any]:
    """A chat that the base model answers with calls of `TOOL`, for it copies what it has seen.

    Needs a server with `TEMPLATE`.
    """
    arguments = json.dumps({"n": 1})
    function = {"name": "weather", "arguments": arguments}
    call = {"type": "function", "id": "1", "function": function}
    turn = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    return {
        "messages": [*turn * 4, turn[0]],
        "tools": [TOOL],
        "chat_template_kwargs": {"enable_thinking": False},
        "temperature": 0,
        "max_tokens": 30,
        **fields,
    }
