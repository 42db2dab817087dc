from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from sollold.errors import SollolError
from sollold.system.holder import Holder, find_holder, free_port, moving_steps, ollama_unit
from sollold.system.listen import AddressTaken, ListenError, bind_tcp, bind_unix, remove_unix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as sock, contextlib.suppress(OSError):
        sock.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@contextlib.contextmanager
def closing(*sockets: socket.socket) -> Iterator[None]:
    try:
        yield
    finally:
        for sock in sockets:
            sock.close()


@contextlib.contextmanager
def taken(reply: bytes | None = None, host: str = "127.0.0.1") -> Iterator[int]:
    """Hold a port; with a reply, answer every connection with it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        server.settimeout(0.05)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    caller, _ = server.accept()
                    with caller:
                        caller.settimeout(5)
                        caller.recv(4096)
                        caller.sendall(reply or b"")

        thread = threading.Thread(target=serve)
        if reply is not None:
            thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            if reply is not None:
                thread.join()


OLLAMA = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nOllama is running"
OTHER_SOLLOLD = b"HTTP/1.0 200 OK\r\nVia: 1.1 sollold\r\n\r\nOllama is running"


def test_a_list_of_addresses_is_listened_on() -> None:
    sockets = bind_tcp([("127.0.0.1", 0), ("127.0.0.2", 0)])
    with closing(*sockets):
        assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1", "127.0.0.2"]
        for sock in sockets:
            assert not sock.getblocking()
            assert not sock.get_inheritable()
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            socket.create_connection(sock.getsockname()).close()


def test_a_client_that_connects_before_anybody_accepts_waits() -> None:
    (sock,) = bind_tcp([("127.0.0.1", 0)])
    with closing(sock), socket.create_connection(sock.getsockname()) as client:
        client.sendall(b"hello")
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"


def test_a_port_can_be_had_again_at_once() -> None:
    (sock,) = bind_tcp([("127.0.0.1", 0)])
    port = sock.getsockname()[1]
    client = socket.create_connection(sock.getsockname())
    accepted, _ = sock.accept()
    with closing(sock, accepted, client):
        pass
    with closing(*bind_tcp([("127.0.0.1", port)])):
        pass


def test_localhost_is_every_loopback_address_the_machine_has() -> None:
    port = free_port(42000)
    sockets = bind_tcp([("localhost", port)])
    with closing(*sockets):
        assert sockets[0].getsockname() == ("127.0.0.1", port)
        assert {sock.getsockname()[1] for sock in sockets} == {port}


def test_port_0_of_a_name_is_one_port() -> None:
    sockets = bind_tcp([("localhost", 0)])
    with closing(*sockets):
        assert len(sockets) == 1


@needs_ipv6
def test_ipv6_is_listened_on_beside_ipv4() -> None:
    port = free_port(42100)
    sockets = bind_tcp([("127.0.0.1", port), ("::1", port)])
    with closing(*sockets):
        socket.create_connection(("::1", port)).close()
        socket.create_connection(("127.0.0.1", port)).close()


@needs_ipv6
def test_the_ipv6_wildcard_takes_ipv4_too_unless_that_is_listed() -> None:
    port = free_port(42200)
    sockets = bind_tcp([("::", port)])
    with closing(*sockets):
        socket.create_connection(("127.0.0.1", port)).close()
    sockets = bind_tcp([("::", port), ("0.0.0.0", port)])
    with closing(*sockets):
        socket.create_connection(("::1", port)).close()
        socket.create_connection(("127.0.0.1", port)).close()


def test_all_or_none_are_bound() -> None:
    first = free_port(42300)
    with taken() as second:
        with pytest.raises(AddressTaken):
            bind_tcp([("127.0.0.1", first), ("127.0.0.1", second)])
        with closing(*bind_tcp([("127.0.0.1", first)])):
            pass


def test_a_taken_port_names_who_holds_it_and_another_address() -> None:
    with taken() as port, pytest.raises(AddressTaken) as caught:
        bind_tcp([("127.0.0.1", port)], setting="listen.console")
    error = caught.value
    assert isinstance(error, SollolError)
    assert error.exit_code == 75
    assert error.holder is not None
    assert error.holder.pid == os.getpid()
    name = psutil.Process().name()
    assert error.message.startswith(
        f"127.0.0.1:{port} is taken by {name} (pid {os.getpid()}); stop"
    )
    other = re.search(r'another address in listen\.console: "127\.0\.0\.1:(\d+)"', error.message)
    assert other is not None
    assert int(other[1]) > port


def test_a_taken_port_whose_holder_stays_hidden_is_told_too() -> None:
    with taken() as port, pytest.raises(AddressTaken, match=f"{port} is taken; stop that"):
        bind_tcp([("127.0.0.1", port)], who=lambda host, port: None)


def test_a_wildcard_meets_a_holder_of_one_address() -> None:
    with taken() as port:
        holder = find_holder("0.0.0.0", port)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert find_holder("127.0.0.9", port) is None


def test_an_ollama_on_its_port_is_told_how_to_move() -> None:
    holder = Holder(812, "ollama", is_ollama=True, unit="ollama.service")
    error = on_ollama_port(holder)
    assert error.holder == holder
    port = re.search(r"OLLAMA_HOST=127\.0\.0\.1:(\d+)", error.message)
    assert port is not None
    assert 11436 <= int(port[1]) < 11536
    assert error.message.splitlines() == [
        (
            "127.0.0.77:11434 is taken by Ollama (pid 812). sollold answers in Ollama's place, "
            "so that Ollama has to move to another port:"
        ),
        "  1. sudo systemctl edit ollama.service",
        "     and write there:",
        "       [Service]",
        f'       Environment="OLLAMA_HOST=127.0.0.1:{port[1]}"',
        "  2. sudo systemctl restart ollama.service",
        "  3. write in sollold.toml:",
        "       [[nodes]]",
        f'       url = "http://127.0.0.1:{port[1]}"',
        "  4. start sollold again",
    ]


def on_ollama_port(holder: Holder) -> AddressTaken:
    """Meet a holder on 11434, at an address where no real one is disturbed."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.77", 11434)))
        with pytest.raises(AddressTaken) as caught:
            bind_tcp([("127.0.0.77", 11434)], who=lambda host, port: holder)
    return caught.value


