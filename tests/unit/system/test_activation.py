"""Sockets that a service manager passes."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from sollold.system.activation import Passed, take_passed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Far above what the test run has open.
FIRST_FD = 700


@pytest.fixture
def made() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


def listening(made: list[socket.socket], family: int = socket.AF_INET) -> socket.socket:
    sock = socket.create_server(
        ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family
    )
    made.append(sock)
    return sock


def take(
    made: list[socket.socket], passed: list[socket.socket], names: str = "", **extra: str
) -> tuple[list[Passed], dict[str, str]]:
    for number, sock in enumerate(passed):
        os.dup2(sock.fileno(), FIRST_FD + number, inheritable=True)
    environ = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(passed)),
        "LISTEN_FDNAMES": names,
        "OTHER": "kept",
    } | extra
    found = take_passed(environ, FIRST_FD)
    made += [item.sock for item in found]
    return found, environ


def test_they_come_with_their_names_and_go_to_no_child(made: list[socket.socket]) -> None:
    api, console = listening(made), listening(made, socket.AF_INET6)
    found, environ = take(made, [api, console], "api:sollold.socket")
    assert [item.name for item in found] == ["api", "sollold.socket"]
    port, port6 = api.getsockname()[1], console.getsockname()[1]
    assert [item.place for item in found] == [f"127.0.0.1:{port}", f"[::1]:{port6}"]
    assert not any(os.get_inheritable(item.sock.fileno()) for item in found)
    assert not any(item.sock.getblocking() for item in found)
    assert environ == {"OTHER": "kept"}


def test_a_name_may_be_missing(made: list[socket.socket]) -> None:
    found, _ = take(made, [listening(made), listening(made)], "console")
    assert [item.name for item in found] == ["console", ""]


def test_a_unix_socket(made: list[socket.socket], tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    made.append(sock)
    sock.bind(str(tmp_path / "control.sock"))
    sock.listen()
    found, _ = take(made, [sock])
    assert found[0].place == str(tmp_path / "control.sock")


@pytest.mark.parametrize(
    "extra", [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": "x"}, {"LISTEN_FDS": "0"}]
)
def test_what_is_for_another_process_is_left_alone(extra: dict[str, str]) -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"} | extra
    assert take_passed(environ, FIRST_FD) == []
    assert environ == {}


def test_what_does_not_listen_is_closed_and_told(
    made: list[socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent = socket.socket()
    made += [datagram, silent]
    found, _ = take(made, [datagram, silent, listening(made)])
    assert len(found) == 1
    assert caplog.text.count("does not listen") == 2
    for number in (0, 1):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(FIRST_FD + number)


def test_what_is_no_socket_is_closed_and_told(caplog: pytest.LogCaptureFixture) -> None:
    read, write = os.pipe()
    os.dup2(read, FIRST_FD)
    os.close(read)
    os.close(write)
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
    assert take_passed(environ, FIRST_FD) == []
    assert caplog.text.count("is no socket") == 2
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(FIRST_FD)


@pytest.mark.parametrize("count", ["65", "99999999", "9" * 5000])
def test_more_than_anybody_passes_is_told_once(
    count: str, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
    assert take_passed(environ, FIRST_FD) == []
    (record,) = caplog.records
    assert record.getMessage().endswith(f"{count[:12]}: more than 64 sockets, none is used")


def test_many_that_are_not_there_are_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "60"}
    assert take_passed(environ, FIRST_FD) == []
    assert len(caplog.records) == 1
