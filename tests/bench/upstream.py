"""A cheap upstream that looks like Ollama nodes: canned listings and answers, ready-made frames.

A program: `python -m tests.bench.upstream --ports 1 --models 2`; with `--llama` it looks like a
llama-server instead. It spends as little CPU as Python can, so that what is measured is the
gateway. It does not behave like either; `tests.fakes` does.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
import json
import signal
import socket
from typing import TYPE_CHECKING, NamedTuple, cast

import uvloop

from tests.bench import llama

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PACE_S = 0.010
BACKLOG_BLOCK = 64
SMALL, PACED, BACKLOG = "bench-small", "bench-paced", "bench-backlog"

_FAR = "2318-01-01T00:00:00Z"
_SINCE = "2026-01-02T03:04:05Z"
_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "8.0B",
    "quantization_level": "Q4_K_M",
}
_COUNTERS = {
    "total_duration": 400_000_000,
    "load_duration": 1_000_000,
    "prompt_eval_count": 12,
    "prompt_eval_duration": 20_000_000,
    "eval_count": 1,
    "eval_duration": 300_000_000,
}


def names(node: int, count: int) -> list[str]:
    """Models of one node of a fleet: half on every node, half on this one only."""
    own = [f"own-{node}-{number}:latest" for number in range(count // 2)]
    shared = [f"shared-{number}:latest" for number in range(count - len(own))]
    return [*shared, *own]


def listings(own: Sequence[str], others: Sequence[str] = ()) -> dict[str, bytes]:
    """Bodies of the routes by which a node is known; its own models are loaded."""
    full_names = [f"{name}:latest" for name in own]
    entries = [_tags_entry(name) for name in (*full_names, *others)]
    loaded = [_ps_entry(name) for name in full_names]
    shown = {
        "modelfile": "",
        "template": "{{ .Prompt }}",
        "details": _DETAILS,
        "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
        "capabilities": ["completion"],
        "modified_at": _SINCE,
    }
    documents = {
        "/api/version": {"version": "0.33.0"},
        "/api/tags": {"models": entries},
        "/api/ps": {"models": loaded},
        "/api/show": shown,
    }
    return {path: _dump(document) for path, document in documents.items()}


def small_answer() -> bytes:
    """The body of a short answer that is not streamed."""
    return _dump(_line("Four.", is_last=True, model=SMALL))


def frame(text: str, model: str) -> bytes:
    """One line of a stream in a chunk of its own, as Ollama flushes it."""
    return _chunk(_dump(_line(text, is_last=False, model=model)) + b"\n")


def last_frame(count: int, model: str) -> bytes:
    """The final line with its counters, and the end of the body."""
    line = _line("", is_last=True, model=model) | {"eval_count": count}
    return _chunk(_dump(line) + b"\n") + b"0\r\n\r\n"


def _line(text: str, *, is_last: bool, model: str) -> dict[str, object]:
    line: dict[str, object] = {
        "model": model,
        "created_at": "2026-01-02T03:04:05.123456789Z",
        "message": {"role": "assistant", "content": text},
        "done": is_last,
    }
    return line | ({"done_reason": "stop"} | _COUNTERS if is_last else {})


def _tags_entry(name: str) -> dict[str, object]:
    return {
        "name": name,
        "model": name,
        "modified_at": _SINCE,
        "size": 4_900_000_000,
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "details": _DETAILS | {"context_length": 8192, "embedding_length": 4096},
        "capabilities": ["completion"],
    }


def _ps_entry(name: str) -> dict[str, object]:
    entry = _tags_entry(name)
    keys = ("name", "model", "size", "digest", "details")
    return {key: entry[key] for key in keys} | {
        "expires_at": _FAR,
        "size_vram": entry["size"],
        "context_length": 4096,
    }


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_JSON_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n"
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_SMALL = _JSON_HEAD % len(small_answer()) + small_answer()
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nServer: llama.cpp\r\nContent-Length: 0\r\n\r\n"
_INFERENCE = (b"/api/chat", b"/v1/chat/completions")


class _Script(NamedTuple):
    """What a connection says: ready-made replies, and the pieces of its streams."""

    replies: dict[bytes, bytes]
    head: bytes
    paced: bytes
    backlog: bytes
    last: Callable[[int], bytes]


def _ollama_script(own: Sequence[str], others: Sequence[str]) -> _Script:
    paced, backlog = frame(" tok", PACED), frame(" tok", BACKLOG) * BACKLOG_BLOCK
    last = functools.partial(last_frame, model=PACED)
    return _Script(_replies(listings(own, others)), _STREAM_HEAD, paced, backlog, last)


def _llama_script() -> _Script:
    token = llama.event(" tok")
    head = llama.STREAM_HEAD + llama.first_event()
    return _Script(
        _replies(llama.listings()), head, token, token * BACKLOG_BLOCK, llama.last_events
    )


def _replies(bodies: dict[str, bytes]) -> dict[bytes, bytes]:
    return {path.encode(): _JSON_HEAD % len(body) + body for path, body in bodies.items()}


class _Connection(asyncio.Protocol):
    """Reads just enough of HTTP for clients that send whole requests with a length."""

    def __init__(self, script: _Script) -> None:
        self._script = script
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self._total = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._left = 0
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            total = end + 4 + _length(head)
            if len(self._buffer) < total:
                return
            body, self._buffer = self._buffer[end + 4 : total], self._buffer[total:]
            self._answer(head.split(b" ", 2)[1], body)

    def pause_writing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume_writing(self) -> None:
        if self._left and self._timer is None:
            self._backlog()

    def _answer(self, path: bytes, body: bytes) -> None:
        if path in self._script.replies:
            self._transport.write(self._script.replies[path])
        elif path not in _INFERENCE:
            self._transport.write(_NOT_FOUND)
        elif PACED.encode() in body:
            self._begin(body)
            self._due_s = self._loop.time()
            self._paced()
        elif BACKLOG.encode() in body:
            self._begin(body)
            self._backlog()
        else:
            self._transport.write(_SMALL)

    def _begin(self, body: bytes) -> None:
        asked = json.loads(body)
        limit = asked["n_predict"] if "n_predict" in asked else asked["options"]["num_predict"]
        self._left = self._total = int(limit)
        self._transport.write(self._script.head)

    def _paced(self) -> None:
        self._timer = None
        self._left -= 1
        if self._left <= 0:
            self._transport.write(self._script.paced + self._script.last(self._total))
            return
        self._transport.write(self._script.paced)
        self._due_s += PACE_S
        self._timer = self._loop.call_at(self._due_s, self._paced)

    def _backlog(self) -> None:
        self._timer = None
        self._left -= BACKLOG_BLOCK
        if self._left <= 0:
            self._left = 0
            self._transport.write(self._script.backlog + self._script.last(self._total))
            return
        # Scheduled first: this write may say that it is enough for now.
        self._timer = self._loop.call_later(0, self._backlog)
        self._transport.write(self._script.backlog)


def _length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])


async def _serve(scripts: Sequence[_Script]) -> None:
    loop = asyncio.get_running_loop()
    bound = []
    for script in scripts:
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        await loop.create_server(functools.partial(_Connection, script), sock=listener)
        bound.append(listener.getsockname()[1])
    print(json.dumps(bound), flush=True)
    done = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    await done.wait()


def main() -> None:
    """Serve until ended; the first line on standard output is the list of ports."""
    parser = argparse.ArgumentParser(prog="tests.bench.upstream", description=__doc__)
    parser.add_argument("--ports", type=int, default=1)
    parser.add_argument("--models", type=int, default=0, help="further models on each node")
    parser.add_argument("--own", default=SMALL, help="models that are loaded on each")
    parser.add_argument("--llama", action="store_true", help="one llama-server instead")
    options = parser.parse_args()
    own = options.own.split(",")
    scripts = [_ollama_script(own, names(node, options.models)) for node in range(options.ports)]
    uvloop.run(_serve([_llama_script()] if options.llama else scripts))


if __name__ == "__main__":
    main()
