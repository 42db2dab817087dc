"""What becomes of each part of a request on Ollama's own routes, at engines of other kinds.

Owns the list that `docs/engines.md` shows and tests hold against what is really sent. Names and
texts come from where they are used; nothing here takes part in translating.
"""

from __future__ import annotations

from typing import Any, Final

from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.feature import (
    LEFT_OUT,
    PASSED,
    STREAMED,
    Fate,
    Feature,
    Way,
    here,
    refused,
    said,
)
from sollold.wire.translate.generation import (
    CONTEXT_TEXT,
    RAW_FORMAT_TEXT,
    RAW_IMAGES_TEXT,
    TEMPLATE_TEXT,
)
from sollold.wire.translate.media import WEBP_TEXT
from sollold.wire.translate.options import LLAMA_NAMES, LOAD_NAMES, OPENAI_NAMES
from sollold.wire.translate.truncate import TOO_LONG_TEXT
from sollold.wire.translate.wants import RENDER_ONLY_TEXT

_CHAT: Final = (InferenceRoute.API_CHAT,)
_GENERATE: Final = (InferenceRoute.API_GENERATE,)
_TEXT: Final = (*_CHAT, *_GENERATE)
_EMBED: Final = (InferenceRoute.API_EMBED,)
_EMBEDDINGS: Final = (InferenceRoute.API_EMBEDDINGS,)
_NATIVE: Final = (*_TEXT, *_EMBED, *_EMBEDDINGS)

PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
_WEBP: Final = "UklGRiQAAABXRUJQVlA4"
_WAV: Final = "UklGRiQAAABXQVZFZm10"
_LONG: Final = " ".join(["word"] * 40)
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL: Final = {
    "type": "function",
    "function": {"name": "f", "description": "does", "parameters": SCHEMA},
}
_CALL: Final = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}


def _user(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "look", **fields}]}


def _named(names: dict[str, str], name: str) -> Fate:
    word = names.get(name)
    if word is None:
        return LEFT_OUT
    return PASSED if word == name else said(word)


def _option(name: str) -> Feature:
    wanted: Any = {"stop": ["x"], "use_mmap": False}.get(name, 7)
    fates = (_named(LLAMA_NAMES, name), _named(OPENAI_NAMES, name))
    return Feature(name, _TEXT, {"options": {name: wanted}}, *fates)


OPTIONS: Final = (
    *(_option(name) for name in LLAMA_NAMES),
    *(_option(name) for name in sorted(LOAD_NAMES)),
    Feature("any other", _TEXT, {"options": {"mirostat": 1}}, LEFT_OUT, LEFT_OUT),
)
"""Parts of `options` in requests for text; embeddings are sent none."""

