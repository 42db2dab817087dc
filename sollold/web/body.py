"""Request bodies: read once, counted against one budget, spooled to a file beyond it."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import tempfile
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from sollold.errors import CapacityError, InvalidRequest, PayloadTooLarge
from sollold.web.encoding import decoder_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import IO

    from aiohttp import StreamReader

    from sollold.web.encoding import Decoder

_JOINED_BYTES = 1024 * 1024
"""Longer bodies are not put together in the event loop."""
_LOOKERS = 2
"""Threads that look at long bodies: each takes turns with the event loop."""

_RETRY_S = 10

_T = TypeVar("_T")


class StoredBody:
    """A request's body; `close` returns its share of the budget, once nobody looks at it any more.

    `data` is bytes, or a read-only memory map of an unlinked file.
    """

    __slots__ = (
        "_charged_bytes",
        "_file",
        "_held",
        "_is_closed",
        "_lookers",
        "_store",
        "data",
        "size_bytes",
    )

    def __init__(
        self, data: bytes | mmap.mmap, store: BodyStore, file: IO[bytes] | None = None
    ) -> None:
        self.data = data
        self.size_bytes = len(data)
        self._held = data
        self._store = store
        self._file = file
        self._charged_bytes = 0
        self._is_closed = False
        self._lookers = 0

    def view(self) -> bytes | memoryview:
        """Return all of it, not copied."""
        return self.data if isinstance(self.data, bytes) else memoryview(self.data)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        return self.data[offset : offset + size]

    async def look(self, work: Callable[[memoryview], _T]) -> _T:
        """Have a thread work on all of it, a few bodies at a time; `work` must keep nothing.

        A thread cannot be stopped: when the caller is, it goes on with what it holds, and share of
        the budget and place among the few are free when it is done.
        """
        return await self.work(partial(_with_view, work, self._held))

    async def work(self, work: Callable[[], _T]) -> _T:
        """Have a thread do what needs the body, in turn with those that look at others."""
        await self._store.lookers.acquire()
        self._lookers += 1
        looking = asyncio.get_running_loop().run_in_executor(None, work)
        looking.add_done_callback(self._looked)
        # Waiting may be cancelled; the future may not, it has to tell when the thread is done.
        await asyncio.wait((looking,))
        return looking.result()

    def charge(self, size_bytes: int) -> None:
        """Count what was made of it against the budget, the largest at a time. No await.

        It is there already, so it is never refused: the bodies that come next go to files.
        """
        more_bytes = size_bytes - self._charged_bytes
        if more_bytes > 0 and not self._is_closed:
            self._charged_bytes = size_bytes
            self._store.in_memory_bytes += more_bytes

    def close(self) -> None:
        """Give the memory back. No await."""
        self._is_closed = True
        self.data = b""
        self.size_bytes = 0
        if not self._lookers:
            self._free()

    def _looked(self, looking: asyncio.Future[_T]) -> None:
        self._store.lookers.release()
        self._lookers -= 1
        if self._is_closed and not self._lookers:
            self._free()
        if not looking.cancelled():
            # Maybe nobody is left to hear of it, and asyncio complains of what nobody hears of.
            looking.exception()

    def _free(self) -> None:
        self._store.give_back(self._charged_bytes)
        self._charged_bytes = 0
        held, self._held = self._held, b""
        if self._file is None:
            self._store.give_back(len(held))
            return
        if isinstance(held, mmap.mmap):
            # An error on its way up may still hold a view; the map goes with it.
            with contextlib.suppress(BufferError):
                held.close()
        self._file.close()
        self._file = None


def _with_view(work: Callable[[memoryview], _T], data: bytes | mmap.mmap) -> _T:
    with memoryview(data) as view:
        return work(view)


class BodyStore:
    """Reads bodies within `budget_bytes` of memory; larger totals go to files in `spool_dir`."""

    def __init__(
        self,
        *,
        limit_bytes: int,
        budget_bytes: int,
        spool_dir: Path | None,
        stall_s: float,
    ) -> None:
        """`stall_s` is how long a client may send nothing."""
        self.limit_bytes = limit_bytes
        self.spool_dir = spool_dir
        self._budget_bytes = budget_bytes
        self._stall_s = stall_s
        self.in_memory_bytes = 0
        self.spooled_total = 0
        self.lookers = asyncio.Semaphore(_LOOKERS)

    def set_stall(self, stall_s: float) -> None:
        """Give clients so long from now on. No await."""
        self._stall_s = stall_s

    def take(self, size_bytes: int) -> bool:
        """Reserve a share of the budget; False when it is used up. No await."""
        if self.in_memory_bytes + size_bytes > self._budget_bytes:
            return False
        self.in_memory_bytes += size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Free a share of the budget. No await."""
        self.in_memory_bytes -= size_bytes

    async def read(self, request: web.Request) -> StoredBody:
        """Read the whole body, without its compression.

        Raises:
            PayloadTooLarge: it is longer than one body may be.
            UnsupportedEncoding: it is compressed in a way this daemon cannot read.
            InvalidRequest: its framing or its compression is broken.
            CapacityError: there is room for it neither in memory nor on disk.
        """
        length = request.content_length
        if length is not None and length > self.limit_bytes:
            raise self.too_large()
        decoder = decoder_for(request.headers.get("Content-Encoding", ""))
        if decoder is None:
            whole = self._read_at_once(request.content)
            if whole is not None:
                return whole
        intake = _Intake(self)
        try:
            await self._read_into(intake, request, decoder)
            return await intake.finish()
        except web.RequestPayloadError:
            raise InvalidRequest("the request body cannot be read: its framing is broken") from None
        finally:
            intake.close()

    def _read_at_once(self, content: StreamReader) -> StoredBody | None:
        """Return a body that came together with its head, as short ones do. No await.

        None: it has to be waited for, is broken or too long, or there is no room in memory.
        """
        size_bytes = content.total_bytes
        if (
            not content.is_eof()
            or content.exception() is not None
            or size_bytes > self.limit_bytes
            or not self.take(size_bytes)
        ):
            return None
        return StoredBody(content.read_nowait(), self)

    async def _read_into(
        self, intake: _Intake, request: web.Request, decoder: Decoder | None
    ) -> None:
        content = request.content
        while chunk := content.read_nowait() if content.is_eof() else await self._more(content):
            if decoder is None:
                await intake.add(chunk)
                continue
            for piece in decoder.pieces(chunk):
                await intake.add(piece)
                # A small chunk may hold a large text; others want the loop meanwhile.
                await asyncio.sleep(0)
        if decoder is not None and content.total_bytes:
            decoder.finish()

    async def _more(self, content: StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._stall_s):
                return await content.readany()
        except TimeoutError:
            text = f"nothing of the request body came for {self._stall_s:g} s"
            raise web.HTTPRequestTimeout(reason=text) from None

    def too_large(self) -> PayloadTooLarge:
        """Return the refusal of a body that is longer than one may be."""
        return PayloadTooLarge(f"request body is larger than {self.limit_bytes} bytes")


