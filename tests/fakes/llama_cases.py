"""Requests whose answers are known from a real llama-server; `tests.fakes.shapes` compares.

They fit a chat server of 2,048 tokens in two slots, and one that embeds in 512.
"""

from __future__ import annotations

from typing import Any

from tests.fakes.cases import Case, get, post

_HI = [{"role": "user", "content": "hi"}]
_PARTS = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
_TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
_SURE = {"ignore_eos": True, "temperature": 0, "seed": 1}
_LONG = "q " * 3000
_SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}


def _with(path: str, base: dict[str, Any], fields: dict[str, Any]) -> Case:
    is_loose = fields.pop("is_loose", False)
    body = {key: value for key, value in (base | fields).items() if value is not ...}
    return post(path, body, is_loose=is_loose)


def chat(**fields: Any) -> Case:
    """`/v1/chat/completions`, short."""
    base = {"model": "tiny", "messages": _HI, "max_tokens": 3} | _SURE
    return _with("/v1/chat/completions", base, fields)


def text(**fields: Any) -> Case:
    """`/v1/completions`, short."""
    base = {"model": "tiny", "prompt": "a b", "max_tokens": 3} | _SURE
    return _with("/v1/completions", base, fields)


def completion(**fields: Any) -> Case:
    """`/completion`, short."""
    return _with("/completion", {"prompt": "a b", "n_predict": 3} | _SURE, fields)


def infill(**fields: Any) -> Case:
    """`/infill`."""
    return _with("/infill", {"input_prefix": "a", "input_suffix": "b", "n_predict": 3}, fields)


