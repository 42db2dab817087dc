"""Every test here runs on asyncio's own loop and on uvloop, and must leave nothing behind."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
import uvloop

from sollold.upstream.wheel import TimerWheel
from tests.fakes.raw import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Make pytest-asyncio run each test once per loop, async fixtures included."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def _open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Fail when a test leaves a descriptor or a task, or the loop had to report an error."""
    reports: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context))
    # The first connection of a loop may open descriptors of the loop's own.
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await reader.read()
    writer.close()
    server.close()
    await server.wait_closed()
    await writer.wait_closed()
    await asyncio.sleep(0.01)
    before = len(_open_files())
    yield
    own = asyncio.current_task()
    await eventually(lambda: len(_open_files()) <= before, within_s=5)
    await eventually(lambda: not [task for task in asyncio.all_tasks() if task is not own])
    assert reports == []


@pytest.fixture
async def wheel() -> AsyncIterator[TimerWheel]:
    """Yield a wheel that turns fast."""
    wheel = TimerWheel(asyncio.get_running_loop(), tick_s=0.02)
    yield wheel
    wheel.close()