class _Intake:
    """One body on its way in: pieces in memory, or a file once the budget is used up."""

    def __init__(self, store: BodyStore) -> None:
        self._store = store
        self._pieces: list[bytes] = []
        self._in_memory_bytes = 0
        self._size_bytes = 0
        self._file: IO[bytes] | None = None
        self._is_closed = False

    async def add(self, data: bytes) -> None:
        """Take a piece."""
        self._size_bytes += len(data)
        if self._size_bytes > self._store.limit_bytes:
            raise self._store.too_large()
        if self._file is None:
            if self._store.take(len(data)):
                self._in_memory_bytes += len(data)
                self._pieces.append(data)
                return
            await self._spool()
        if self._file is not None:
            await self._on_disk(self._file.write, data)

    async def finish(self) -> StoredBody:
        """Return what came; it has its own share of the budget from now on."""
        file = self._file
        if file is None:
            pieces = self._pieces
            if len(pieces) == 1:
                data = pieces[0]
            elif self._size_bytes <= _JOINED_BYTES:
                data = b"".join(pieces)
            else:
                data = await asyncio.to_thread(b"".join, pieces)
            self._in_memory_bytes = 0
            return StoredBody(data, self._store)
        await self._on_disk(file.flush)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file = None
        return StoredBody(mapped, self._store, file)

    def close(self) -> None:
        """Give back what was not handed on. No await."""
        self._is_closed = True
        self._free_memory()
        if self._file is not None:
            self._file.close()

    def _free_memory(self) -> None:
        self._pieces = []
        self._store.give_back(self._in_memory_bytes)
        self._in_memory_bytes = 0

    async def _spool(self) -> None:
        self._store.spooled_total += 1
        await self._on_disk(self._open)
        self._free_memory()

    def _open(self) -> None:
        """Move what is in memory to a file; in a thread, which a cancellation leaves running."""
        directory = self._store.spool_dir
        self._file = tempfile.TemporaryFile(dir=directory, prefix="sollold-body-")  # noqa: SIM115
        if self._is_closed:
            self._file.close()
            return
        self._file.writelines(self._pieces)

    async def _on_disk(self, work: Callable[..., _T], *args: object) -> _T:
        try:
            return await asyncio.to_thread(work, *args)
        except OSError as error:
            where = self._store.spool_dir or tempfile.gettempdir()
            text = f"no room for the request body, in memory or in {where}: {error.strerror}"
            raise CapacityError(text, retry_after_s=_RETRY_S) from error
