"""Readers against what a real llama-server sent, and against what a real Ollama printed."""

from __future__ import annotations

import base64
import struct
from datetime import datetime
from typing import Any

import msgspec
import pytest

from sollold.core.model import NodeKind
from sollold.wire.routes import InferenceRoute
from tests.unit.wire.streams import event_of
from tests.unit.wire.translate.replying import (
    CHAT_PATH,
    COMPLETION_PATH,
    DONE,
    EMBED_PATH,
    JSON,
    NDJSON,
    PLAIN,
    SSE,
    Hands,
    Read,
    chunk,
    read,
    reader,
    recorded,
    stream,
    whole,
)

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE
_EMBED = InferenceRoute.API_EMBED
_V1_CHAT = InferenceRoute.V1_CHAT
_V1_TEXT = InferenceRoute.V1_COMPLETIONS
_TOO_LONG = "the prompt is longer than the context length currently available to the model"
_SAID = "Count to three: one <"


def _read(name: str, route: InferenceRoute = _CHAT, **fields: Any) -> Read:
    return read(reader(route, **fields), recorded(name))


@pytest.mark.parametrize("name", ["chat_stream", "chat_stream_usage"])
def test_a_streamed_chat(name: str) -> None:
    out = _read(name)
    *lines, last = out.lines
    assert out.head == (200, NDJSON)
    assert "".join(line["message"]["content"] for line in lines) == _SAID
    assert {line["done"] for line in lines} == {False}
    assert (last["done"], last["done_reason"]) == (True, "length")
    assert (last["prompt_eval_count"], last["eval_count"]) == (35, 6)
    assert last["prompt_eval_duration"] > 0
    assert b"\\u003c" in out.body


def test_a_streamed_chat_as_one_object() -> None:
    assert _read("chat_stream", is_stream=False).document["message"]["content"] == _SAID


def test_a_whole_chat() -> None:
    out = _read("chat", is_stream=False)
    assert out.head == (200, JSON)
    assert out.document["message"] == {"role": "assistant", "content": _SAID}
    assert out.document["prompt_eval_count"] == 35


def test_a_whole_chat_as_a_stream() -> None:
    first, last = _read("chat").lines
    assert first["message"]["content"] == _SAID
    assert (last["done"], last["eval_count"]) == (True, 6)


def test_log_probabilities() -> None:
    lines = _read("chat_stream_logprobs", wants_logprobs=True).lines
    first = lines[0]["logprobs"]
    assert first == [
        {"token": "Count", "logprob": first[0]["logprob"], "bytes": [67, 111, 117, 110, 116]}
    ]
    document = _read("chat_logprobs", is_stream=False, wants_logprobs=True, top_logprobs=1).document
    assert [len(entry["top_logprobs"]) for entry in document["logprobs"]] == [1] * 6


def test_a_completion_with_context() -> None:
    fields = {"path": COMPLETION_PATH, "prompt_tokens": (2, 818)}
    last = _read("completion_stream", _GENERATE, **fields).lines[-1]
    assert last["context"] == [2, 818, 37423, 38167, 1024, 506, 31770]
    assert (last["prompt_eval_count"], last["eval_count"]) == (4, 5)
    document = _read("completion_tokens", _GENERATE, is_stream=False, **fields).document
    assert document["context"] == last["context"]
    assert document["response"] == " fox jumps over the lazy"


def test_a_completion_that_met_a_stop_word() -> None:
    *lines, last = _read("completion_stream_word", _GENERATE, path=COMPLETION_PATH).lines
    assert [line["response"] for line in lines] == [" fox", " jumps", " "]
    assert (last["done_reason"], last["eval_count"]) == ("stop", 3)
    assert "context" not in last


def test_a_plain_completion_of_another_server() -> None:
    lines = _read("text_stream_logprobs", _GENERATE, kind=NodeKind.OPENAI).lines
    assert "".join(line["response"] for line in lines) == " fox jumps over the lazy"