def test_the_steps_fit_how_the_ollama_was_started(tmp_path: Path) -> None:
    unknown = Holder(None, "", is_ollama=True)
    by_hand = moving_steps(unknown, 11436, file="/x/sollold.toml", unit_folders=[tmp_path])
    assert "systemctl" not in by_hand
    assert "start it again: OLLAMA_HOST=127.0.0.1:11436 ollama serve" in by_hand
    assert "write in /x/sollold.toml:" in by_hand
    (tmp_path / "ollama.service").touch()
    either = moving_steps(unknown, 11436, unit_folders=[tmp_path])
    assert "sudo systemctl edit ollama.service" in either
    assert "started by hand: stop it, then OLLAMA_HOST=127.0.0.1:11436 ollama serve" in either
    user = moving_steps(Holder(1, "ollama", True, "my-ollama.service", True), 11436)
    assert "systemctl --user edit my-ollama.service" in user
    assert "sudo" not in user
    assert "by hand" not in user
    container = moving_steps(Holder(1, "docker-proxy", True), 11436)
    assert "-p 127.0.0.1:11436:11434" in container
    assert "systemctl" not in container


def test_a_holder_is_written_with_what_is_known() -> None:
    assert str(Holder(7, "nginx", is_ollama=False)) == "nginx (pid 7)"
    assert str(Holder(7, "", is_ollama=False)) == "another program (pid 7)"
    assert str(Holder(None, "", is_ollama=True)) == "Ollama"
    container = Holder(7, "docker-proxy", is_ollama=True)
    assert str(container) == "Ollama in a container, by docker-proxy (pid 7)"


def test_an_ollama_is_recognised_by_its_answer() -> None:
    with taken(OLLAMA) as port:
        holder = find_holder("127.0.0.1", port)
        assert holder is not None
        assert holder.is_ollama
        wild = find_holder("0.0.0.0", port)
        assert wild is not None
        assert wild.is_ollama


