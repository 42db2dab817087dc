"""Four nodes, one of which is always in trouble, and sixteen clients that must not notice.

A whole answer never fails. A stream may break after it began, but never without an error in its own
protocol and never as if it were complete. Nothing is slower than six seconds. SOLLOLD_TEST_CHAOS_S
changes how long it lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.fakes.faults import Fault, FaultKind
from tests.fakes.program import FakeNodeProcess
from tests.stack.daemon import DaemonProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

DURATION_S = float(os.environ.get("SOLLOLD_TEST_CHAOS_S", "60"))
CLIENTS = 16
NODES = 4
PHASE_S = 3.5
CALM_S = 1.0
SLOWEST_S = 6.0
TOKENS = 8
SETTLE_S = 15.0

CONFIG = """
[failover]
frozen_idle_s = 2.5

[discovery]
enabled = false
"""

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


@pytest.fixture
def nodes() -> Iterator[list[FakeNodeProcess]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                FakeNodeProcess("--rate", "40", "--answer-tokens", str(TOKENS), "--load-s", "0.1")
            )
            for _ in range(NODES)
        ]


@pytest.fixture
def daemon(nodes: list[FakeNodeProcess], tmp_path: Path) -> Iterator[DaemonProcess]:
    daemon = DaemonProcess(tmp_path, nodes=[node.url for node in nodes], config=CONFIG)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.close()


class Tally:
    """What the clients saw."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest_s = 0.0

    def wrong_answer(self, what: str, detail: object) -> None:
        self.outcomes[what] += 1
        self.wrong.append(f"{what}: {detail}"[:500])


def body(is_stream: bool, dialect: str) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": "hello"}]
    path = "/api/chat" if dialect == "ollama" else "/v1/chat/completions"
    return path, {"model": "llama3.2", "messages": messages, "stream": is_stream}


async def ask_whole(session: aiohttp.ClientSession, tally: Tally, dialect: str) -> None:
    path, document = body(False, dialect)
    async with session.post(path, json=document) as answer:
        data = await answer.read()
    if answer.status != 200:
        tally.wrong_answer("whole failed", (answer.status, data))
        return
    answered = json.loads(data)
    message = answered["message"] if dialect == "ollama" else answered["choices"][0]["message"]
    if message["content"].split() != [f"tok{n}" for n in range(TOKENS)]:
        tally.wrong_answer("whole incomplete", data)
        return
    tally.outcomes["whole ok"] += 1


async def ask_stream(session: aiohttp.ClientSession, tally: Tally, dialect: str) -> None:
    path, document = body(True, dialect)
    data = b""
    is_clean = True
    async with session.post(path, json=document) as answer:
        try:
            async for piece in answer.content.iter_any():
                data += piece
        except aiohttp.ClientPayloadError:
            is_clean = False
    if answer.status != 200:
        tally.wrong_answer("stream refused", (answer.status, data))
        return
    words, is_done, has_error = read_stream(data, dialect)
    if words != [f"tok{n}" for n in range(len(words))]:
        tally.wrong_answer("stream garbled", data)
    elif is_done and is_clean and len(words) == TOKENS:
        tally.outcomes["stream ok"] += 1
    elif has_error and not is_done and not is_clean:
        tally.outcomes["stream cut and told"] += 1
    else:
        tally.wrong_answer("stream broken without a word", (is_clean, data[-300:]))


def read_stream(data: bytes, dialect: str) -> tuple[list[str], bool, bool]:
    """Return the words, whether the terminator came, and whether an error was told."""
    text, is_done, has_error = "", False, False
    for line in data.splitlines():
        if not line:
            continue
        if dialect == "openai":
            line = line.removeprefix(b"data: ")
            if line == b"[DONE]":
                is_done = True
                continue
        item = json.loads(line)
        has_error |= "error" in item
        if dialect == "openai":
            for choice in item.get("choices", ()):
                text += choice["delta"].get("content") or ""
        else:
            text += item.get("message", {}).get("content", "")
            is_done |= item.get("done") is True
    return text.split(), is_done, has_error


async def client(
    session: aiohttp.ClientSession, tally: Tally, stop: asyncio.Event, seed: int
) -> None:
    dice = random.Random(seed)
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        ask = dice.choice((ask_whole, ask_stream))
        started_s = loop.time()
        try:
            async with asyncio.timeout(30):
                await ask(session, tally, dice.choice(("ollama", "openai")))
        except (TimeoutError, aiohttp.ClientError) as error:
            tally.wrong_answer(f"{ask.__name__} raised", repr(error))
        tally.slowest_s = max(tally.slowest_s, loop.time() - started_s)


