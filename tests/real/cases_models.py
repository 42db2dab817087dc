"""Cases of what models are asked: loads, options, formats, tools, images, thinking, vectors."""

from __future__ import annotations

from typing import Any

from tests.fakes.cases import Case, chat, completion, generate, openai, post
from tests.real.case import HI, ONE, AnyCase, with_headers

_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
_DATA_URL = f"data:image/png;base64,{_PIXEL}"
_TOWN = {"type": "string", "title": "Town"}
_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a town",
        "parameters": {"type": "object", "properties": {"town": _TOWN}, "required": ["town"]},
    },
}
_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
_LONG = "q " * 5000


def _called(arguments: Any, **fields: Any) -> dict[str, Any]:
    """A message in which the assistant calls the tool."""
    call = {"function": {"name": "weather", "arguments": arguments}, **fields}
    return {"role": "assistant", "tool_calls": [call]}


def _parts(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def _each(*values: Any) -> tuple[Any, ...]:
    """Values of any kind."""
    return values


def _one(case: Case) -> Case:
    """The same, with one token for an answer."""
    return case._replace(body=case.body | {"options": ONE, "stream": False})


LOADS: list[AnyCase] = [
    *(generate(**fields) for fields in (
        {"prompt": "", "stream": False}, {"prompt": None}, {"prompt": "", "images": ["AAAA"]},
        {"prompt": "", "keep_alive": "10m", "options": {}}, {"prompt": "", "system": "s"},
        {"prompt": "", "model": "nope", "keep_alive": 0}, {"prompt": "", "model": "tiny-embed"},
        {"prompt": "", "model": "m:", "keep_alive": 0},
    )),
    *(chat(**fields) for fields in (
        {"messages": None, "stream": False}, {"messages": [], "tools": [_WEATHER]},
        {"messages": [], "model": "nope", "keep_alive": 0}, {"messages": [], "model": "tiny-embed"},
    )),
    *(post(path, model="tiny") for path in ("/api/generate", "/api/chat")),
    *(chat(messages=[], keep_alive=value) for value in _each(
        -1, "-1", "-1m", "90s", "1h30m", "1.5h", "", "abc", False, None, [], {}, "5 m", 1e12,
    )),
    *(post("/api/embed", model="tiny-embed", input="a", keep_alive=value) for value in ("x", "5m")),
    post("/api/embeddings", model="tiny-embed", prompt="a", keep_alive="-1s"),
]  # fmt: skip

UNLOADS: list[AnyCase] = [
    *(generate(prompt="", **fields) for fields in (
        {"keep_alive": "0s"}, {"keep_alive": 0, "stream": False},
        {"keep_alive": 0.0, "model": "tiny-think"}, {"keep_alive": 0, "model": "tiny-embed"},
    )),
    *(chat(messages=[], keep_alive=value) for value in ("0", 0, 0.5)),
    generate(options=ONE, keep_alive=0),
]  # fmt: skip

OPTIONS: list[AnyCase] = [
    *(chat(stream=False, options=ONE | options) for options in _each(
        {"nope": 1, "mirostat": 2}, {"num_predict": 1.9}, {"temperature": None, "num_thread": None},
        {"temperature": 1, "seed": 7.5, "stop": ["x", "y"], "top_k": 1, "top_p": 0.5},
        {"num_keep": "4"}, {"seed": "x"}, {"repeat_penalty": []}, {"num_gpu": {}}, {"stop": [1]},
        {"num_predict": True}, {"use_mmap": 1}, {"stop": []}, {"num_ctx": None},
    )),
    chat(options={"num_predict": 3, "num_ctx": "4096"}),
    generate(options={"num_predict": "3"}, stream=False),
    post("/api/embed", model="tiny-embed", input="a", options={"num_ctx": "x"}),
    *(_one(chat(format=value)) for value in _each("json", "", None, _SCHEMA, 5, [], {})),
    *(chat(format=value) for value in ("json", {"type": 5})),
    *(generate(format=value) for value in (_SCHEMA, "xml")),
    *(openai(max_tokens=1, response_format=value) for value in (
        {"type": "json_object"}, {"type": "text"}, "json", {"type": "json_schema"},
    )),
    openai(stream=True, response_format={"type": "json_schema", "json_schema": {"schema": {}}}),
    *(chat(**fields) for fields in (
        {"logprobs": True, "top_logprobs": 20}, {"top_logprobs": 3, "options": ONE},
        {"top_logprobs": -1}, {"logprobs": "yes"}, {"logprobs": True, "top_logprobs": 1.5},
    )),
    generate(logprobs=True, top_logprobs=1),
    generate(top_logprobs=21),
    openai(logprobs=True, top_logprobs=2),
    openai(logprobs=True, stream=True),
    openai(top_logprobs=21),
    completion(logprobs=3, max_tokens=1),
]  # fmt: skip

CONTENT: list[AnyCase] = [
    *(_one(chat(messages=messages)) for messages in _each(
        [{}], [None], [{"role": "user"}], [{"role": "USER", "content": "hi"}],
        [{"role": "narrator", "content": "hi"}], [{"role": "system", "content": "s"}],
        [*HI, {"role": "assistant", "content": "I say"}],
        [{"role": "user", "content": "h\u00e9 \u4f60 \U0001f600 <&> \u2028"}],
        [*HI, {"role": "assistant", "content": "", "tool_calls": []}],
    )),
    *(_one(chat(messages=[{"role": "user", "content": "hi", "images": images}])) for images in (
        [], None, ["!!!"], [_DATA_URL], [_PIXEL], "AAAA", [5],
    )),
    chat(messages=[{"role": "user", "content": "hi", "images": [_PIXEL]}]),
    *(generate(images=[image]) for image in (_PIXEL, "!!!")),
    *(openai(messages=_parts(part)) for part in (
        {"type": "image_url", "image_url": {"url": _DATA_URL}},
        {"type": "image_url", "image_url": "http://127.0.0.1/x.png"}, {"type": "nope"}, 5,
        {"type": "text", "text": 5},
    )),
    *(_one(chat(tools=tools)) for tools in _each([], None, [5], "x", [{}])),
    chat(model="tiny-tools", tools=[_WEATHER]),
    *(_one(chat(model="tiny-tools", **fields)) for fields in _each(
        {"tools": [{}]},
        {"messages": [*HI, _called({"town": "Riga"}),
                      {"role": "tool", "tool_name": "weather", "content": "sun"}],
         "tools": [_WEATHER]},
        {"messages": [*HI, _called("{}")]},
    )),
    *(openai(**{"model": "tiny-tools", "tools": [_WEATHER]} | fields) for fields in (
        {"stream": True}, {"model": "tiny"},
        {"messages": [*HI, _called('{"town":"Riga"}', id="c1", type="function"),
                      {"role": "tool", "tool_call_id": "c1", "content": "sun"}]},
        {"messages": [*HI, _called("{bad", id="c1", type="function")]},
    )),
    chat(model="tiny-think", think=True),
    *(_one(chat(model="tiny-think", think=think)) for think in (False, "low", None, 5, "x", "")),
    generate(model="tiny-think", think=True),
    generate(think="high"),
    openai(model="tiny-think", reasoning={"effort": "low"}, stream=True),
    *(openai(max_tokens=1, reasoning_effort=effort) for effort in ("none", "high")),
]  # fmt: skip

GENERATES: list[AnyCase] = [
    *(_one(generate(**fields)) for fields in (
        {"system": "s"}, {"template": "{{ .Prompt }}"}, {"template": "{{ .Nope"},
        {"context": [1, 2, 3]}, {"context": ["a"]}, {"raw": True, "template": "x"},
        {"raw": True, "context": [1]}, {"prompt": 5}, {"prompt": ["a"]}, {"suffix": ""},
        {"prompt": "\u00e9\u4f60 <&>", "raw": None, "truncate": False, "shift": True},
        {"_debug_render_only": True},
    )),
    generate(_debug_render_only=True),
    chat(_debug_render_only=True),
    generate(prompt=_LONG, truncate=False),
]  # fmt: skip

OPENAI: list[AnyCase] = [
    *(openai(**{"max_tokens": 1} | fields) for fields in _each(
        {"stop": "x"}, {"stop": 5}, {"temperature": "x"}, {"seed": "x"}, {"max_tokens": "x"},
        {"seed": 1, "top_p": 0.5, "frequency_penalty": 1, "presence_penalty": 1, "n": 2},
        {"stream": "yes"}, {"stream_options": {"include_usage": True}},
        {"stream": True, "stream_options": {}}, {"stream": True, "stream_options": 5},
        {"unknown": True, "keep_alive": 0, "user": "u", "logit_bias": {"1": 1}},
        {"options": {"num_ctx": "x"}}, {"messages": None}, {"messages": {}}, {"messages": [{}]},
        {"messages": [{"role": "developer", "content": "hi"}]}, {"messages": [], "model": ""},
        {"messages": [{"role": "user", "content": None}]}, {"messages": _parts()},
        {"model": None}, {"tools": "x"}, {"model": "tiny-embed", "stream": True},
    )),
    *(completion(**{"max_tokens": 1} | fields) for fields in (
        {"prompt": None}, {"prompt": 5}, {"suffix": "x"}, {"stop": 5}, {"max_tokens": "x"},
        {"echo": True, "best_of": 1, "seed": 3}, {"stream": True, "stop": ["x"]},
        {"stream": True, "model": "nope"},
    )),
    *(post("/v1/embeddings", model="tiny-embed", **fields) for fields in (
        {"input": "a"}, {"input": "a", "encoding_format": "base64"}, {"input": 5}, {"input": None},
        {"input": "a", "dimensions": 8}, {"input": "a", "dimensions": "x"}, {"input": [1, 2]},
        {"input": ["a", 5]},
    )),
]  # fmt: skip

EMBEDS: list[AnyCase] = [
    *(post("/api/embed", model="tiny-embed", **fields) for fields in _each(
        {"input": "a b"}, {"input": "a", "dimensions": 0, "truncate": None},
        {"input": "a", "dimensions": -1}, {"input": "a", "dimensions": 9999},
        {"input": "a", "dimensions": "8"}, {"input": 5}, {"input": {}}, {"input": ["a", 5]},
        {"input": [""]}, {"input": None}, {"input": _LONG, "truncate": False},
        {"input": "a", "stream": True}, {"prompt": "a"},
    )),
    *(post("/api/embeddings", model="tiny-embed", **fields) for fields in (
        {"prompt": 5}, {"prompt": None}, {"prompt": _LONG}, {"input": "a"},
    )),
    post("/api/embeddings", model="tiny", prompt="a"),
]  # fmt: skip

SHOWS: list[AnyCase] = [
    *(post("/api/show", model="tiny", **fields) for fields in (
        {"verbose": None}, {"verbose": "x"}, {"system": "s", "options": {"seed": 1}},
        {"template": "x"},
    )),
    *(post("/api/show", model=model) for model in ("tiny-embed", "tiny-think")),
    with_headers(post("/api/show", model="TINY"), ("User-Agent", "GitHubCopilotChat/1.0")),
]  # fmt: skip

SAME_FAULT: list[AnyCase] = [
    chat(model="", top_logprobs=21),
    chat(model="m:", format="xml"),
    chat(model="nope", stream=False, format="xml"),
    chat(model="nope", tools=[{}]),
    generate(model="nope", raw=True, system="x"),
    generate(model="nope", options={"num_ctx": "x"}),
    completion(model="nope", stop=5),
    openai(model="nope", stop=5),
]

# What follows may differ.

TWO_FAULTS: list[AnyCase] = [
    chat(model="nope", top_logprobs=21),
    chat(model="nope", think="x"),
    chat(model="nope", keep_alive="x"),
    generate(model="nope", top_logprobs=21),
    openai(model="nope", messages=[]),
    openai(model="nope", messages=[{"role": "user", "content": 5}]),
    openai(model="nope", reasoning_effort="zip"),
    completion(model="nope", prompt=["a"]),
    post("/api/embed", model="nope", input=[1]),
    *(post("/v1/embeddings", model="nope", **fields) for fields in _each(
        {"input": "a", "encoding_format": "hex"}, {"input": []}, {},
    )),
]  # fmt: skip
