"""The files that pages need: read once at the start, served under `/static/` from memory.

Nothing else can be asked for: a path is looked up in a table, never in a file system. An upgrade
under a running daemon therefore changes nothing until it starts again, and the hash in a URL always
belongs to the bytes behind it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from typing import TYPE_CHECKING

from aiohttp import web

from sollold.system.shipped import shipped
from sollold.web.route import Route

if TYPE_CHECKING:
    from pathlib import Path

# Always with a charset: the viewer's script is full of UTF-8 and does not say so itself.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
_UNKNOWN_TYPE = "text/plain; charset=utf-8"
"""Licences, notices and the like."""
_PACKED = frozenset({".png"})
_SMALL_BYTES = 512
_MAX_BYTES = 32 * 1024 * 1024
_HASH_CHARS = 16

_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_FIRST = "no-cache"


class _File:
    """One file; its compressed form is made when first asked for."""

    __slots__ = ("_gzipped", "content", "media", "version")

    def __init__(self, content: bytes, suffix: str) -> None:
        self.content = content
        self.media = _TYPES.get(suffix, _UNKNOWN_TYPE)
        self.version = hashlib.sha256(content).hexdigest()[:_HASH_CHARS]
        is_worth_it = suffix not in _PACKED and len(content) >= _SMALL_BYTES
        self._gzipped = None if is_worth_it else b""

    async def gzipped(self) -> bytes:
        """Return the compressed form, empty where there is none."""
        if self._gzipped is None:
            self._gzipped = await asyncio.to_thread(gzip.compress, self.content, mtime=0)
        return self._gzipped


class StaticFiles:
    """Answers `/static/…`, and gives the URLs by which pages name their files."""

    def __init__(self, files: dict[str, _File]) -> None:
        self._files = files

    @classmethod
    async def load(cls) -> StaticFiles:
        """Return the files that come with the program.

        Raises:
            OSError: they are missing or cannot be read.
        """
        return await asyncio.to_thread(lambda: cls.read(shipped("static")))

    @classmethod
    def read(cls, folder: Path) -> StaticFiles:
        """Return the files below a folder. Not for the event loop.

        Raises:
            OSError: one of them cannot be read.
        """
        found: dict[str, _File] = {}
        room_bytes = _MAX_BYTES
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                room_bytes -= len(content)
                if room_bytes < 0:
                    raise OSError(f"{folder} holds more than {_MAX_BYTES >> 20} MB")
                found[path.relative_to(folder).as_posix()] = _File(content, path.suffix)
        return cls(found)

    def url(self, name: str) -> str:
        """Return the URL of a file, relative to a page at the top: `/` or `/docs`.

        Relative, so that it also holds behind a proxy that serves the daemon below a path. It
        carries the file's hash and may be kept for ever.

        Raises:
            KeyError: there is no such file.
        """
        return f"static/{name}?v={self._files[name].version}"

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                method=method,
                path="/static/{path:.+}",
                handler=self.file,
                summary="A file that a page needs",
                tag="Pages",
                hidden="files of the pages, no part of the API",
            )
            for method in ("GET", "HEAD")
        ]

    async def file(self, request: web.Request) -> web.Response:
        """Answer `/static/{path}`."""
        found = self._files.get(request.match_info["path"])
        if found is None:
            raise web.HTTPNotFound
        body, encoding = found.content, ""
        if _takes_gzip(request):
            body, encoding = await found.gzipped(), "gzip"
            if not body:
                body, encoding = found.content, ""
        tag = f"{found.version}-{encoding}" if encoding else found.version
        has_it = is_known(request, tag)
        response = web.Response(status=304) if has_it else web.Response(body=body)
        headers = response.headers
        if not has_it:
            headers["Content-Type"] = found.media
            if encoding:
                headers["Content-Encoding"] = encoding
        headers["ETag"] = f'"{tag}"'
        headers["Vary"] = "Accept-Encoding"
        is_versioned = request.query.get("v") == found.version
        headers["Cache-Control"] = _FOR_EVER if is_versioned else _ASK_FIRST
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response


def is_known(request: web.Request, tag: str) -> bool:
    """Whether the client says that it has the representation with this entity tag."""
    return any(known.value in (tag, "*") for known in request.if_none_match or ())


def _takes_gzip(request: web.Request) -> bool:
    """Whether the client reads gzip; one that refuses it by `q=0` does not."""
    for part in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