@pytest.mark.parametrize(("name", "is_stream"), [("tools_stream_cut", True), ("tools_cut", False)])
def test_the_last_call_was_cut_by_the_limit(name: str, is_stream: bool) -> None:
    out = _read(name, is_stream=is_stream)
    last = out.lines[-1] if is_stream else out.document
    assert last["done_reason"] == "length"
    calls = last["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"index": place, "name": "weather", "arguments": {"days": 1, "ok": True}}
        for place in range(2)
    ]
    assert len({call["id"] for call in calls}) == 2


@pytest.mark.parametrize(("name", "is_stream"), [("thinking_stream", True), ("thinking", False)])
def test_thinking(name: str, is_stream: bool) -> None:
    out = _read(name, is_stream=is_stream)
    messages = [line["message"] for line in out.lines[:-1]] if is_stream else [
        out.document["message"]
    ]  # fmt: skip
    thought = "".join(message["thinking"] for message in messages)
    assert thought.startswith("<|im_end|>\n")
    assert {message["content"] for message in messages} == {""}
    v1 = _read(name, _V1_CHAT, is_stream=is_stream)
    assert b"reasoning_content" not in v1.body
    assert b'"reasoning":"' in v1.body


@pytest.mark.parametrize(("name", "is_stream"), [("prefill_stream", True), ("prefill", False)])
def test_what_the_history_ended_with_is_not_repeated(name: str, is_stream: bool) -> None:
    out = _read(name, is_stream=is_stream, prefill="one two three")
    lines = out.lines if is_stream else [out.document]
    said = "".join(line["message"]["content"] for line in lines)
    assert said == " four five six seven"


@pytest.mark.parametrize(
    ("name", "route", "path", "status", "text"),
    [
        ("loading", _CHAT, CHAT_PATH, 503, "Loading model"),
        ("wrong_key", _EMBED, EMBED_PATH, 401, "Invalid API Key"),
        ("unknown_route", _CHAT, CHAT_PATH, 502, f"the node does not serve {CHAT_PATH}"),
        (
            "overlong_prompt", _CHAT, CHAT_PATH, 400,
            f"{_TOO_LONG} (2024 tokens, 512 available)",
        ),
        ("overlong_input", _EMBED, EMBED_PATH, 400,
         "the input length exceeds the context length"),
        ("embeddings_unsupported", _EMBED, EMBED_PATH, 501,
         "This server does not support embeddings. Start it with `--embeddings`"),
        ("infill_unsupported", _GENERATE, "/infill", 400,
         "registry.ollama.ai/library/tiny:latest does not support insert"),
    ],
)  # fmt: skip
def test_refusals(name: str, route: InferenceRoute, path: str, status: int, text: str) -> None:
    for is_stream in (True, False):
        out = _read(name, route, path=path, is_stream=is_stream)
        is_late = is_stream and route is not _EMBED
        assert out.head == (status, PLAIN if is_late else JSON)
        assert out.document == {"error": text}


@pytest.mark.parametrize("name", ["image_unsupported", "bad_schema", "bad_json"])
def test_the_callers_fault_is_a_400(name: str) -> None:
    out = _read(name)
    assert out.head.status == 400
    said = msgspec.json.decode(recorded(name).body)["error"]["message"]
    assert out.document == {"error": said}


def test_a_refusal_of_a_v1_route_has_its_shape() -> None:
    out = _read("overlong_prompt", _V1_CHAT)
    assert out.head == (400, "application/json")
    assert out.document["error"]["type"] == "invalid_request_error"


