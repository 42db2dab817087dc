"""A small HTTP client for the daemon's documents, over TCP or the control socket.

Standard library only. It tells a sollold from whatever else may answer on Ollama's port.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec

from sollold.api_types import ErrorBody, ErrorDocument
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.places import DEFAULT_API, Endpoint
from sollold.ctl.screen import clean
from sollold.wire.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

T = TypeVar("T")

_ERROR_SCHEMA = "sollold.error/1"
_UNREADABLE = (msgspec.DecodeError, RecursionError)
_MAX_BODY_BYTES = 256 * 1024 * 1024
_KEY_CODES = frozenset({"key_missing", "key_invalid", "key_role"})


class Miss(NamedTuple):
    """An endpoint that did not answer as a daemon, and why."""

    endpoint: Endpoint
    reason: str


class Reply:
    """A document from a daemon, as bytes and decoded."""

    def __init__(self, body: bytes, *, is_unicode: bool) -> None:
        self.body = body
        self._is_unicode = is_unicode

    def document(self, document: type[T]) -> T:
        """Return the document with all texts safe to print.

        Raises:
            Failure: it is not what was asked for.
        """
        try:
            raw = msgspec.json.decode(self.body)
            return msgspec.convert(clean(raw, is_unicode=self._is_unicode), document)
        except _UNREADABLE as error:
            raise Failure(
                Exit.FAILED,
                "bad_document",
                f"sollold's answer cannot be read: {visible(str(error))}",
                (("versions differ?", "sollolctl version"),),
            ) from error

    def exact(self, document: type[T]) -> T:
        """Return the document with its texts unchanged, for names that go back to the daemon."""
        self.document(document)
        return msgspec.json.decode(self.body, type=document)


class Client:
    """Asks the first endpoint that answers as a daemon, and keeps to it."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        timeout_s: float,
        key: str | None = None,
        is_unicode: bool = True,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._timeout_s = timeout_s
        self._key = key
        self._is_unicode = is_unicode
        self.misses: list[Miss] = []
        self.endpoint: Endpoint | None = None
        """The one that answered."""

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Reply:
        """Return the document at `path`.

        Raises:
            Failure: no daemon answers, or it refused.
        """
        with contextlib.closing(self._open(path, query)) as response:
            return Reply(response.body, is_unicode=self._is_unicode)

    def post(self, path: str, *, also: AbstractSet[int] = frozenset()) -> Reply:
        """Have something done; a document with one of the `also` statuses is an answer too.

        Raises:
            Failure: no daemon answers, or it refused.
        """
        with contextlib.closing(self._open(path, None, method="POST", also=also)) as response:
            return Reply(response.body, is_unicode=self._is_unicode)

    def lines(self, path: str, query: Mapping[str, str]) -> Iterator[Reply]:
        """Yield the objects of a followed document until the daemon ends it.

        Raises:
            Failure: no daemon answers, or it refused.
        """
        with contextlib.closing(self._open(path, query, is_stream=True)) as response:
            for line in response.lines():
                if line.strip():
                    yield Reply(line, is_unicode=self._is_unicode)

    def _open(
        self,
        path: str,
        query: Mapping[str, str] | None,
        *,
        method: str = "GET",
        is_stream: bool = False,
        also: AbstractSet[int] = frozenset(),
    ) -> _Response:
        target = path + ("?" + urlencode(query) if query else "")
        for endpoint in self._endpoints if self.endpoint is None else (self.endpoint,):
            try:
                response = _Response(endpoint, method, target, self._timeout_s, self._key)
                response.check(is_stream=is_stream, also=also)
            except _Silent as silent:
                self.misses.append(Miss(endpoint, str(silent)))
                # Whoever took the connection is there; asking elsewhere would only add to the
                # wait. Except that a socket's path may be held by something that never speaks.
                if endpoint.scheme != "unix" or method != "GET":
                    break
            except _Stranger as stranger:
                self.misses.append(Miss(endpoint, str(stranger)))
            except (OSError, http.client.HTTPException) as error:
                self.misses.append(Miss(endpoint, _reason(error)))
            else:
                self.endpoint = endpoint
                return response
        raise unreachable(self.misses)


class _Silent(Exception):
    """Something took the connection and then said nothing in time."""


