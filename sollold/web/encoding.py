"""Takes a request body's compression off, piece by piece, so that no body grows unseen.

Knows the encodings clients use; what it does not know is passed on as it came, as Ollama does.
"""

from __future__ import annotations

import importlib
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from sollold.errors import InvalidRequest, UnsupportedEncoding

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES = 256 * 1024
"""Most that one step yields."""

_GZIP = ("gzip", "x-gzip")
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")
_REFUSED = {
    "zstd": "zstd bodies need the extra: pip install 'sollold[zstd]', or send the body plain",
    "br": "br bodies are not supported; send the body plain, or as gzip",
    "compress": "compress bodies are not supported; send the body plain, or as gzip",
}
_BROKEN = "the request body cannot be read: it is not what its Content-Encoding says"


class Decoder(Protocol):
    """One body's decompression."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` adds. Raises InvalidRequest when it is broken."""

    def finish(self) -> None:
        """Take the end of the body. Raises InvalidRequest when it comes too soon."""


def decoder_for(content_encoding: str) -> Decoder | None:
    """Return what decodes a body, None when it is to be taken as it is.

    Raises:
        UnsupportedEncoding: it is compressed in a way this daemon cannot read.
    """
    if not content_encoding:
        return None
    name = content_encoding.strip().lower()
    if name in _GZIP:
        return _Inflate(16 + zlib.MAX_WBITS)
    if name == "deflate":
        return _Inflate(zlib.MAX_WBITS)
    if name == "zstd":
        module = _zstd_module()
        if module is not None:
            return _Zstd(module)
    words = [part.strip() for part in name.split(",")]
    refused = next((word for word in words if word in _REFUSED), None)
    if refused is None and len(words) > 1 and any(word in _GZIP for word in words):
        raise UnsupportedEncoding("bodies encoded twice are not supported; send the body plain")
    if refused is not None:
        raise UnsupportedEncoding(_REFUSED[refused])
    return None


class _Inflate:
    """gzip and deflate; the latter also without the header that it ought to have."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._inflater = zlib.decompressobj(window_bits)
        self._has_begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if not self._has_begun and data:
            self._has_begun = True
            if self._window_bits == zlib.MAX_WBITS and data[0] & 0x0F != zlib.DEFLATED:
                self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            while not self._inflater.eof:
                piece = self._inflater.decompress(data, PIECE_BYTES)
                data = self._inflater.unconsumed_tail
                yield piece
                # A full piece may not be all, even when no input is left.
                if not data and len(piece) < PIECE_BYTES:
                    break
        except zlib.error:
            raise InvalidRequest(_BROKEN) from None
        if data or self._inflater.unused_data:
            raise InvalidRequest(_BROKEN)

    def finish(self) -> None:
        if not self._inflater.eof:
            raise InvalidRequest(_BROKEN)


class _Zstd:
    """zstd, by the standard library or by the extra."""

    def __init__(self, module: Any) -> None:
        self._error: type[Exception] = module.ZstdError
        self._decompressor: Any = module.ZstdDecompressor()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        decompressor = self._decompressor
        try:
            while not decompressor.eof:
                yield decompressor.decompress(data, PIECE_BYTES)
                data = b""
                if decompressor.needs_input:
                    return
        except self._error:
            raise InvalidRequest(_BROKEN) from None
        if data or decompressor.unused_data:
            raise InvalidRequest(_BROKEN)

    def finish(self) -> None:
        if not self._decompressor.eof:
            raise InvalidRequest(_BROKEN)


def _zstd_module() -> Any | None:
    for name in _ZSTD_MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
