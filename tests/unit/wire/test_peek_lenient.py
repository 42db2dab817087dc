"""Unusual bodies are understood, and bad ones refused, as by Ollama's own decoder."""

from __future__ import annotations

import json

import pytest

from sollold.wire.peek import BodyProblem, InferenceRoute, Peek, peek

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE
_EMBED = InferenceRoute.API_EMBED
_EMBEDDINGS = InferenceRoute.API_EMBEDDINGS
_SHOW = InferenceRoute.API_SHOW
_V1_CHAT = InferenceRoute.V1_CHAT
_V1_COMPLETIONS = InferenceRoute.V1_COMPLETIONS
_NATIVE = [_CHAT, _GENERATE, _EMBED, _EMBEDDINGS, _SHOW]


def _peek(route: InferenceRoute, body: object) -> Peek:
    return peek(route, json.dumps(body, ensure_ascii=False).encode())


def _problem(route: InferenceRoute, body: bytes) -> BodyProblem:
    with pytest.raises(BodyProblem) as caught:
        peek(route, body)
    return caught.value


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


def test_media_of_a_misspelled_body_are_counted() -> None:
    body = b'{"Model":"m","messages":[{"images":["QQ==",null]}]}'
    assert peek(_CHAT, body).media_count == 2


def test_options_of_a_misspelled_body_are_read() -> None:
    body = b'{"Model":"m","options":{"use_mmap":false,"num_ctx":true,"num_gpu":1e30,"num_batch":5}}'
    assert peek(_CHAT, body).options == (("num_batch", 5), ("use_mmap", False))


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


@pytest.mark.parametrize("depth", [10, 100, 300, 500, 700, 900, 5000])
def test_nesting_is_read_or_refused_but_never_fatal(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    assert peek(_CHAT, b'{"model":"m","think":[[]]}').model == "m"
    for body in (b'{"model":"m","think":%s}', b'{"Model":"m","zz":1,"think":%s}'):
        try:
            text = peek(_CHAT, body % deep).model
        except BodyProblem as problem:
            text = problem.text
        assert text == "exceeded max depth" if depth > 3000 else text in ("m", "exceeded max depth")


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


@pytest.mark.parametrize("digits", [306, 307, 308, 309, 399])
def test_numbers_that_no_float_holds_are_read(digits: int) -> None:
    body = b'{"Model":"m","messages":[],"keep_alive":-%b}' % (b"9" * digits)
    assert peek(_CHAT, body).is_load
