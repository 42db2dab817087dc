"""Cases of bodies and of the names in them: odd JSON, wrong types, every spelling of a model."""

from __future__ import annotations

from tests.fakes.cases import SHORT, chat, completion, generate, openai, post
from tests.real.case import HI, AnyCase, as_json
from tests.real.cases_http import POST_PATHS

_CHAT = "/api/chat"
_V1_CHAT = "/v1/chat/completions"
_WHOLE = as_json({"model": "tiny", "messages": HI, "options": SHORT, "stream": False})
_LOAD = b'{"model":"tiny","messages":[]'

BODIES: list[AnyCase] = [
    *(post(path, b"{bad") for path in POST_PATHS[1:] if path != _V1_CHAT),
    *(post(path, b"[]") for path in POST_PATHS[1:]),
    *(post(path, b"{}") for path in POST_PATHS),
    *(post(path, b"null") for path in POST_PATHS[2:]),
    *(post(path, b'{"model":5}') for path in POST_PATHS[1:]),
    *(post(path, b'{"model":null}') for path in POST_PATHS),
    *(post(_CHAT, body) for body in (
        b" \n ", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"true", b'"tiny"', b"12", b"{", b"{]",
        b'{"model"', b'{"model":}', b"{'model':1}", b'{"model":"tiny",}', b'{"model":"ti\nny"}',
        b'{"model":"tiny\\x"}', b'{"model":tru}', b'{"model":01}', b'{"model":1.}', b'{"model":-}',
        b'{"model":"\\ud800"}', b'{"model":"ti\xffny"}', b'{"model":"tiny"',
        b'{"model":"tiny","messages":' + b"[" * 11_000, b'{"MODEL":"nope","model":"tiny"}',
        b'{"model":"tiny","MODEL":"nope"}', b'{"model":"nope","model":"tiny"}',
        b'{"model":"tiny","model":null}', b'{"\\u006dodel":"tiny"}', b'\t\r\n {"model":"tiny"}',
        b'{"model":"tiny","me\xc5\xbf\xc5\xbfages":[]}', b'{"model":"tiny","messages":[}',
    )),
    *(post(_CHAT, _LOAD + rest) for rest in (
        b'}{"model":"nope"}', b"}]", b',"x":NaN}', b',"x":1e999}', b',"x":[{"y":[]}]}',
        b',"stream":"no"}', b',"stream":0}', b',"stream":null}', b',"options":[]}',
        b',"options":5}', b',"tools":{}}', b',"format":{bad}',
    )),
    *(post(_CHAT, b'{"model":"tiny","messages":' + messages + b"}") for messages in (
        b"null", b"{}", b'"hi"', b"[1]", b'[{"content":5}]', b'[{"role":5}]', b"[[]]",
    )),
    post(_CHAT, _WHOLE.replace(b'"hi"', b'"h\xff\xfei"')),
    post(_CHAT, _WHOLE.replace(b'"hi"', b'"h\\ud800i \\u0000"')),
    post("/api/generate", b'{"Model":"tiny","PROMPT":"a","Options":{"num_predict":1}}'),
    post("/api/show", b'{"NAME":"tiny"}trailing'),
    post("/api/embed", b'{"model":"tiny-embed","Input":"a","input":"b"} x'),
    post(_V1_CHAT, b'{"Model":"tiny","MESSAGES":[{"Role":"user","Content":"a"}],"max_tokens":1}'),
    post(_V1_CHAT, b'{"model":"tiny","messages":[{"role":"user","content":"a"}],"max_tokens":1}]]'),
    post(_V1_CHAT, b'\xef\xbb\xbf{"model":"tiny"}'),
    post("/v1/embeddings", b'{"INPUT":"a","model":"tiny-embed"}'),
]  # fmt: skip

_SHOWN = (
    "tiny:latest", "TINY", "Tiny:LATEST", "library/tiny", "LIBRARY/tiny:latest", "tiny:short",
    "registry.ollama.ai/library/tiny:latest", "Registry.Ollama.AI/Library/Tiny", "tiny:SHORT",
    "user/tiny", "User/Tiny:Latest", "registry.ollama.ai/user/tiny", "tiny:nope", "nope/tiny",
    "example.com/library/tiny", "http://registry.ollama.ai/library/tiny", ":m", "-m", "a/b/c/d",
    "host:5000/m", "host:5000/a/tiny", "localhost:5000/library/tiny:latest", "x y", " tiny",
    "tiny ", "tiny\n", "../tiny", "/tiny", "tiny/", "tiny::latest", "tiny:a:b", "tiny@n1",
    "tiny@sha256:" + "a" * 64, "t\u00ednya", "\u212aey", "a" * 81, "a" * 400, "tiny:" + "a" * 81,
    "tiny:local", "tiny:LOCAL", "tiny:cloud", "tiny:latest:local", "tiny:latest:cloud",
    "tiny-cloud", "nope:cloud", "tiny:short-cloud", "tiny:local:cloud", "tiny:latest-cloud",
    "m::cloud", "nope:local", "'quoted'", '"quoted"', "<b>", "tiny.", "_tiny", "tiny_1",
)  # fmt: skip
_LOADED = (
    "tiny:latest", "LIBRARY/Tiny", "registry.ollama.ai/library/tiny:latest", "USER/tiny", "tiny ",
    "a/b/c/d", "m:", "tiny:cloud", "tiny:local", "nope:cloud", "tiny:latest:local", "<b>", "' \"",
    "tiny:latest:cloud", "tiny:local:cloud",
)  # fmt: skip
_EMBEDDED = ("Tiny-Embed", "library/tiny-embed:latest", "m:", "nope:cloud", "<b>", "")

NAMES: list[AnyCase] = [
    *(post("/api/show", model=name) for name in _SHOWN),
    *(generate(model=name, prompt="") for name in _LOADED),
    *(chat(model=name, messages=[]) for name in _LOADED),
    *(openai(model=name, max_tokens=1) for name in _LOADED[3:]),
    *(completion(model=name, prompt="") for name in (*_LOADED[3:], "")),
    *(post("/api/embed", model=name, input="a") for name in _EMBEDDED),
    *(post("/api/embeddings", model=name, prompt="a") for name in _EMBEDDED),
    *(post("/v1/embeddings", model=name, input="a") for name in _EMBEDDED),
    post("/api/show", name="TINY", model=""),
    post("/api/show", name="nope", model="tiny"),
]
