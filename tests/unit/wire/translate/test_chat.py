"""`/api/chat` for other engines."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.unit.wire.translate.asking import CHAT, HELLO, PNG, llama, openai, refused, send

_SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {}}, "required": ["b"]}
_TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks.",
        "parameters": {"type": "object", "properties": {"z": {"type": "string"}, "a": {}}},
    },
}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_plain() -> None:
    sent = send(CHAT, {"model": "M:x", "messages": HELLO, "stream": False})
    assert sent.path == "/v1/chat/completions"
    assert sent.body["model"] == "engine.gguf"
    assert sent.body["messages"] == HELLO
    # llama-server generates on for a client that left, unless it streams.
    assert sent.body["stream"] is True
    assert sent.body["stream_options"] == {"include_usage": True}
    asked = sent.asked
    assert (asked.model, asked.is_stream, asked.is_engine_stream) == ("M:x", False, True)
    assert (asked.has_tools, asked.wants_logprobs, asked.is_thinking) == (False, False, None)
    assert (asked.prefill, asked.prompt_tokens, asked.include_usage) == ("", None, False)


def test_a_whole_answer_of_a_cloud_is_asked_for_whole() -> None:
    sent = send(CHAT, {"model": "M:x", "messages": HELLO, "stream": False}, openai())
    assert sent.body["stream"] is False
    assert "stream_options" not in sent.body
    assert (sent.asked.is_stream, sent.asked.is_engine_stream) == (False, False)


@pytest.mark.parametrize("stream", [True, None])
def test_streams_by_default(stream: bool | None) -> None:
    for engine in (llama(), openai()):
        sent = send(CHAT, {"messages": HELLO, "stream": stream}, engine)
        assert sent.asked.is_stream
        assert sent.asked.is_engine_stream
        assert sent.body["stream_options"] == {"include_usage": True}


def test_keys_in_any_case_and_the_last_one_wins() -> None:
    raw = b"""{"Model":"a","model":"b","MESSAGES":[{"Role":"USER","Content":"x","unknown":{}}],
        "messages":[{"ROLE":"User","content":"q","CONTENT":"y","content":null}],"\\u017ftream":false
        } trailing"""
    sent = send(CHAT, raw)
    assert sent.body["messages"] == [{"role": "user", "content": "y"}]
    assert (sent.asked.model, sent.asked.is_stream) == ("b", False)


def test_null_resets_what_go_resets() -> None:
    raw = b'{"model":"m","model":null,"messages":[{"role":"user"}],"format":"json","format":null}'
    sent = send(CHAT, raw)
    assert sent.asked.model == "m"
    assert "response_format" not in sent.body


@pytest.mark.parametrize("wanted", [None, ""])
def test_no_format(wanted: Any) -> None:
    assert "response_format" not in send(CHAT, {"messages": HELLO, "format": wanted}).body


def test_json_format() -> None:
    body = {"messages": HELLO, "format": "json"}
    assert send(CHAT, body).body["response_format"] == {
        "type": "json_object",
        "schema": {"type": "object"},
    }
    assert send(CHAT, body, openai()).body["response_format"] == {"type": "json_object"}


def test_schema_stays_as_it_is() -> None:
    for engine in (llama(), openai()):
        found = send(CHAT, {"messages": HELLO, "format": _SCHEMA}, engine).body["response_format"]
        assert found["type"] == "json_schema"
        assert found["json_schema"]["name"] == "schema"
        assert json.dumps(found["json_schema"]["schema"]) == json.dumps(_SCHEMA)


@pytest.mark.parametrize(("wanted", "shown"), [("xml", r'"\"xml\""'), (1, '"1"'), ([], '"[]"')])
def test_invalid_format(wanted: Any, shown: str) -> None:
    assert refused(CHAT, {"messages": HELLO, "format": wanted}) == (
        500,
        f'invalid format: {shown}; expected "json" or a valid JSON Schema object',
    )


@pytest.mark.parametrize(
    ("think", "kwargs", "effort"),
    [
        (True, {"enable_thinking": True}, None),
        (False, {"enable_thinking": False}, None),
        ("low", {"enable_thinking": True, "reasoning_effort": "low"}, "low"),
        ("medium", {"enable_thinking": True, "reasoning_effort": "medium"}, "medium"),
        ("high", {"enable_thinking": True, "reasoning_effort": "high"}, "high"),
        ("max", {"enable_thinking": True, "reasoning_effort": "high"}, "high"),
    ],
)
def test_thinking(think: Any, kwargs: dict[str, Any], effort: str | None) -> None:
    body = {"messages": HELLO, "think": think}
    for engine in (llama(), llama("completion", "thinking")):
        sent = send(CHAT, body, engine)
        assert sent.body["chat_template_kwargs"] == kwargs
        assert sent.asked.is_thinking is bool(think)
    sent = send(CHAT, body, openai())
    assert sent.body.get("reasoning_effort") == effort
    assert "chat_template_kwargs" not in sent.body


def test_thinking_unless_told_otherwise() -> None:
    sent = send(CHAT, {"messages": HELLO}, llama("completion", "thinking"))
    assert sent.body["chat_template_kwargs"] == {"enable_thinking": True}
    assert sent.asked.is_thinking is True
    assert "chat_template_kwargs" not in send(CHAT, {"messages": HELLO}).body
    sent = send(CHAT, {"messages": HELLO, "think": False}, llama("completion"))
    assert sent.asked.is_thinking is False


@pytest.mark.parametrize(
    ("think", "start"),
    [
        ("extreme", 'invalid think value: "extreme" (must be "high", '),
        ("\ud800", 'invalid think value: "\ufffd" (must be "high", '),
        (1, "think must be a boolean or string ("),
        ([], "think must be a boolean or string ("),
    ],
)
def test_bad_thinking(think: Any, start: str) -> None:
    status, text = refused(CHAT, {"messages": HELLO, "think": think})
    assert status == 400
    assert text.startswith(start)


@pytest.mark.parametrize("top", [-1, 21])
def test_top_logprobs_come_first(top: int) -> None:
    body = {"top_logprobs": top, "keep_alive": 0, "think": True}
    assert refused(CHAT, body, llama("embedding")) == (
        400,
        "top_logprobs must be between 0 and 20",
    )


@pytest.mark.parametrize(("top", "for_llama", "for_openai"), [(0, 1, 0), (3, 3, 3), (20, 20, 20)])
def test_logprobs(top: int, for_llama: int, for_openai: int) -> None:
    body = {"messages": HELLO, "logprobs": True, "top_logprobs": top}
    for engine, wanted in ((llama(), for_llama), (openai(), for_openai)):
        sent = send(CHAT, body, engine)
        assert (sent.body["logprobs"], sent.body["top_logprobs"]) == (True, wanted)
        assert (sent.asked.wants_logprobs, sent.asked.top_logprobs) == (True, top)
    sent = send(CHAT, {"messages": HELLO, "top_logprobs": 5})
    assert "logprobs" not in sent.body
    assert "top_logprobs" not in sent.body


def test_logprobs_of_tool_calls_are_not_streamed() -> None:
    body = {"messages": HELLO, "logprobs": True, "tools": [_TOOL]}
    sent = send(CHAT, body)
    assert (sent.asked.is_stream, sent.asked.is_engine_stream) == (True, False)
    assert sent.body["stream"] is False
    assert "stream_options" not in sent.body
    assert send(CHAT, body, openai()).body["stream"] is True


@pytest.mark.parametrize(
    ("capabilities", "body", "text"),
    [
        (["embedding"], {}, '"m" does not support chat'),
        (["completion"], {"think": "low"}, '"m" does not support thinking'),
        (["completion"], {"think": True}, '"m" does not support thinking'),
        (["embedding"], {"think": True}, '"m" does not support thinking'),
        (
            ["completion"],
            {"tools": [_TOOL]},
            "registry.ollama.ai/library/m:latest does not support tools",
        ),
        (
            ["completion"],
            {"messages": [{"role": "user", "images": [PNG]}]},
            "registry.ollama.ai/library/m:latest does not support vision",
        ),
        (
            ["vision", "completion"],
            {"messages": [{"role": "user", "images": [_b64(b"ID3xxx")]}]},
            "registry.ollama.ai/library/m:latest does not support audio",
        ),
        (
            None,
            {"_debug_render_only": True},
            "_debug_render_only is not supported by the node of this model",
        ),
    ],
)
def test_what_the_model_cannot_do(
    capabilities: list[str] | None, body: dict[str, Any], text: str
) -> None:
    engine = llama(*(capabilities or ()))
    assert refused(CHAT, {"messages": HELLO, **body}, engine) == (400, text)


def test_a_name_that_is_none_is_told_as_it_is() -> None:
    body = {"model": "a b", "messages": HELLO, "tools": [_TOOL]}
    assert refused(CHAT, body, llama("completion")) == (400, "a b does not support tools")


def test_tools() -> None:
    for engine in (llama(), llama("completion", "tools"), openai()):
        sent = send(CHAT, {"messages": HELLO, "tools": [_TOOL]}, engine)
        assert json.dumps(sent.body["tools"]) == json.dumps([_TOOL])
        assert sent.asked.has_tools


def test_sparse_tools() -> None:
    tools = [None, {}, {"type": "x", "function": {"name": "f", "parameters": None}}]
    empty = {"type": "object", "properties": {}}
    assert send(CHAT, {"messages": HELLO, "tools": tools}).body["tools"] == [
        {"type": "function", "function": {"name": name, "parameters": empty}}
        for name in ("", "", "f")
    ]
    assert "tools" not in send(CHAT, {"messages": HELLO, "tools": []}).body


def test_history_of_tools() -> None:
    call = {"function": {"name": "look", "arguments": {"z": 1, "a": [None, 2.5]}}}
    messages = [
        *HELLO,
        {"role": "assistant", "tool_calls": [call, {"id": "mine", **call}]},
        {"role": "tool", "content": "1", "tool_name": "look"},
        {"role": "tool", "content": "2", "tool_call_id": "mine"},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "a"}}, {}, None]},
        {"role": "tool", "content": "4", "tool_call_id": "unknown", "tool_name": "n"},
        {"role": "tool", "content": "5", "tool_name": "missing"},
    ]
    found = send(CHAT, {"messages": messages}).body["messages"]
    arguments = '{"z":1,"a":[null,2.5]}'
    assert found[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": call_id,
                "type": "function",
                "function": {"name": "look", "arguments": arguments},
            }
            for call_id in ("call_00000001", "mine")
        ],
    }
    assert found[2] == {
        "role": "tool", "content": "1", "tool_call_id": "call_00000001", "name": "look",
    }  # fmt: skip
    assert found[3] == {"role": "tool", "content": "2", "tool_call_id": "mine", "name": "look"}
    assert found[4] == {"role": "tool", "content": "3"}
    assert [call["id"] for call in found[5]["tool_calls"]] == [
        "call_00000002", "call_00000003", "call_00000004",
    ]  # fmt: skip
    assert found[5]["tool_calls"][1]["function"] == {"name": "", "arguments": "{}"}
    assert found[6] == {"role": "tool", "content": "4", "tool_call_id": "unknown", "name": "n"}
    assert found[7]["tool_call_id"] == "call_00000002"
    assert "name" not in send(CHAT, {"messages": messages}, openai()).body["messages"][2]


def test_history_of_thoughts() -> None:
    messages = [*HELLO, {"role": "assistant", "content": "a", "thinking": "t"}, *HELLO]
    assert send(CHAT, {"messages": messages}).body["messages"][1] == {
        "role": "assistant", "content": "a", "reasoning_content": "t",
    }  # fmt: skip
    assert send(CHAT, {"messages": messages}, openai()).body["messages"][1] == {
        "role": "assistant", "content": "a",
    }  # fmt: skip


def test_last_words_of_the_assistant_are_one_message() -> None:
    last = [
        {"role": "assistant", "content": "a", "thinking": "t"},
        {"role": "Assistant", "content": "", "images": [PNG]},
        {"role": "assistant", "content": "b", "tool_calls": [{"function": {"name": "f"}}]},
    ]
    sent = send(CHAT, {"messages": HELLO + last})
    assert len(sent.body["messages"]) == 2
    found = sent.body["messages"][1]
    assert found["content"][0] == {"type": "text", "text": "a\n\nb"}
    assert found["content"][1]["type"] == "image_url"
    assert found["reasoning_content"] == "t"
    assert len(found["tool_calls"]) == 1
    assert sent.asked.prefill == "a\n\nb"
    alone = send(CHAT, {"messages": [{"role": "assistant", "content": "x"}]})
    assert alone.asked.prefill == "x"
    assert alone.body["messages"] == [{"role": "assistant", "content": "x"}]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (base64.b64decode(PNG), "png"),
        (b"\xff\xd8\xff\xe0 jpeg", "jpeg"),
        (b"GIF87a..", "gif"),
        (b"GIF89a..", "gif"),
        (b"BMxx", "bmp"),
        (b"whatever", "jpeg"),
        (b"", "jpeg"),
    ],
)
def test_images(data: bytes, kind: str) -> None:
    text = _b64(data)
    messages = [{"role": "user", "content": "see", "images": [f"{text[:4]}\r\n{text[4:]}"]}]
    for engine in (llama(), llama("vision", "completion"), openai()):
        assert send(CHAT, {"messages": messages}, engine).body["messages"][0]["content"] == [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{text}"}},
        ]


def test_image_alone() -> None:
    messages = [{"role": "user", "images": [PNG, None]}]
    assert len(send(CHAT, {"messages": messages}).body["messages"][0]["content"]) == 2


def test_webp_is_left_to_those_who_read_it() -> None:
    messages = [{"role": "user", "images": [_b64(b"RIFF1234WEBPVP8 ")]}]
    status, text = refused(CHAT, {"messages": messages})
    assert (status, text[:4]) == (400, "WebP")
    content = send(CHAT, {"messages": messages}, openai()).body["messages"][0]["content"]
    assert content[0]["image_url"]["url"].startswith("data:image/webp;base64,")


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"RIFF1234WAVEfmt ", "wav"), (b"ID3\x04", "mp3"), (b"\xff\xfb\x90", "mp3")],
)
def test_sound(data: bytes, kind: str) -> None:
    messages = [{"role": "user", "content": "hear", "images": [_b64(data)]}]
    assert send(CHAT, {"messages": messages}).body["messages"][0]["content"][1] == {
        "type": "input_audio",
        "input_audio": {"data": _b64(data), "format": kind},
    }


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("data:image/png;base64,AAAA", "illegal base64 data at input byte 4"),
        ("AAA", "illegal base64 data at input byte 3"),
        ("A=A=", "illegal base64 data at input byte 1"),
        ("A===", "illegal base64 data at input byte 1"),
        ("\ud800AAA", "illegal base64 data at input byte 0"),
        ("AA=A", "illegal base64 data at input byte 2"),
        ("ÄÄÄÄ", "illegal base64 data at input byte 0"),
        (7, "json: cannot unmarshal number into Go struct field"),
    ],
)
def test_images_that_are_none(image: Any, text: str) -> None:
    status, found = refused(CHAT, {"messages": [{"role": "user", "images": [image]}]})
    assert status == 400
    assert found.startswith(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b"[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        (b'{"model":1}', "json: cannot unmarshal number into Go struct field ChatRequest.model"),
        (b'{"stream":"no"}', "json: cannot unmarshal string into Go struct field"),
        (b'{"messages":{}}', "json: cannot unmarshal object into Go struct field"),
        (b'{"messages":[1]}', "json: cannot unmarshal number into Go struct field"),
        (b'{"messages":[{"content":[]}]}', "json: cannot unmarshal array into Go struct field"),
        (b'{"tools":"x"}', "json: cannot unmarshal string into Go struct field"),
        (b'{"tools":[{"function":[]}]}', "json: cannot unmarshal array into Go struct field"),
        (b'{"options":[]}', "json: cannot unmarshal array into Go struct field"),
        (b'{"top_logprobs":1.5}', "json: cannot unmarshal number 1.5 into Go struct field"),
        (b'{"logprobs":1}', "json: cannot unmarshal number into Go struct field"),
        (
            b'{"messages":[{"tool_calls":[{"function":{"arguments":"{}"}}]}]}',
            "json: cannot unmarshal string into Go struct field",
        ),
        (b'{"model":', "unexpected EOF"),
        (b'{"model":NaN}', "invalid character 'N' looking for beginning of value"),
    ],
)
def test_bodies_that_are_none(body: bytes, text: str) -> None:
    status, found = refused(CHAT, body)
    assert status == 400
    assert found.startswith(text)


def test_empty_messages_are_messages() -> None:
    assert send(CHAT, b'{"messages":[null]}').body["messages"] == [{"role": "", "content": ""}]


def test_text_that_cannot_be_encoded_is_replaced() -> None:
    sent = send(CHAT, b'{"messages":[{"role":"user","content":"\\ud800 \\ud83d\\ude00 \xff"}]}')
    assert sent.body["messages"][0]["content"] == "\ufffd \U0001f600 \ufffd"


@pytest.mark.parametrize("number", ["1" * 5000, "-1e999", "1e400"])
@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("format", '{"maximum":%s}', "ChatRequest.format"),
        ("format", '{"enum":["a",[1,%s]]}', "ChatRequest.format"),
        ("format", "%s", "ChatRequest.format"),
        (
            "tools",
            '[{"function":{"parameters":{"maximum":%s}}}]',
            "ChatRequest.tools.function.parameters",
        ),
        (
            "messages",
            '[{"tool_calls":[{"function":{"arguments":{"a":%s}}}]}]',
            "ChatRequest.messages.tool_calls.function.arguments",
        ),
        ("options", '{"stop":[%s]}', "ChatRequest.options"),
    ],
)
def test_numbers_that_no_float_holds(field: str, value: str, path: str, number: str) -> None:
    rest = "" if field == "messages" else ',"messages":[]'
    body = '{"model":"m","' + field + '":' + value % number + rest + "}"
    text = f"json: cannot unmarshal number into Go struct field {path} of type float64"
    assert refused(CHAT, body.encode()) == (400, text)


def test_large_numbers_stay() -> None:
    body = '{"model":"m","messages":[{"role":"user","content":"x"}],"format":{"maximum":%s}}'
    sent = send(CHAT, (body % ("1" + "0" * 30)).encode()).body
    assert sent["response_format"]["json_schema"]["schema"] == {"maximum": 1e30}


def test_too_many_parts_are_refused_before_they_are_read() -> None:
    message = {"role": "user", "content": "a"}
    status, text = refused(CHAT, {"model": "m", "messages": [message] * 130_000})
    assert status == 413
    assert "too many" in text
