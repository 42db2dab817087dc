"""Requests that the daemon must answer as Ollama does, beyond those recorded for the fakes."""

from __future__ import annotations

import gzip
import json
from typing import Any, NamedTuple

from tests.fakes.cases import CASES as RECORDED
from tests.fakes.cases import SHORT, Case, chat, completion, generate, get, openai, post

_CHAT = "/api/chat"
_GENERATE = "/api/generate"
_SHOW = "/api/show"
_EMBED = "/api/embed"
_EMBEDDINGS = "/api/embeddings"
_V1_CHAT = "/v1/chat/completions"
_V1_COMPLETIONS = "/v1/completions"
_V1_EMBEDDINGS = "/v1/embeddings"
_POST_ROUTES = (
    _CHAT, _GENERATE, _SHOW, _EMBED, _EMBEDDINGS, _V1_CHAT, _V1_COMPLETIONS, _V1_EMBEDDINGS,
)  # fmt: skip

_HI = [{"role": "user", "content": "hi"}]
_ORIGIN = ("Origin", "http://localhost:3000")
_EVIL = ("Origin", "http://evil.example")
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a town",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string", "title": "dropped"}},
            "required": ["town"],
        },
    },
}
_CALL = {"function": {"name": "weather", "arguments": {"town": "Riga"}}}
_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
_ONE = {"num_predict": 1}


class RawCase(NamedTuple):
    """A request that no client library would write."""

    name: str
    raw: bytes
    method: str = "GET"


def raw(name: str, *lines: str, body: bytes = b"") -> RawCase:
    """A request made of head lines and a body."""
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return RawCase(name, head + body, lines[0].partition(" ")[0])


def name_of(case: Case | RawCase) -> str:
    """A readable name; together with the path it says what the case is about."""
    if isinstance(case, RawCase):
        return case.name
    body = case.body
    shown = repr(body)[2:-1] if isinstance(body, bytes) else "" if body is None else _json(body)
    fields = " ".join(f"{name}={value}" for name, value in case.headers)
    return " ".join(part for part in (case.method, case.path, fields[:80], shown[:110]) if part)


def _json(body: Any) -> str:
    return json.dumps(body, separators=(",", ":"))


def _with_headers(case: Case, *headers: tuple[str, str]) -> Case:
    return case._replace(headers=headers)


def _preflight(path: str, origin: str, method: str = "POST") -> Case:
    asked = ("Access-Control-Request-Method", method)
    fields = ("Access-Control-Request-Headers", "content-type,authorization")
    return Case("OPTIONS", path, None, (("Origin", origin), asked, fields))


_METHODS = [
    *(Case(method, "/api/tags") for method in ("POST", "DELETE", "PATCH", "TRACE")),
    *(Case(method, _CHAT) for method in ("PUT", "PATCH", "HEAD")),
    *(Case(method, "/nope") for method in ("HEAD", "POST", "DELETE", "OPTIONS")),
    Case("POST", "/"),
    Case("POST", "/api/version", b"{}"),
    Case("POST", "/api/ps", b"{}"),
    Case("POST", "/v1/models", b"{}"),
    Case("HEAD", _SHOW),
    Case("HEAD", _V1_CHAT),
    *(get(path) for path in _POST_ROUTES[1:]),
    Case("OPTIONS", "/api/tags"),
    Case("OPTIONS", "/"),
    Case("OPTIONS", "/api/tags", None, (("Host", "127.0.0.1:9"),)),
    Case("OPTIONS", "/nope", None, (("Host", "127.0.0.1"),)),
]

_PATHS = [
    *(get(path) for path in (
        "/api/version/", "/v1/models/", "/api/ps/", "/api/tags/?x=1", "//api/tags", "/api//tags",
        "/api/tags//", "/api/./tags", "/api/../api/tags", "/API/TAGS", "/Api/Chat", "/api", "/api/",
        "/v1", "/v1/", "/api/%74ags", "/api/tags?x=1", "/api/version?priority=3",
        "/?x=1", "//", "/api/tags/x", "/index.html", "/favicon.ico", "/v1/models?limit=1",
    )),
    Case("HEAD", "/api/tags/"),
    Case("POST", "/api/tags/"),
    Case("DELETE", "//api/tags"),
    *(post(path + "/", b"{}") for path in _POST_ROUTES[1:]),
    post("/API/CHAT", b"{}"),
    post("//api/chat", b"{}"),
    post("/v1//embeddings", b"{}"),
    Case("POST", "/api/generate?stream=false", {"model": "tiny", "prompt": "a", "options": SHORT}),
    Case("POST", "/api/show?priority=9&x=1", {"model": "tiny"}),
    raw("absolute form", "GET http://localhost/api/version HTTP/1.1", "Host: localhost"),
]  # fmt: skip

