"""The OpenAI-compatible routes for other engines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.wire.translate.asking import (
    HELLO,
    PNG,
    V1_CHAT,
    V1_COMPLETIONS,
    V1_EMBEDDINGS,
    llama,
    openai,
    refused,
    send,
    words,
)

_TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
_URL = f"data:image/png;base64,{PNG}"
_WRONG_TEXT = "json: cannot unmarshal string into Go struct field ChatCompletionRequest."
_WRONG_NUMBER = "json: cannot unmarshal number into Go struct field CompletionRequest."


def _chat(**fields: Any) -> Any:
    return send(V1_CHAT, {"messages": HELLO, **fields})


def test_defaults() -> None:
    sent = _chat()
    assert sent.path == "/v1/chat/completions"
    wanted = {
        "model": "engine.gguf", "temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "top_k": 40,
        "repeat_penalty": 1.0, "repeat_last_n": 64, "stream": True, "seed": -1,
    }  # fmt: skip
    assert {name: sent.body[name] for name in wanted} == wanted
    assert (sent.asked.is_stream, sent.asked.include_usage) == (False, False)


def test_what_is_chosen() -> None:
    sent = _chat(
        temperature=0, top_p=0.5, seed=7, max_tokens=9, frequency_penalty=1, presence_penalty=-1,
        stop="x", stream=True, stream_options={"include_usage": True}, logprobs=True,
        top_logprobs=4, n=3, user="u", logit_bias={}, options={"top_k": 1}, keep_alive=True,
    )  # fmt: skip
    wanted = {
        "temperature": 0.0, "top_p": 0.5, "seed": 7, "n_predict": 9, "frequency_penalty": 1.0,
        "presence_penalty": -1.0, "stop": ["x"], "stream": True, "logprobs": True,
        "top_logprobs": 4, "stream_options": {"include_usage": True}, "top_k": 40,
    }  # fmt: skip
    assert {name: sent.body[name] for name in wanted} == wanted
    assert not {"n", "user", "logit_bias", "options", "keep_alive", "max_tokens"} & set(sent.body)
    assert sent.asked.include_usage


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 4, "max_completion_tokens": 5}, 4),
        ({"max_completion_tokens": 5}, 5),
        ({"max_tokens": None}, -1),
    ],
)
def test_limits(fields: Any, limit: int) -> None:
    assert _chat(**fields).body["n_predict"] == limit


@pytest.mark.parametrize(
    ("stop", "stops"), [("a", ["a"]), (["a", 1, "b"], ["a", "b"]), ([], None), (7, None)]
)
def test_stops(stop: Any, stops: Any) -> None:
    assert _chat(stop=stop).body.get("stop") == stops


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"type": "text"}, None),
        (None, None),
        ({"type": " JSON_object"}, {"type": "json_object", "schema": {"type": "object"}}),
        ({"type": "json_schema"}, None),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, None),
        (
            {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}},
            {"type": "json_schema", "json_schema": {"name": "schema", "schema": {"type": "array"}}},
        ),
    ],
)
def test_response_format(wanted: Any, found: Any) -> None:
    assert _chat(response_format=wanted).body.get("response_format") == found


@pytest.mark.parametrize(
    ("effort", "kwargs"),
    [
        ("", None),
        ("none", {"enable_thinking": False}),
        ("minimal", {"enable_thinking": True, "reasoning_effort": "low"}),
        ("medium", {"enable_thinking": True, "reasoning_effort": "medium"}),
        ("ultra", {"enable_thinking": True, "reasoning_effort": "high"}),
    ],
)
def test_effort(effort: str, kwargs: Any) -> None:
    assert _chat(reasoning_effort=effort).body.get("chat_template_kwargs") == kwargs
    sent = _chat(reasoning={"effort": effort}, reasoning_effort="low")
    assert sent.body.get("chat_template_kwargs") == kwargs


def test_tool_choice() -> None:
    body = _chat(tools=[_TOOL], tool_choice="required", parallel_tool_calls=False).body
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)
    body = _chat(tools=[_TOOL], tool_choice={"type": "function"}, parallel_tool_calls=1).body
    assert not {"tool_choice", "parallel_tool_calls"} & set(body)
    assert "tool_choice" not in _chat(tool_choice="auto").body


def test_messages() -> None:
    arguments = '{ "a": 1 }'
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    messages = [
        {"role": "User", "content": [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": _URL, "detail": "low"}},
            {"type": "image_url", "image_url": f"data:;base64,{PNG}"},
            {"type": "input_audio", "input_audio": {"data": "SUQzeHh4", "format": "wav"}},
        ]},
        {"role": "assistant", "reasoning": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "tool", "tool_call_id": "c1", "name": "own", "content": "3"},
        {"role": "user", "name": "Ann", "content": ""},
    ]  # fmt: skip
    found = _chat(messages=messages).body["messages"]
    image = {"type": "image_url", "image_url": {"url": _URL}}
    sound = {"type": "input_audio", "input_audio": {"data": "SUQzeHh4", "format": "mp3"}}
    assert found == [
        {"role": "user", "content": [{"type": "text", "text": "see"}, image, image, sound]},
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "tool", "tool_call_id": "c1", "name": "own", "content": "3"},
        {"role": "user", "content": ""},
    ]


def test_last_words_in_parts() -> None:
    parts = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": parts},
    ]
    sent = _chat(messages=messages)
    assert sent.body["messages"] == [{"role": "assistant", "content": "a\n\nbc"}]
    assert sent.asked.prefill == "a\n\nbc"
    image = {"type": "image_url", "image_url": {"url": _URL}}
    messages[1]["content"] = [image]
    sent = _chat(messages=messages)
    text = {"type": "text", "text": "a\n\nbc"}
    assert sent.body["messages"] == [{"role": "assistant", "content": [text, image]}]
    assert sent.asked.prefill == "a\n\nbc"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({}, "invalid message content type: <nil>"),
        ({"content": 1}, "invalid message content type: float64"),
        ({"content": True}, "invalid message content type: bool"),
        ({"content": {}}, "invalid message content type: map[string]interface {}"),
        ({"content": ["x"]}, "invalid message format"),
        ({"content": [{"type": "video"}]}, "invalid message format"),
        ({"content": [{"type": "text", "text": 1}]}, "invalid message format"),
        ({"content": [{"type": "image_url"}]}, "invalid message format"),
        ({"content": [{"type": "image_url", "image_url": {}}]}, "invalid message format"),
        (
            {"content": [{"type": "image_url", "image_url": "https://x/y.png"}]},
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
        (
            {"content": [{"type": "image_url", "image_url": "data:image/tiff;base64,AAAA"}]},
            "invalid image input",
        ),
        (
            {"content": [{"type": "image_url", "image_url": "data:;base64,A"}]},
            "invalid image input",
        ),
        ({"content": [{"type": "input_audio"}]}, "invalid input_audio format"),
        (
            {"content": [{"type": "input_audio", "input_audio": {}}]},
            "invalid input_audio format: missing data",
        ),
        (
            {"content": [{"type": "input_audio", "input_audio": {"data": "!"}}]},
            "invalid input_audio base64 data: illegal base64 data at input byte 0",
        ),
        ({"tool_calls": [{}]}, "invalid tool call arguments"),
        ({"tool_calls": [{"function": {"arguments": "[]"}}]}, "invalid tool call arguments"),
        ({"tool_calls": [{"function": {"arguments": "{"}}]}, "invalid tool call arguments"),
        (
            {"tool_calls": [{"function": {"arguments": "[" * 99999}}]},
            "invalid tool call arguments",
        ),
    ],
)
def test_messages_that_are_none(message: Any, text: str) -> None:
    assert refused(V1_CHAT, {"messages": [{"role": "user", **message}]}) == (400, text)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"messages": []}, "[] is too short - 'messages'"),
        ({"messages": None}, "[] is too short - 'messages'"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        (
            {"reasoning_effort": "much"},
            (
                'invalid reasoning value: "much" (must be "minimal", "low", "medium", "high",'
                ' "xhigh", "ultra", "max", or "none")'
            ),
        ),
        ({"temperature": "x"}, f"{_WRONG_TEXT}temperature of type float64"),
        (
            {"stop": [], "stream_options": ""},
            f"{_WRONG_TEXT}stream_options of type openai.StreamOptions",
        ),
    ],
)
def test_refused(fields: Any, text: str) -> None:
    assert refused(V1_CHAT, {"messages": HELLO, **fields}) == (400, text)


def test_what_the_model_cannot_do() -> None:
    body = {"messages": HELLO, "reasoning_effort": "low"}
    assert refused(V1_CHAT, body, llama("completion")) == (400, '"m" does not support thinking')


@pytest.mark.parametrize("route", [V1_CHAT, V1_COMPLETIONS, V1_EMBEDDINGS])
def test_empty_body(route: Any) -> None:
    assert refused(route, b" ") == (400, "EOF")


def test_long_history_is_cut() -> None:
    engine = llama(has_templates=True, context_length=30)
    messages = [{"role": "user", "content": "word " * 20}] * 3
    assert len(send(V1_CHAT, {"messages": messages}, engine, words).body["messages"]) == 1


def test_completion_is_a_chat() -> None:
    engine = llama("completion", has_templates=True, context_length=5000)
    body = {"prompt": "p", "stream": True, "stream_options": {"include_usage": True}, "logprobs": 3}
    sent = send(V1_COMPLETIONS, body, engine)
    assert sent.path == "/v1/chat/completions"
    assert sent.body["messages"] == [{"role": "user", "content": "p"}]
    wanted = {"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0}
    assert {name: sent.body[name] for name in wanted} == wanted
    assert "logprobs" not in sent.body
    assert (sent.asked.include_usage, sent.asked.prompt_tokens) == (True, None)


def test_completion_with_what_is_chosen() -> None:
    body = {
        "prompt": "p", "temperature": 0, "top_p": 0, "seed": 1, "max_tokens": 2, "stop": ["x"],
        "frequency_penalty": 0.5, "suffix": "s",
    }  # fmt: skip
    sent = send(V1_COMPLETIONS, body)
    assert (sent.path, sent.body["input_suffix"]) == ("/infill", "s")
    wanted = {
        "temperature": 0.0, "top_p": 1.0, "seed": 1, "n_predict": 2, "stop": ["x"],
        "frequency_penalty": 0.5,
    }  # fmt: skip
    assert {name: sent.body[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"prompt": 1}, f"{_WRONG_NUMBER}prompt of type string"),
        ({"stop": ["x", 1]}, "invalid type for 'stop' field: float64"),
        ({"stop": [["x"]]}, "invalid type for 'stop' field: []interface {}"),
        ({"logprobs": 21}, "top_logprobs must be between 0 and 20"),
    ],
)
def test_completion_refused(fields: Any, text: str) -> None:
    assert refused(V1_COMPLETIONS, {"prompt": "p", **fields}) == (400, text)


@pytest.mark.parametrize("route", [V1_CHAT, V1_COMPLETIONS, V1_EMBEDDINGS])
def test_openai_gets_the_body_as_it_came(route: Any) -> None:
    raw = (
        b'{ "x":[1.50, {"model":"no"}],"model"  :"m", "stream":true,"tools":[{}],'
        b'"stream_options":{"include_usage":true}, "input":["a","b"] }'
    )
    found = raw.replace(b'"m"', b'"gpt"')
    engine = openai()
    sent = send(route, raw, engine)
    assert sent.path == route.path
    assert sent.asked.model == "m"
    assert sent.asked.is_stream is sent.asked.is_engine_stream is (route is not V1_EMBEDDINGS)
    assert sent.asked.has_tools is (route is V1_CHAT)
    assert sent.asked.input_count == (2 if route is V1_EMBEDDINGS else 0)
    assert sent.body == json.loads(found)