@pytest.mark.parametrize("reply", [OTHER_SOLLOLD, b"HTTP/1.0 200 OK\r\n\r\nnginx", b"\x00" * 5000])
def test_another_answer_is_no_ollama(reply: bytes) -> None:
    with taken(reply) as port:
        holder = find_holder("127.0.0.1", port)
        assert holder is not None
        assert not holder.is_ollama


def test_a_holder_that_does_not_answer_is_not_waited_for_long() -> None:
    with taken() as port:
        holder = find_holder("127.0.0.1", port)
    assert holder is not None
    assert not holder.is_ollama


@pytest.mark.parametrize(
    ("control_group", "unit", "is_user_unit"),
    [
        ("0::/system.slice/ollama.service\n", "ollama.service", False),
        (
            "0::/user.slice/user-7.slice/user@7.service/app.slice/my-ollama.service\n",
            "my-ollama.service",
            True,
        ),
        ("0::/user.slice/user-7.slice/session-3.scope\n", "", False),
        ("0::/system.slice/cron.service\n", "", False),
        ("1:name=systemd:/system.slice/ollama.service\n0::/\n", "ollama.service", False),
        ("", "", False),
    ],
)
def test_the_unit_of_an_ollama_service_is_read_from_its_control_group(
    control_group: str, unit: str, is_user_unit: bool
) -> None:
    assert ollama_unit(control_group) == (unit, is_user_unit)


def both_loopbacks(host: str, port: int, setting: str) -> list[tuple[int, tuple[object, ...]]]:
    """Resolve every name as one with an address of each family."""
    return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]


def test_a_name_of_which_one_address_is_taken_is_not_half_listened_on() -> None:
    with taken(host="::1") as port:
        with pytest.raises(AddressTaken):
            bind_tcp([("localhost", port)], resolve=both_loopbacks)
        with closing(*bind_tcp([("127.0.0.1", port)])):
            pass


@needs_ipv6
def test_an_ipv6_wildcard_meets_an_ollama() -> None:
    with taken(OLLAMA, host="::1") as port:
        holder = find_holder("::", port)
    assert holder is not None
    assert holder.is_ollama


def test_a_free_port_has_no_holder() -> None:
    assert find_holder("127.0.0.1", free_port(42400)) is None


def test_an_ollama_elsewhere_than_on_its_port_is_a_program_like_others() -> None:
    with (
        taken() as port,
        pytest.raises(AddressTaken, match="taken by Ollama; stop that"),
    ):
        bind_tcp([("127.0.0.1", port)], who=lambda host, port: Holder(None, "", is_ollama=True))


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "this machine has no such address"),
        ("no-such-host.invalid", "write an address of this machine in listen.api"),
    ],
)
def test_an_address_that_is_not_ours_is_told(host: str, words: str) -> None:
    with pytest.raises(ListenError, match=words) as caught:
        bind_tcp([(host, 11999)])
    assert not isinstance(caught.value, AddressTaken)
    assert caught.value.exit_code == 75


def test_a_control_socket_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    mask = os.umask(0)
    try:
        sock = bind_unix(path)
    finally:
        os.umask(mask)
    with closing(sock), socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not sock.getblocking()
        client.connect(str(path))
    remove_unix(path)
    remove_unix(path)
    assert not path.exists()


def test_a_stale_control_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    bind_unix(path).close()
    assert path.exists()
    with closing(bind_unix(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_control_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with closing(bind_unix(path)):
        inode = path.stat().st_ino
        with pytest.raises(AddressTaken, match="is in use") as caught:
            bind_unix(path)
        assert caught.value.exit_code == 75
        assert path.stat().st_ino == inode


def test_a_control_socket_with_a_full_backlog_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as sock, contextlib.ExitStack() as clients:
        sock.bind(str(path))
        sock.listen(0)
        for _ in range(9):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(str(path)) == errno.EAGAIN:
                break
        with pytest.raises(AddressTaken, match="is in use"):
            bind_unix(path)


def test_what_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ListenError, match="exists and is no socket"):
        bind_unix(path)
    assert path.read_text() == "data"


def test_a_control_socket_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match=r"No such file or directory; set listen\.control"):
        bind_unix(tmp_path / "no" / "control.sock")
    with pytest.raises(ListenError, match="is too long for a Unix socket"):
        bind_unix(tmp_path / ("x" * 108))
