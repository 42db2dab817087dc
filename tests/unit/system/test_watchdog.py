"""The watchdog is fed by a loop that answers, and by nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest

from sollold.system.notify import Notifier
from sollold.system.watchdog import feed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PATIENCE_S = 0.4


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


@contextlib.asynccontextmanager
async def feeding(tmp_path: Path) -> AsyncIterator[None]:
    with Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}) as notifier:
        task = asyncio.create_task(feed(notifier, PATIENCE_S))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})


async def fed(manager: socket.socket) -> str:
    async with asyncio.timeout(10):
        return (await asyncio.get_running_loop().sock_recv(manager, 100)).decode()


def block(seconds: float) -> None:
    """Keep the loop from turning, as a computation does."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        pass


def drop_all(manager: socket.socket) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while manager.recv(100):
            count += 1
    return count


async def test_a_loop_that_answers_feeds_it_again_and_again(
    manager: socket.socket, tmp_path: Path
) -> None:
    async with feeding(tmp_path):
        assert [await fed(manager) for _ in range(3)] == ["WATCHDOG=1"] * 3


async def test_a_blocked_loop_does_not_and_says_so_afterwards(
    manager: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with feeding(tmp_path):
        await fed(manager)
        drop_all(manager)
        block(3 * PATIENCE_S)
        assert drop_all(manager) == 0
        # The turn that notices is late itself: it does not feed either.
        while "blocked" not in caplog.text:
            await asyncio.sleep(0)
        assert drop_all(manager) == 0
        assert await fed(manager) == "WATCHDOG=1"