def test_embeddings_in_both_forms() -> None:
    fields = {
        "path": EMBED_PATH, "is_stream": False, "dimensions": 3, "model": "tiny-embed",
    }  # fmt: skip
    native = _read("embeddings_base64", _EMBED, **fields).document
    wanted = msgspec.json.decode(recorded("ollama_embed8").body)
    assert native["embeddings"][0] == pytest.approx(wanted["embeddings"][0], rel=1e-5)
    assert native["prompt_eval_count"] == wanted["prompt_eval_count"]
    assert list(native) == list(wanted)
    out = _read("embeddings_base64", InferenceRoute.V1_EMBEDDINGS, **fields)
    v1, wanted = out.document, msgspec.json.decode(recorded("ollama_v1emb").body)
    assert out.head.content_type == recorded("ollama_v1emb").content_type
    vector = wanted["data"][0].pop("embedding")
    assert v1["data"][0].pop("embedding") == pytest.approx(vector)
    assert v1 == wanted
    packed = _read(
        "embeddings_base64", InferenceRoute.V1_EMBEDDINGS, is_base64=True, **fields
    ).document["data"][0]["embedding"]
    assert struct.unpack("<3f", base64.b64decode(packed)) == pytest.approx(vector)


def _nanoseconds(stamp: str) -> int:
    seconds, _, rest = stamp.removesuffix("Z").partition(".")
    whole_s = int(datetime.fromisoformat(seconds + "+00:00").timestamp())
    return whole_s * 10**9 + int(rest.ljust(9, "0"))


def _timings(last: dict[str, Any]) -> dict[str, object]:
    return {
        "cache_n": 1,
        "prompt_n": last["prompt_eval_count"] - 1,
        "prompt_ms": last["prompt_eval_duration"] / 1e6,
        "predicted_n": last["eval_count"],
        "predicted_ms": last["eval_duration"] / 1e6,
    }


class _Replay:
    """Feeds a reader so that it should print what the real Ollama printed, at the same times."""

    def __init__(self, route: InferenceRoute, last: dict[str, Any], **fields: Any) -> None:
        self.hands = Hands(step_ns=0)
        self.hands.monotonic_ns = last["load_duration"]
        self.reader = reader(route, hands=self.hands, **fields)
        self.last = last

    def begin(self, content_type: str) -> None:
        self.reader.begin(200, content_type)

    def feed(self, data: bytes, line: dict[str, Any]) -> bytes:
        self.hands.wall_ns = _nanoseconds(line["created_at"])
        if line is self.last:
            self.hands.monotonic_ns = line["total_duration"]
        return self.reader.feed(data)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("ollama_chat_s", {}), ("ollama_chat_s_lp", {"wants_logprobs": True, "top_logprobs": 1})],
)
def test_a_chat_is_printed_as_ollama_does(name: str, fields: dict[str, Any]) -> None:
    wanted = recorded(name)
    lines = [msgspec.json.decode(line) for line in wanted.body.splitlines()]
    replay = _Replay(_CHAT, lines[-1], **fields)
    replay.begin(SSE)
    out = replay.feed(chunk(role="assistant", content=None), lines[0])
    for line in lines[:-1]:
        choice: dict[str, object] = {"index": 0, "delta": {"content": line["message"]["content"]}}
        if "logprobs" in line:
            choice["logprobs"] = {"content": [{"id": 1, **entry} for entry in line["logprobs"]]}
        out += replay.feed(event_of({"choices": [choice]}), line)
    closing = chunk(lines[-1]["done_reason"], extra={"timings": _timings(lines[-1])})
    out += replay.feed(closing + DONE, lines[-1]) + replay.reader.finish()
    assert (replay.reader.head, out) == ((200, wanted.content_type), wanted.body)


