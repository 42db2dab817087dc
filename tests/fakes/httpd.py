"""A small HTTP/1.1 server with its hands on the wire, framed as the server it stands for frames.

Knows no dialect. Faults of the wire happen here, so that they can break what a well-behaved
library would never send wrongly.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

from tests.fakes.faults import Fault, FaultKind, Struck

if TYPE_CHECKING:
    from collections.abc import Sequence

Fields = tuple[tuple[str, str], ...]


class Framing(NamedTuple):
    """What a kind of server says around every answer."""

    counted_bytes: int | None
    """Bodies up to this size are counted, longer ones sent in chunks; None: all are counted."""
    is_dated: bool = True
    on_keep: Fields = ()
    """Header fields while the connection goes on."""
    errors_say_close: bool = False
    """Answers from 400 on say `Connection: close`, though the connection goes on."""
    idle_s: float = 0.0
    """An unused connection is closed after this time; 0: never."""
    most_requests: int = 0
    """A connection is closed after so many; 0: never."""


GO = Framing(counted_bytes=2048)

_GARBAGE = b"\x16\x03\x01\x02\x00 this is no HTTP at all\r\n\r\n"


class SeenRequest:
    """A request as it came in, and what became of it."""

    def __init__(
        self, method: str, target: str, headers: list[tuple[str, str]], connection: int
    ) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = b""
        self.connection = connection
        self.at_s = time.monotonic()
        self.model = ""
        self.frames = 0
        self.status: int | None = None
        self.is_answered = False
        self.is_disconnected = False
        self.ended_s: float | None = None
        self.faults = Struck()

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its spelling."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def __repr__(self) -> str:
        return f"<{self.method} {self.target} -> {self.status}, {self.frames} frames>"


class Broken(Exception):
    """The wire was broken on purpose; the handler ends here."""


class Wire(Protocol):
    """The connection as an exchange needs it."""

    is_http10: bool

    def node_changed(self) -> None: ...
    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def reset(self) -> None: ...
    async def drain(self) -> None: ...
    async def flushed(self) -> None: ...


class Exchange:
    """One request and the way its answer is written."""

    def __init__(
        self,
        connection: Wire,
        request: SeenRequest,
        framing: Framing = GO,
        *,
        is_last: bool = False,
    ) -> None:
        self.request = request
        self._connection = connection
        self._framing = framing
        self._is_last = is_last
        self._is_chunked = False
        self._is_headed = False
        self._must_close = False

    async def reply(
        self,
        status: int,
        body: bytes,
        content_type: str | None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        flushed: bool = False,
    ) -> None:
        """A whole answer in one piece; `flushed` answers are chunked however small."""
        cut = self.request.faults.cut()
        if cut is not None:
            await self._reply_half(cut, status, body, content_type)
        counted_bytes = self._framing.counted_bytes
        if flushed or (counted_bytes is not None and len(body) > counted_bytes):
            await self.start(status, content_type, headers=headers)
            await self.chunk(body)
            await self.finish()
            return
        self._head(status, content_type, headers, length=self._told_length(len(body)))
        await self._send(b"" if self.request.method == "HEAD" else body)
        await self.finish()

    async def start(
        self,
        status: int,
        content_type: str | None,
        *,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Head of an answer whose length is not known."""
        if self._is_headed:
            return
        long, short = (
            self.request.faults.get(kind)
            for kind in (FaultKind.LENGTH_LONG, FaultKind.LENGTH_SHORT)
        )
        if long or short:
            self._head(status, content_type, headers, length=10_000_000 if long else 10)
            return
        self._is_chunked = not (self._is_http10 or self.request.method == "HEAD")
        self._head(status, content_type, headers, length=None)

    @property
    def is_started(self) -> bool:
        """True once the head is written."""
        return self._is_headed

    async def chunk(self, data: bytes) -> None:
        """One flushed piece of the body: a frame."""
        await self.strike_if_due()
        await self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        self.request.frames += 1
        self._connection.node_changed()

    async def comment(self, data: bytes) -> None:
        """A flushed piece that is no frame: it keeps a silent stream alive."""
        await self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    async def strike_if_due(self) -> None:
        """Break the wire when this request's fault says that enough frames have gone."""
        cut = self.request.faults.cut()
        if cut is not None and self.request.frames == cut.after_frames:
            await self._strike(cut)

    async def finish(self) -> None:
        """End of the answer."""
        if self._is_chunked:
            await self._send(b"0\r\n\r\n")
        self.request.is_answered = True
        faults = self.request.faults
        is_cut = faults.get(FaultKind.LENGTH_LONG) or faults.get(FaultKind.CLOSE_AFTER)
        if self._must_close or is_cut or (self._is_http10):
            self._connection.close()

    def informational(self) -> None:
        """Interim answers before the real one."""
        self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._connection.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n")

    def garbage(self) -> NoReturn:
        """Bytes that are not HTTP, then a close."""
        self._connection.write(_GARBAGE)
        self.close()

    def close(self) -> NoReturn:
        """Close without an answer."""
        self._connection.close()
        raise Broken

    @property
    def _is_http10(self) -> bool:
        is_told = self.request.faults.get(FaultKind.HTTP10) is not None
        return is_told or self._connection.is_http10

    def _told_length(self, length: int) -> int:
        faults = self.request.faults
        if faults.get(FaultKind.LENGTH_LONG):
            return length + 100
        return max(length - 10, 0) if faults.get(FaultKind.LENGTH_SHORT) else length

    def _head(
        self,
        status: int,
        content_type: str | None,
        headers: Sequence[tuple[str, str]],
        *,
        length: int | None,
    ) -> None:
        self.request.status = status
        self._is_headed = True
        told_close = (self.request.header("connection") or "").lower() == "close"
        self._must_close = told_close or self._is_http10 or self._is_last
        lines = [f"HTTP/1.{0 if self._is_http10 else 1} {status} {_phrase(status)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if content_type is not None:
            lines.append(f"Content-Type: {content_type}")
        if self._framing.is_dated:
            lines.append(f"Date: {formatdate(usegmt=True)}")
        is_bare = self._is_http10 and self.request.faults.get(FaultKind.HTTP10) is not None
        if length is not None and not is_bare and status != 204:
            lines.append(f"Content-Length: {length}")
        if not is_bare:
            lines += self._persistence(status)
        if self._is_chunked:
            lines.append("Transfer-Encoding: chunked")
        self._connection.write("\r\n".join([*lines, "", ""]).encode())

    def _persistence(self, status: int) -> list[str]:
        if self._must_close or (self._framing.errors_say_close and status >= 400):
            return ["Connection: close"]
        return [f"{name}: {value}" for name, value in self._framing.on_keep]

    async def _send(self, data: bytes) -> None:
        if self.request.faults.get(FaultKind.DRIBBLE) is None:
            self._connection.write(data)
        else:
            for at in range(len(data)):
                self._connection.write(data[at : at + 1])
                await asyncio.sleep(0)
        await self._connection.drain()

    async def _reply_half(
        self, cut: Fault, status: int, body: bytes, content_type: str | None
    ) -> NoReturn:
        if cut.after_frames:
            self._head(status, content_type, (), length=len(body))
            await self._send(body[: len(body) // 2])
        await self._strike(cut)

    async def _strike(self, cut: Fault) -> NoReturn:
        if cut.kind is FaultKind.HANG_STREAM:
            await hang()
        if cut.kind is FaultKind.CUT_RESET:
            await self._connection.flushed()
            self._connection.reset()
        elif cut.kind is FaultKind.GARBAGE_BODY:
            self._connection.write(b"zz this is no chunk\r\n" + _GARBAGE)
            await hang()
        elif cut.kind is FaultKind.GARBAGE_LINE:
            line = b"{this is no JSON\n"
            await self._send(b"%x\r\n%b\r\n" % (len(line), line) if self._is_chunked else line)
            await self.finish()
        else:
            self._connection.close()
        raise Broken


async def hang() -> NoReturn:
    """Never return; only the end of the connection, or of the node, ends this."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a future that nobody resolves was resolved")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status code {status}"
