"""For all tests: the event loop asked for, and what no test may leave behind."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run asynchronous tests on the loop that SOLLOLD_TEST_LOOP names."""
    if os.environ.get("SOLLOLD_TEST_LOOP") == "uvloop":
        import uvloop

        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail a test that leaves a thread of ours running."""
    before = set(threading.enumerate())
    yield
    left = [
        thread.name
        for thread in set(threading.enumerate()) - before
        if thread.name.startswith("sollold")
    ]
    assert not left, f"threads left behind: {left}"


@pytest.fixture(autouse=True)
def no_blocking_in_the_loop() -> Iterator[None]:
    """Fail when code of ours blocks the event loop."""
    with blockbuster_ctx("sollold") as detector:
        # Reading a certificate store or an unlinked file of ours is as quick as memory.
        detector.functions["io.BufferedReader.read"].deactivate()
        # The meter of coverage waits for itself where threads are at work.
        lock = detector.functions["threading.Lock.acquire"]
        lock.can_block_in("coverage/collector.py", "lock_data")
        yield
