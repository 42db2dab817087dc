"""Requests that a llama-server answers as an Ollama does that holds the same weights.

Every one says what it wants of sampling, for a llama-server knows no parameters of a model, and
bounds its answer, for the base model seldom stops by itself.
"""

from __future__ import annotations

from typing import Any

from tests.fakes.cases import Case, post
from tests.real.case import HI, AnyCase

CONTEXT = 256
"""Tokens that either engine holds: little, so that prompts which are too long are read soon."""

_FIXED: dict[str, Any] = {"temperature": 0, "seed": 1}
_SHORT = {**_FIXED, "num_predict": 2}
# What the model begins with hangs on the engine's build: one of these.
_FIRST = ["\n", "1", " "]
_SCHEMA = {"type": "object", "properties": {"a": {"enum": ["yes"]}}, "required": ["a"]}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}}
_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
_SYSTEM = {"role": "system", "content": "Be short."}
_SAID = {"role": "assistant", "content": "hello"}
_ODD = "h\u00e9 \u4f60 \U0001f600 <&>"
_LONG = "sea " * (2 * CONTEXT)
_OVERLONG = "sea " * (CONTEXT + 4)
_NEARLY_FULL = "sea " * (CONTEXT - 16)
_HISTORY = [
    _SYSTEM,
    *(message for _ in range(5) for message in (_SAID, {**HI[0], "content": "sea " * 70})),
]
_USAGE = {"include_usage": True}


def _of(path: str, base: dict[str, Any], fields: dict[str, Any]) -> Case:
    options = fields.pop("options", {})
    wanted = _SHORT | options if isinstance(options, dict) else options
    return post(path, **{"model": "tiny", **base, "options": wanted, **fields})


def _chat(**fields: Any) -> Case:
    return _of("/api/chat", {"messages": HI}, fields)


def _say(content: Any, **fields: Any) -> Case:
    return _chat(messages=[{"role": "user", "content": content}], **fields)


def _generate(**fields: Any) -> Case:
    return _of("/api/generate", {"prompt": "The sea"}, fields)


def _v1_chat(**fields: Any) -> Case:
    body = {"model": "tiny", "messages": HI, "max_tokens": 2, **_FIXED, **fields}
    return post("/v1/chat/completions", **body)


def _v1_say(content: Any, **fields: Any) -> Case:
    return _v1_chat(messages=[{"role": "user", "content": content}], **fields)


def _v1_text(**fields: Any) -> Case:
    body = {"model": "tiny", "prompt": "The sea", "max_tokens": 2, **_FIXED, **fields}
    return post("/v1/completions", **body)


def _embed(**fields: Any) -> Case:
    return post("/api/embed", **{"model": "tiny-embed", "input": "sea", **fields})


def _legacy(**fields: Any) -> Case:
    return post("/api/embeddings", **{"model": "tiny-embed", "prompt": "sea", **fields})


def _v1_embed(**fields: Any) -> Case:
    return post("/v1/embeddings", **{"model": "tiny-embed", "input": "sea", **fields})


def _each(*values: Any) -> tuple[Any, ...]:
    """Values of any kind."""
    return values


def _both(*cases: Case) -> list[AnyCase]:
    """Each of them whole and streamed."""
    return [
        case._replace(body=case.body | {"stream": stream})
        for case in cases
        for stream in (False, True)
    ]


_OPTIONS = _each(
    {"num_predict": 1}, {"num_predict": 2.9}, {"stop": _FIRST}, {"stop": ["nowhere"]},
    {"top_k": 1, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.9, "nope": 1, "mirostat": 2},
    {"repeat_penalty": 1.5, "repeat_last_n": -1, "presence_penalty": 1, "frequency_penalty": 1},
    {"seed": None, "num_keep": 0}, {"num_ctx": CONTEXT},
)  # fmt: skip
_WRONG_OPTIONS = _each(
    {"num_ctx": "big"}, {"temperature": "hot"}, {"stop": "x"}, {"stop": [1]}, {"seed": "x"},
    {"use_mmap": 1}, {"num_predict": True}, {"top_k": []}, {"repeat_penalty": {}}, [], 5,
)  # fmt: skip
_WRONG = _each(
    {"top_logprobs": 21}, {"model": "nope"}, {"model": ""}, {"model": "a/b/c/d"}, {"think": True},
    {"think": "extreme"}, {"keep_alive": "x"}, {"keep_alive": True}, {"format": "xml"},
    {"format": 5}, {"format": "xml", "stream": False}, {"stream": "no"}, {"logprobs": "yes"},
    {"model": "tiny-embed"},
)  # fmt: skip

