"""Fleets of fakes of all kinds that hold the same model, and ways to ask for it."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientPayloadError

from tests.component.lab import IN_ORDER, Lab
from tests.fakes.cloud import FakeCloud

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.fakes.httpd import SeenRequest
    from tests.fakes.server import FakeServer

MODEL = "tiny"
CLOUD_MODEL = "vendor/Tiny-1B"
"""What a cloud calls it."""
QUICK_HEALTH = {"interval_s": 0.1, "timeout_s": 0.4, "backoff_max_s": 0.2}

WAYS = [
    pytest.param(path, is_stream, id=f"{name}-{'stream' if is_stream else 'whole'}")
    for path, name in (
        ("/api/chat", "chat"),
        ("/api/generate", "generate"),
        ("/v1/chat/completions", "v1"),
    )
    for is_stream in (False, True)
]
STREAMS = [way for way in WAYS if way.values[1]]


@asynccontextmanager
async def fleet(*fakes: FakeServer, is_same: bool = True, **settings: Any) -> AsyncIterator[Lab]:
    """A lab in which the first of the fakes is the first choice; they are called n1, n2, ..."""
    async with AsyncExitStack() as stack:
        for fake in fakes:
            await stack.enter_async_context(fake)
        nodes = [config_of(fake, place, is_same) for place, fake in enumerate(fakes, 1)]
        settings = {"routing": IN_ORDER, **settings}
        yield await stack.enter_async_context(Lab([], nodes_config=nodes, **settings))


def config_of(fake: FakeServer, place: int, is_same: bool) -> dict[str, Any]:
    """The configuration of one node, of whatever kind."""
    config: dict[str, Any] = {"url": fake.url, "name": f"n{place}", "tier": min(10, place)}
    if fake.kind is not None:
        config |= {"kind": fake.kind}
        config |= {"same_as_ollama": [MODEL]} if is_same else {}
    if isinstance(fake, FakeCloud):
        config |= {"url": f"{fake.url}/v1", "models": {MODEL: fake.settings.models}}
    if fake.key_env is not None:
        config |= {"key_env": fake.key_env}
    return config


async def ask(
    lab: Lab,
    path: str = "/api/chat",
    *,
    stream: bool = False,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> aiohttp.ClientResponse:
    """Ask for the model; the caller reads the answer."""
    text = "hello there"
    said = {"prompt": text} if path == "/api/generate" else {"messages": turns(text)}
    # Without a limit a llama-server is asked for ten contexts.
    limit = {"max_tokens": 16} if path.startswith("/v1/") else {"options": {"num_predict": 16}}
    body = {"model": MODEL, "stream": stream, **said, **limit, **fields}
    return await lab.session.post(path, json=body, headers=headers)


def turns(*texts: str) -> list[dict[str, Any]]:
    """A history in which users and the assistant take turns."""
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]


def frames_of(data: bytes) -> list[Any]:
    """The objects of an answer, streamed or whole, of either dialect; not its `[DONE]`."""
    if b"data:" not in data:
        return [json.loads(line) for line in data.splitlines() if line]
    payloads = [line[5:].strip() for line in data.splitlines() if line.startswith(b"data:")]
    return [json.loads(payload) for payload in payloads if payload != b"[DONE]"]


def is_complete(data: bytes) -> bool:
    """Whether an answer ends as its dialect has it."""
    if b"data:" in data:
        return data.endswith(b"data: [DONE]\n\n")
    last = frames_of(data)[-1]
    return last.get("done") is True or "choices" in last


def error_of(data: bytes) -> str:
    """The text of the error that an answer ends with."""
    error = frames_of(data)[-1]["error"]
    return str(error["message"] if isinstance(error, dict) else error)


async def read_cut(answer: aiohttp.ClientResponse) -> bytes:
    """Read an answer that must not end as if it were complete."""
    data = b""
    async with answer:
        with pytest.raises(ClientPayloadError):
            async with asyncio.timeout(5):
                async for chunk in answer.content.iter_any():
                    data += chunk
    return data


def work_of(fake: FakeServer) -> list[SeenRequest]:
    """The requests for answers that a fake has seen; a probe sends an empty one."""
    return [request for request in fake.inference if request.body != b"{}"]


def outcomes(lab: Lab) -> dict[str, int]:
    """How requests ended, for the metrics."""
    found: dict[str, int] = {}
    for key, number in lab.built.metrics._requests.items():
        found[key[2]] = found.get(key[2], 0) + number
    return found


async def settled(lab: Lab) -> None:
    """Wait until no request is under way, and see that none left anything."""
    await lab.until(lambda: not list(lab.built.dispatcher.runs))
    lab.assert_idle()
