"""Replies of engines, recorded and made up, and what reads them in tests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sollold.core.model import NodeKind
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.asked import Asked
from sollold.wire.translate.replies import reader_for
from sollold.wire.translate.seam import Clock, Engine, ReplyHead, ReplyReader
from tests.unit.wire.streams import event_of

if TYPE_CHECKING:
    from collections.abc import Iterable

CHAT_PATH = "/v1/chat/completions"
COMPLETION_PATH = "/completion"
EMBED_PATH = "/v1/embeddings"
SSE = "text/event-stream"
JSON = "application/json; charset=utf-8"
PLAIN = "application/json"
"""Of errors that come when a stream would already have begun."""
NDJSON = "application/x-ndjson"
DONE = b"data: [DONE]\n\n"

TIMINGS = {"cache_n": 10, "prompt_n": 5, "prompt_ms": 2.5, "predicted_n": 7, "predicted_ms": 70}
USAGE = {"prompt_tokens": 15, "completion_tokens": 7, "total_tokens": 22}

_RECORDED = Path(__file__).parent / "recorded"


class Reply(NamedTuple):
    """A reply of an engine, or of the real Ollama."""

    status: int
    content_type: str
    body: bytes


class Read(NamedTuple):
    """What came out of a reader."""

    head: ReplyHead
    body: bytes

    @property
    def lines(self) -> list[Any]:
        """The objects of a native stream."""
        assert self.body.endswith(b"\n")
        return [msgspec.json.decode(line) for line in self.body.splitlines()]

    @property
    def events(self) -> list[Any]:
        """The objects of an event stream, and its last word."""
        assert self.body.endswith(b"\n\n")
        frames = self.body[:-2].split(b"\n\n")
        assert all(frame.startswith(b"data: ") and b"\n" not in frame for frame in frames)
        payloads = [frame[6:] for frame in frames]
        return [item.decode() if item == b"[DONE]" else msgspec.json.decode(item)
                for item in payloads]  # fmt: skip

    @property
    def document(self) -> Any:
        """The one object."""
        return msgspec.json.decode(self.body)


class Hands:
    """A clock whose hands tests move; the monotonic one steps at each look."""

    def __init__(self, wall_ns: int = 1_795_282_303_232_537_801, step_ns: int = 1_000_000) -> None:
        self.wall_ns = wall_ns
        self.monotonic_ns = 0
        self.step_ns = step_ns

    def _look(self) -> int:
        self.monotonic_ns += self.step_ns
        return self.monotonic_ns

    @property
    def clock(self) -> Clock:
        """What readers take."""
        return Clock(lambda: self.wall_ns, self._look)


def recorded(name: str) -> Reply:
    """Return what the real thing sent: its first line is status and content type."""
    head, _, body = (_RECORDED / name).read_bytes().partition(b"\n")
    status, _, content_type = head.decode().partition(" ")
    return Reply(int(status), content_type, body)


def asked(**fields: Any) -> Asked:
    """Return a request as the reader has to know it: a streamed chat unless told otherwise."""
    is_stream = fields.setdefault("is_stream", True)
    return Asked(
        **{
            "model": "tiny",
            "is_engine_stream": is_stream,
            "path": CHAT_PATH,
            "started_ns": 0,
            **fields,
        }
    )


def reader(
    route: InferenceRoute = InferenceRoute.API_CHAT,
    kind: NodeKind = NodeKind.LLAMA_SERVER,
    *,
    hands: Hands | None = None,
    engine_model: str = "/models/chat.gguf",
    **fields: Any,
) -> ReplyReader:
    """Return a reader."""
    engine = Engine(kind=kind, model=engine_model)
    return reader_for(route, engine, asked(**fields), (hands or Hands()).clock)


def read(subject: ReplyReader, reply: Reply, pieces: Iterable[bytes] | None = None) -> Read:
    """Put a reply through a reader."""
    subject.begin(reply.status, reply.content_type)
    body = b""
    for piece in [reply.body] if pieces is None else pieces:
        passed = subject.feed(piece)
        assert subject.head is not None or not passed
        body += passed
    body += subject.finish()
    assert subject.head is not None
    return Read(subject.head, body)


def stream(*events: bytes) -> Reply:
    """Return a streamed reply."""
    return Reply(200, SSE, b"".join(events))


def whole(body: object, status: int = 200) -> Reply:
    """Return a reply that is one object."""
    return Reply(status, JSON, msgspec.json.encode(body))


def chunk(
    finish: str | None = None, *, extra: dict[str, object] | None = None, **delta: object
) -> bytes:
    """Return a chunk of a streamed chat."""
    choice = {"finish_reason": finish, "index": 0, "delta": delta}
    return event_of({"choices": [choice], "created": 7, "id": "chatcmpl-x", **(extra or {})})


def pieces_of(body: bytes, seed: int) -> list[bytes]:
    """Cut bytes at random places."""
    dice = random.Random(seed)
    cuts = sorted(dice.randrange(len(body) + 1) for _ in range(dice.randrange(1, 40)))
    return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def single_bytes(body: bytes) -> list[bytes]:
    """Cut bytes everywhere."""
    return [body[at : at + 1] for at in range(len(body))]