class _Stranger(Exception):
    """What answered is no daemon of ours, or its answer broke off."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


class _Response:
    """One exchange on a connection of its own."""

    def __init__(
        self, endpoint: Endpoint, method: str, target: str, timeout_s: float, key: str | None
    ) -> None:
        self.body = b""
        self._timeout_s = timeout_s
        self._connection = _connection(endpoint, timeout_s)
        headers = {"Accept": "application/json", "Connection": "close"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            try:
                self._connection.request(method, endpoint.base + target, headers=headers)
                self._response = self._connection.getresponse()
            except TimeoutError as error:
                raise _Silent(self._late()) from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        if hasattr(self, "_response"):
            self._response.close()
        self._connection.close()

    def check(self, *, is_stream: bool, also: AbstractSet[int]) -> None:
        """Make sure that a daemon answered; closed otherwise.

        Raises:
            Failure: the daemon refused.
        """
        try:
            if is_stream and self._is_stream():
                self._socket.settimeout(None)
            else:
                self.body = self._read()
                self._judge(is_stream=is_stream, also=also)
        except BaseException:
            self.close()
            raise

    def _is_stream(self) -> bool:
        response = self._response
        return response.status == 200 and (
            response.headers.get_content_type() == "application/x-ndjson"
        )

    def _read(self) -> bytes:
        try:
            body = self._response.read(_MAX_BODY_BYTES)
        except TimeoutError as error:
            raise _Silent(self._late()) from error
        if self._response.length:
            raise _Stranger("the answer broke off")
        return body

    def _judge(self, *, is_stream: bool, also: AbstractSet[int]) -> None:
        status, schema = self._response.status, _schema(self.body)
        is_good = status == 200 or (status in also and schema != _ERROR_SCHEMA)
        if is_good and schema.startswith("sollold.") and not is_stream:
            return
        if schema == _ERROR_SCHEMA or status in {401, 403}:
            raise _refusal(status, self.body)
        if schema.startswith("sollold."):
            raise Failure(Exit.FAILED, "bad_document", f"sollold answered with HTTP {status}")
        raise _Stranger(f"something else answers there, HTTP {status}")

    def lines(self) -> Iterator[bytes]:
        """Yield the body's lines as they come."""
        while True:
            try:
                line = self._response.readline(_MAX_BODY_BYTES)
            except (OSError, http.client.HTTPException):
                return
            if not line:
                return
            yield line

    def _late(self) -> str:
        return f"no answer within {self._timeout_s:g} s"


def unreachable(misses: Sequence[Miss]) -> Failure:
    """Return the failure that says where no daemon answered, and what to try."""
    miss = next((item for item in misses if item.endpoint.label == DEFAULT_API), misses[-1])
    silent = [item for item in misses if item.reason.startswith("no answer within")]
    miss = silent[0] if silent else miss
    hints: list[tuple[str, str]] = []
    if miss.endpoint.is_local:
        hints = [
            ("running?", "systemctl --user status sollold"),
            ("start it", "systemctl --user start sollold"),
        ]
    hints.append(("elsewhere?", "sollolctl --url http://HOST:PORT status, or set SOLLOLD_URL"))
    return Failure(
        Exit.UNREACHABLE,
        "not_reachable",
        f"sollold does not answer at {visible(miss.endpoint.label)} ({miss.reason})",
        tuple(hints),
        is_state=True,
    )


def _connection(endpoint: Endpoint, timeout_s: float) -> http.client.HTTPConnection:
    if endpoint.scheme == "unix":
        return _UnixConnection(endpoint.host, timeout_s)
    if endpoint.scheme == "https":
        return http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout_s)
    return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_s)


class _Schema(msgspec.Struct):
    schema: str = ""


def _schema(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Schema).schema
    except _UNREADABLE:
        return ""


def _refusal(status: int, body: bytes) -> Failure:
    try:
        raw = clean(msgspec.json.decode(body))
        error = msgspec.convert(raw, ErrorDocument).error
    except _UNREADABLE:
        error = ErrorBody(code="key_invalid", message=f"the key was refused (HTTP {status})")
    hints = (("", error.hint),) if error.hint else ()
    if status == 401 or error.code in _KEY_CODES:
        hints = hints or (("use another", "SOLLOLD_KEY=... sollolctl ..., or --key-file FILE"),)
        return Failure(Exit.KEY, error.code, error.message, hints)
    exit_code = Exit.NOT_FOUND if status == 404 else Exit.FAILED
    return Failure(exit_code, error.code, error.message, hints)


def _reason(error: Exception) -> str:
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case FileNotFoundError():
            return "no such socket"
        case PermissionError():
            return "permission denied"
        case TimeoutError():
            return "no connection in time"
        case socket.gaierror():
            return "unknown host name"
        case ConnectionResetError() | BrokenPipeError():
            return "connection closed"
        case http.client.IncompleteRead():
            return "the answer broke off"
        case http.client.HTTPException():
            return "something else answers there, not HTTP"
        case OSError() if error.strerror:
            return visible(error.strerror.lower())
    return visible(str(error).lower()) or "failed"