_ORIGINS = [
    *(get("/api/version", ("Origin", origin)) for origin in (
        "http://localhost:3000", "http://localhost", "https://127.0.0.1", "https://0.0.0.0:8443",
        "app://x", "file://", "tauri://localhost", "vscode-webview://abc", "null", "",
        "http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://[::1]:3000",
        "chrome-extension://abc", "HTTP://LOCALHOST:3000", "http://localhost:3000/",
        "http://192.168.1.5", "ftp://localhost", "http://LocalHost",
    )),
    get("/api/version", ("Origin", "http://box.local"), ("Host", "box.local")),
    get("/api/version", ("Origin", "https://box.local:8443"), ("Host", "box.local:8443")),
    get("/api/version", ("Origin", "http://box.local:1"), ("Host", "box.local:2")),
    get("/api/version", _ORIGIN, ("Host", "evil.example")),
    get("/api/version", _EVIL, ("Host", "evil.example")),
    get("/api/tags", _ORIGIN),
    get("/v1/models", _ORIGIN),
    get("/nope", _ORIGIN),
    get("/nope", _EVIL),
    get(_CHAT, _ORIGIN),
    get(_CHAT, _EVIL),
    get("/", _ORIGIN),
    _with_headers(chat(), _ORIGIN),
    _with_headers(chat(messages=[]), _ORIGIN),
    _with_headers(chat(model="nope"), _ORIGIN),
    _with_headers(chat(), _EVIL),
    _with_headers(openai(stream=True), _ORIGIN),
    _with_headers(post(_CHAT, b"{bad"), _ORIGIN),
    _with_headers(post(_SHOW, model="tiny"), _ORIGIN),
    _preflight(_CHAT, "http://localhost:3000"),
    _preflight(_CHAT, "app://x"),
    _preflight(_CHAT, "http://evil.example"),
    _preflight("/api/tags", "http://localhost:3000", "GET"),
    _preflight("/nope", "http://localhost:3000", "GET"),
    _preflight("/v1/models", "http://localhost:3000", "BREW"),
    _preflight("/api/tags/", "http://localhost:3000", "GET"),
    Case("OPTIONS", _CHAT, None, (_ORIGIN,)),
    Case("OPTIONS", _CHAT, None, (_ORIGIN, ("Host", "127.0.0.1"))),
    Case("OPTIONS", _CHAT, None, (("Origin", "http://localhost"),)),
]  # fmt: skip

_HOSTS = [
    *(get("/api/version", ("Host", host)) for host in (
        "localhost", "LOCALHOST:1", "localhost.", "x.localhost", "x.LOCAL", "x.internal:80",
        "local", "evil.local.example", "evil.example:11434", "127.0.0.1", "127.9.9.9:5", "[::1]:5",
        "::1", "10.1.2.3", "172.16.1.1", "172.32.1.1", "192.168.0.9:80", "169.254.1.1",
        "8.8.8.8", "0.0.0.0", "[fe80::1]", "[2001:db8::1]", "[fd00::1]:5", "2130706433",
        "127.1", "", ":80", "localhost:http",
    )),
    Case("OPTIONS", _CHAT, None, (("Host", "evil.example"),)),
    Case("OPTIONS", _CHAT, None, (("Host", "x.local"),)),
    get("/nope", ("Host", "evil.example")),
    get(_CHAT, ("Host", "evil.example")),
]  # fmt: skip

_HI_BODY = _json({"model": "tiny", "messages": _HI, "options": SHORT, "stream": False}).encode()
_HI_STREAM = _json({"model": "tiny", "messages": _HI, "options": SHORT}).encode()
_LOAD_BODY = b'{"model":"tiny","messages":[]}'
_POST_CHAT = "POST /api/chat HTTP/1.1"
_LOAD_LENGTH = f"Content-Length: {len(_LOAD_BODY)}"
_LENGTH = f"Content-Length: {len(_HI_BODY)}"

