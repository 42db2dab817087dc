"""A blocking client that shows an answer as it was on the wire: head, chunks, and how it ended."""

from __future__ import annotations

import contextlib
import json
import socket
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class End(StrEnum):
    """How an answer ended."""

    CLEAN = "clean"
    CUT = "cut"
    """The connection was closed before the message was complete."""
    RESET = "reset"
    GARBAGE = "garbage"
    """What came cannot be read as HTTP."""


class Answer(NamedTuple):
    """One answer. `chunks` are those of a chunked body, else None."""

    status: int
    headers: dict[str, str]
    body: bytes
    chunks: tuple[bytes, ...] | None
    end: End
    raw: bytes
    interim: tuple[int, ...] = ()

    def json(self) -> object:
        """The body, decoded."""
        return json.loads(self.body)

    def lines(self) -> list[dict[str, object]]:
        """The objects of an NDJSON body."""
        return [json.loads(line) for line in self.body.splitlines()]


class Client:
    """One connection, kept open over requests."""

    def __init__(self, url: str, limit_s: float = 30.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), limit_s)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave, whatever is under way."""
        self._socket.close()

    def hang_up(self) -> None:
        """End the connection under one who reads from it; close it then."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Write one request; bytes go as they are, anything else as JSON."""
        data = b"" if body is None else body if isinstance(body, bytes) else _dump(body)
        lines = [f"{method} {path} HTTP/1.1"]
        if not any(name.lower() == "host" for name, _ in headers):
            lines.append("Host: localhost")
        if body is not None:
            lines.append(f"Content-Length: {len(data)}")
        lines += [f"{name}: {value}" for name, value in headers]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() + data)

    def wait(self) -> None:
        """Return when the first bytes of an answer are there; `receive` still gives all."""
        self._fill()

    def pieces(self) -> Iterator[bytes]:
        """Bytes as they come, until the connection ends."""
        while piece := self._socket.recv(65_536):
            yield piece

    def receive(self, method: str = "GET") -> Answer:
        """Read one answer to its end, however bad."""
        raw = b""
        interim: tuple[int, ...] = ()
        try:
            while True:
                head = self._read_until(b"\r\n\r\n")
                raw += head
                status, headers = _parse_head(head)
                if status >= 200 or status == 101:
                    break
                interim = (*interim, status)
        except ConnectionResetError:
            return Answer(0, {}, b"", None, End.RESET, raw, interim)
        except (EOFError, ValueError) as error:
            end = End.GARBAGE if self._buffer or isinstance(error, ValueError) else End.CUT
            return Answer(0, {}, b"", None, end, raw + self._buffer, interim)
        has_body = method != "HEAD" and status not in {204, 304}
        chunks, body, end = self._read_body(headers) if has_body else (None, b"", End.CLEAN)
        return Answer(status, headers, body, chunks, end, raw, interim)

    def _read_body(self, headers: dict[str, str]) -> tuple[tuple[bytes, ...] | None, bytes, End]:
        chunks: list[bytes] = []
        is_chunked = headers.get("transfer-encoding") == "chunked"
        try:
            if is_chunked:
                self._read_chunks(chunks)
            elif "content-length" in headers:
                self._read_exactly(int(headers["content-length"]), chunks)
            else:
                self._read_rest(chunks)
            end = End.CLEAN
        except EOFError:
            end = End.CUT
        except ConnectionResetError:
            end = End.RESET
        except ValueError:
            end = End.GARBAGE
        return (tuple(chunks) if is_chunked else None), b"".join(chunks), end

    def _read_chunks(self, into: list[bytes]) -> None:
        while True:
            size = int(self._read_until(b"\r\n"), 16)
            if size == 0:
                self._read_until(b"\r\n")
                return
            piece: list[bytes] = []
            try:
                self._read_exactly(size, piece)
            finally:
                into.append(b"".join(piece))
            self._read_until(b"\r\n")

    def _read_exactly(self, count: int, into: list[bytes]) -> None:
        while len(self._buffer) < count:
            try:
                self._fill()
            except OSError:
                into.append(self._take(len(self._buffer)))
                raise
            except EOFError:
                into.append(self._take(len(self._buffer)))
                raise
        into.append(self._take(count))

    def _read_rest(self, into: list[bytes]) -> None:
        with contextlib.suppress(EOFError):
            while True:
                self._fill()
        into.append(self._take(len(self._buffer)))

    def _read_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._fill()
        return self._take(self._buffer.index(mark) + len(mark))

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _fill(self) -> None:
        data = self._socket.recv(65_536)
        if not data:
            raise EOFError
        self._buffer += data


def ask(
    url: str,
    method: str,
    path: str,
    body: object = None,
    headers: Sequence[tuple[str, str]] = (),
    limit_s: float = 30.0,
) -> Answer:
    """One request on a connection of its own."""
    with Client(url, limit_s) as client:
        try:
            client.send(method, path, body, headers)
        except (ConnectionResetError, BrokenPipeError):
            return Answer(0, {}, b"", None, End.RESET, b"")
        return client.receive(method)


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *rest = head.decode("latin-1").split("\r\n")
    version, _, tail = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"no HTTP: {first!r}")
    headers = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
    return int(tail[:3]), headers


def _dump(body: object) -> bytes:
    return json.dumps(body).encode()
