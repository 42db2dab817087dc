"""Nodes are killed under the official clients: whole answers never fail, cut streams raise."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import ollama
import openai
import psutil
import pytest

from tests.real.daemons import failed_over, running_daemon, running_on
from tests.stack.http import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence
    from pathlib import Path

    from tests.stack.daemon import DaemonProcess
    from tests.stack.ollama import OllamaServer

pytestmark = pytest.mark.real

_HI = [{"role": "user", "content": "hi"}]
_PIN = "X-Sollold-Pin"
# Thirty equal tokens in a row would end an answer.
_TOKENS = 28
_OPTIONS: Any = {"num_predict": _TOKENS}
_ENDLESS: Any = {"num_predict": 400}
_CUT = r"^sollold: n{}: .* \(request r-"

# Nobody comes back in time, so there is nothing to wait for.
_NO_PATIENCE = """\
[queue]
holder_down_s = 0.5
"""


@pytest.fixture
def daemon(ollama_nodes: tuple[OllamaServer, ...], tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon over three nodes that knows no bad of any of them."""
    with running_daemon(tmp_path / "daemon", ollama_nodes, config=_NO_PATIENCE) as daemon:
        yield daemon


def _native(daemon: DaemonProcess, **headers: str) -> ollama.AsyncClient:
    return ollama.AsyncClient(daemon.api_url, headers=headers, trust_env=False)


def _compatible(daemon: DaemonProcess, **headers: str) -> openai.AsyncOpenAI:
    """Without retries of its own: it is the daemon that must not fail."""
    return openai.AsyncOpenAI(
        base_url=f"{daemon.api_url}/v1", api_key="none", max_retries=0, default_headers=headers
    )


def _asks(client: ollama.AsyncClient, other: openai.AsyncOpenAI) -> list[Awaitable[object]]:
    """Each kind of request that has a whole answer."""
    messages: Any = _HI
    return [
        client.chat("tiny", _HI, options=_OPTIONS),
        client.generate("tiny", "The sea", options=_OPTIONS),
        client.embed("tiny-embed", ["sea", "hill"]),
        client.embeddings("tiny-embed", "sea"),
        client.show("tiny"),
        other.chat.completions.create(model="tiny", messages=messages, max_tokens=_TOKENS),
        other.completions.create(model="tiny", prompt="The sea", max_tokens=_TOKENS),
        other.embeddings.create(model="tiny-embed", input="sea"),
    ]


async def test_nodes_lost_between_requests_are_not_noticed_until_the_last(
    daemon: DaemonProcess, ollama_nodes: Sequence[OllamaServer]
) -> None:
    async with _native(daemon) as client, _compatible(daemon) as other:
        for node in ollama_nodes[:2]:
            node.kill()
            for answer in _asks(client, other):
                assert await answer
            stream = await client.chat("tiny", _HI, options=_OPTIONS, stream=True)
            assert [part.done async for part in stream][-1]

        ollama_nodes[2].kill()
        listed = await client.list()
        refusals = await asyncio.gather(*_asks(client, other), return_exceptions=True)

    assert listed.models
    for refusal in refusals:
        assert isinstance(refusal, ollama.ResponseError | openai.InternalServerError)
        assert refusal.status_code == 503
        assert "n3" in str(refusal)


async def test_a_node_lost_during_requests_is_not_noticed(
    daemon: DaemonProcess, ollama_nodes: Sequence[OllamaServer]
) -> None:
    before = failed_over(daemon)
    async with _native(daemon) as client, _compatible(daemon) as other:
        answers = asyncio.gather(*_asks(client, other))

        number = await _busiest(daemon)
        ollama_nodes[number].kill()

        assert all(await answers)
    assert failed_over(daemon) > before


async def test_an_engine_lost_during_requests_is_not_noticed(
    daemon: DaemonProcess, ollama_nodes: Sequence[OllamaServer]
) -> None:
    for node in ollama_nodes:
        node.load("tiny")
    before = failed_over(daemon)
    async with _native(daemon) as client:
        asks = [client.chat("tiny", _HI, options=_OPTIONS) for _ in range(3)]
        answers = asyncio.gather(*asks)

        node = ollama_nodes[await _busiest(daemon)]
        await asyncio.to_thread(_kill_engine_at_work, node)

        assert all(answer.done for answer in await answers)
    assert failed_over(daemon) > before


async def _busiest(daemon: DaemonProcess) -> int:
    """Which node has something to do, once one has."""
    running: dict[str, int] = {}

    def is_busy() -> bool:
        running.update(running_on(daemon))
        return bool(running)

    await asyncio.to_thread(wait_until, is_busy, limit_s=20, failure=lambda: "no node is busy")
    return int(max(running, key=lambda name: running[name]).removeprefix("n")) - 1


def _kill_engine_at_work(node: OllamaServer) -> None:
    processes = [psutil.Process(pid) for pid in node.group.member_pids()]
    engines = [process for process in processes if process.name().startswith("llama-server")]
    (engine,) = (process for process in engines if "--embedding" not in process.cmdline())
    before_s = engine.cpu_times().user
    wait_until(
        lambda: engine.cpu_times().user > before_s + 0.05,
        limit_s=20,
        failure=lambda: "the engine is idle",
    )
    engine.kill()


async def test_cut_streams_raise(
    daemon: DaemonProcess, ollama_nodes: Sequence[OllamaServer]
) -> None:
    first, second, third = ollama_nodes
    await asyncio.to_thread(_lose_under_a_chat, daemon, first)

    async with _native(daemon, **{_PIN: "n2"}) as client:
        with pytest.raises(ollama.ResponseError, match=_CUT.format(2)):
            async for _ in await client.generate("tiny", "The", options=_ENDLESS, stream=True):
                second.kill()

    messages: Any = _HI
    async with _compatible(daemon, **{_PIN: "n3"}) as other:
        with pytest.raises(openai.APIError, match=_CUT.format(3)):
            async for _ in await other.chat.completions.create(
                model="tiny", messages=messages, max_tokens=400, stream=True
            ):
                third.kill()


def _lose_under_a_chat(daemon: DaemonProcess, node: OllamaServer) -> None:
    with ollama.Client(daemon.api_url, headers={_PIN: "n1"}, trust_env=False) as client:
        with pytest.raises(ollama.ResponseError, match=_CUT.format(1)):
            for _ in client.chat("tiny", _HI, options=_ENDLESS, stream=True):
                node.kill()
