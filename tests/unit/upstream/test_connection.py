"""What a transport may do that no socket on loopback does on demand."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast

import pytest

from sollold.upstream.connection import Connection, Head, Request
from sollold.upstream.exchange import Exchange
from sollold.upstream.pool import Address, NodePool
from sollold.upstream.sockets import reset_on_close, tune, unacknowledged_bytes

if TYPE_CHECKING:
    import asyncio

    from sollold.errors import UpstreamError
    from sollold.upstream.wheel import TimerWheel

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Transport:
    """A transport that notes what was done to it."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        self.calls: list[str] = []
        self.unsent_bytes = 0
        self._sock = sock

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self._sock if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def is_closing(self) -> bool:
        return "abort" in self.calls

    def write(self, data: bytes) -> None:
        self.calls.append("write")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def abort(self) -> None:
        self.calls.append("abort")


class Heard:
    """A receiver that notes the names of its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_head(self, head: Head) -> None:
        self.calls.append("head")

    def on_body(self, data: bytes) -> None:
        self.calls.append("body")

    def on_end(self) -> None:
        self.calls.append("end")

    def on_error(self, error: UpstreamError) -> None:
        self.calls.append("error")


@pytest.fixture
def pool(wheel: TimerWheel) -> NodePool:
    return NodePool(Address("192.0.2.1", 11434), wheel=wheel)


def connect(pool: NodePool, transport: Transport) -> Connection:
    connection = Connection(pool)
    connection.connection_made(cast("asyncio.Transport", transport))
    return connection


def test_bytes_that_come_after_a_pause_end_the_message_and_reading_goes_on(
    pool: NodePool,
) -> None:
    """A TLS transport may still deliver what it had decrypted."""
    transport, heard = Transport(), Heard()
    connection = connect(pool, transport)
    exchange = Exchange(pool, Request(b"GET / HTTP/1.1\r\n\r\n"), heard)
    connection.begin(exchange)
    exchange.pause()
    connection.data_received(OK)
    assert heard.calls == ["head", "body", "end"]
    assert transport.calls == ["write", "pause", "resume"]
    assert pool.idle == 1


def test_a_request_still_in_the_buffer_forbids_reuse(pool: NodePool) -> None:
    transport, heard = Transport(), Heard()
    connection = connect(pool, transport)
    connection.begin(Exchange(pool, Request(b"GET / HTTP/1.1\r\n\r\n"), heard))
    transport.unsent_bytes = 1
    connection.data_received(OK)
    assert heard.calls == ["head", "body", "end"]
    assert transport.calls[-1] == "abort"
    assert pool.idle == 0


def test_an_exchange_needs_an_open_connection(pool: NodePool) -> None:
    with pytest.raises(RuntimeError):
        Connection(pool).begin(Exchange(pool, Request(b""), Heard()))


def test_a_closing_connection_is_not_taken_from_the_idle_list(pool: NodePool) -> None:
    transport = Transport()
    pool.on_idle(connect(pool, transport))
    transport.calls.append("abort")
    assert pool.try_send(Request(b"GET / HTTP/1.1\r\n\r\n"), Heard()) is None
    assert pool.idle == 0


def test_a_closing_connection_is_not_put_into_the_idle_list(pool: NodePool) -> None:
    transport = Transport()
    connection = connect(pool, transport)
    transport.calls.append("abort")
    pool.on_idle(connection)
    assert pool.idle == 0


def test_sockets_that_are_not_tcp_are_left_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = cast("asyncio.Transport", Transport(ours))
        tune(transport, user_timeout_s=5.0)
        reset_on_close(transport, is_on=True)
        assert unacknowledged_bytes(transport) == 0
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        ours.send(b"still open")
        assert theirs.recv(16) == b"still open"


def test_a_socket_that_is_closed_already_is_no_error() -> None:
    sock = socket.socket()
    sock.close()

    class Closed:
        family, type, proto = socket.AF_INET, socket.SOCK_STREAM, 0

        def fileno(self) -> int:
            return -1

    transport = cast("asyncio.Transport", Transport(cast("socket.socket", Closed())))
    tune(transport, user_timeout_s=5.0)
    reset_on_close(transport, is_on=True)
    assert unacknowledged_bytes(transport) == 0


def test_a_socket_that_cannot_tell_what_is_unacknowledged() -> None:
    with socket.socket() as listener:
        listener.listen()
        assert unacknowledged_bytes(cast("asyncio.Transport", Transport(listener))) == 0


def test_bytes_the_peer_has_not_taken_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as ours:
            theirs, _ = listener.accept()
            with theirs:
                transport = cast("asyncio.Transport", Transport(ours))
                ours.setblocking(False)
                with pytest.raises(BlockingIOError):
                    while True:
                        ours.send(b"x" * 65536)
                assert unacknowledged_bytes(transport) > 65536


def test_what_a_listener_handed_down_is_kept() -> None:
    with socket.socket() as sock:
        transport = cast("asyncio.Transport", Transport(sock))
        tune(transport, user_timeout_s=5.0)
        tune(transport, user_timeout_s=9.0)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5_000
        assert sock.fileno() >= 0, "the socket stays open"
