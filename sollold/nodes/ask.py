"""One question to one server, over a connection of its own; failures are values.

The only place in this package that knows aiohttp's exceptions.
"""

from __future__ import annotations

import errno
import ssl
import time
from collections.abc import Callable, Mapping

import aiohttp
import msgspec
from yarl import URL

from sollold.core.health import Misconfigured, ProbeFailed, Warming
from sollold.nodes.own import is_literal

MAX_REPLY_BYTES = 16 * 1024 * 1024
_PORTS = {"http": 80, "https": 443}
_DAEMON = "sollold"
_LLAMA = "llama.cpp"
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
    tls: ssl.SSLContext | None = None
    """None: with the certificates of this machine."""

    def authority(self) -> str:
        """Return the `Host` header. A node bound to loopback accepts few names but any literal."""
        is_named = self.host and not is_literal(self.host)
        host = self.host if is_named and not self.address.startswith("127.") else self.address
        host = host.partition("%")[0]
        host = f"[{host}]" if ":" in host else host
        return host if _PORTS.get(self.scheme) == self.port else f"{host}:{self.port}"


Failure = ProbeFailed | Misconfigured | Warming


class Reply(msgspec.Struct, frozen=True):
    """A complete reply."""

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


class Asker:
    """Asks; every call has a time limit."""

    def __init__(
        self, session: aiohttp.ClientSession, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._clock = clock

    async def ask(
        self, target: Target, method: str, path: str, limit_s: float, body: bytes | None = None
    ) -> Reply | Failure:
        """Ask one question."""
        try:
            return await self._exchange(target, method, path, limit_s, body)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as exc:
            return explain(exc, target, path, limit_s)

    async def _exchange(
        self, target: Target, method: str, path: str, limit_s: float, body: bytes | None
    ) -> Reply | Failure:
        started_s = self._clock()
        headers = {"Host": target.authority()}
        if target.key is not None:
            headers["Authorization"] = f"Bearer {target.key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        path_only, _, query = path.partition("?")
        url = URL.build(
            scheme=target.scheme,
            host=target.address,
            port=target.port,
            path=target.path + path_only,
            query_string=query,
        )
        async with self._session.request(
            method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            # A little less for the connection, so that the error tells which of the two it was.
            timeout=aiohttp.ClientTimeout(total=limit_s, sock_connect=0.95 * limit_s),
            ssl=True if target.tls is None else target.tls,
            server_hostname=target.host or None if target.scheme == "https" else None,
        ) as response:
            data = await _read(response)
            if data is None:
                return Misconfigured(f"answers {path} with more than {MAX_REPLY_BYTES >> 20} MiB")
            return Reply(response.status, response.headers, data, self._clock() - started_s)


def is_daemon(reply: Reply) -> bool:
    """Whether another sollold answered, or stands in between."""
    return _DAEMON in reply.headers.get("Via", "").lower()


def is_llama(reply: Reply) -> bool:
    """Whether a llama.cpp server signed the reply."""
    return reply.headers.get("Server", "").lower().startswith(_LLAMA)


def judge(reply: Reply, target: Target, path: str, speaker: str = "Ollama") -> Failure | None:
    """Return what a status other than 200 means."""
    status = reply.status
    if status == 200:
        return None
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
    return Misconfigured(f"answers {status} to {path} on {target.port}, not as {speaker} does")


def explain(exc: Exception, target: Target, path: str, limit_s: float) -> Failure:
    """Translate one of aiohttp's or the system's exceptions."""
    port = target.port
    match exc:
        case aiohttp.ConnectionTimeoutError():
            return ProbeFailed("connect_timeout", f"no connection on {port} in {limit_s:g} s")
        case TimeoutError():
            return ProbeFailed("timeout", f"no answer to {path} in {limit_s:g} s")
        case aiohttp.ClientConnectorCertificateError():
            why = _why(exc.certificate_error)
            return Misconfigured(f"its TLS certificate is not accepted on {port}: {why}")
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
