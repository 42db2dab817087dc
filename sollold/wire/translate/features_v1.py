"""What becomes of each part of a request on the OpenAI-compatible routes, at other engines."""

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
from sollold.wire.translate.features import PNG, TOOL
from sollold.wire.translate.v1 import IMAGE_URL_TEXT
from sollold.wire.translate.wants import RENDER_ONLY_TEXT

_V1_CHAT: Final = (InferenceRoute.V1_CHAT,)
_V1_COMPLETIONS: Final = (InferenceRoute.V1_COMPLETIONS,)
_V1_TEXT: Final = (*_V1_CHAT, *_V1_COMPLETIONS)
_V1_EMBEDDINGS: Final = (InferenceRoute.V1_EMBEDDINGS,)

_CALL: Final = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _part(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [fields]}]}


def _v1(
    name: str,
    value: Any,
    llama: Fate,
    routes: tuple[InferenceRoute, ...] = _V1_TEXT,
    *,
    openai: Fate = PASSED,
    **beside: Any,
) -> Feature:
    return Feature(name, routes, {name: value}, llama, openai, beside)


V1: Final = (
    _v1(
        "model",
        "other",
        here("its own name for it"),
        (*_V1_TEXT, *_V1_EMBEDDINGS),
        openai=here("its own name for it"),
    ),
    _v1("messages", [{"role": "user", "content": "other"}], PASSED, _V1_CHAT),
    Feature(
        "messages: image_url, data:",
        _V1_CHAT,
        _part(type="image_url", image_url={"url": f"data:image/png;base64,{PNG}"}),
        PASSED,
        PASSED,
    ),
    Feature(
        "messages: image_url, http:",
        _V1_CHAT,
        _part(type="image_url", image_url={"url": "http://a/b.png"}),
        refused(IMAGE_URL_TEXT),
        PASSED,
    ),
    Feature(
        "messages: reasoning",
        _V1_CHAT,
        {"messages": [{"role": "assistant", "content": "a", "reasoning": "b"}]},
        said("messages", "`reasoning_content`"),
        PASSED,
        {"messages": [{"role": "assistant", "content": "a"}]},
    ),
    Feature(
        "messages: tool_calls",
        _V1_CHAT,
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [_CALL]}]},
        PASSED,
        PASSED,
    ),
    _v1("prompt", "other", said("messages"), _V1_COMPLETIONS),
    _v1("suffix", "s", said("/infill"), _V1_COMPLETIONS),
    _v1("stream", True, STREAMED),
    _v1("stream_options", {"include_usage": True}, here("usage is always asked for"), stream=True),
    _v1("max_tokens", 7, said("n_predict")),
    _v1("max_completion_tokens", 7, said("n_predict"), _V1_CHAT),
    *(
        _v1(name, 0.5, PASSED)
        for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty")
    ),
    _v1("seed", 7, PASSED),
    _v1("stop", ["x"], PASSED),
    _v1(
        "response_format",
        {"type": "json_object"},
        said("response_format", "with a schema"),
        _V1_CHAT,
    ),
    _v1("tools", [TOOL], PASSED, _V1_CHAT),
    _v1("tool_choice", "required", PASSED, _V1_CHAT, tools=[TOOL]),
    Feature(
        "tool_choice: one function",
        _V1_CHAT,
        {"tool_choice": {"type": "function"}},
        LEFT_OUT,
        PASSED,
        {"tools": [TOOL]},
    ),
    _v1("parallel_tool_calls", False, PASSED, _V1_CHAT, tools=[TOOL]),
    _v1("reasoning", {"effort": "low"}, said("chat_template_kwargs"), _V1_CHAT),
    _v1("reasoning_effort", "low", said("chat_template_kwargs"), _V1_CHAT),
    _v1("logprobs", True, PASSED, _V1_CHAT),
    _v1("top_logprobs", 3, PASSED, _V1_CHAT, logprobs=True),
    _v1("logprobs", 3, Fate(Way.LEFT_OUT, note="as Ollama does"), _V1_COMPLETIONS),
    _v1("_debug_render_only", True, refused(RENDER_ONLY_TEXT)),
    Feature(
        "any other",
        _V1_TEXT,
        {"logit_bias": {"5": 1}},
        Fate(Way.LEFT_OUT, note="as Ollama does"),
        PASSED,
    ),
    _v1("input", ["a", "b"], PASSED, _V1_EMBEDDINGS),
    _v1("dimensions", 8, here("vectors are cut and scaled"), _V1_EMBEDDINGS),
    _v1("encoding_format", "base64", here("made of numbers"), _V1_EMBEDDINGS),
)
"""Parts of requests on the OpenAI-compatible routes. A server of that API gets the whole body as
it came, under its own name for the model."""