async def set_fault(session: aiohttp.ClientSession, node: FakeNodeProcess, fault: Fault) -> None:
    document = {"kind": fault.kind, "after_frames": fault.after_frames}
    async with session.post(f"{node.control_url}/_fault", json=document) as answer:
        assert answer.status == 200


async def mend(session: aiohttp.ClientSession, node: FakeNodeProcess) -> None:
    async with session.delete(f"{node.control_url}/_fault") as answer:
        assert answer.status == 200


async def trouble(nodes: list[FakeNodeProcess], stop: asyncio.Event) -> Counter[str]:
    """Let one node after the other fail, each in every way."""
    done: Counter[str] = Counter()
    ways = ("kill", "freeze", "busy", "cut", "crash")
    dice = random.Random(1)
    rounds = [(way, number) for way in ways for number in range(NODES)]
    dice.shuffle(rounds)
    async with aiohttp.ClientSession() as session:
        position = 0
        while not stop.is_set():
            way, number = rounds[position % len(rounds)]
            position += 1
            await one_trouble(session, nodes[number], way, stop)
            done[way] += 1
            # One node at a time: what met the last trouble has ended before the next begins.
            await pause(stop, CALM_S)
    return done


async def one_trouble(
    session: aiohttp.ClientSession, node: FakeNodeProcess, way: str, stop: asyncio.Event
) -> None:
    match way:
        case "kill":
            node.kill()
            await pause(stop)
            await asyncio.to_thread(node.start)
        case "freeze":
            node.freeze()
            await pause(stop)
            node.thaw()
        case "busy":
            await set_fault(session, node, Fault(kind=FaultKind.QUEUE_FULL))
            await pause(stop)
            await mend(session, node)
        case "cut":
            await set_fault(session, node, Fault(kind=FaultKind.CUT_RESET, after_frames=3))
            await pause(stop)
            await mend(session, node)
        case "crash":
            await set_fault(session, node, Fault(kind=FaultKind.CRASH))
            await pause(stop)
            await mend(session, node)
        case _:
            raise ValueError(way)


async def pause(stop: asyncio.Event, limit_s: float = PHASE_S) -> None:
    """Let things be for a while; the end of the test ends it too."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await stop.wait()


async def test_nobody_notices(nodes: list[FakeNodeProcess], daemon: DaemonProcess) -> None:
    tally = Tally()
    stop = asyncio.Event()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(daemon.api_url, connector=connector) as session:
        async with asyncio.TaskGroup() as group:
            troubles = group.create_task(trouble(nodes, stop))
            for seed in range(CLIENTS):
                group.create_task(client(session, tally, stop, seed))
            asyncio.get_running_loop().call_later(DURATION_S, stop.set)
        await settle(session)
    print(f"\n{dict(tally.outcomes)}, slowest {tally.slowest_s:.2f} s, {dict(troubles.result())}")
    assert not tally.wrong, tally.wrong[:5]
    assert tally.slowest_s < SLOWEST_S
    assert tally.outcomes["whole ok"] > CLIENTS
    assert tally.outcomes["stream ok"] > CLIENTS
    await assert_nothing_is_left(daemon)


async def settle(session: aiohttp.ClientSession) -> None:
    """Wait until the daemon has nothing to do."""
    async with asyncio.timeout(SETTLE_S):
        while True:
            async with session.get("/api/v1/requests") as answer:
                document = await answer.json()
            if not document["running"] and not document["waiting"]:
                return
            await asyncio.sleep(0.05)


async def assert_nothing_is_left(daemon: DaemonProcess) -> None:
    async with aiohttp.ClientSession(daemon.api_url) as session:
        async with session.get("/metrics") as answer:
            page = (await answer.text()).splitlines()
    for name in ("sollold_queue_depth", "sollold_detached_loads", "sollold_node_inflight"):
        values = [float(line.split()[-1]) for line in page if line.startswith(name)]
        assert values, name
        assert not any(values), (name, values)
    with Path(f"/proc/{daemon.group.pid}/status").open() as status:
        threads = next(int(line.split()[1]) for line in status if line.startswith("Threads"))
    assert threads < 20
    sockets = list(Path(f"/proc/{daemon.group.pid}/fd").iterdir())
    assert len(sockets) < 40 + 2 * CLIENTS
