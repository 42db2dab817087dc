"""Paths that are written oddly, as Go's server and Ollama's framework redirect them."""

from __future__ import annotations

from aiohttp import web

_BODY = '<a href="{path}">{text}</a>.\n\n'


def clean_path(path: str) -> str:
    """Resolve empty parts and dots as Go's server does; a slash at the end stays."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    clean = "/" + "/".join(parts)
    return f"{clean}/" if parts and path.endswith("/") else clean


def redirect(request: web.Request, path: str, status: int) -> web.Response:
    """Return the answer that sends a client to another path."""
    query = request.rel_url.raw_query_string
    location = f"{path}?{query}" if query else path
    response = web.Response(status=status, headers={"Location": location})
    if request.method in ("GET", "HEAD"):
        text = "Moved Permanently" if status == 301 else "Temporary Redirect"
        response.body = _BODY.format(path=location, text=text).encode()
        response.headers["Content-Type"] = "text/html; charset=utf-8"
    else:
        response.headers.popall("Content-Type", None)
    return response
