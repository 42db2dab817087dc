"""Asks the daemon one question in each dialect, and passes the answer on as it comes."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, NamedTuple

from sollold.demo.addresses import HOST
from sollold.demo.dialects import NativeReader, OpenAIReader
from sollold.demo.failure import DemoFailed
from sollold.demo.settings import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.demo.dialects import Reader

_SILENCE_S = 60.0
_REFUSAL_BYTES = 500
# The model repeats its question once it has answered.
_END = "\nQuestion"
_ANSWER_TOKENS = 64


class Question(NamedTuple):
    """One request."""

    path: str
    text: str
    document: dict[str, object]
    reader: Callable[[], Reader]


class Answer(NamedTuple):
    """What is known about an answer; None for what was not told."""

    node: str | None
    tokens: int | None
    tokens_per_s: float | None


def native_question(text: str) -> Question:
    """Return a chat as Ollama's clients ask for it."""
    options = {"num_predict": _ANSWER_TOKENS, "temperature": 0, "stop": [_END]}
    document = _chat(text) | {"options": options}
    return Question("/api/chat", text, document, NativeReader)


def openai_question(text: str) -> Question:
    """Return a chat as OpenAI's clients ask for it."""
    document = _chat(text) | {
        "max_tokens": _ANSWER_TOKENS,
        "temperature": 0,
        "stop": [_END],
        "stream_options": {"include_usage": True},
    }
    return Question("/v1/chat/completions", text, document, OpenAIReader)


def ask(port: int, question: Question, on_text: Callable[[str], None]) -> Answer:
    """Ask, and call `on_text` with each piece of the answer.

    Raises:
        DemoFailed: there was no answer, or not a whole one.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=_SILENCE_S)
    try:
        body = json.dumps(question.document)
        connection.request("POST", question.path, body, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            if response.status != http.client.OK:
                said = response.read(_REFUSAL_BYTES).decode("utf-8", "replace").strip()
                raise DemoFailed(f"{question.path} was answered with {response.status}: {said}")
            reader = question.reader()
            for line in response:
                on_text(reader.feed(line))
            node = response.getheader("X-Sollold-Node")
    except (OSError, http.client.HTTPException) as exc:
        raise DemoFailed(f"{question.path} was not answered: {exc!r}") from exc
    finally:
        connection.close()
    if not reader.is_complete:
        raise DemoFailed(f"the answer of {question.path} was cut")
    return Answer(node, reader.tokens, reader.tokens_per_s)


def answers_ok(port: int, path: str, limit_s: float) -> bool:
    """Return whether a GET on this machine is answered with 200 in time."""
    connection = http.client.HTTPConnection(HOST, port, timeout=limit_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _chat(text: str) -> dict[str, object]:
    return {
        "model": MODEL,
        "stream": True,
        "messages": [{"role": "user", "content": text}],
    }
