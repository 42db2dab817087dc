"""Cases of HTTP itself: methods, paths, pages of others, hosts, header fields, framing."""

from __future__ import annotations

import gzip

from tests.fakes.cases import SHORT, Case, chat, get, openai, post
from tests.real.case import HI, AnyCase, as_json, raw, raw_chat, with_headers

POST_PATHS = (
    "/api/chat", "/api/generate", "/api/show", "/api/embed", "/api/embeddings",
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings",
)  # fmt: skip

_VERSION = "GET /api/version HTTP/1.1"
_HOST = "Host: localhost"
_PAGE = ("Origin", "http://localhost:3000")
_EVIL_PAGE = ("Origin", "http://evil.example")
_EVIL_HOST = ("Host", "evil.example")

_LOAD = b'{"model":"tiny","messages":[]}'
_STREAM = as_json({"model": "tiny", "messages": HI, "options": SHORT})
_WHOLE = as_json({"model": "tiny", "messages": HI, "options": SHORT, "stream": False})
_HALF = len(_WHOLE) // 2

METHODS: list[AnyCase] = [
    *(Case(method, "/api/tags") for method in ("POST", "DELETE", "PATCH", "TRACE")),
    *(Case(method, "/api/chat") for method in ("PUT", "PATCH", "HEAD")),
    *(Case(method, "/nope") for method in ("HEAD", "POST", "DELETE", "OPTIONS")),
    *(post(path, b"{}") for path in ("/", "/api/version", "/api/ps", "/v1/models")),
    *(Case("HEAD", path) for path in ("/api/show", "/v1/chat/completions")),
    *(get(path) for path in POST_PATHS[1:]),
    *(Case("OPTIONS", path) for path in ("/", "/api/tags")),
    Case("OPTIONS", "/api/tags", None, (("Host", "127.0.0.1:9"),)),
    Case("OPTIONS", "/nope", None, (("Host", "127.0.0.1"),)),
]

PATHS: list[AnyCase] = [
    *(get(path) for path in (
        "/api/version/", "/v1/models/", "/api/ps/", "/api/tags/?x=1", "//api/tags", "/api//tags",
        "/api/tags//", "/api/./tags", "/api/../api/tags", "/API/TAGS", "/Api/Chat", "/api", "/api/",
        "/v1", "/v1/", "/api/%74ags", "/api/tags?x=1", "/api/version?priority=3", "/?x=1", "//",
        "/api/tags/x", "/index.html", "/favicon.ico", "/v1/models?limit=1",
        "/v1/models/library%2Ftiny",
    )),
    *(Case(method, "/api/tags/") for method in ("HEAD", "POST", "OPTIONS")),
    Case("DELETE", "//api/tags"),
    *(post(f"{path}/", b"{}") for path in POST_PATHS[1:]),
    *(post(path, b"{}") for path in ("/API/CHAT", "//api/chat", "/v1//embeddings")),
    Case("POST", "/api/generate?stream=false", {"model": "tiny", "prompt": "a", "options": SHORT}),
    Case("POST", "/api/show?priority=9&x=1", {"model": "tiny"}),
    raw("absolute form", "GET http://localhost/api/version HTTP/1.1", _HOST),
]  # fmt: skip


def _preflight(path: str, origin: str, method: str = "POST") -> Case:
    asked = ("Access-Control-Request-Method", method)
    fields = ("Access-Control-Request-Headers", "content-type,authorization")
    return Case("OPTIONS", path, None, (("Origin", origin), asked, fields))