_TRANSPORT = [
    raw("no HTTP/1.1", "GET /api/version HTTP/1.0"),
    raw("HTTP/1.0 with host", "GET /api/version HTTP/1.0", "Host: localhost"),
    raw("HTTP/1.0 keep-alive", "GET /api/version HTTP/1.0", "Connection: keep-alive"),
    raw("HTTP/1.0 chat", "POST /api/chat HTTP/1.0", _LENGTH, body=_HI_BODY),
    raw("HTTP/1.0 stream", "POST /api/chat HTTP/1.0", f"Content-Length: {len(_HI_STREAM)}", body=_HI_STREAM),
    raw("close", "GET /api/version HTTP/1.1", "Host: localhost", "Connection: close"),
    raw("close of a stream", _POST_CHAT, "Host: localhost", "Connection: close", f"Content-Length: {len(_HI_STREAM)}", body=_HI_STREAM),
    raw("chunked body", _POST_CHAT, "Host: localhost", "Transfer-Encoding: chunked",
        body=b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (_HI_BODY[:5], len(_HI_BODY) - 5, _HI_BODY[5:])),
    raw("expect 100", _POST_CHAT, "Host: localhost", "Expect: 100-continue", _LENGTH, body=_HI_BODY),
    raw("no content type", _POST_CHAT, "Host: localhost", _LOAD_LENGTH, body=_LOAD_BODY),
    raw("form content type", _POST_CHAT, "Host: localhost", "Content-Type: application/x-www-form-urlencoded", _LOAD_LENGTH, body=_LOAD_BODY),
    raw("multipart content type", _POST_CHAT, "Host: localhost", "Content-Type: multipart/form-data; boundary=x", _LOAD_LENGTH, body=_LOAD_BODY),
    raw("other charset", _POST_CHAT, "Host: localhost", "Content-Type: application/json; charset=utf-16", _LOAD_LENGTH, body=_LOAD_BODY),
    raw("no length", _POST_CHAT, "Host: localhost"),
    raw("body on GET", "GET /api/tags HTTP/1.1", "Host: localhost", "Content-Length: 2", body=b"{}"),
    raw("body on HEAD", "HEAD /api/version HTTP/1.1", "Host: localhost", "Content-Length: 2", body=b"{}"),
    raw("large header", _POST_CHAT, "Host: localhost", "X-Large: " + "x" * 60_000, _LOAD_LENGTH, body=_LOAD_BODY),
    raw("long query", "GET /api/version?" + "x" * 30_000 + " HTTP/1.1", "Host: localhost"),
    raw("bytes beyond ASCII in a header", _POST_CHAT, "Host: localhost", "X-Name: J\xe9r\xf4me", _LOAD_LENGTH, body=_LOAD_BODY),
    *(_with_headers(chat(messages=[]), header) for header in (
        ("Authorization", "Bearer sk-1"), ("x-api-key", "sk-1"), ("Accept-Encoding", "gzip, br"),
        ("Accept", "text/html"), ("Cookie", "a=b"), ("X-Forwarded-For", "203.0.113.9"),
        ("Referer", "http://evil.example/"), ("Sec-Fetch-Site", "cross-site"),
        ("Content-Encoding", "identity"), ("TE", "trailers"), ("Upgrade", "h2c"), ("Range", "bytes=0-9"),
        ("If-None-Match", "*"),
    )),
    get("/api/version", ("Accept", "application/xml")),
    get("/api/tags", ("Accept-Encoding", "gzip")),
    get("/api/tags", ("If-Modified-Since", "Sat, 01 Jan 2050 00:00:00 GMT")),
]  # fmt: skip

