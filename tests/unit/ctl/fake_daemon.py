"""A small HTTP server that answers like the daemon, or not at all, for the CLI's tests."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from sollold.api_types import ErrorBody, ErrorDocument, encode

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

JSON = "application/json"
NDJSON = "application/x-ndjson"


class Answer:
    """What one path answers.

    `lines` are sent as a stream, `is_silent` sends nothing at all, `cut_bytes` are missing at the
    end, and with `ends` false the connection stays open after what was sent until the daemon
    stops, which sends `late_lines` first.
    """

    def __init__(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        kind: str = JSON,
        lines: list[bytes] | None = None,
        is_silent: bool = False,
        cut_bytes: int = 0,
        ends: bool = True,
        late_lines: list[bytes] | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.kind = kind
        self.lines = lines
        self.is_silent = is_silent
        self.cut_bytes = cut_bytes
        self.ends = ends
        self.late_lines = late_lines or []


class FakeDaemon:
    """Canned answers by path; remembers what it was asked."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.keys: list[str | None] = []
        self.stopping = threading.Event()
        self.url = ""

    @contextlib.contextmanager
    def on_tcp(self) -> Iterator[FakeDaemon]:
        """Serve on a free port of the loopback address."""
        server = _TcpServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        with self._serving(server):
            yield self

    @contextlib.contextmanager
    def on_socket(self, path: str) -> Iterator[FakeDaemon]:
        """Serve on a Unix socket."""
        self.url = f"unix:{path}"
        with self._serving(_UnixServer(path, _handler(self))):
            yield self

    @contextlib.contextmanager
    def _serving(self, server: socketserver.BaseServer) -> Iterator[None]:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            self.stopping.set()
            server.shutdown()
            thread.join()
            server.server_close()


def error(code: str, message: str, status: int, hint: str | None = None) -> Answer:
    """Return a refusal as the daemon words it."""
    body = encode(ErrorDocument(error=ErrorBody(code=code, message=message, hint=hint)))
    return Answer(body, status=status)


NOT_FOUND = Answer(b"404 page not found", status=404, kind="text/plain")
"""What a real Ollama says to paths it does not know."""


class _TcpServer(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = False
    block_on_close = True


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = False
    block_on_close = True

    def get_request(self) -> tuple[socket.socket, str]:
        connection, _ = super().get_request()
        return connection, "local"


def _handler(daemon: FakeDaemon) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            path = unquote(parts.path)
            daemon.asked.append((path, query))
            daemon.keys.append(self.headers.get("Authorization"))
            self.close_connection = True
            answer = daemon.answers.get(path, NOT_FOUND)
            if answer.is_silent:
                daemon.stopping.wait(30)
            elif answer.lines is not None and "follow" in query:
                self._stream(answer)
            else:
                self._send(answer)

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) - answer.cut_bytes])
            if not answer.ends:
                daemon.stopping.wait(30)

        def _stream(self, answer: Answer) -> None:
            self.send_response(200)
            self.send_header("Content-Type", NDJSON)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._send_lines(answer.lines or [])
                if answer.ends:
                    self.wfile.write(b"0\r\n\r\n")
                else:
                    daemon.stopping.wait(30)
                    self._send_lines(answer.late_lines)

        def _send_lines(self, lines: list[bytes]) -> None:
            for line in lines:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()

        def address_string(self) -> str:
            return "local"

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