def test_a_completion_is_printed_as_ollama_does() -> None:
    wanted = recorded("ollama_gen_s")
    lines = [msgspec.json.decode(line) for line in wanted.body.splitlines()]
    context = lines[-1]["context"]
    replay = _Replay(
        _GENERATE, lines[-1], path=COMPLETION_PATH, wants_logprobs=True,
        prompt_tokens=tuple(context[:-4]),
    )  # fmt: skip
    replay.begin(SSE)
    out = b""
    for line, token in zip(lines[:-1], context[-4:], strict=True):
        event = {"content": line["response"], "tokens": [token], "stop": False}
        probabilities = {"completion_probabilities": line["logprobs"]}
        out += replay.feed(event_of(event | probabilities), line)
    closing = {"content": "", "tokens": [], "stop": True, "stop_type": "limit"}
    out += replay.feed(event_of(closing | {"timings": _timings(lines[-1])}), lines[-1])
    out += replay.reader.finish()
    assert (replay.reader.head, out) == ((200, wanted.content_type), wanted.body)


@pytest.mark.parametrize(
    ("name", "route", "key"), [("ollama_chat_w", _CHAT, "message"), ("ollama_gen_w", _GENERATE, "")]
)
def test_a_whole_answer_is_printed_as_ollama_does(
    name: str, route: InferenceRoute, key: str
) -> None:
    wanted = recorded(name)
    last = msgspec.json.decode(wanted.body)
    context = last.get("context")
    replay = _Replay(
        route, last, is_stream=False, path=CHAT_PATH if key else COMPLETION_PATH,
        prompt_tokens=tuple(context[:-4]) if context else None,
    )  # fmt: skip
    replay.begin(JSON)
    body: dict[str, Any]
    if key:
        choice = {"message": last["message"], "finish_reason": "length", "index": 0}
        body = {"choices": [choice], "timings": _timings(last)}
    else:
        body = {
            "content": last["response"], "tokens": context[-4:], "stop": True,
            "stop_type": "limit", "timings": _timings(last),
        }  # fmt: skip
    out = replay.feed(msgspec.json.encode(body), last) + replay.reader.finish()
    assert (replay.reader.head, out) == ((200, wanted.content_type), wanted.body)


def _usage_of(events: list[Any]) -> dict[str, object] | None:
    return next((event["usage"] for event in events if event != "[DONE]" and event.get("usage")
                 and event["usage"]["total_tokens"]), None)  # fmt: skip


@pytest.mark.parametrize("name", ["ollama_v1_s", "ollama_v1c_s", "ollama_v1c_s2"])
def test_a_v1_stream_is_printed_as_ollama_does(name: str) -> None:
    wanted = recorded(name)
    events = Read(reader().head, wanted.body).events  # type: ignore[arg-type]
    is_chat = events[0]["object"] == "chat.completion.chunk"
    number = events[0]["id"].partition("-")[2]
    usage = _usage_of(events)
    extra = {"id": f"chatcmpl-{number}", "created": events[0]["created"], "timings": {}}
    sent = [chunk(role="assistant", content=None, extra=extra)]
    for event in events:
        if event == "[DONE]" or not event["choices"]:
            continue
        choice = event["choices"][0]
        text = choice["delta"].get("content") if is_chat else choice["text"]
        sent.append(chunk(choice["finish_reason"], extra=extra, content=text or None))
    sent += [event_of({"choices": [], "usage": usage or {"prompt_tokens": 1}}), DONE]
    subject = reader(_V1_CHAT if is_chat else _V1_TEXT, include_usage=usage is not None)
    out = read(subject, stream(*sent))
    assert out == ((200, wanted.content_type), wanted.body)


def test_whole_v1_answers_are_printed_as_ollama_does() -> None:
    for name, route in (("ollama_v1_w", _V1_CHAT), ("ollama_v1c_w", _V1_TEXT)):
        wanted = recorded(name)
        body = msgspec.json.decode(wanted.body)
        choice = body["choices"][0]
        sent = {"message": {"role": "assistant", "content": choice.get("text")}, **choice}
        reply = whole(body | {"choices": [sent], "timings": {}})
        subject = reader(route, is_stream=False, wants_logprobs=True, top_logprobs=1)
        assert read(subject, reply) == ((200, wanted.content_type), wanted.body)