ORIGINS: list[AnyCase] = [
    *(get("/api/version", ("Origin", origin)) for origin in (
        "http://localhost:3000", "http://localhost", "https://127.0.0.1", "https://0.0.0.0:8443",
        "app://x", "file://", "tauri://localhost", "vscode-webview://abc", "null", "",
        "http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://[::1]:3000",
        "chrome-extension://abc", "HTTP://LOCALHOST:3000", "http://localhost:3000/",
        "http://192.168.1.5", "ftp://localhost", "http://LocalHost",
    )),
    *(get("/api/version", ("Origin", origin), ("Host", host)) for origin, host in (
        ("http://box.local", "box.local"), ("https://box.local:8443", "box.local:8443"),
        ("http://box.local:1", "box.local:2"), (_PAGE[1], "evil.example"),
        ("http://evil.example", "evil.example"),
    )),
    *(get(path, _PAGE) for path in ("/", "/api/tags", "/v1/models", "/nope", "/api/chat")),
    *(get(path, _EVIL_PAGE) for path in ("/nope", "/api/chat")),
    *(with_headers(case, _PAGE) for case in (
        chat(), chat(messages=[]), chat(model="nope"), openai(stream=True),
        post("/api/chat", b"{bad"), post("/api/show", model="tiny"),
    )),
    with_headers(chat(), _EVIL_PAGE),
    *(_preflight("/api/chat", page) for page in ("app://x", _PAGE[1], _EVIL_PAGE[1])),
    *(_preflight(path, _PAGE[1], "GET") for path in ("/api/tags", "/nope", "/api/tags/")),
    _preflight("/v1/models", _PAGE[1], "BREW"),
    Case("OPTIONS", "/api/chat", None, (_PAGE,)),
    Case("OPTIONS", "/api/chat", None, (_PAGE, ("Host", "127.0.0.1"))),
    Case("OPTIONS", "/api/chat", None, (("Origin", "http://localhost"),)),
]  # fmt: skip

HOSTS: list[AnyCase] = [
    *(get("/api/version", ("Host", host)) for host in (
        "localhost", "LOCALHOST:1", "localhost.", "x.localhost", "x.LOCAL", "x.internal:80",
        "local", "evil.local.example", "evil.example:11434", "127.0.0.1", "127.9.9.9:5", "[::1]:5",
        "::1", "10.1.2.3", "172.16.1.1", "172.32.1.1", "192.168.0.9:80", "169.254.1.1", "8.8.8.8",
        "0.0.0.0", "[fe80::1]", "[2001:db8::1]", "[fd00::1]:5", "2130706433", "127.1", "", ":80",
        "localhost:http",
    )),
    *(Case("OPTIONS", "/api/chat", None, (host,)) for host in (_EVIL_HOST, ("Host", "x.local"))),
    *(get(path, _EVIL_HOST) for path in ("/nope", "/api/chat")),
]  # fmt: skip

TRANSPORT: list[AnyCase] = [
    raw("HTTP/1.0", "GET /api/version HTTP/1.0"),
    raw("HTTP/1.0 with a host", "GET /api/version HTTP/1.0", _HOST),
    raw("HTTP/1.0 keep-alive", "GET /api/version HTTP/1.0", "Connection: keep-alive"),
    raw_chat("HTTP/1.0 chat", body=_WHOLE, version="1.0"),
    raw_chat("HTTP/1.0 stream", body=_STREAM, version="1.0"),
    raw("close", _VERSION, _HOST, "Connection: close"),
    raw_chat("close after a stream", "Connection: close", body=_STREAM),
    raw("a body in chunks", "POST /api/chat HTTP/1.1", _HOST, "Transfer-Encoding: chunked",
        body=b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (_HALF, _WHOLE[:_HALF], len(_WHOLE) - _HALF, _WHOLE[_HALF:])),
    raw_chat("expect 100", "Expect: 100-continue", body=_WHOLE),
    raw_chat("no content type", body=_LOAD),
    *(raw_chat(f"content type {kind}", f"Content-Type: {kind}", body=_LOAD) for kind in (
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
    )),
    raw("no length", "POST /api/chat HTTP/1.1", _HOST),
    raw("a body on GET", "GET /api/tags HTTP/1.1", _HOST, "Content-Length: 2", body=b"{}"),
    raw("a body on HEAD", "HEAD /api/version HTTP/1.1", _HOST, "Content-Length: 2", body=b"{}"),
    raw_chat("a large header field", "X-Large: " + "x" * 60_000, body=_LOAD),
    raw_chat("a header field that is not ASCII", "X-Name: J\xe9r\xf4me", body=_LOAD),
    raw("a long query", "GET /api/version?" + "x" * 30_000 + " HTTP/1.1", _HOST),
    *(with_headers(chat(messages=[]), field) for field in (
        ("Authorization", "Bearer sk-1"), ("x-api-key", "sk-1"), ("Accept-Encoding", "gzip, br"),
        ("Accept", "text/html"), ("Cookie", "a=b"), ("X-Forwarded-For", "203.0.113.9"),
        ("Referer", "http://evil.example/"), ("Sec-Fetch-Site", "cross-site"), ("TE", "trailers"),
        ("Content-Encoding", "identity"), ("Upgrade", "h2c"), ("Range", "bytes=0-9"),
        ("If-None-Match", "*"),
    )),
    *(get("/api/tags", field) for field in (
        ("Accept-Encoding", "gzip"), ("If-Modified-Since", "Sat, 01 Jan 2050 00:00:00 GMT"),
        ("Accept", "application/xml"),
    )),
]  # fmt: skip

