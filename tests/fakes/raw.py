"""A server and a client made of nothing but sockets: every byte is what the test wrote.

The server runs one script per connection; the client reads only when told to, and parses strictly.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from types import TracebackType

DEADLINE_S = 10.0
"""Nothing on loopback takes longer unless it hangs."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
"""The smallest complete answer with a body."""


async def eventually(is_true: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(within_s):
        while not is_true():
            await asyncio.sleep(0.002)


async def settle() -> None:
    """Give every ready socket of this loop its turn."""
    for _ in range(5):
        await asyncio.sleep(0)


def _arm_reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class RawRequest(NamedTuple):
    """One request as it arrived."""

    head: bytes
    body: bytes

    @property
    def target(self) -> str:
        """What the request line asks for."""
        return self.head.split(b" ", 2)[1].decode()


class Conversation:
    """The server's side of one connection."""

    def __init__(
        self, server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.number = len(server.conversations)
        """0 for the server's first connection."""

    async def read_head(self) -> bytes:
        """Read to the empty line; EOFError when the peer is done."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise EOFError from error

    async def read_request(self) -> RawRequest:
        """Read a request with its body and note it at the server."""
        head = await self.read_head()
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
        body = await self.reader.readexactly(int(length.group(1)) if length else 0)
        request = RawRequest(head, body)
        self.server.requests.append(request)
        return request

    async def send(self, *pieces: bytes) -> None:
        """Write; every further piece goes out after the peer had a turn to read the last one."""
        for number, piece in enumerate(pieces):
            if number:
                await settle()
            if self.writer.transport.is_closing():
                raise ConnectionResetError("the peer has gone")
            self.writer.write(piece)
            await self.writer.drain()

    async def wait_closed(self) -> None:
        """Read until the peer has closed or reset."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def close(self) -> None:
        """Close at once, with a FIN unless something is unread."""
        # A TLS transport of Python 3.11.2 that was closed twice has nothing left to abort.
        with contextlib.suppress(AttributeError):
            self.writer.transport.abort()

    def reset(self) -> None:
        """Close with a reset."""
        _arm_reset(self.writer.get_extra_info("socket"))
        self.writer.transport.abort()


class RawServer:
    """Listens on loopback and runs `script` for each connection, closing it when that ends."""

    def __init__(
        self,
        script: Callable[[Conversation], Awaitable[None]],
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = 0
        self.requests: list[RawRequest] = []
        self.conversations: list[Conversation] = []
        self._script = script
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[Exception] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for conversation in self.conversations:
            conversation.close()
        await self._server.wait_closed()
        await settle()
        if self._failures and error is None:
            raise self._failures[0]

    def stop_listening(self) -> None:
        """Refuse new connections; those that exist go on."""
        self._server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(self, reader, writer)
        self.conversations.append(conversation)
        task = asyncio.create_task(self._serve(conversation), name="raw conversation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, conversation: Conversation) -> None:
        try:
            await self._script(conversation)
        except (EOFError, ConnectionError):
            pass
        except Exception as failure:
            self._failures.append(failure)
        finally:
            conversation.writer.close()


class BlackHole:
    """A port where connecting neither succeeds nor fails: the queue of the listener is full."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._fillers = [socket.socket() for _ in range(2)]

    def __enter__(self) -> Self:
        for filler in self._fillers:
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", self.port))
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (*self._fillers, self._listener):
            sock.close()


class CutError(Exception):
    """The connection ended inside a response; `received` is what had come."""

    def __init__(self, received: bytes, *, is_reset: bool) -> None:
        super().__init__(f"cut {'by a reset ' if is_reset else ''}after {received[-200:]!r}")
        self.received = received
        self.is_reset = is_reset


class RawResponse(NamedTuple):
    """One response, its framing undone and checked."""

    status: int
    version: bytes
    headers: dict[bytes, bytes]
    body: bytes
    framing: str
    """`none`, `length`, `chunked` or `close`."""


class RawClient:
    """The client's side of one connection; takes nothing from the kernel unless asked."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    @classmethod
    async def open(cls, port: int, *, receive_bytes: int | None = None) -> Self:
        """Connect to loopback, with a small receive buffer if wanted."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(sock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self.sock, data)

    async def receive(self, size: int = 65536) -> bytes:
        """Take what is there, at most `size`; empty at the end."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._loop.sock_recv(self.sock, size)

    async def receive_all(self) -> bytes:
        """Take everything up to the end of the connection."""
        while data := await self.receive():
            self._buffer += data
        taken, self._buffer = self._buffer, b""
        return taken

    async def response(self, method: str = "GET") -> RawResponse:
        """Read exactly one response; whatever follows stays for the next."""
        head = await self.until(b"\r\n\r\n")
        status_line, *lines = head[:-4].split(b"\r\n")
        version, status, _ = status_line.split(b" ", 2)
        pairs = [line.split(b": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        if len(headers) != len(pairs):
            raise ValueError(f"a header came twice: {lines}")
        framing, body = await self._body(method, int(status), headers)
        return RawResponse(int(status), version, headers, body, framing)

    async def until(self, marker: bytes) -> bytes:
        """Read up to and including `marker`."""
        while marker not in self._buffer:
            await self._more()
        found, _, self._buffer = self._buffer.partition(marker)
        return found + marker

    def close(self) -> None:
        """Close with a FIN."""
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        _arm_reset(self.sock)
        self.sock.close()

    async def _body(
        self, method: str, status: int, headers: dict[bytes, bytes]
    ) -> tuple[str, bytes]:
        if method == "HEAD" or status in (204, 304):
            return "none", b""
        if b"transfer-encoding" in headers:
            if headers[b"transfer-encoding"] != b"chunked" or b"content-length" in headers:
                raise ValueError(f"framed in an unknown way: {headers}")
            return "chunked", await self._chunks()
        if b"content-length" in headers:
            return "length", await self._exactly(int(headers[b"content-length"]))
        return "close", await self.receive_all()

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int(await self.until(b"\r\n"), 16)
            body += await self._exactly(size)
            if await self._exactly(2) != b"\r\n":
                raise ValueError("a chunk does not end where it says")
            if not size:
                return body

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    async def _more(self) -> None:
        try:
            data = await self.receive()
        except ConnectionResetError as error:
            raise CutError(self._buffer, is_reset=True) from error
        if not data:
            raise CutError(self._buffer, is_reset=False)
        self._buffer += data