NATIVE: Final = (
    Feature(
        "model",
        _NATIVE,
        {"model": "other"},
        here("its own name for it"),
        here("its own name for it"),
    ),
    Feature("stream", _TEXT, {"stream": False}, STREAMED, PASSED),
    Feature("options", (*_EMBED, *_EMBEDDINGS), {"options": {"seed": 7}}, LEFT_OUT, LEFT_OUT),
    Feature("keep_alive", _NATIVE, {"keep_alive": "10m"}, LEFT_OUT, LEFT_OUT),
    Feature(
        "no messages, no prompt (load, unload)",
        _TEXT,
        {"messages": [], "prompt": "", "keep_alive": 0},
        Fate(Way.ANSWERED),
        Fate(Way.ANSWERED),
    ),
    Feature(
        "_debug_render_only",
        _TEXT,
        {"_debug_render_only": True},
        refused(RENDER_ONLY_TEXT),
        refused(RENDER_ONLY_TEXT),
    ),
    Feature("think: true, false", _TEXT, {"think": False}, said("chat_template_kwargs"), LEFT_OUT),
    Feature(
        "think: a level",
        _TEXT,
        {"think": "high"},
        said("chat_template_kwargs"),
        said("reasoning_effort"),
    ),
    Feature(
        'format: "json"',
        _TEXT,
        {"format": "json"},
        said("response_format"),
        said("response_format"),
    ),
    Feature(
        "format: a schema",
        _TEXT,
        {"format": SCHEMA},
        said("response_format"),
        said("response_format"),
    ),
    Feature("logprobs", _TEXT, {"logprobs": True}, PASSED, PASSED),
    Feature("top_logprobs", _TEXT, {"top_logprobs": 3}, PASSED, PASSED, {"logprobs": True}),
    Feature(
        "messages", _CHAT, {"messages": [{"role": "user", "content": "other"}]}, PASSED, PASSED
    ),
    Feature("messages: images", _CHAT, _user(images=[PNG]), said("messages"), said("messages")),
    Feature(
        "messages: WebP images",
        _CHAT,
        _user(images=[_WEBP]),
        refused(WEBP_TEXT),
        said("messages"),
    ),
    Feature("messages: sound", _CHAT, _user(images=[_WAV]), said("messages"), said("messages")),
    Feature(
        "messages: thinking",
        _CHAT,
        {"messages": [{"role": "assistant", "content": "a", "thinking": "b"}]},
        said("messages", "`reasoning_content`"),
        LEFT_OUT,
        {"messages": [{"role": "assistant", "content": "a"}]},
    ),
    Feature(
        "messages: tool_calls",
        _CHAT,
        {"messages": [_CALL]},
        said("messages", "ids are made where they are missing"),
        said("messages", "ids are made where they are missing"),
    ),
    Feature(
        "messages: tool_name",
        _CHAT,
        {"messages": [_CALL, {"role": "tool", "content": "1", "tool_name": "g"}]},
        said("messages", "`name`"),
        Fate(Way.LEFT_OUT, note="the id of its call is sent"),
        {"messages": [_CALL, {"role": "tool", "content": "1"}]},
    ),
    Feature(
        "messages: the last is the assistant's",
        _CHAT,
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        PASSED,
        Fate(Way.PASSED, note="whether it is continued is up to the server"),
    ),
    Feature("tools", _CHAT, {"tools": [TOOL]}, PASSED, PASSED),
    Feature(
        "truncate: a history that is too long",
        _CHAT,
        {"truncate": True},
        here("the oldest turns are left out"),
        Fate(Way.LEFT_OUT, note="the server refuses or cuts it"),
        {
            "truncate": False,
            "messages": [{"role": "user", "content": text} for text in (_LONG, "b")],
        },
        16,
    ),
    Feature("prompt", _GENERATE, {"prompt": "other"}, said("messages"), said("messages")),
    Feature("system", _GENERATE, {"system": "s"}, said("messages"), said("messages")),
    Feature("images", _GENERATE, {"images": [PNG]}, said("messages"), said("messages")),
    Feature("suffix", _GENERATE, {"suffix": "s"}, said("/infill"), said("/v1/completions")),
    Feature(
        "template", _GENERATE, {"template": "t"}, refused(TEMPLATE_TEXT), refused(TEMPLATE_TEXT)
    ),
    Feature("context", _GENERATE, {"context": [1, 2]}, said("/completion"), refused(CONTEXT_TEXT)),
    Feature(
        "context with images",
        _GENERATE,
        {"context": [1, 2]},
        refused(CONTEXT_TEXT),
        refused(CONTEXT_TEXT),
        {"images": [PNG]},
    ),
    Feature("raw", _GENERATE, {"raw": True}, said("/completion"), said("/v1/completions")),
    Feature(
        "raw with images",
        _GENERATE,
        {"images": [PNG]},
        refused(RAW_IMAGES_TEXT),
        refused(RAW_IMAGES_TEXT),
        {"raw": True},
    ),
    Feature(
        "raw or suffix with format",
        _GENERATE,
        {"format": "json"},
        said("json_schema"),
        refused(RAW_FORMAT_TEXT),
        {"raw": True},
    ),
    Feature(
        "raw with logprobs",
        _GENERATE,
        {"logprobs": True},
        said("n_probs"),
        said("logprobs"),
        {"raw": True},
    ),
    Feature(
        "truncate: a raw prompt that is too long",
        _GENERATE,
        {"truncate": True},
        here("its middle is left out"),
        Fate(Way.LEFT_OUT, note="the server refuses or cuts it"),
        {"truncate": False, "raw": True, "prompt": _LONG},
        16,
    ),
    Feature(
        "shift: false, and such a prompt",
        _GENERATE,
        {"shift": False},
        refused(TOO_LONG_TEXT),
        LEFT_OUT,
        {"raw": True, "prompt": _LONG},
        16,
    ),
    Feature("shift in chats", _CHAT, {"shift": False}, LEFT_OUT, LEFT_OUT),
    Feature("input", _EMBED, {"input": ["a", "b"]}, PASSED, PASSED),
    Feature("prompt", _EMBEDDINGS, {"prompt": "other"}, said("input"), said("input")),
    Feature(
        "dimensions",
        _EMBED,
        {"dimensions": 8},
        here("vectors are cut and scaled"),
        here("vectors are cut and scaled"),
    ),
    Feature(
        "truncate: a text that is too long",
        _EMBED,
        {"truncate": True},
        here("its end is left out"),
        Fate(Way.LEFT_OUT, note="the server refuses or cuts it"),
        {"truncate": False, "input": [_LONG]},
        16,
    ),
)
"""Parts of requests on Ollama's own routes."""