CASES = [
    get("/health"),
    get("/v1/health"),
    Case("HEAD", "/health"),
    get("/props"),
    get("/metrics"),
    get("/v1/models"),
    get("/models"),
    Case("HEAD", "/v1/models"),
    Case("OPTIONS", "/v1/chat/completions"),
    Case("OPTIONS", "/v1/chat/completions", None, (("Origin", "http://a.example"),)),
    get("/health", ("Origin", "http://a.example")),
    get("/health", ("Connection", "close")),
    get("/"),
    get("/health/"),
    get("/health?x=1"),
    get("/health", ("Host", "evil.example")),
    get("/nope"),
    Case("HEAD", "/nope"),
    Case("OPTIONS", "/nope"),
    get("/api/version"),
    get("/api/ps"),
    get("/v1/chat/completions"),
    get("/v1/models/tiny"),
    Case("PUT", "/health"),
    Case("DELETE", "/v1/models"),
    post("/health", {}),
    post("/api/embed", input="a"),
    post("/props", {}),
    chat(),
    chat(model=...),
    chat(model="nope"),
    chat(model="", messages=_PARTS),
    chat(stream=True),
    chat(**_USAGE),
    chat(stream=True, stream_options={"include_usage": False}),
    chat(stream=True, timings_per_token=True),
    chat(stream=True, return_progress=True),
    chat(n_predict=2),
    chat(max_tokens=0),
    chat(max_completion_tokens=2),
    chat(stop=["zzzz"]),
    chat(stop=5),
    chat(temperature=0, top_k=1, min_p=0.1, repeat_penalty=1.1, seed=1),
    chat(logprobs=True),
    chat(logprobs=True, top_logprobs=2, stream=True),
    chat(top_logprobs=2),
    chat(response_format={"type": "json_object"}),
    chat(response_format={"type": "text"}),
    chat(response_format={"type": "zip"}),
    chat(response_format=_SCHEMA),
    chat(tools=_TOOLS, max_tokens=2),
    chat(tools=_TOOLS, stream=True, logprobs=True),
    chat(tools=_TOOLS, tool_choice="zip"),
    chat(tools=_TOOLS, tool_choice={"type": "function", "function": {"name": "f"}}, max_tokens=2),
    chat(tools=[{"type": "x"}]),
    chat(tools="x"),
    chat(tools=_TOOLS, grammar='root ::= "a"'),
    chat(grammar='root ::= "aaa"', ignore_eos=..., max_tokens=1),
    chat(grammar="root ::= [", ignore_eos=...),
    chat(grammar="root ::= [", ignore_eos=..., stream=True),
    chat(chat_template_kwargs={"enable_thinking": False}),
    chat(chat_template_kwargs={"enable_thinking": "no"}),
    chat(reasoning_effort="none"),
    chat(n=2),
    chat(n=9),
    chat(messages=...),
    chat(messages=[]),
    chat(messages="hi"),
    chat(messages=["hi"]),
    chat(messages=[{"role": "user"}]),
    chat(messages=[{"content": "hi"}]),
    chat(messages=[{"role": "user", "content": 5}]),
    chat(messages=[{"role": "user", "content": None}]),
    chat(messages=[{"role": "zip", "content": "hi"}]),
    chat(messages=[{"role": "user", "content": [{"type": "zip"}]}]),
    chat(messages=[{"role": "user", "content": [_IMAGE]}]),
    chat(messages=[*_HI, {"role": "assistant", "content": "a"}]),
    chat(messages=[*_HI, *[{"role": "assistant", "content": "a"}] * 2]),
    chat(messages=[{"role": "system", "content": "s"}, *_HI]),
    chat(messages=[{"role": "tool", "content": "s"}, *_HI]),
    chat(messages=[{"role": "user", "content": _LONG}]),
    chat(messages=[{"role": "user", "content": _LONG}], stream=True),
    chat(max_tokens="x"),
    chat(max_tokens=-1, n_predict=2),
    chat(max_tokens=-2),
    chat(temperature="hot"),
    chat(stream="x"),
    chat(top_k="x"),
    chat(repeat_last_n=-1),
    chat(repeat_last_n=-2),
    chat(stream_options="x"),
    chat(unknown_field=1),
    post("/chat/completions", {"messages": _HI, "max_tokens": 2}),
    *[
        post(path)
        for path in (
            "/v1/chat/completions",
            "/v1/completions",
            "/completion",
            "/infill",
            "/v1/embeddings",
            "/tokenize",
            "/detokenize",
            "/apply-template",
        )
    ],
    *[
        post(path, {})
        for path in (
            "/v1/completions",
            "/completion",
            "/infill",
            "/v1/embeddings",
            "/tokenize",
            "/detokenize",
            "/apply-template",
        )
    ],
    post("/v1/chat/completions", b"{bad", is_loose=True),
    post("/v1/chat/completions", b"[]"),
    post("/v1/chat/completions", b"null"),
    post("/completion", b'{"prompt":"a","n_predict":1} x', is_loose=True),
    post("/completion", b'{"prompt":"\xff","n_predict":1}', is_loose=True),
    post("/completion", b'\xef\xbb\xbf{"prompt":"a","n_predict":1}'),
    post("/completion", b'{"prompt":"a","n_predict":1,"n_predict":2}'),
    post("/v1/chat/completions", b'"x"'),
    post("/completion", b"{bad", is_loose=True),
    post("/tokenize", b"{bad", is_loose=True),
    text(),
    text(stream=True),
    text(**_USAGE),
    text(suffix="b"),
    text(best_of=2),
    text(echo=True),
    text(prompt=["a", "b"]),
    text(prompt=""),
    text(logprobs=2),
    completion(),
    completion(stream=True),
    completion(stream=True, timings_per_token=True),
    completion(prompt=""),
    completion(prompt=[1, 2, 3]),
    completion(prompt=[1, 2, "a b"]),
    completion(prompt=["a", "b"]),
    completion(prompt={"x": 1}),
    completion(prompt=5),
    completion(prompt=_LONG),
    completion(prompt=_LONG, stream=True),
    completion(n_predict=-2),
    completion(n_predict=0),
    completion(n_predict="x"),
    completion(n_probs=2),
    completion(n_probs=1, stream=True),
    completion(json_schema={}, ignore_eos=..., n_predict=1),
    completion(json_schema={"type": "zip"}),
    completion(stop=["zzzz"], cache_prompt=False),
    completion(grammar="root ::= [", ignore_eos=...),
    completion(stop=["zzzz", "yyyy"], stream=True),
    completion(response_fields=["content", "stop"]),
    completion(return_progress=True, stream=True),
    completion(return_tokens=True),
    completion(id_slot=1),
    completion(id_slot=7),
    post("/completions", {"prompt": "a b", "n_predict": 2}),
    infill(),
    infill(stream=True),
    infill(input_prefix=...),
    post("/v1/embeddings", input="a b"),
    post("/embedding", content="a b"),
    post("/v1/rerank", query="a", documents=["b"]),
    post("/tokenize", content="a b c"),
    post("/tokenize", content="a b c", add_special=True),
    post("/tokenize", content="a b", with_pieces=True),
    post("/tokenize", content=""),
    post("/tokenize", content=5),
    post("/tokenize", content=["a", "b c"]),
    post("/tokenize", content=["a", 5]),
    post("/detokenize", tokens=[235250, 518]),
    post("/detokenize", tokens=[]),
    post("/detokenize", tokens="x"),
    post("/detokenize", tokens=[1, "x"]),
    post("/apply-template", messages=_HI),
    post("/apply-template", messages=[]),
    post("/apply-template", messages="x"),
    post("/apply-template", messages=[{"role": "user"}]),
    post("/v1/chat/completions/input_tokens", messages=_HI),
    get("/lora-adapters"),
    post("/slots/0?action=save", filename="x"),
    post("/slots/0?action=erase", {}),
]
"""For a chat server without a key."""

