from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from sollold.system.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """Stand in for the service manager; returns its socket and what NOTIFY_SOCKET says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = str(tmp_path / "notify") if request.param == "path" else f"@sollold-{os.getpid()}"
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(5)
        yield sock, name


def test_every_message_arrives(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    with Notifier({"NOTIFY_SOCKET": name}) as notifier:
        assert notifier.is_active
        assert notifier.ready("5 nodes")
        assert notifier.status(" 3 running,\n0 queued\n")
        assert notifier.watchdog()
        assert notifier.extend_timeout(30.5)
        assert notifier.stopping()
        received = [sock.recv(4096).decode() for _ in range(5)]
    assert received == [
        "READY=1\nSTATUS=5 nodes",
        "STATUS=3 running, 0 queued",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=30500000",
        "STOPPING=1",
    ]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    assert not notifier.is_active
    assert not notifier.ready()
    assert not notifier.status("x")
    notifier.close()


def test_a_reload_says_when_it_began(manager: tuple[socket.socket, str]) -> None:
    before = time.monotonic_ns() // 1000
    with Notifier({"NOTIFY_SOCKET": manager[1]}) as notifier:
        assert notifier.reloading()
        word, _, moment = manager[0].recv(4096).decode().partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert before <= int(moment) <= time.monotonic_ns() // 1000


def test_an_empty_status_is_no_message(manager: tuple[socket.socket, str]) -> None:
    with Notifier({"NOTIFY_SOCKET": manager[1]}) as notifier:
        assert not notifier.status(" \n")


def test_a_manager_that_went_away_or_is_busy_is_no_error(tmp_path: Path) -> None:
    with Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}) as notifier:
        assert not notifier.ready()
    name = str(tmp_path / "busy")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name)
        with Notifier({"NOTIFY_SOCKET": name}) as notifier:
            sent = [notifier.watchdog() for _ in range(10_000)]
    assert sent[0]
    assert not sent[-1]


def test_after_close_nothing_is_sent(manager: tuple[socket.socket, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager[1]})
    notifier.close()
    notifier.close()
    assert not notifier.ready()


@pytest.mark.parametrize(
    ("environ", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_period_is_known(environ: dict[str, str], period_s: float | None) -> None:
    assert Notifier(environ).watchdog_s == period_s
