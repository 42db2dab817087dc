"""Sockets that the service manager keeps open: nobody is refused across a restart."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes.look import ask
from tests.process.support import Callers, Stream, chat, get, is_whole, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fakes.program import FakeNodeProcess
    from tests.stack.daemon import DaemonProcess

pytestmark = pytest.mark.process

LAUNCHER = str(Path(__file__).with_name("activation.py"))
CLIENTS = 8


@contextlib.contextmanager
def manager(daemon: DaemonProcess, *, has_control: bool = False) -> Iterator[list[socket.socket]]:
    """The sockets of `sollold.socket`, open for as long as the block."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=1024))
            for port in (daemon.api_port, daemon.console_port)
        ]
        if has_control:
            daemon.control_socket.parent.mkdir(mode=0o700)
            control = stack.enter_context(socket.socket(socket.AF_UNIX))
            control.bind(str(daemon.control_socket))
            control.listen()
            sockets.append(control)
        yield sockets


def launch(daemon: DaemonProcess, sockets: list[socket.socket], names: str = "") -> None:
    fds = [sock.fileno() for sock in sockets]
    daemon.launch([LAUNCHER, ",".join(map(str, fds)), names], fds=fds)
    daemon.wait_ready()


def test_nobody_is_refused_across_a_restart(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    daemon = new_daemon(config=f'[[nodes]]\nurl = "{node.url}"\nslots = 8\n')
    with manager(daemon, has_control=True) as sockets:
        launch(daemon, sockets)
        body = chat(stream=False, options={"num_predict": 2})
        with Callers(daemon, CLIENTS, body) as clients:
            clients.more(2 * CLIENTS)
            stream = Stream(daemon, options={"num_predict": 40})
            for _ in range(2):
                first = daemon.group.pid
                assert daemon.stop() == 0
                launch(daemon, sockets)
                assert daemon.group.pid != first
                clients.more(2 * CLIENTS)
        assert clients.wrong == []
        # What ran when the stop came was finished.
        assert is_whole(stream.result())
        assert daemon.control_socket.is_socket()
        assert daemon.stop() == 0
        assert daemon.control_socket.is_socket()
    assert "is not in" not in daemon.log_text()


def test_passed_sockets_are_known_as_our_own_and_others_are_bound(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    daemon = new_daemon()
    with manager(daemon) as sockets, socket.create_server(("127.0.0.1", 0)) as stranger:
        place = f"127.0.0.1:{stranger.getsockname()[1]}"
        # A daemon that takes itself for a node would ask itself for ever.
        daemon.write_config(nodes=[node.url, f"http://{place}"])
        sockets.pop(0).close()
        launch(daemon, [*sockets, stranger], "console:sollold.socket")
        status = get(daemon, "/api/v1/status")
        assert status["addresses"]["console"] == [daemon.console_url]
        assert status["addresses"]["api"] == [f"http://{place}", daemon.api_url]
        assert status["nodes"]["total"] == 1
        lines = (
            f"{place}, passed by the service manager, is not in listen.api",
            f"http://{place} (config) is this daemon itself, not a node",
        )
        until(lambda: all(line in daemon.log_text() for line in lines), "it is logged")
        # A name that only browsers under a foreign page would use.
        foreign = [("Host", "evil.example")]
        assert ask(f"http://{place}", "GET", "/api/tags", headers=foreign).status == 403
        assert ask(daemon.console_url, "GET", "/api/tags").status == 200


def test_no_child_inherits_them(
    new_daemon: Callable[..., DaemonProcess], node: FakeNodeProcess
) -> None:
    daemon = new_daemon(nodes=[node.url])
    with manager(daemon) as sockets:
        launch(daemon, sockets)
        assert get(daemon, "/api/v1/status")["pid"] == daemon.group.pid
        inherited = [
            line.split()[1]
            for fd in (3, 4)
            for line in Path(f"/proc/{daemon.group.pid}/fdinfo/{fd}").read_text().splitlines()
            if line.startswith("flags:")
        ]
        close_on_exec = 0o2000000
        assert all(int(flags, 8) & close_on_exec for flags in inherited)
