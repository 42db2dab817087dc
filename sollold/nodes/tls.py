"""How servers that speak TLS are trusted: this machine's authorities, another one, or a pin."""

from __future__ import annotations

import hashlib
import ssl
from typing import Any

import msgspec


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What a node's certificate has to be; with nothing given, what this machine trusts."""

    ca_file: str | None = None
    pin: bytes | None = None
    """SHA-256 of the certificate."""


class TlsContexts:
    """Contexts by what they trust, each made once."""

    def __init__(self) -> None:
        self._made: dict[Trust, ssl.SSLContext] = {}

    def known(self, trust: Trust) -> ssl.SSLContext | None:
        """Return a context that was made before."""
        return self._made.get(trust)

    def make(self, trust: Trust) -> ssl.SSLContext:
        """Return the context for a trust; reads files the first time.

        Raises:
            OSError: the authority's file cannot be read, or is none.
        """
        context = self._made.get(trust)
        if context is None:
            context = _make(trust)
            self._made[trust] = context
        return context


def _make(trust: Trust) -> ssl.SSLContext:
    if trust.pin is None:
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
