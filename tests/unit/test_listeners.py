"""Which socket is for what: passed ones, bound ones, and those that are in each other's way."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sollold.compose.listeners import Listeners, PassedTooWide, PassedUnasked
from sollold.config import LAN_CONSENT, Config, Listen, Metrics
from sollold.system.activation import Passed
from sollold.system.dirs import Dirs
from tests.stack.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def dirs() -> Iterator[Dirs]:
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="sollold-") as name:
        place = Path(name)
        yield Dirs(config_files=(place / "a", place / "b"), state=place, runtime=place / "run")


def passed(name: str, host: str = "127.0.0.1", port: int = 0) -> Passed:
    return Passed(name, socket.create_server((host, port)))


def port_of(item: Passed) -> int:
    return int(item.sock.getsockname()[1])


@contextlib.contextmanager
def listening(
    dirs: Dirs, *items: Passed, metrics: str = "", **listen: object
) -> Iterator[Listeners]:
    values = {"api": (f"127.0.0.1:{free_port()}",), "console": (), "control": False} | listen
    config = Config(
        listen=Listen(**values),  # type: ignore[arg-type]
        metrics=Metrics(listen=(metrics,) if metrics else ()),
    )
    listeners = Listeners(config, dirs, items)
    try:
        yield listeners
    finally:
        listeners.close()


def test_without_passed_sockets_all_is_bound(dirs: Dirs) -> None:
    port = free_port()
    with listening(dirs, api=(f"127.0.0.1:{port}",), control=True) as found:
        assert found.bound().api == (("127.0.0.1", port),)
        assert found.bound().control == str(dirs.control_socket)
        assert not found.is_passed(found.api[0])
    assert not dirs.control_socket.exists()


def test_named_sockets_are_for_what_they_are_called(dirs: Dirs) -> None:
    items = [passed(name) for name in ("api", "console", "metrics")]
    api, console, metrics = (f"127.0.0.1:{port_of(item)}" for item in items)
    with listening(dirs, *items, api=(api,), console=(console,), metrics=metrics) as found:
        assert (found.api, found.console, found.metrics) == (
            [items[0].sock],
            [items[1].sock],
            [items[2].sock],
        )
        assert found.is_passed(found.api[0])
        assert len(found.names()) == 3


def test_others_are_found_by_their_address_and_the_rest_is_bound(
    dirs: Dirs, caplog: pytest.LogCaptureFixture
) -> None:
    console, port = passed("sollold.socket"), free_port()
    place = f"localhost:{port_of(console)}"
    with listening(dirs, console, api=(f"127.0.0.1:{port}",), console=(place,)) as found:
        assert found.console == [console.sock]
        assert found.bound().api == (("127.0.0.1", port),)
    assert caplog.text == ""


def test_a_name_that_is_not_in_the_configuration_is_served_and_said(
    dirs: Dirs, caplog: pytest.LogCaptureFixture
) -> None:
    stranger, port = passed(""), free_port()
    with listening(dirs, stranger, api=(f"127.0.0.1:{port}",)) as found:
        assert found.bound().api == (
            ("127.0.0.1", port_of(stranger)),
            ("127.0.0.1", port),
        )
        place = f"127.0.0.1:{port_of(stranger)}"
    assert f"{place}, passed by the service manager, is not in listen.api" in caplog.text


def test_a_passed_socket_stands_for_every_address_of_its_port(
    dirs: Dirs, caplog: pytest.LogCaptureFixture
) -> None:
    narrow = passed("")
    place = f"0.0.0.0:{port_of(narrow)}"
    with listening(dirs, narrow, api=(place,), lan_without_keys=LAN_CONSENT) as found:
        assert found.api == [narrow.sock]
    assert f"{place} in listen.api is not listened on" in caplog.text


def test_nothing_is_opened_to_the_network_by_a_passed_socket(dirs: Dirs) -> None:
    wide = passed("api", "0.0.0.0")
    with pytest.raises(PassedTooWide, match="lan_without_keys") as caught, listening(dirs, wide):
        pass
    assert caught.value.exit_code == 78
    assert wide.sock.fileno() == -1


def test_a_control_socket_of_the_manager_is_used_and_left_in_place(dirs: Dirs) -> None:
    dirs.runtime.mkdir(mode=0o700)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(dirs.control_socket))
    sock.listen()
    with listening(dirs, Passed("", sock), control=True) as found:
        assert found.control == [sock]
        assert found.bound().control == str(dirs.control_socket)
    assert dirs.control_socket.is_socket()


def unix(path: Path) -> Passed:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return Passed("", sock)


def test_a_control_socket_elsewhere_is_said(dirs: Dirs, caplog: pytest.LogCaptureFixture) -> None:
    item = unix(dirs.state / "other.sock")
    with listening(dirs, item, control=True) as found:
        assert item.sock in found.control
    assert f"{dirs.state}/other.sock, passed by the service manager, is not listen.c" in caplog.text


def test_a_control_socket_that_the_configuration_forbids_is_refused(dirs: Dirs) -> None:
    item = unix(dirs.state / "other.sock")
    with (
        pytest.raises(PassedUnasked, match=r"listen\.control is false; take it out") as caught,
        listening(dirs, item, control=False),
    ):
        pass
    assert caught.value.exit_code == 78


def test_without_a_listener_for_the_api_there_is_no_start(dirs: Dirs) -> None:
    item = passed("console")
    with (
        pytest.raises(PassedUnasked, match=r"nothing is left of listen\.api") as caught,
        listening(dirs, item, api=(f"127.0.0.1:{port_of(item)}",)),
    ):
        pass
    assert caught.value.exit_code == 78