_BODIES = [
    *(post(path, b"{bad") for path in _POST_ROUTES[1:] if path != _V1_CHAT),
    *(post(path, b"[]") for path in _POST_ROUTES[1:]),
    *(post(path, b"{}") for path in _POST_ROUTES),
    *(post(path, b"null") for path in _POST_ROUTES if path not in {_CHAT, _GENERATE}),
    *(post(path, b'{"model":5}') for path in _POST_ROUTES[1:]),
    *(post(path, b'{"model":null}') for path in _POST_ROUTES),
    *(post(_CHAT, body) for body in (
        b" \n ", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"true", b'"tiny"', b"12", b"{", b"{]",
        b'{"model"', b'{"model":}', b"{'model':1}", b'{"model":"tiny",}', b'{"model":"ti\nny"}',
        b'{"model":"tiny\\x"}', b'{"model":tru}', b'{"model":01}', b'{"model":1.}', b'{"model":-}',
        b'{"model":"tiny","messages":[}', b'{"model":"\\ud800"}', b'{"model":"ti\xffny"}',
        b'{"model":"tiny","messages":' + b"[" * 11_000, b'{"model":"tiny"',
        b'{"model":"tiny","messages":[]}{"model":"nope"}', b'{"model":"tiny","messages":[]}]',
        b'\t\r\n {"model":"tiny","messages":[]}', b'{"model":"nope","model":"tiny","messages":[]}',
        b'{"MODEL":"nope","model":"tiny","messages":[]}', b'{"model":"tiny","MODEL":"nope"}',
        b'{"model":"tiny","model":null,"messages":[]}', b'{"\\u006dodel":"tiny","messages":[]}',
        b'{"model":"tiny","messages":[],"nan":NaN}', b'{"model":"tiny","messages":[],"x":1e999}',
        b'{"model":"tiny","messages":[],"stream":"no"}', b'{"model":"tiny","messages":[],"stream":0}',
        b'{"model":"tiny","messages":[],"stream":null}', b'{"model":"tiny","messages":null}',
        b'{"model":"tiny","messages":{}}', b'{"model":"tiny","messages":"hi"}',
        b'{"model":"tiny","messages":[1]}', b'{"model":"tiny","messages":[{"content":5}]}',
        b'{"model":"tiny","messages":[{"role":5}]}', b'{"model":"tiny","messages":[[]]}',
        b'{"model":"tiny","messages":[],"options":[]}', b'{"model":"tiny","messages":[],"options":5}',
        b'{"model":"tiny","messages":[],"tools":{}}', b'{"model":"tiny","messages":[],"format":{bad}',
        b'{"model":"tiny","me\xc5\xbf\xc5\xbfages":[]}',
    )),
    post(_CHAT, _json({"model": "tiny", "messages": _HI, "options": SHORT}).encode()
         .replace(b'"hi"', b'"h\xff\xfei"').replace(b"}}", b'},"stream":false}')),
    post(_CHAT, _json({"model": "tiny", "messages": _HI, "options": SHORT, "stream": False})
         .encode().replace(b'"hi"', b'"h\\ud800i \\u0000"')),
    post(_GENERATE, b'{"Model":"tiny","PROMPT":"a","Options":{"num_predict":3},"STREAM":false}'),
    post(_GENERATE, b'{"model":"tiny","prompt":"a","options":{"NUM_PREDICT":3},"stream":false}'),
    post(_SHOW, b'{"NAME":"tiny"}trailing'),
    post(_EMBED, b'{"model":"tiny-embed","Input":"a","input":"b"} x'),
    post(_V1_CHAT, b'{"Model":"tiny","MESSAGES":[{"Role":"user","Content":"hi"}],"max_tokens":3}'),
    post(_V1_CHAT, b'{"model":"tiny","messages":[{"role":"user","content":"hi"}],"max_tokens":3}]]'),
    post(_V1_CHAT, b'\xef\xbb\xbf{"model":"tiny"}'),
    post(_V1_EMBEDDINGS, b'{"INPUT":"a","model":"tiny-embed"}'),
    chat(stream=None, messages=[{"role": "user", "content": "hi", "extra": {"a": [1]}}], extra=1),
]  # fmt: skip

_NAMES = (
    "tiny:latest", "TINY", "Tiny:LATEST", "library/tiny", "LIBRARY/tiny:latest",
    "registry.ollama.ai/library/tiny:latest", "Registry.Ollama.AI/Library/Tiny", "tiny:short",
    "tiny:SHORT", "user/tiny", "User/Tiny:Latest", "registry.ollama.ai/user/tiny", "tiny:nope",
    "nope/tiny", "example.com/library/tiny", "http://registry.ollama.ai/library/tiny", ":m",
    "-m", "a/b/c/d", "host:5000/m", "host:5000/a/tiny", "localhost:5000/library/tiny:latest",
    "x y", " tiny", "tiny ", "tiny\n", "../tiny", "/tiny", "tiny/", "tiny::latest", "tiny:a:b",
    "tiny@sha256:" + "a" * 64, "tiny@n1", "t\u00ednya", "\u212aey", "a" * 81, "a" * 400, "tiny:" + "a" * 81,
    "tiny:local", "tiny:cloud", "tiny:latest:local", "tiny-cloud", "nope:cloud", "tiny:short-cloud",
    "tiny:local:cloud", "tiny:latest-cloud", "'quoted'", '"quoted"', "<b>", "tiny.", "_tiny", "tiny_1",
)  # fmt: skip
_INFERENCE_NAMES = (
    "tiny:latest", "LIBRARY/Tiny", "registry.ollama.ai/library/tiny:latest", "tiny:SHORT",
    "USER/tiny", "a/b/c/d", "m:", "tiny:cloud", "tiny:local", "nope:cloud", "<b>", "' \"", "tiny ",
    "tiny:latest:local",
)  # fmt: skip

