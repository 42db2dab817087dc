"""How servers that speak TLS are trusted: this machine's authorities, another one, or a pin."""

from __future__ import annotations

import hashlib
import logging
import ssl
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sollold.config.text import require_file
from sollold.tasks import Reader, StuckError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

T = TypeVar("T")

log = logging.getLogger(__name__)


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What a node's certificate has to be; with nothing given, what this machine trusts."""

    ca_file: str | None = None
    pin: bytes | None = None
    """SHA-256 of the certificate."""


class TlsContexts:
    """Contexts by what they trust, each made once, and again when its authority's file changes.

    Reading certificates takes its time: threads do it, and who connects finds them ready.
    """

    def __init__(self) -> None:
        self._made: dict[Trust, ssl.SSLContext] = {}
        self._stamps: dict[Trust, tuple[int, ...]] = {}
        self._reader = Reader()
        self._old: set[Trust] = set()
        """Made from what is to be read once more; in use until then."""

    def known(self, trust: Trust) -> ssl.SSLContext | None:
        """Return the context for a trust, once it is prepared. No await."""
        return self._made.get(trust)

    def reread(self) -> None:
        """Have every authority read once more when it is next prepared. No await."""
        self._stamps.clear()
        self._old |= {trust for trust in self._made if trust.ca_file is None and trust.pin is None}

    def keep(self, trusts: Collection[Trust]) -> None:
        """Let go of all others; connections that are open keep theirs. No await."""
        for trust in self._made.keys() - set(trusts):
            del self._made[trust]
            self._stamps.pop(trust, None)
            self._old.discard(trust)

    async def prepare(self, trust: Trust) -> None:
        """See that the context for a trust is there, and that its file is not a newer one.

        Raises:
            OSError: the authority's file cannot be read, or is none, and never could.
        """
        if trust.ca_file is not None:
            await self._read(partial(self._follow, trust, trust.ca_file))
        elif trust not in self._made or trust in self._old:
            self._made[trust] = await self._read(partial(_make, trust))
            self._old.discard(trust)

    async def _read(self, work: Callable[[], T]) -> T:
        try:
            return await self._reader.run(work, "reading certificates")
        except StuckError as exc:
            raise TimeoutError(None, str(exc)) from exc

    def _follow(self, trust: Trust, ca_file: str) -> None:
        try:
            found = Path(ca_file).stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._stamps.get(trust) != stamp:
                # One that cannot be used is looked at again when it changes.
                self._stamps[trust] = stamp
                self._made[trust] = _make(trust)
        except OSError as exc:
            if trust not in self._made:
                self._stamps.pop(trust, None)
                raise
            if isinstance(exc, ssl.SSLError):
                log.warning("%s cannot be used, what it was before is: %s", ca_file, exc)


def _make(trust: Trust) -> ssl.SSLContext:
    if trust.pin is None:
        if trust.ca_file is not None:
            require_file(Path(trust.ca_file))
        return ssl.create_default_context(cafile=trust.ca_file)
    context = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.pin = trust.pin
    context.sslobject_class = _PinnedObject
    return context


class _PinnedContext(ssl.SSLContext):
    pin: bytes


class _PinnedObject(ssl.SSLObject):
    """Ends the handshake with any other certificate, before anything was sent."""

    def do_handshake(self) -> None:
        super().do_handshake()
        context: Any = self.context
        certificate = self.getpeercert(binary_form=True) or b""
        if hashlib.sha256(certificate).digest() != context.pin:
            raise ssl.SSLCertVerificationError(1, "it is not the pinned one")
