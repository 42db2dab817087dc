"""Bodies are understood as Ollama understands them; the tables come from its own decoder."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.wire.peek import BodyProblem, InferenceRoute, Peek, peek

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE
_EMBED = InferenceRoute.API_EMBED
_EMBEDDINGS = InferenceRoute.API_EMBEDDINGS
_SHOW = InferenceRoute.API_SHOW
_V1_CHAT = InferenceRoute.V1_CHAT
_V1_COMPLETIONS = InferenceRoute.V1_COMPLETIONS
_V1_EMBEDDINGS = InferenceRoute.V1_EMBEDDINGS
_NATIVE = [_CHAT, _GENERATE, _EMBED, _EMBEDDINGS, _SHOW]

_IMAGE = base64.b64encode(bytes(range(200))).decode()


def _peek(route: InferenceRoute, body: object) -> Peek:
    return peek(route, json.dumps(body, ensure_ascii=False).encode())


def _problem(route: InferenceRoute, body: bytes) -> BodyProblem:
    with pytest.raises(BodyProblem) as caught:
        peek(route, body)
    return caught.value


def test_a_chat() -> None:
    found = _peek(
        _CHAT,
        {
            "model": "llama3.2",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Grüße", "images": [_IMAGE, _IMAGE]},
                {"role": "assistant", "content": None, "tool_calls": []},
            ],
            "tools": [{"type": "function"}],
            "format": {"type": "object"},
            "think": "high",
            "options": {"num_ctx": 8192, "num_predict": 50, "temperature": 1},
            "shift": False,
            "keep_alive": 0,
            "logprobs": True,
        },
    )
    assert found == Peek(
        model="llama3.2",
        stream=True,
        options=(("num_ctx", 8192), ("shift", False)),
        prompt_bytes=len("Be kind.") + len("Grüße".encode()),
        tool_bytes=len('[{"type": "function"}]'),
        media_count=2,
        turns=3,
        has_tools=True,
        has_format=True,
        wants_thinking=True,
        num_predict=50,
        first_text='"Be kind.""Grüße"'.encode(),
    )


def test_a_generation() -> None:
    found = _peek(
        _GENERATE,
        {
            "model": "m",
            "prompt": "def f(",
            "suffix": "return x",
            "system": "Code.",
            "images": [_IMAGE],
            "stream": False,
            "think": False,
            "format": "json",
            "context": [1, 2, 3],
            "raw": False,
        },
    )
    assert found == Peek(
        model="m",
        stream=False,
        prompt_bytes=6 + 8 + 5,
        media_count=1,
        turns=1,
        has_format=True,
        wants_thinking=False,
        first_text=b'"Code.""def f("',
    )


def test_embeddings_of_every_route() -> None:
    many = _peek(_EMBED, {"model": "m", "input": ["a", "bc"], "options": {"num_ctx": 512}})
    assert many == Peek(
        model="m", stream=False, options=(("num_ctx", 512),), prompt_bytes=3, input_count=2
    )
    one = Peek(model="m", stream=False, prompt_bytes=2, input_count=1)
    assert _peek(_EMBED, {"model": "m", "input": "ab"}) == one
    assert _peek(_EMBEDDINGS, {"model": "m", "prompt": "ab"}) == one
    assert _peek(_V1_EMBEDDINGS, {"model": "m", "input": "ab"}) == one
    assert _peek(_V1_EMBEDDINGS, {"model": "m", "input": [1, 2, "ab"]}).input_count == 3


def test_a_question_about_a_model() -> None:
    assert _peek(_SHOW, {"model": "m", "verbose": True}) == Peek(
        model="m", stream=False, verbose=True
    )
    assert _peek(_SHOW, {"name": "n"}).model == "n"
    assert _peek(_SHOW, {"name": "n", "model": ""}).model == "n"
    assert _peek(_SHOW, {"name": "n", "model": "m"}).model == "m"
    assert _peek(_SHOW, {}).model == ""


def test_an_openai_chat() -> None:
    found = _peek(
        _V1_CHAT,
        {
            "model": "m",
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is"},
                        {"type": "image_url", "image_url": {"url": _IMAGE}},
                        {"type": "input_audio", "input_audio": {"data": _IMAGE}},
                        {"type": "text", "text": " it?"},
                        {"type": "text", "text": 5},
                    ],
                },
                {"role": "assistant", "content": None, "tool_calls": []},
                {"role": "user", "content": "é"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 99,
            "tools": [{}],
            "response_format": {"type": "json_schema", "json_schema": {}},
            "reasoning_effort": "low",
            "temperature": 0.5,
        },
    )
    assert found == Peek(
        model="m",
        stream=True,
        prompt_bytes=8 + 11 + 2,
        tool_bytes=4,
        media_count=2,
        turns=4,
        has_tools=True,
        has_format=True,
        wants_thinking=True,
        num_predict=99,
        wants_usage=True,
        first_text=b'"Be kind.""What is it?"',
    )


def test_an_openai_completion() -> None:
    found = _peek(
        _V1_COMPLETIONS,
        {"model": "m", "prompt": "once", "suffix": "end", "max_tokens": 5, "best_of": 1},
    )
    assert found == Peek(
        model="m",
        stream=False,
        prompt_bytes=7,
        turns=1,
        num_predict=5,
        first_text=b'"once"',
    )
    assert _peek(_V1_COMPLETIONS, {"model": "m", "prompt": ["a", "bc"]}).prompt_bytes == 3


@pytest.mark.parametrize(
    ("route", "body", "is_load"),
    [
        (_CHAT, {}, True),
        (_CHAT, {"messages": None}, True),
        (_CHAT, {"messages": []}, True),
        (_CHAT, {"messages": [{}]}, False),
        (_GENERATE, {}, True),
        (_GENERATE, {"prompt": ""}, True),
        (_GENERATE, {"prompt": None}, True),
        (_GENERATE, {"prompt": " "}, False),
        (_EMBED, {}, True),
        (_EMBED, {"input": None}, True),
        (_EMBED, {"input": ""}, True),
        (_EMBED, {"input": []}, True),
        (_EMBED, {"input": [""]}, False),
        (_EMBED, {"input": 5}, False),
        (_EMBEDDINGS, {}, True),
        (_EMBEDDINGS, {"prompt": ""}, True),
        (_EMBEDDINGS, {"prompt": "x"}, False),
        (_V1_CHAT, {"messages": []}, False),
        (_V1_COMPLETIONS, {}, True),
        (_V1_COMPLETIONS, {"prompt": ""}, True),
        (_V1_COMPLETIONS, {"prompt": 5}, False),
        (_V1_EMBEDDINGS, {"input": ""}, False),
        (_SHOW, {}, False),
    ],
)
def test_load_requests(route: InferenceRoute, body: dict[str, Any], is_load: bool) -> None:
    found = _peek(route, {"model": "m"} | body)
    assert found.is_load is is_load
    assert not found.is_unload
    if is_load:
        assert found.input_count == 0


_UNLOADS = [
    0, 0.0, -0.0, 1e-10, "0", "+0", "-0", "0s", "-0s", "0h0m0.0s", "0.1ns", ".0s", "0.s", "0µs",
]  # fmt: skip
_OTHERS: list[object] = [
    None, 1, 0.5, -1, -1e-10, 1e-9, "5m", "300ms", "-1m", "1h30m", "1ns", "5", "", "1d", "forever",
    "0x", "0s0", ".s", "10 m", True, False, [], {},
]  # fmt: skip


@pytest.mark.parametrize("keep_alive", _UNLOADS)
def test_every_spelling_of_zero_unloads(keep_alive: object) -> None:
    assert _peek(_CHAT, {"model": "m", "keep_alive": keep_alive}).is_unload
    assert _peek(_GENERATE, {"model": "m", "keep_alive": keep_alive}).is_unload
    assert not _peek(_GENERATE, {"model": "m", "prompt": "x", "keep_alive": keep_alive}).is_unload
    assert not _peek(_EMBED, {"model": "m", "keep_alive": keep_alive}).is_unload


@pytest.mark.parametrize("keep_alive", _OTHERS)
def test_no_other_time_unloads(keep_alive: object) -> None:
    assert not _peek(_CHAT, {"model": "m", "keep_alive": keep_alive}).is_unload


@pytest.mark.parametrize(
    ("sent", "options"),
    [
        ({}, ()),
        ({"temperature": 0.5, "num_predict": 7}, ()),
        ({"num_ctx": 4096.7, "num_gpu": -1}, (("num_ctx", 4096),)),
        ({"num_gpu": 0}, (("num_gpu", 0),)),
        ({"use_mmap": False, "num_thread": 0}, (("num_thread", 0), ("use_mmap", False))),
        ({"use_mmap": True}, (("use_mmap", True),)),
        (
            {"num_thread": 8, "num_batch": 64, "main_gpu": 1, "draft_num_predict": 2},
            (("draft_num_predict", 2), ("main_gpu", 1), ("num_batch", 64), ("num_thread", 8)),
        ),
        ({"num_ctx": None}, ()),
        ({"num_ctx": 10**30}, ()),
        # Wrong types are for a node to refuse.
        ({"num_ctx": "big", "num_batch": True, "use_mmap": 1, "main_gpu": 2}, (("main_gpu", 2),)),
        ({"NUM_CTX": 1}, ()),
    ],
)
def test_load_options(sent: dict[str, object], options: object) -> None:
    for route in (_CHAT, _GENERATE, _EMBED, _EMBEDDINGS):
        found = _peek(route, {"model": "m", "options": sent})
        assert found.options == options
    shifted = _peek(_CHAT, {"model": "m", "options": sent, "shift": True})
    assert shifted.options == options
    assert _peek(_SHOW, {"model": "m", "options": {"num_ctx": 5}}).options == ()


@pytest.mark.parametrize(
    ("route", "body", "wants"),
    [
        (_CHAT, {}, None),
        (_CHAT, {"think": None}, None),
        (_CHAT, {"think": True}, True),
        (_CHAT, {"think": "max"}, True),
        (_CHAT, {"think": False}, False),
        (_CHAT, {"think": "extreme"}, None),
        (_V1_CHAT, {"reasoning_effort": "none"}, False),
        (_V1_CHAT, {"reasoning": {"effort": "minimal"}}, True),
        (_V1_CHAT, {"reasoning": {}, "reasoning_effort": "high"}, True),
        (_V1_CHAT, {"reasoning": "high"}, None),
    ],
)
def test_thinking(route: InferenceRoute, body: dict[str, Any], wants: bool | None) -> None:
    assert _peek(route, {"model": "m"} | body).wants_thinking is wants


@pytest.mark.parametrize(
    ("route", "body", "has_format", "has_tools"),
    [
        (_CHAT, {"format": "", "tools": []}, False, False),
        (_CHAT, {"format": None, "tools": None}, False, False),
        (_CHAT, {"format": "json", "tools": [{}]}, True, True),
        (_V1_CHAT, {"response_format": {"type": "text"}, "tools": None}, False, False),
        (_V1_CHAT, {"response_format": {"type": "json_object"}}, True, False),
        (_V1_CHAT, {"response_format": "json"}, False, False),
    ],
)
def test_formats_and_tools(
    route: InferenceRoute, body: dict[str, Any], has_format: bool, has_tools: bool
) -> None:
    found = _peek(route, {"model": "m"} | body)
    assert (found.has_format, found.has_tools) == (has_format, has_tools)
    assert (found.tool_bytes > 0) is has_tools


@pytest.mark.parametrize("sent", [True, False, None])
def test_streaming(sent: bool | None) -> None:
    assert _peek(_CHAT, {"model": "m", "stream": sent}).stream is (sent is not False)
    assert _peek(_GENERATE, {"model": "m", "stream": sent}).stream is (sent is not False)
    assert _peek(_V1_CHAT, {"model": "m", "stream": sent}).stream is (sent is True)
    assert _peek(_V1_COMPLETIONS, {"model": "m", "stream": sent}).stream is (sent is True)


def test_text_is_counted_as_utf8_however_it_is_escaped() -> None:
    text = 'é"\\/\n日本\U0001f600\t'
    for ascii_only in (True, False):
        body = json.dumps({"model": "m", "prompt": text}, ensure_ascii=ascii_only).encode()
        assert peek(_GENERATE, body).prompt_bytes == len(text.encode())


@pytest.mark.parametrize("ascii_only", [True, False])
def test_long_text_is_counted_closely(ascii_only: bool) -> None:
    text = 'Ein "Käse" für\n\tmorgen: 日本語 C:\\\\temp. ' * 500
    body = json.dumps({"model": "m", "prompt": text}, ensure_ascii=ascii_only).encode()
    assert peek(_GENERATE, body).prompt_bytes == pytest.approx(len(text.encode()), rel=0.05)


def test_the_beginning_is_equal_in_all_turns_and_tells_conversations_apart() -> None:
    system = {"role": "system", "content": "S" * 5000}
    first = {"role": "user", "content": "first " * 100}
    answer = {"role": "assistant", "content": "yes"}
    heads = [
        _peek(_CHAT, {"model": "m", "messages": messages}).first_text
        for messages in ([system, first], [system, first, answer, {**first, "content": "more"}])
    ]
    assert heads[0] == heads[1]
    assert len(heads[0]) == 512
    other = _peek(_CHAT, {"model": "m", "messages": [system, {**first, "content": "else"}]})
    assert other.first_text != heads[0]
    assert _peek(_CHAT, {"model": "m", "messages": [first, answer]}).first_text[:6] == b'"first'
    assert _peek(_CHAT, {"model": "m", "messages": [answer, answer]}).first_text == b'"yes"'


# What Go reads leniently ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"MODEL":"m","Messages":[{"Role":"user","CONTENT":"hi"}],"STREAM":false}',
        b'{"model":"x","model":"m","messages":[{"content":"hi"}],"stream":false}',
        b'{"model":"m","messages":[{"content":"hi"}],"stream":false} trailing',
        b'  {"model":"m","model":null,"messages":[{"content":"hi"}],"stream":false}\n\n',
        b'{"model":"m","messages":[{"content":"hi"}],"\xc5\xbftream":false,"unknown":{"a":[1]}}',
        b'{"model":"m","messages":[{"content":"hi"}],"stream":false,"unknown":"\xff"}',
        b'{"model":"m","messages":[null],"messages":[{"content":"hi"}],"STREAM":true,"stream":false}',
    ],
)
def test_unusual_spellings_are_understood(body: bytes) -> None:
    found = peek(_CHAT, body)
    assert (found.model, found.prompt_bytes, found.turns, found.stream) == ("m", 2, 1, False)


def test_null_takes_back_what_has_a_default() -> None:
    body = b'{"Model":"m","stream":false,"stream":null,"messages":[{}],"messages":null}'
    found = peek(_CHAT, body)
    assert found.stream
    assert found.is_load


def test_options_given_twice_are_merged() -> None:
    body = b'{"Model":"m","options":{"num_ctx":1,"num_gpu":2},"options":{"num_ctx":3}}'
    assert peek(_CHAT, body).options == (("num_ctx", 3), ("num_gpu", 2))


def test_a_limit_of_a_misspelled_body_is_read() -> None:
    assert peek(_V1_CHAT, b'{"Model":"m","MAX_TOKENS":7}').num_predict == 7
    assert _problem(_V1_CHAT, b'{"Model":"m","MAX_TOKENS":%d}' % 2**63).kind == "type"


def test_null_messages_and_strange_parts_are_passed_over() -> None:
    found = peek(
        _V1_CHAT, b'{"model":"m","messages":[null,{"content":["x",{"type":"y"}]},{"content":5}]}'
    )
    assert (found.turns, found.media_count, found.prompt_bytes) == (3, 1, 0)


def test_invalid_text_is_replaced() -> None:
    assert peek(_CHAT, b'{"model":"a\xff\\ud800"}').model == "a\ufffd\ufffd"
    found = peek(_GENERATE, b'{"model":"m","prompt":"\\ud800"}')
    assert found.prompt_bytes == len("\ufffd".encode())


@pytest.mark.parametrize("route", list(InferenceRoute))
def test_null_is_an_empty_request(route: InferenceRoute) -> None:
    found = peek(route, b"null")
    assert (found.model, found.prompt_bytes) == ("", 0)
    assert found == peek(route, b"{}")


@pytest.mark.parametrize("route", list(InferenceRoute))
def test_an_empty_body_is_a_problem(route: InferenceRoute) -> None:
    problem = _problem(route, b" \n")
    assert problem.kind == "empty"
    assert problem.text == ("missing request body" if route in _NATIVE else "EOF")


@pytest.mark.parametrize("route", list(InferenceRoute))
def test_what_is_not_json_is_a_problem(route: InferenceRoute) -> None:
    problem = _problem(route, b'{"model":"m"')
    assert (problem.kind, problem.text) == ("syntax", "unexpected EOF")
    assert _problem(route, b'{"model":' + b"[" * 100_000).kind == "syntax"


_MISMATCHES = [
    (_CHAT, b"[]", "array into Go value of type api.ChatRequest"),
    (_GENERATE, b"7", "number into Go value of type api.GenerateRequest"),
    (_V1_COMPLETIONS, b'"x"', "string into Go value of type openai.CompletionRequest"),
    (_CHAT, b'{"model":5}', "number into Go struct field ChatRequest.model of type string"),
    (_CHAT, b'{"MODEL":5}', "number into Go struct field ChatRequest.model of type string"),
    (_EMBED, b'{"model":{}}', "object into Go struct field EmbedRequest.model of type string"),
    (
        _CHAT,
        b'{"model":"m","messages":5}',
        "number into Go struct field ChatRequest.messages of type []api.Message",
    ),
    (
        _CHAT,
        b'{"model":"m","messages":{}}',
        "object into Go struct field ChatRequest.messages of type []api.Message",
    ),
    (
        _CHAT,
        b'{"model":"m","messages":[5]}',
        "number into Go struct field ChatRequest.messages of type api.Alias",
    ),
    (
        _CHAT,
        b'{"model":"m","messages":[{"role":[]}]}',
        "array into Go struct field ChatRequest.messages.role of type string",
    ),
    (
        _CHAT,
        b'{"model":"m","messages":[{"content":[{"type":"text"}]}]}',
        "array into Go struct field ChatRequest.messages.content of type string",
    ),
    (
        _CHAT,
        b'{"model":"m","messages":[{"images":5}]}',
        "number into Go struct field ChatRequest.messages.images of type []api.ImageData",
    ),
    (
        _CHAT,
        b'{"model":"m","stream":"true"}',
        "string into Go struct field ChatRequest.stream of type bool",
    ),
    (
        _CHAT,
        b'{"model":"m","options":[]}',
        "array into Go struct field ChatRequest.options of type map[string]interface {}",
    ),
    (
        _GENERATE,
        b'{"model":"m","prompt":["x"]}',
        "array into Go struct field GenerateRequest.prompt of type string",
    ),
    (
        _EMBEDDINGS,
        b'{"model":"m","prompt":1.5}',
        "number into Go struct field EmbeddingRequest.prompt of type string",
    ),
    (_SHOW, b'{"verbose":"x"}', "string into Go struct field ShowRequest.verbose of type bool"),
    (
        _V1_CHAT,
        b'{"model":"m","messages":["x"]}',
        "string into Go struct field ChatCompletionRequest.messages of type openai.Message",
    ),
    (
        _V1_CHAT,
        b'{"model":"m","messages":[{"role":1}]}',
        "number into Go struct field Message.messages.role of type string",
    ),
    (
        _V1_CHAT,
        b'{"model":"m","max_tokens":"5"}',
        "string into Go struct field ChatCompletionRequest.max_tokens of type int",
    ),
    (
        _V1_CHAT,
        b'{"model":"m","max_tokens":true}',
        "bool into Go struct field ChatCompletionRequest.max_tokens of type int",
    ),
    (
        _V1_COMPLETIONS,
        b'{"model":"m","max_tokens":1.5}',
        "number 1.5 into Go struct field CompletionRequest.max_tokens of type int",
    ),
    (
        _V1_COMPLETIONS,
        b'{"model":"m","suffix":1,"zz":1}',
        "number into Go struct field CompletionRequest.suffix of type string",
    ),
]


@pytest.mark.parametrize(("route", "body", "text"), _MISMATCHES)
def test_wrong_types_are_worded_as_go_does(route: InferenceRoute, body: bytes, text: str) -> None:
    problem = _problem(route, body)
    assert (problem.kind, problem.text) == ("type", f"json: cannot unmarshal {text}")


def test_fields_that_are_not_read_here_may_have_any_type() -> None:
    found = _peek(
        _CHAT,
        {
            "model": "m",
            "think": [],
            "keep_alive": {},
            "tools": "x",
            "truncate": "x",
            "zz": 1,
            "messages": [{"images": [5, None], "tool_calls": 5}],
        },
    )
    assert (found.model, found.wants_thinking, found.has_tools) == ("m", None, False)
    assert found.media_count == 2


# Properties -----------------------------------------------------------------------------------

_TEXT = st.text(max_size=20)
_FLAG = st.none() | st.booleans()
_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "num_ctx": st.integers(1, 10**6) | st.floats(1, 1e6),
        "num_gpu": st.integers(-1, 99),
        "num_predict": st.integers(-2, 999),
        "use_mmap": _FLAG,
        "stop": st.lists(_TEXT, max_size=2),
    },
)
_PARTS = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": _TEXT})
    | st.fixed_dictionaries({"type": st.just("image_url"), "image_url": _TEXT}),
    max_size=3,
)
_ROLE = st.sampled_from(["system", "user", "assistant", "tool"])
_BODIES: dict[InferenceRoute, st.SearchStrategy[dict[str, Any]]] = {
    _CHAT: st.fixed_dictionaries(
        {
            "model": _TEXT.filter(bool),
            "messages": st.lists(
                st.fixed_dictionaries(
                    {"role": _ROLE, "content": st.none() | _TEXT},
                    optional={"images": st.lists(_TEXT, max_size=2), "thinking": _TEXT},
                ),
                max_size=4,
            ),
        },
        optional={
            "stream": _FLAG,
            "options": _OPTIONS,
            "shift": _FLAG,
            "think": _FLAG | st.sampled_from(["low", "max"]),
            "keep_alive": st.none() | st.integers(-1, 1) | st.sampled_from(["0s", "5m"]),
            "format": st.sampled_from(["", "json", {"type": "object"}]),
        },
    ),
    _V1_CHAT: st.fixed_dictionaries(
        {
            "model": _TEXT.filter(bool),
            "messages": st.lists(
                st.fixed_dictionaries({"role": _ROLE, "content": st.none() | _TEXT | _PARTS}),
                max_size=4,
            ),
        },
        optional={
            "stream": _FLAG,
            "stream_options": st.none() | st.just({"include_usage": True}),
            "max_tokens": st.none() | st.integers(1, 99),
            "reasoning_effort": st.sampled_from(["none", "low"]),
            "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}]),
        },
    ),
    _GENERATE: st.fixed_dictionaries(
        {"model": _TEXT.filter(bool)},
        optional={"prompt": _TEXT, "system": _TEXT, "suffix": _TEXT, "options": _OPTIONS},
    ),
    _EMBED: st.fixed_dictionaries(
        {"model": _TEXT.filter(bool)},
        optional={"input": _TEXT | st.lists(_TEXT, max_size=3), "options": _OPTIONS},
    ),
    _V1_COMPLETIONS: st.fixed_dictionaries(
        {"model": _TEXT.filter(bool)}, optional={"prompt": _TEXT, "stream": _FLAG}
    ),
}
_CASES = st.sampled_from(sorted(_BODIES)).flatmap(
    lambda route: st.tuples(st.just(route), _BODIES[route])
)


def _shouted(body: dict[str, Any]) -> dict[str, Any]:
    return {key.upper(): value for key, value in body.items()}


@given(_CASES, st.sampled_from([b"", b" x", b"\n{}"]), st.booleans())
def test_an_unusual_body_means_what_the_usual_one_means(
    case: tuple[InferenceRoute, dict[str, Any]], trailing: bytes, has_unknown: bool
) -> None:
    route, body = case
    plain = msgspec.json.encode(body)
    unknown: dict[str, Any] = {"x_unknown": {"model": 1}} if has_unknown else {}
    expected = peek(route, plain)
    assert peek(route, msgspec.json.encode(body | unknown)) == expected
    assert peek(route, msgspec.json.encode(_shouted(body | unknown)) + trailing) == expected


@given(_CASES)
def test_escaping_changes_nothing_but_the_beginning(
    case: tuple[InferenceRoute, dict[str, Any]],
) -> None:
    route, body = case
    escaped = peek(route, json.dumps(body).encode())
    plain = peek(route, json.dumps(body, ensure_ascii=False).encode())
    assert msgspec.structs.replace(escaped, first_text=b"") == msgspec.structs.replace(
        plain, first_text=b""
    )


@given(_CASES)
def test_text_is_counted_exactly(case: tuple[InferenceRoute, dict[str, Any]]) -> None:
    route, body = case
    texts: list[str] = []
    for message in body.get("messages", []):
        content = message["content"]
        texts += [content] if isinstance(content, str) else []
        texts += [part.get("text", "") for part in content] if isinstance(content, list) else []
    texts += [body.get(name, "") for name in ("prompt", "system", "suffix")]
    inputs = body.get("input", "")
    texts += [inputs] if isinstance(inputs, str) else inputs
    assert peek(route, msgspec.json.encode(body)).prompt_bytes == sum(
        len(text.encode()) for text in texts
    )


_SCRAPS = st.text(alphabet='{}[]",:\\/u0e.-+truefalsn \n', max_size=40).map(str.encode)


@given(st.sampled_from(list(InferenceRoute)), st.binary(max_size=60) | _SCRAPS)
def test_any_bytes_are_peeked_at_or_refused(route: InferenceRoute, body: bytes) -> None:
    found: Peek | BodyProblem
    try:
        found = peek(route, body)
    except BodyProblem as problem:
        found = problem
    assert isinstance(found, Peek) or found.text


@given(_CASES, st.data())
def test_damaged_bodies_are_peeked_at_or_refused(
    case: tuple[InferenceRoute, dict[str, Any]], data: st.DataObject
) -> None:
    route, body = case
    text = bytearray(msgspec.json.encode(body))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + 1] = data.draw(st.sampled_from([b"", b'"', b"{", b"0", b"\\", b"\xff", b"\n"]))
    found: Peek | BodyProblem
    try:
        found = peek(route, bytes(text))
    except BodyProblem as problem:
        found = problem
    assert isinstance(found, Peek) or found.text