_NAMED = [
    *(post(_SHOW, model=name) for name in _NAMES),
    *(generate(model=name, prompt="") for name in _INFERENCE_NAMES),
    *(chat(model=name, messages=[]) for name in _INFERENCE_NAMES),
    *(openai(model=name, max_tokens=1) for name in _INFERENCE_NAMES[2:]),
    *(completion(model=name, max_tokens=1) for name in ("USER/tiny", "m:", "nope:cloud", "<b>", "")),
    *(post(_EMBED, model=name, input="a") for name in
      ("TINY-Embed", "library/tiny-embed:latest", "m:", "nope:cloud", "<b>", "")),
    *(post(_EMBEDDINGS, model=name, prompt="a") for name in
      ("Tiny-Embed", "library/tiny-embed:latest", "m:", "nope:cloud", "<b>", "")),
    *(post(_V1_EMBEDDINGS, model=name, input="a") for name in
      ("Tiny-Embed", "library/tiny-embed:latest", "m:", "nope:cloud", "<b>", "")),
    post(_SHOW, name="TINY", model=""),
    post(_SHOW, name="nope", model="tiny"),
    get("/v1/models/library%2Ftiny"),
]  # fmt: skip

_LOADS = [
    generate(prompt="", stream=False),
    generate(prompt=None),
    post(_GENERATE, model="tiny"),
    post(_CHAT, model="tiny"),
    post(_GENERATE, model="tiny", system="You are terse."),
    chat(messages=None, stream=False),
    chat(messages=[], stream=True, tools=[_WEATHER]),
    generate(prompt="", images=["AAAA"]),
    generate(prompt="", keep_alive="10m", options={}),
    chat(model="nope", messages=[], keep_alive=0),
    generate(model="nope", prompt="", keep_alive=0),
    generate(model="m:", prompt="", keep_alive=0),
    chat(model="tiny-embed", messages=[]),
    generate(model="tiny-embed", prompt=""),
    chat(messages=[], keep_alive="0"),
    generate(prompt="", keep_alive="0s", stream=False),
    post(_GENERATE, model="tiny-think", keep_alive=0.0),
    *(chat(keep_alive=value, stream=False, options=_ONE) for value in
      (-1, "-1", "-1m", 0.5, "90s", "1h30m", "1.5h", "", "abc", False, None, [], {}, "5 m", 1e12)),
    post(_EMBED, model="tiny-embed", input="a", keep_alive="x"),
    post(_EMBED, model="tiny-embed", input="a", keep_alive="5m"),
    post(_EMBEDDINGS, model="tiny-embed", prompt="a", keep_alive="-1s"),
]  # fmt: skip

