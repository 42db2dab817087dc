"""Pinned certificates, as people copy them from other tools."""

from __future__ import annotations

import base64

_BYTES = 32
_BASE64_PREFIX = "sha256/"


def parse_pin(text: str) -> bytes:
    """Read the SHA-256 of a certificate; the ValueError says what to write instead.

    Hex digits may be separated by colons, as `openssl x509 -fingerprint -sha256` prints them.
    """
    text = text.strip()
    try:
        if text.startswith(_BASE64_PREFIX):
            pin = base64.b64decode(text.removeprefix(_BASE64_PREFIX), validate=True)
        else:
            pin = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        pin = b""
    if len(pin) != _BYTES:
        raise ValueError(
            "is no SHA-256; write the 64 hex digits that "
            "openssl x509 -noout -fingerprint -sha256 prints, or sha256/ and base64"
        )
    return pin