_CHAT: list[AnyCase] = [
    *_both(
        _chat(),
        _chat(messages=[*HI, _SAID, *HI], options=_OPTIONS[2]),
        _chat(logprobs=True, top_logprobs=2),
        _say(_NEARLY_FULL, options={"num_predict": 3}),
    ),
    *(_chat(options=options) for options in _OPTIONS),
    *(_chat(messages=messages) for messages in _each(
        [_SYSTEM, *HI], [{"role": "USER", "content": _ODD}], [{"role": "user"}],
        [{"role": "narrator", "content": "x"}], [{"role": "user", "content": ""}],
        [*HI, {"role": "tool", "tool_name": "weather", "content": "sun"}],
    )),
    *(_chat(stream=False, **fields) for fields in _each(
        {"logprobs": True}, {"top_logprobs": 3}, {"think": False}, {"keep_alive": "5m"},
        {"keep_alive": -1}, {"tools": []}, {"format": ""}, {"truncate": False},
    )),
]  # fmt: skip
_GENERATE: list[AnyCase] = [
    *_both(*(_generate(**fields) for fields in _each(
        {}, {"raw": True}, {"context": [2364, 236787, 5631, 107]}, {"options": _OPTIONS[2]},
        {"logprobs": True, "top_logprobs": 2}, {"prompt": _LONG}, {"system": "Be short."},
    ))),
    *(_generate(stream=False, **fields) for fields in _each(
        {"context": []}, {"suffix": ""}, {"prompt": _ODD}, {"raw": True, "logprobs": True},
        {"prompt": _LONG, "raw": True},
        {"prompt": _LONG, "options": {"num_keep": 9}}, {"keep_alive": "1m"}, {"think": False},
    )),
    *(_generate(options=options) for options in _OPTIONS),
]  # fmt: skip
_LOADS: list[AnyCase] = [
    *(_chat(messages=messages) for messages in _each([], None)),
    _chat(messages=[], stream=False, keep_alive="1m"),
    *(_generate(**fields) for fields in _each(
        {"prompt": ""}, {"prompt": None}, {"prompt": "", "raw": True},
    )),
    *_both(_v1_text(prompt="")),
    _v1_text(prompt="", stream=True, stream_options=_USAGE),
    *(_embed(input=value) for value in _each("", [], None)),
    _legacy(prompt=""),
]  # fmt: skip
_V1: list[AnyCase] = [
    *_both(
        *(_v1_chat(**fields) for fields in _each(
            {}, {"stop": _FIRST}, {"logprobs": True, "top_logprobs": 2},
            {"messages": [_SYSTEM, *HI, _SAID, *HI]},
        )),
        _v1_say([{"type": "text", "text": "hi"}]),
        *(_v1_text(**fields) for fields in _each({}, {"stop": _FIRST})),
    ),
    *(_v1_chat(**fields) for fields in _each(
        {"stop": "nowhere"}, {"max_tokens": 1}, {"logprobs": True}, {"top_p": 0.5},
        {"frequency_penalty": 1, "presence_penalty": 1}, {"response_format": {"type": "text"}},
        {"messages": [{"role": "developer", "content": "hi"}]}, {"n": 2, "logit_bias": {"1": 1}},
        {"unknown": 1, "user": "u", "keep_alive": 0}, {"reasoning_effort": "none"},
        {"stream_options": _USAGE}, {"stream": True, "stream_options": _USAGE},
        {"stream": True, "stream_options": {}},
        {"stream": True, "stream_options": _USAGE, "stop": _FIRST},
    )),
    *(_v1_text(**fields) for fields in _each(
        {"max_tokens": 1}, {"logprobs": 3}, {"echo": True, "best_of": 1}, {"suffix": ""},
        {"top_p": 0}, {"stream": True, "stream_options": _USAGE},
    )),
]  # fmt: skip
_EMBED: list[AnyCase] = [
    *(_embed(**fields) for fields in _each(
        {}, {"input": ["sea", "The green hill"]}, {"input": [""]}, {"input": ["a", "a"]},
        {"dimensions": 8}, {"dimensions": 0}, {"dimensions": -1}, {"dimensions": 9999},
        {"input": _ODD}, {"input": _OVERLONG}, {"keep_alive": "5m", "options": {"nope": 1}},
        {"truncate": False, "stream": True},
    )),
    *(_legacy(**fields) for fields in _each({}, {"prompt": "The green hill", "options": {}})),
    *(_v1_embed(**fields) for fields in _each(
        {}, {"input": ["sea", "The green hill"]}, {"input": ""}, {"encoding_format": "base64"},
        {"encoding_format": "BASE64", "input": ["a", "b"]}, {"dimensions": 8}, {"user": "u"},
    )),
]  # fmt: skip
_FAULTS: list[AnyCase] = [
    *(post(path, b"{bad") for path in ("/api/chat", "/api/generate", "/api/embed")),
    *(_chat(**fields) for fields in _WRONG),
    *(_generate(**fields) for fields in _WRONG),
    *(_chat(messages=value) for value in _each({}, "hi", [5], [{"content": 5}])),
    *(_chat(options=options) for options in _WRONG_OPTIONS),
    *(_generate(options=options) for options in _WRONG_OPTIONS[:3]),
    _chat(tools=[_TOOL]),
    _chat(messages=[{**HI[0], "images": ["!!!"]}]),
    *(_generate(**fields) for fields in _each(
        {"raw": True, "system": "x"}, {"raw": True, "template": "x"}, {"raw": True, "context": [1]},
        {"prompt": 5}, {"context": ["a"]}, {"suffix": "b"},
    )),
    *(_embed(**fields) for fields in _each(
        {"model": "tiny"}, {"model": "nope"}, {"model": ""}, {"input": 5}, {"input": [1]},
        {"input": {}}, {"input": ["a", 5]}, {"dimensions": "8"}, {"options": {"num_ctx": "x"}},
        {"keep_alive": "x"}, {"input": _LONG, "truncate": False},
    )),
    *(_legacy(**fields) for fields in _each(
        {"model": "tiny"}, {"model": "nope"}, {"prompt": 5}, {"prompt": _LONG},
    )),
    *(_v1_embed(**fields) for fields in _each(
        {"model": "tiny"}, {"model": "nope"}, {"input": []}, {"input": None}, {"input": 5},
        {"input": [1]}, {"encoding_format": "hex"}, {"dimensions": "x"},
    )),
    *(_v1_chat(**fields) for fields in _each(
        {"model": "nope"}, {"model": "nope", "stream": True}, {"messages": []}, {"messages": None},
        {"stop": 5}, {"temperature": "x"}, {"tools": [_TOOL]}, {"reasoning_effort": "zip"},
        {"reasoning_effort": "high"}, {"model": "tiny-embed"}, {"top_logprobs": 21},
        {"stream": "yes"}, {"max_tokens": "x"},
    )),
    *(_v1_say(content) for content in _each(5, [{"type": "nope"}])),
    *(_v1_text(**fields) for fields in _each(
        {"model": "nope"}, {"model": "nope", "stream": True}, {"prompt": ["a"]}, {"prompt": 5},
        {"stop": 5}, {"suffix": "x"}, {"model": "tiny-embed"}, {"max_tokens": "x"},
    )),
]  # fmt: skip