_OPTIONS = [
    *(chat(stream=False, options={"num_predict": 1, **options}) for options in (
        {"nope": 1}, {"num_predict": 1.9}, {"temperature": 1}, {"temperature": None}, {"seed": 7.5},
        {"stop": ["x", "y"]}, {"stop": []}, {"top_k": 1, "top_p": 0.5, "min_p": 0.1},
        {"num_keep": "4"}, {"seed": "x"}, {"repeat_penalty": []}, {"num_gpu": {}},
        {"num_predict": True}, {"use_mmap": 1}, {"stop": [1]}, {"num_thread": None},
        {"mirostat": 2, "tfs_z": 1},
    )),
    chat(options=None, stream=False, model="tiny:short"),
    chat(options={"num_predict": 3, "num_ctx": "4096"}),
    generate(options={"num_predict": "3"}, stream=False),
    generate(options={"num_predict": 3, "num_ctx": None}, stream=False),
    post(_EMBED, model="tiny-embed", input="a", options={"num_ctx": "x"}),
    *(chat(format=value, stream=False, options=_ONE) for value in ("json", "", None, _SCHEMA, 5, [], {"type": 5}, {})),
    *(chat(format=value) for value in ("json", _SCHEMA, {"type": 5})),
    generate(format="json"),
    generate(format="xml"),
    openai(response_format={"type": "json_object"}),
    openai(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": _SCHEMA}}, stream=True),
    openai(response_format={"type": "text"}),
    openai(response_format="json"),
    *(chat(**fields) for fields in (
        {"logprobs": True, "stream": False}, {"logprobs": True, "top_logprobs": 20},
        {"top_logprobs": 3, "stream": False}, {"top_logprobs": -1}, {"logprobs": "yes"},
        {"logprobs": True, "top_logprobs": 1.5},
    )),
    generate(logprobs=True, top_logprobs=1),
    generate(top_logprobs=21),
    openai(logprobs=True, top_logprobs=2),
    openai(logprobs=True, stream=True),
    openai(top_logprobs=21),
    completion(logprobs=3),
]  # fmt: skip

_CONTENT = [
    *(chat(messages=messages, stream=False, options=_ONE) for messages in (
        [{}], [None], [{"role": "user"}], [{"role": "user", "content": None}],
        [{"role": "USER", "content": "hi"}], [{"role": "narrator", "content": "hi"}],
        [{"content": "hi"}], [{"role": "system", "content": "s"}],
        [*_HI, {"role": "assistant", "content": "I say"}],
        [{"role": "system", "content": "s"}, *_HI, {"role": "assistant", "content": "a"}, *_HI],
        [{"role": "user", "content": "h\u00e9 \u4f60 \U0001f600 <&> \u2028"}],
        [{"role": "user", "content": "hi", "images": []}],
        [{"role": "user", "content": "hi", "images": None}],
        [{"role": "user", "content": "hi", "images": ["!!!"]}],
        [{"role": "user", "content": "hi", "images": [f"data:image/png;base64,{_PIXEL}"]}],
        [{"role": "user", "content": "hi", "images": [_PIXEL]}],
        [{"role": "user", "content": "hi", "images": "AAAA"}],
        [{"role": "user", "content": "hi", "images": [5]}],
    )),
    chat(messages=[{"role": "user", "content": "hi", "images": [_PIXEL]}]),
    generate(images=[_PIXEL]),
    generate(images=["!!!"]),
    openai(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PIXEL}"}}]}]),
    openai(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": "http://127.0.0.1/x.png"}]}]),
    openai(messages=[{"role": "user", "content": [{"type": "nope"}]}]),
    *(chat(**fields) for fields in (
        {"tools": [], "stream": False}, {"tools": None, "stream": False}, {"tools": [5]},
        {"tools": "x"}, {"tools": [{}]},
    )),
    *(chat(model="tiny-tools", **fields) for fields in (
        {"tools": [_WEATHER]}, {"tools": [_WEATHER], "stream": False}, {"tools": [{}]},
        {"messages": [*_HI, {"role": "assistant", "tool_calls": [_CALL]}, {"role": "tool", "tool_name": "weather", "content": "sun"}], "tools": [_WEATHER], "stream": False},
        {"messages": [*_HI, {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": "{}"}}]}]},
        {"messages": [*_HI, {"role": "assistant", "content": "", "tool_calls": []}], "stream": False},
    )),
    openai(model="tiny-tools", tools=[_WEATHER], tool_choice="auto"),
    openai(model="tiny-tools", tools=[_WEATHER], stream=True),
    openai(model="tiny", tools=[_WEATHER]),
    openai(model="tiny-tools", tools=[_WEATHER], messages=[
        *_HI,
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town":"Riga"}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
    ]),
    openai(model="tiny-tools", messages=[
        *_HI, {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{bad"}}]},
    ]),
    *(chat(model="tiny-think", **fields) for fields in (
        {"think": True}, {"think": False}, {"think": "low", "stream": False}, {"think": None, "stream": False},
        {"stream": False}, {"think": 5}, {"think": "x"}, {"think": ""},
        {"messages": [*_HI, {"role": "assistant", "thinking": "hm", "content": "so"}, *_HI], "stream": False},
    )),
    generate(model="tiny-think", think=True),
    generate(think="high"),
    openai(model="tiny-think", reasoning_effort="high"),
    openai(model="tiny-think", reasoning={"effort": "low"}, stream=True),
    openai(reasoning_effort="none"),
    openai(reasoning_effort="high"),
]  # fmt: skip

_GENERATES = [
    *(generate(stream=False, options=_ONE, **fields) for fields in (
        {"system": "s"}, {"template": "{{ .Prompt }}"}, {"template": "{{ .Nope"}, {"context": [1, 2, 3]},
        {"context": ["a"]}, {"raw": True, "template": "x"}, {"raw": True, "context": [1]},
        {"prompt": 5}, {"prompt": ["a"]}, {"prompt": "\u00e9\u4f60 <&>"}, {"suffix": ""}, {"truncate": False},
        {"shift": True}, {"raw": None}, {"_debug_render_only": True},
    )),
    generate(_debug_render_only=True),
    chat(_debug_render_only=True),
    chat(_debug_render_only=True, stream=False),
    generate(prompt="q " * 5000, truncate=False),
]  # fmt: skip

_OPENAI = [
    *(openai(**{"max_tokens": 1} | fields) for fields in (
        {"stop": "x"}, {"stop": ["x"]}, {"stop": 5}, {"n": 2}, {"temperature": 0}, {"temperature": "x"},
        {"seed": "x"}, {"seed": 1, "top_p": 0.5, "frequency_penalty": 1, "presence_penalty": 1},
        {"max_tokens": "x"}, {"stream": "yes"},
        {"stream_options": {"include_usage": True}}, {"stream": True, "stream_options": {}},
        {"stream": True, "stream_options": 5}, {"logit_bias": {"1": 1}}, {"user": "u", "metadata": {}},
        {"unknown": True, "keep_alive": 0}, {"options": {"num_ctx": "x"}}, {"messages": None},
        {"messages": {}}, {"messages": [{}]}, {"messages": [{"role": "developer", "content": "hi"}]},
        {"messages": [{"role": "user", "content": None}]}, {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        {"messages": [{"role": "user", "content": [5]}]}, {"messages": [], "model": ""},
        {"model": None}, {"response_format": {"type": "json_schema"}}, {"tools": "x"}, {"model": "tiny-embed", "stream": True},
    )),
    *(completion(**{"max_tokens": 1} | fields) for fields in (
        {"prompt": None}, {"prompt": 5}, {"suffix": "x"}, {"echo": True, "best_of": 1}, {"stop": ["x"]},
        {"stop": 5}, {"seed": 3, "temperature": 0, "top_p": 0.1}, {"stream": True, "stop": "x"},
        {"max_tokens": "x"}, {"stream": True, "model": "nope"},
    )),
    *(post(_V1_EMBEDDINGS, model="tiny-embed", **fields) for fields in (
        {"input": "a"}, {"input": ["a"], "encoding_format": "float"}, {"input": "a", "encoding_format": "base64"},
        {"input": "a", "dimensions": 8}, {"input": "a", "dimensions": "x"}, {"input": 5}, {"input": None},
        {"input": [1, 2]}, {"input": ["a", 5]}, {"input": "a", "user": "u"},
    )),
]  # fmt: skip

_EMBEDS = [
    *(post(_EMBED, model="tiny-embed", **fields) for fields in (
        {"input": "a b"}, {"input": ["a", "b", "c"]}, {"input": "a", "dimensions": 0}, {"input": "a", "dimensions": -1},
        {"input": "a", "dimensions": 9999}, {"input": "a", "dimensions": "8"}, {"input": 5}, {"input": {}},
        {"input": ["a", 5]}, {"input": [""]}, {"input": None}, {"input": "a", "truncate": None},
        {"input": "q " * 5000, "truncate": False}, {"input": "a", "stream": True}, {"prompt": "a"},
    )),
    *(post(_EMBEDDINGS, model="tiny-embed", **fields) for fields in (
        {"prompt": 5}, {"prompt": None}, {"prompt": "q " * 5000}, {"input": "a"}, {},
    )),
    post(_EMBEDDINGS, model="tiny", prompt="a"),
]  # fmt: skip

_SHOWS = [
    post(_SHOW, model="tiny", verbose=None),
    post(_SHOW, model="tiny", verbose="x"),
    post(_SHOW, model="tiny", system="s", options={"seed": 1}),
    post(_SHOW, model="tiny", template="x"),
    post(_SHOW, model="tiny-embed"),
    post(_SHOW, model="tiny-think"),
    _with_headers(post(_SHOW, model="TINY"), ("User-Agent", "GitHubCopilotChat/1.0")),
]

_TWO_FAULTS = [
    chat(model="nope", top_logprobs=21),
    chat(model="nope", think="x"),
    chat(model="nope", keep_alive="x"),
    generate(model="nope", top_logprobs=21),
    openai(model="nope", messages=[]),
    openai(model="nope", messages=[{"role": "user", "content": 5}]),
    openai(model="nope", reasoning_effort="zip"),
    completion(model="nope", prompt=["a"]),
    post(_EMBED, model="nope", input=[1]),
    post(_V1_EMBEDDINGS, model="nope", input="a", encoding_format="hex"),
    post(_V1_EMBEDDINGS, model="nope", input=[]),
    post(_V1_EMBEDDINGS, model="nope"),
]
_SAME_FAULT = [
    chat(model="", top_logprobs=21),
    chat(model="m:", format="xml"),
    chat(model="nope", stream=False, format="xml"),
    chat(model="nope", tools=[{}]),
    generate(model="nope", raw=True, system="x"),
    generate(model="nope", options={"num_ctx": "x"}),
    completion(model="nope", stop=5),
    openai(model="nope", stop=5),
]

_MALFORMED = [
    *(Case("BREW", path) for path in ("/api/tags", _CHAT, "/nope")),
    raw("lower-case method", "get /api/version HTTP/1.1", "Host: localhost"),
    raw("no host", "GET /api/version HTTP/1.1"),
    raw("two hosts", "GET /api/version HTTP/1.1", "Host: localhost", "Host: localhost"),
    *(get("/api/version", ("Host", host)) for host in ("user@localhost", "localhost, evil.example")),
    raw("expect other", _POST_CHAT, "Host: localhost", "Expect: 200-ok", _LOAD_LENGTH, body=_LOAD_BODY),
    raw("broken request line", "GET /api/version", "Host: localhost"),
    raw("unknown version", "GET /api/version HTTP/3.0", "Host: localhost"),
    raw("header without colon", "GET /api/version HTTP/1.1", "Host: localhost", "nonsense"),
    raw("space before colon", "GET /api/version HTTP/1.1", "Host: localhost", "X-Field : 1"),
    raw("bad length", _POST_CHAT, "Host: localhost", "Content-Length: x", body=b"{}"),
    raw("two lengths", _POST_CHAT, "Host: localhost", "Content-Length: 2", "Content-Length: 3", body=b"{}"),
    raw("unknown transfer encoding", _POST_CHAT, "Host: localhost", "Transfer-Encoding: gzip", body=b"{}"),
]  # fmt: skip
_ODD_TARGETS = [
    get("/api%2Ftags"),
    raw("asterisk form", "OPTIONS * HTTP/1.1", "Host: localhost"),
]
_REDIRECTS = [
    get("/api/tags/", _ORIGIN), get("//api/tags", _ORIGIN), get("/api/tags/", _EVIL),
    get("/api/tags/", ("Host", "evil.example")), _with_headers(post("/api/chat/", b"{}"), _EVIL),
]  # fmt: skip
_IPV6_HOSTS = [get("/api/version", ("Host", host)) for host in ("[::1]", "[::]", "[fd00::1]")]
_ENCODINGS = [
    *(_with_headers(case, ("Content-Encoding", encoding))
      for case in (chat(stream=False), openai()) for encoding in ("gzip", "br", "zstd")),
    Case("POST", _CHAT, gzip.compress(_HI_BODY, mtime=0), (("Content-Encoding", "gzip"),)),
]  # fmt: skip
_MANY_HEADERS = [
    raw(
        "many headers",
        _POST_CHAT,
        "Host: localhost",
        *(f"X-Field-{n}: {n}" for n in range(150)),
        _LOAD_LENGTH,
        body=_LOAD_BODY,
    ),
]

_NOT_SERVED = [
    get("/v1/models/tiny"),
    get("/v1/models/TINY"),
    get("/v1/models/tiny:short"),
    get("/v1/models/nope"),
    get("/v1/models/m:"),
    get("/api/status"),
    post("/api/pull", b"{}"),
    post("/api/push", b"{}"),
    post("/api/create", b"{}"),
    post("/api/copy", b"{}"),
    Case("DELETE", "/api/delete", b"{}"),
    Case("HEAD", "/api/blobs/sha256:" + "0" * 64),
    post("/v1/responses", b"{}"),
    post("/v1/messages", b"{}"),
    post("/v1/audio/transcriptions", b"{}"),
    post("/api/me", b"{}"),
    post("/api/experimental/web_search", b"{}"),
    get("/api/experimental/model-recommendations"),
]
_OURS = [get("/metrics"), get("/api/health"), get("/api/v1/status"), get("/api/v1/nodes")]
_NEITHER = [
    get("/health"), post("/v1/messages/count_tokens", b"{}"), post("/api/tokenize", b"{}"),
    post("/v1/images/generations", b"{}"), get("/debug/vars"), get("/v1/chat"),
]  # fmt: skip

GROUPS: dict[str, list[Case | RawCase]] = {
    "recorded": [case for case in RECORDED if case not in _NOT_SERVED],
    "methods": _METHODS,
    "paths": _PATHS,
    "origins": _ORIGINS,
    "hosts": _HOSTS,
    "transport": _TRANSPORT,
    "bodies": _BODIES,
    "names": _NAMED,
    "loads": _LOADS,
    "options": _OPTIONS,
    "content": _CONTENT,
    "generate": _GENERATES,
    "openai": _OPENAI,
    "embed": _EMBEDS,
    "show": _SHOWS,
    "the same fault": _SAME_FAULT,
    "neither": _NEITHER,
    "two faults": _TWO_FAULTS,
    "malformed": _MALFORMED,
    "odd targets": _ODD_TARGETS,
    "redirects": _REDIRECTS,
    "IPv6 hosts": _IPV6_HOSTS,
    "encodings": _ENCODINGS,
    "many headers": _MANY_HEADERS,
    "not served": _NOT_SERVED,
    "ours": _OURS,
}
"""Every case, by what it is about; behind "neither" those whose answers may differ."""
