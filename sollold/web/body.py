"""Request bodies: read once, counted against one budget, spooled to a file beyond it."""

from __future__ import annotations

import asyncio
import mmap
import tempfile
from typing import TYPE_CHECKING

from aiohttp import web

from sollold.errors import PayloadTooLarge

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

_SMALL_BYTES = 1 << 20
_SLICE_BYTES = 1 << 20


class StoredBody:
    """A request's body; `close` returns its share of the budget.

    `data` is bytes, or a read-only memory map of an unlinked file.
    """

    __slots__ = ("_file", "_store", "data", "size_bytes")

    def __init__(
        self, data: bytes | mmap.mmap, store: BodyStore, file: IO[bytes] | None = None
    ) -> None:
        self.data = data
        self.size_bytes = len(data)
        self._store = store
        self._file = file

    def whole(self) -> bytes:
        """Return all of it; a copy when it is in a file, so do not keep it."""
        return self.data if isinstance(self.data, bytes) else self.data[:]

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        return self.data[offset : offset + size]

    def close(self) -> None:
        """Give the memory back. No await."""
        if self._file is not None:
            if isinstance(self.data, mmap.mmap):
                self.data.close()
            self._file.close()
            self._file = None
        else:
            self._store.give_back(self.size_bytes)
        self.data = b""
        self.size_bytes = 0


class BodyStore:
    """Reads bodies within `budget_bytes` of memory; larger totals go to files in `spool_dir`."""

    def __init__(self, *, limit_bytes: int, budget_bytes: int, spool_dir: Path | None) -> None:
        self._limit_bytes = limit_bytes
        self._budget_bytes = budget_bytes
        self._spool_dir = spool_dir
        self.in_memory_bytes = 0
        self.spooled_total = 0

    def give_back(self, size_bytes: int) -> None:
        """Free a share of the budget. No await."""
        self.in_memory_bytes -= size_bytes

    async def read(self, request: web.Request) -> StoredBody:
        """Read the whole body.

        Raises:
            PayloadTooLarge: it is longer than one body may be.
        """
        length = request.content_length
        if length is not None and length > self._limit_bytes:
            raise self._too_large()
        if length is None or length > _SMALL_BYTES:
            return await self._read_large(request)
        try:
            data = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise self._too_large() from error
        self.in_memory_bytes += len(data)
        return StoredBody(data, self)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"request body is larger than {self._limit_bytes} bytes")

    async def _read_large(self, request: web.Request) -> StoredBody:
        pieces: list[bytes] = []
        size = 0
        file: IO[bytes] | None = None
        try:
            while chunk := await request.content.readany():
                size += len(chunk)
                if size > self._limit_bytes:
                    raise self._too_large()
                if file is None and self.in_memory_bytes + len(chunk) > self._budget_bytes:
                    file = await asyncio.to_thread(self._spool, pieces)
                    self.in_memory_bytes -= size - len(chunk)
                    pieces = []
                if file is None:
                    self.in_memory_bytes += len(chunk)
                    pieces.append(chunk)
                else:
                    await asyncio.to_thread(file.write, chunk)
        except BaseException:
            if file is None:
                self.in_memory_bytes -= sum(map(len, pieces))
            else:
                file.close()
            raise
        if file is None:
            return StoredBody(b"".join(pieces), self)
        await asyncio.to_thread(file.flush)
        return StoredBody(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), self, file)

    def _spool(self, pieces: list[bytes]) -> IO[bytes]:
        self.spooled_total += 1
        file = tempfile.TemporaryFile(dir=self._spool_dir, prefix="sollold-body-")  # noqa: SIM115
        file.writelines(pieces)
        return file