ALIKE: dict[str, list[AnyCase]] = {
    "chat": _CHAT,
    "generate": _GENERATE,
    "v1": _V1,
    "embed": _EMBED,
    "loads": _LOADS,
    "faults": _FAULTS,
}
"""Those whose answers must not differ, but for what the daemon adds to every one."""

_BIG = {"num_predict": 9}
UNLIKE: dict[str, list[AnyCase]] = {
    "formats": [
        *_both(_chat(format=_SCHEMA, options=_BIG)),
        _generate(format=_SCHEMA, options=_BIG),
        _chat(format="json", stream=False, options=_BIG),
        _v1_chat(response_format=_FORMAT, max_tokens=9),
    ],
    "prefill": [
        *_both(_chat(messages=[*HI, _SAID])),
        _chat(messages=[*HI, _SAID, _SAID], stream=False),
        _v1_chat(messages=[*HI, _SAID]),
    ],
    "histories": [_chat(messages=_HISTORY, stream=False)],
    "long messages": [
        *_both(_say(_LONG)), _v1_say(_LONG), _v1_text(prompt=_LONG),
    ],
    "full contexts": [
        _say(_NEARLY_FULL, options={"num_predict": 20, "repeat_penalty": 1.5}),
        _generate(prompt=_LONG, raw=True, options={"num_keep": -1}),
    ],
    "engine errors": [
        _say(_LONG, truncate=False),
        _say(_LONG, truncate=False, stream=False),
        _generate(prompt=_LONG, raw=True, truncate=False),
        *(_chat(format=wanted, stream=False) for wanted in _each({"type": 5}, [])),
        *_both(_chat(messages=[{**HI[0], "images": [_PIXEL]}])),
        _generate(images=[_PIXEL]),
        _v1_say([{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PIXEL}"}}]),
    ],
    "templates": [_generate(template="{{ .Prompt }}", stream=False)],
    "debug": [_generate(_debug_render_only=True), _chat(_debug_render_only=True)],
}  # fmt: skip
"""Those whose answers may differ, each group in its own way."""
