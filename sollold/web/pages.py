"""What every HTML page of ours is sent with."""

from __future__ import annotations

from aiohttp import web

PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: forms would then come with `Origin: null` and be taken for a stranger's.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Own files only: nothing inline, nothing from elsewhere, in nobody's frame."""


def page(text: str, *, status: int = 200) -> web.Response:
    """Return an HTML page with the headers that keep it to itself."""
    return web.Response(body=text.encode(), status=status, headers=PAGE_HEADERS)