# What follows may differ.

MALFORMED: list[AnyCase] = [
    *(Case("BREW", path) for path in ("/api/tags", "/api/chat", "/nope")),
    raw("a lower-case method", "get /api/version HTTP/1.1", _HOST),
    raw("no host", _VERSION),
    raw("two hosts", _VERSION, _HOST, _HOST),
    *(get("/api/version", ("Host", host)) for host in ("me@localhost", "localhost, evil.example")),
    raw_chat("expect something else", "Expect: 200-ok", body=_LOAD),
    raw("no version", "GET /api/version", _HOST),
    raw("an unknown version", "GET /api/version HTTP/3.0", _HOST),
    raw("a header field without colon", _VERSION, _HOST, "nonsense"),
    raw("space before a colon", _VERSION, _HOST, "X-Field : 1"),
    raw("a length that is no number", _VERSION, _HOST, "Content-Length: x"),
    raw("two lengths", _VERSION, _HOST, "Content-Length: 0", "Content-Length: 1"),
    raw("an unknown transfer encoding", _VERSION, _HOST, "Transfer-Encoding: gzip"),
]
ODD_TARGETS: list[AnyCase] = [get("/api%2Ftags"), raw("asterisk form", "OPTIONS * HTTP/1.1", _HOST)]
REDIRECTS: list[AnyCase] = [
    get("/api/tags/", _PAGE),
    get("//api/tags", _PAGE),
    get("/api/tags/", _EVIL_PAGE),
    get("/api/tags/", _EVIL_HOST),
    with_headers(post("/api/chat/", b"{}"), _EVIL_PAGE),
]
IPV6_HOSTS: list[AnyCase] = [
    get("/api/version", ("Host", host)) for host in ("[::1]", "[::]", "[fd00::1]")
]
ENCODINGS: list[AnyCase] = [
    *(with_headers(case, ("Content-Encoding", encoding))
      for case in (chat(stream=False), openai()) for encoding in ("gzip", "br", "zstd")),
    Case("POST", "/api/chat", gzip.compress(_WHOLE, mtime=0), (("Content-Encoding", "gzip"),)),
]  # fmt: skip
MANY_FIELDS: list[AnyCase] = [
    raw_chat("many header fields", *(f"X-Field-{number}: 1" for number in range(150)), body=_LOAD)
]
NOT_SERVED: list[AnyCase] = [
    *(get(f"/v1/models/{name}") for name in ("tiny", "TINY", "tiny:short", "nope", "m:")),
    *(get(path) for path in ("/api/status", "/api/experimental/model-recommendations")),
    Case("HEAD", "/api/blobs/sha256:" + "0" * 64),
    Case("DELETE", "/api/delete", b"{}"),
    *(post(path, b"{}") for path in (
        "/api/pull", "/api/push", "/api/create", "/api/copy", "/api/me", "/v1/responses",
        "/v1/messages", "/v1/audio/transcriptions", "/api/experimental/web_search",
    )),
]  # fmt: skip
OURS: list[AnyCase] = [
    get(path)
    for path in (
        "/metrics",
        "/api/health",
        "/api/v1/status",
        "/api/v1/nodes",
        "/openapi.json",
        "/docs",
    )
]
NEITHER: list[AnyCase] = [
    *(get(path) for path in ("/health", "/debug/vars", "/v1/chat")),
    *(post(path, b"{}") for path in (
        "/v1/messages/count_tokens", "/api/tokenize", "/v1/images/generations",
    )),
]  # fmt: skip
