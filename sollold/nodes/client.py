"""Questions to one Ollama node and what its answers mean.

The only place in this package that knows aiohttp's exceptions. Never asks anything that loads a
model or costs tokens.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from yarl import URL

from sollold.core.health import Misconfigured, ProbeFailed, Warming
from sollold.core.model import ResidentView
from sollold.nodes.own import is_literal
from sollold.nodes.parse import (
    ReplyError,
    Shared,
    parse_daemon,
    parse_ps,
    parse_show,
    parse_tags,
    parse_version,
)

if TYPE_CHECKING:
    from sollold.nodes.parse import Shown, Tags

MAX_REPLY_BYTES = 16 * 1024 * 1024
_DAEMON = "sollold"
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect and how to ask there."""

    scheme: str
    address: str
    """A literal."""
    port: int
    path: str = ""
    """What comes before `/api`."""
    host: str = ""
    """The name the address was found under; empty when there is none."""
    key: str | None = None

    def authority(self) -> str:
        """Return the `Host` header. A node bound to loopback accepts few names but any literal."""
        is_named = self.host and not is_literal(self.host)
        host = self.host if is_named and not self.address.startswith("127.") else self.address
        host = host.partition("%")[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class Version(msgspec.Struct, frozen=True):
    """A node said which version it is."""

    version: str
    latency_s: float


class Memory(msgspec.Struct, frozen=True):
    """A node said what it has in memory."""

    residents: tuple[ResidentView, ...]
    latency_s: float


class Peer(msgspec.Struct, frozen=True):
    """Another sollold answered."""

    version: str | None


Failure = ProbeFailed | Misconfigured | Warming


class _Reply(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    body: bytes
    latency_s: float


def probe_session() -> aiohttp.ClientSession:
    """Return a session whose every request uses a connection of its own. Needs a running loop."""
    connector = aiohttp.TCPConnector(
        resolver=aiohttp.ThreadedResolver(),
        use_dns_cache=False,
        force_close=True,
        # Silent nodes hold their connections until the time limit; others must not queue behind.
        limit=0,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        raise_for_status=False,
        trust_env=False,
    )


class NodeClient:
    """Asks nodes; every call has a time limit and returns failures as values."""

    def __init__(
        self, session: aiohttp.ClientSession, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._clock = clock
        self._shared = Shared()

    async def version(self, target: Target, limit_s: float) -> Version | Peer | Failure:
        """Ask who is there."""
        reply = await self._ask(target, "GET", "/api/version", limit_s)
        if not isinstance(reply, _Reply):
            return reply
        if _is_daemon(reply):
            return Peer(_peer_version(reply.body))
        failure = _judge(reply, target, "/api/version")
        if failure is not None:
            return failure
        try:
            return Version(parse_version(reply.body), reply.latency_s)
        except ReplyError as exc:
            return Misconfigured(f"{exc}, not as Ollama does, on {target.port}")

    async def peer(self, target: Target, limit_s: float) -> Peer | None:
        """Ask whether another sollold is there; it imitates Ollama everywhere but here."""
        reply = await self._ask(target, "GET", "/api/v1/status", limit_s)
        if not isinstance(reply, _Reply) or reply.status != 200:
            return None
        version = parse_daemon(reply.body)
        return None if version is None else Peer(version or None)

    async def tags(
        self, target: Target, limit_s: float, known: Tags | None = None
    ) -> Tags | Failure:
        """Ask which models are stored; the answer is `known` itself when nothing changed."""
        reply = await self._get(target, "/api/tags", limit_s)
        if not isinstance(reply, _Reply):
            return reply
        try:
            return parse_tags(reply.body, self._shared, known)
        except ReplyError as exc:
            return Misconfigured(f"{exc} to /api/tags")

    async def ps(self, target: Target, limit_s: float) -> Memory | Peer | Failure | None:
        """Ask which models are in memory; None: the node does not know this question."""
        reply = await self._ask(target, "GET", "/api/ps", limit_s)
        if not isinstance(reply, _Reply):
            return reply
        if _is_daemon(reply):
            return Peer(None)
        if reply.status in (404, 405, 501):
            return None
        failure = _judge(reply, target, "/api/ps")
        if failure is not None:
            return failure
        try:
            return Memory(parse_ps(reply.body), reply.latency_s)
        except ReplyError as exc:
            return Misconfigured(f"{exc} to /api/ps")

    async def show(self, target: Target, name: str, limit_s: float) -> Shown | Failure | None:
        """Ask what a model can do; None: it is gone, or the node cannot tell."""
        body = msgspec.json.encode({"model": name})
        reply = await self._ask(target, "POST", "/api/show", limit_s, body)
        if not isinstance(reply, _Reply):
            return reply
        if reply.status in (400, 404, 405, 501):
            return None
        failure = _judge(reply, target, "/api/show")
        if failure is not None:
            return failure
        try:
            return parse_show(reply.body)
        except ReplyError:
            return None

    async def _get(self, target: Target, path: str, limit_s: float) -> _Reply | Failure:
        reply = await self._ask(target, "GET", path, limit_s)
        if not isinstance(reply, _Reply):
            return reply
        return _judge(reply, target, path) or reply

    async def _ask(
        self, target: Target, method: str, path: str, limit_s: float, body: bytes | None = None
    ) -> _Reply | Failure:
        try:
            return await self._exchange(target, method, path, limit_s, body)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as exc:
            return _explain(exc, target, path, limit_s)

    async def _exchange(
        self, target: Target, method: str, path: str, limit_s: float, body: bytes | None
    ) -> _Reply | Failure:
        started_s = self._clock()
        headers = {"Host": target.authority()}
        if target.key is not None:
            headers["Authorization"] = f"Bearer {target.key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = URL.build(
            scheme=target.scheme, host=target.address, port=target.port, path=target.path + path
        )
        async with self._session.request(
            method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            # A little less for the connection, so that the error tells which of the two it was.
            timeout=aiohttp.ClientTimeout(total=limit_s, sock_connect=0.95 * limit_s),
            server_hostname=target.host or None if target.scheme == "https" else None,
        ) as response:
            data = await _read(response)
            if data is None:
                return Misconfigured(f"answers {path} with more than {MAX_REPLY_BYTES >> 20} MiB")
            return _Reply(response.status, response.headers, data, self._clock() - started_s)


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the body, or None when it is larger than any honest one."""
    parts: list[bytes] = []
    size_bytes = 0
    async for part in response.content.iter_any():
        size_bytes += len(part)
        if size_bytes > MAX_REPLY_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


def _is_daemon(reply: _Reply) -> bool:
    return _DAEMON in reply.headers.get("Via", "").lower()


def _judge(reply: _Reply, target: Target, path: str) -> Failure | None:
    """Return what a status other than 200 means."""
    status = reply.status
    if status == 200:
        return None
    if reply.headers.get("Server", "").lower().startswith("llama.cpp"):
        return Misconfigured(f"a llama.cpp server answers on {target.port}, not Ollama")
    if status in (401, 403):
        wish = "wants a key" if target.key is None else "does not accept its key"
        return Misconfigured(f"{wish} (answers {status})")
    if 300 <= status < 400:
        place = reply.headers.get("Location", "elsewhere")[:200]
        return Misconfigured(f"redirects {path} to {place}")
    if status == 503 and b"loading model" in reply.body[:1024].lower():
        return Warming()
    if status == 429 or status >= 500:
        return ProbeFailed("http_error", f"answers {status} to {path} on {target.port}")
    return Misconfigured(f"answers {status} to {path} on {target.port}, not as Ollama does")


def _explain(exc: Exception, target: Target, path: str, limit_s: float) -> Failure:
    """Translate one of aiohttp's or the system's exceptions."""
    port = target.port
    match exc:
        case aiohttp.ConnectionTimeoutError():
            return ProbeFailed("connect_timeout", f"no connection on {port} in {limit_s:g} s")
        case TimeoutError():
            return ProbeFailed("timeout", f"no answer to {path} in {limit_s:g} s")
        case aiohttp.ClientSSLError():
            return Misconfigured(f"its TLS certificate or handshake fails on {port}: {_why(exc)}")
        case aiohttp.ClientConnectorError():
            return _explain_connect(exc.os_error, port)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientConnectionResetError():
            return ProbeFailed("disconnected", f"closes connections on {port} without an answer")
        case aiohttp.ClientPayloadError():
            return ProbeFailed("disconnected", f"breaks off its answer to {path}")
        case aiohttp.ClientResponseError():
            return Misconfigured(f"answers on {port}, but not in HTTP")
        case aiohttp.ClientOSError() | OSError():
            return ProbeFailed("disconnected", f"connection lost on {port}: {_why(exc)}")
        case _:
            return Misconfigured(f"cannot be asked: {_why(exc)}")


def _explain_connect(exc: OSError, port: int) -> ProbeFailed:
    if exc.errno == errno.ECONNREFUSED:
        return ProbeFailed("refused", f"connection refused on {port}", is_refused=True)
    if exc.errno in _UNREACHABLE:
        return ProbeFailed("unreachable", "no route to the host")
    return ProbeFailed("connect_failed", f"no connection on {port}: {_why(exc)}")


def _why(exc: BaseException) -> str:
    text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return text.splitlines()[0][:200] if text else type(exc).__name__


def _peer_version(body: bytes) -> str | None:
    try:
        return parse_version(body)
    except ReplyError:
        return None
