"""Which route answers what, and the answers of a server that has no such route."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from urllib.parse import unquote

from tests.fakes import native, openai
from tests.fakes.httpd import Exchange
from tests.fakes.ollama import FakeOllama

Handler = Callable[[FakeOllama, Exchange], Awaitable[None]]

_TEXT = "text/plain; charset=utf-8"
_ORDER = ("HEAD", "GET", "POST", "DELETE")
_ORIGINS = ("app://", "file://", "tauri://", "vscode-webview://", "vscode-file://")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "0.0.0.0")


async def root(ollama: FakeOllama, exchange: Exchange) -> None:
    """`GET /`."""
    del ollama
    await exchange.reply(200, b"Ollama is running", _TEXT)


ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/"): root,
    ("HEAD", "/"): root,
    ("GET", "/api/version"): native.version,
    ("HEAD", "/api/version"): native.version,
    ("GET", "/api/status"): native.status,
    ("GET", "/api/tags"): native.tags,
    ("HEAD", "/api/tags"): native.tags,
    ("GET", "/api/ps"): native.ps,
    ("POST", "/api/show"): native.show,
    ("POST", "/api/chat"): native.chat,
    ("POST", "/api/generate"): native.generate,
    ("POST", "/api/embed"): native.embed,
    ("POST", "/api/embeddings"): native.embeddings,
    ("GET", "/v1/models"): openai.models,
    ("POST", "/v1/chat/completions"): openai.chat_completions,
    ("POST", "/v1/completions"): openai.completions,
    ("POST", "/v1/embeddings"): openai.embeddings,
}


def is_refused(exchange: Exchange) -> bool:
    """True for a foreign `Origin` or a strange `Host`, which Ollama answers with a bare 403."""
    host = (exchange.request.header("host") or "").lower()
    origin = exchange.request.header("origin")
    if origin and origin.lower() not in {f"http://{host}", f"https://{host}"}:
        return not _is_known_origin(origin.lower())
    return not _is_known_host(host)


async def reply_unrouted(ollama: FakeOllama, exchange: Exchange) -> None:
    """Redirects, wrong methods, unknown paths, and paths with a parameter."""
    request = exchange.request
    path = request.path
    name = path.removeprefix("/v1/models/")
    if name != path and "/" not in unquote(name) and request.method == "GET" and name:
        await openai.one_model(ollama, exchange)
        return
    trimmed = path.rstrip("/")
    methods = [method for method in _ORDER if (method, path) in ROUTES]
    if request.method == "OPTIONS" and methods and not _is_address(exchange):
        await exchange.reply(204, b"", None, headers=[("Allow", ", ".join(methods))])
    elif methods:
        allow = [("Allow", ", ".join(methods))]
        await exchange.reply(405, b"405 method not allowed", "text/plain", headers=allow)
    elif path != trimmed and any(at == trimmed for _, at in ROUTES):
        await _redirect(exchange, trimmed)
    else:
        await exchange.reply(404, b"404 page not found", "text/plain")


async def _redirect(exchange: Exchange, target: str) -> None:
    location = [("Location", target)]
    if exchange.request.method == "GET":
        page = f'<a href="{target}">Moved Permanently</a>.\n\n'.encode()
        await exchange.reply(301, page, "text/html; charset=utf-8", headers=location)
    else:
        await exchange.reply(307, b"", None, headers=location)


def _is_address(exchange: Exchange) -> bool:
    try:
        ip_address(_bare_host(exchange.request.header("host") or ""))
    except ValueError:
        return False
    return True


def _is_known_origin(origin: str) -> bool:
    scheme, _, host = origin.partition("://")
    is_local = scheme in {"http", "https"} and _bare_host(host) in _LOCAL_NAMES
    return is_local or origin.startswith(_ORIGINS)


def _is_known_host(host: str) -> bool:
    name = _bare_host(host)
    if not name or name in {"localhost", socket.gethostname().lower()}:
        return True
    if name.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def _bare_host(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host
