"""Requests whose answers are known from a real Ollama; needs the models of `tests.stack.store`.

The bytes of an answer vary with clocks and words; `tests.fakes.shapes` says what must not.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

_HI = [{"role": "user", "content": "hi"}]
_IMAGE = [{"role": "user", "content": "hi", "images": ["AAAA"]}]
_PARTS = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
SHORT = {"num_predict": 3}
_TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
_LONG = "q " * 5000


class Case(NamedTuple):
    """One request; a loose one has an error text that depends on the decoder."""

    method: str
    path: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    is_loose: bool = False


def get(path: str, *headers: tuple[str, str]) -> Case:
    """A GET."""
    return Case("GET", path, None, headers)


def post(path: str, body: Any = b"", *, is_loose: bool = False, **fields: Any) -> Case:
    """A POST with a JSON body made of `fields`, or with `body`."""
    return Case("POST", path, fields or body, is_loose=is_loose)


def _loosely(path: str, base: dict[str, Any], fields: dict[str, Any]) -> Case:
    is_loose = fields.pop("is_loose", False)
    return post(path, base | fields, is_loose=is_loose)


def chat(**fields: Any) -> Case:
    """`/api/chat`, short."""
    return _loosely("/api/chat", {"model": "tiny", "messages": _HI, "options": SHORT}, fields)


def generate(**fields: Any) -> Case:
    """`/api/generate`, short."""
    base = {"model": "tiny", "prompt": "a b", "options": SHORT}
    return _loosely("/api/generate", base, fields)


def openai(**fields: Any) -> Case:
    """`/v1/chat/completions`, short."""
    base = {"model": "tiny", "messages": _HI, "max_tokens": 3}
    return _loosely("/v1/chat/completions", base, fields)


def completion(**fields: Any) -> Case:
    """`/v1/completions`, short."""
    base = {"model": "tiny", "prompt": "a", "max_tokens": 3}
    return _loosely("/v1/completions", base, fields)


_USAGE = {"stream": True, "stream_options": {"include_usage": True}}

CASES = [
    get("/"),
    Case("HEAD", "/"),
    get("/api/version"),
    Case("HEAD", "/api/version"),
    get("/api/tags"),
    Case("HEAD", "/api/tags"),
    get("/nope"),
    get("/api/chat"),
    Case("PUT", "/api/tags"),
    Case("DELETE", "/api/chat"),
    Case("HEAD", "/api/ps"),
    Case("HEAD", "/v1/models"),
    Case("OPTIONS", "/api/chat"),
    Case("OPTIONS", "/api/chat", None, (("Host", "127.0.0.1"),)),
    get("/api/tags/"),
    post("/api/chat/", {}),
    get("/api/tags", ("Origin", "http://evil.example")),
    get("/api/version", ("Host", "evil.example")),
    get("/api/version", ("Host", "box.local:11434")),
    *[
        post(path)
        for path in (
            "/api/chat",
            "/api/generate",
            "/api/show",
            "/api/embed",
            "/api/embeddings",
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/embeddings",
        )
    ],
    post("/api/chat", b"{bad", is_loose=True),
    post("/api/chat", b"[]", is_loose=True),
    post("/api/chat", b'{"model":1}', is_loose=True),
    post("/api/chat", b"null"),
    post("/api/generate", b"null"),
    post("/v1/chat/completions", b"{bad", is_loose=True),
    post("/api/chat", b'{"MODEL":"tiny","Messages":[]} trailing'),
    chat(model="nope"),
    generate(model="nope"),
    post("/api/show", model="nope"),
    post("/api/embed", model="nope", input="a"),
    post("/api/embeddings", model="nope", prompt="a"),
    openai(model="nope"),
    openai(model="nope", stream=True),
    completion(model="nope"),
    post("/v1/embeddings", model="nope", input="a"),
    get("/v1/models/nope"),
    get("/v1/models/tiny"),
    get("/v1/models/user%2Ftiny"),
    chat(model=""),
    generate(model=""),
    post("/api/embed", input="a"),
    post("/api/embeddings", prompt="a"),
    post("/api/show", verbose=False),
    openai(model=""),
    chat(model="x y"),
    generate(model="x y"),
    post("/api/embed", model="x y", input="a"),
    post("/api/show", model="m:"),
    openai(model="x y"),
    chat(messages=[]),
    generate(prompt=""),
    chat(),
    chat(model="TINY:latest", stream=False),
    chat(model="user/tiny", stream=False),
    generate(),
    generate(stream=False),
    generate(raw=True, stream=False),
    generate(raw=True),
    generate(raw=True, system="x"),
    generate(suffix="b"),
    chat(logprobs=True),
    chat(logprobs=True, top_logprobs=2, stream=False),
    chat(top_logprobs=21),
    chat(think=True),
    chat(think=False, stream=False),
    chat(think="extreme"),
    chat(model="tiny-think", stream=False, think="max"),
    chat(tools=_TOOLS),
    chat(model="tiny-tools", tools=_TOOLS, stream=False),
    chat(messages=_IMAGE),
    chat(messages=_IMAGE, stream=False),
    chat(messages=[{"role": "user", "content": ["a"]}], is_loose=True),
    chat(messages=[{"role": "user", "content": _LONG}], truncate=False),
    chat(options={"num_ctx": "big"}),
    chat(options={"temperature": "hot"}),
    chat(options={"stop": "x"}),
    chat(options={"use_mmap": "x"}),
    chat(format="xml"),
    chat(format="xml", stream=False),
    chat(keep_alive="5"),
    chat(keep_alive="1d"),
    chat(keep_alive=True),
    chat(model="tiny-embed"),
    generate(model="tiny-embed"),
    openai(),
    openai(stream=True),
    openai(**_USAGE),
    openai(messages=[]),
    openai(messages=_PARTS),
    openai(messages=[{"role": "user", "content": 5}]),
    openai(model="tiny-embed"),
    openai(reasoning_effort="zip"),
    openai(response_format={"type": "json_schema", "json_schema": {"schema": "x"}}, stream=True),
    completion(),
    completion(stream=True),
    completion(**_USAGE),
    completion(prompt=""),
    completion(prompt="", stream=True),
    completion(prompt=["a"], is_loose=True),
    completion(model="tiny-embed"),
    post("/api/embed", model="tiny-embed", input=["a", "b c"]),
    post("/api/embed", model="tiny-embed", input="a", dimensions=8),
    post("/api/embed", model="tiny-embed"),
    post("/api/embed", model="tiny-embed", input=[]),
    post("/api/embed", model="tiny-embed", input=""),
    post("/api/embed", model="tiny-embed", input=[1]),
    post("/api/embed", model="tiny", input="a"),
    post("/api/embeddings", model="tiny-embed", prompt="a"),
    post("/api/embeddings", model="tiny-embed", prompt=""),
    post("/api/embeddings", model="TINY-EMBED", prompt="a"),
    post("/v1/embeddings", model="tiny-embed", input=["a", "b"]),
    post("/v1/embeddings", model="tiny-embed", input=""),
    post("/v1/embeddings", model="tiny-embed", input="a", encoding_format="BASE64"),
    post("/v1/embeddings", model="tiny-embed", input="a", encoding_format="hex"),
    post("/v1/embeddings", model="tiny-embed", input=[]),
    post("/v1/embeddings", model="tiny-embed", input=[[1, 2]]),
    post("/v1/embeddings", model="tiny", input="a"),
    post("/api/show", model="tiny"),
    post("/api/show", name="tiny-tools"),
    get("/v1/models"),
    chat(messages=[], keep_alive=0),
    generate(prompt="", keep_alive=0),
]


def name_of(case: Case) -> str:
    """A short name of a case, for test ids."""
    text = case.body.decode() if isinstance(case.body, bytes) else json.dumps(case.body)
    return f"{case.method} {case.path} {text[:90]}"