EMBED_CASES = [
    get("/health"),
    get("/props"),
    get("/v1/models"),
    post("/v1/embeddings", input="a b"),
    post("/v1/embeddings", input=["a", "b c"]),
    post("/v1/embeddings", input=[[1, 2, 3]]),
    post("/v1/embeddings", input=[1, 2, 3]),
    post("/v1/embeddings", input="a b", model="nope"),
    post("/v1/embeddings", input="a b", encoding_format="base64"),
    post("/v1/embeddings", input="a b", encoding_format="zip"),
    post("/v1/embeddings", input="a b", dimensions=8),
    post("/v1/embeddings", input=""),
    post("/v1/embeddings", input=["a", ""]),
    post("/v1/embeddings", input=[]),
    post("/v1/embeddings", input=5),
    post("/v1/embeddings", {}),
    post("/v1/embeddings", b"{bad", is_loose=True),
    post("/v1/embeddings", content="a b"),
    post("/v1/embeddings", input=_LONG),
    post("/embedding", content="a b"),
    post("/embeddings", input="a b"),
    post("/v1/chat/completions", messages=_HI, max_tokens=2),
    post("/v1/chat/completions", messages=_HI, max_tokens=2, stream=True),
    post("/completion", prompt="a", n_predict=2),
    post("/tokenize", content="a b c"),
]
"""For a server that embeds."""

_RIGHT = ("Authorization", "Bearer secret")
_WRONG = ("Authorization", "Bearer wrong")
_ASK = {"messages": _HI, "max_tokens": 2}

KEY_CASES = [
    Case(method, path, body, headers)
    for headers in (
        (),
        (_RIGHT,),
        (_WRONG,),
        (("X-Api-Key", "secret"),),
        (("Authorization", "secret"),),
    )
    for method, path, body in (
        ("GET", "/health", None),
        ("GET", "/v1/models", None),
        ("GET", "/props", None),
        ("GET", "/nope", None),
        ("OPTIONS", "/props", None),
        ("POST", "/v1/chat/completions", _ASK),
        ("POST", "/tokenize", {"content": "a"}),
    )
]
"""For a server with the key `secret`."""

VARYING: dict[str, list[Case]] = {
    "what a build does not do it refuses or ignores": [text(suffix="b"), text(best_of=2)],
    "-1 stands for the whole context, or is refused": [chat(repeat_last_n=-1)],
    "a bare key is a key for some": [
        c for c in KEY_CASES if c.headers and " " not in c.headers[0][1]
    ],
}
"""Cases that builds may answer differently, by the reason."""
