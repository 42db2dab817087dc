"""What process tests share: streams, a notify socket, a port that leads elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol, Self

from tests.fakes.look import Answer, Client, End, ask
from tests.stack.http import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.stack.daemon import DaemonProcess

LIMIT_S = 20.0


class Daemon(Protocol):
    """A daemon that listens, however it was started."""

    api_url: str


def chat(*, stream: bool, text: str = "hello", **fields: Any) -> dict[str, Any]:
    """A chat for the fake node's model."""
    message = {"role": "user", "content": text}
    return {"model": "llama3.2", "messages": [message], "stream": stream, **fields}


def post(daemon: Daemon, path: str, body: object, **headers: str) -> Answer:
    """One request on a connection of its own; headers with _ for -."""
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return ask(daemon.api_url, "POST", path, body, pairs, LIMIT_S)


def get(daemon: Daemon, path: str) -> Any:
    """The JSON at a path of the API listener."""
    answer = ask(daemon.api_url, "GET", path, limit_s=LIMIT_S)
    assert answer.status == 200, answer.raw
    return json.loads(answer.body)


def sollolctl(daemon: DaemonProcess, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the CLI as the person who has started the daemon."""
    return subprocess.run(
        [sys.executable, "-c", "from sollold.ctl.main import main; main()", *args],
        env=daemon._env,
        cwd=daemon._directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def until(is_true: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition; the error says what did not happen."""
    wait_until(is_true, limit_s=limit_s, failure=lambda: f"not in {limit_s} s: {what}")


class Stream:
    """A streamed chat that is read in the background; it has begun when this is made."""

    def __init__(self, daemon: Daemon, **fields: Any) -> None:
        self._client = Client(daemon.api_url, LIMIT_S)
        try:
            self._client.send("POST", "/api/chat", chat(stream=True, **fields))
            self._client.wait()
        except BaseException:
            self._client.close()
            raise
        self._answer: list[Answer] = []
        self.ended_s = 0.0
        self._thread = threading.Thread(target=self._read, name="stream")
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self._answer.append(self._client.receive("POST"))
        self.ended_s = time.monotonic()

    def result(self) -> Answer:
        """Return the whole answer once it has ended."""
        self.close()
        assert self._answer, "the stream has no end"
        return self._answer[0]

    def abort(self) -> None:
        """Leave, whatever is still to come. May be called twice."""
        self._client.hang_up()
        self.close()

    def close(self) -> None:
        """Wait for its end, whatever it is. May be called twice."""
        self._thread.join(LIMIT_S)
        self._client.close()


def is_whole(answer: Answer) -> bool:
    """Whether a native stream ended as a complete one does."""
    return answer.end is End.CLEAN and answer.lines()[-1]["done"] is True


class Callers:
    """Clients that ask on a new connection each time, until the block ends."""

    def __init__(self, daemon: Daemon, count: int, body: object = None) -> None:
        """Chat with `body`, or ask for the version."""
        self.answered = 0
        """How often it was as it should be."""
        self.wrong: list[str] = []
        """What was not: refused connections and other statuses."""
        self._daemon, self._body = daemon, body
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait for so many more answers; what is wrong ends the wait."""
        wanted = self.answered + count
        until(lambda: self.answered >= wanted or bool(self.wrong), f"{wanted} answers", 2 * LIMIT_S)

    def _run(self) -> None:
        while not self._is_over.is_set():
            fault = self._call()
            with self._lock:
                if fault:
                    self.wrong.append(fault)
                else:
                    self.answered += 1

    def _call(self) -> str:
        method, path = ("GET", "/api/version") if self._body is None else ("POST", "/api/chat")
        try:
            answer = ask(self._daemon.api_url, method, path, self._body, [], 2 * LIMIT_S)
        except OSError as exc:
            return repr(exc)
        return "" if answer.status == 200 else f"{answer.status} {answer.body!r}"


class NotifySocket:
    """What a service manager listens on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(LIMIT_S)
        self.messages: list[list[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def poll(self) -> None:
        """Take what is there, without waiting."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take(self._socket.recv(4096))
        self._socket.settimeout(LIMIT_S)

    def wait_for(self, word: str) -> list[str]:
        """Return the first message with a line that begins so, waiting for it."""
        while True:
            for message in self.messages:
                if any(line.startswith(word) for line in message):
                    return message
            self._take(self._socket.recv(4096))

    def words(self) -> list[str]:
        """Every line so far without its value, in order."""
        return [line.partition("=")[0] for message in self.messages for line in message]

    def _take(self, data: bytes) -> None:
        self.messages.append(data.decode().split("\n"))


class Relay:
    """A port that leads to another one, as a forwarded port does; knows nothing of HTTP."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._stop_reading, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="relay")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.close()
        self._thread.join()
        for sock in (*self._open, self._listener, self._stop_reading):
            sock.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stop_reading, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._stop_reading:
                        return
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    else:
                        self._pass_on(selector, key)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        self.connections += 1
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target), 5)
        except OSError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            self._open.add(one)
            selector.register(one, selectors.EVENT_READ, other)

    def _pass_on(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        source: Any = key.fileobj
        try:
            data = source.recv(65_536)
            key.data.sendall(data)
        except OSError:
            data = b""
        if not data:
            for sock in (source, key.data):
                if sock in self._open:
                    selector.unregister(sock)
                    self._open.discard(sock)
                    sock.close()


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process where it stands, for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
