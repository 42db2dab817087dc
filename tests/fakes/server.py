"""What every fake has, whatever its dialect: a port, faults, a memory of what it was asked.

It answers in the test's own loop; `tests.fakes.program` makes it a process that can be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from tests.fakes.connection import Connection, Listener
from tests.fakes.faults import INFERENCE_PATHS, Fault, FaultBook, FaultKind
from tests.fakes.httpd import GO, Exchange, SeenRequest, hang
from tests.fakes.watch import Watch

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

_REMEMBERED = 100_000
_JSON = "application/json; charset=utf-8"


class FakeServer(ABC):
    """One fake server. `fault` may be changed at any time."""

    framing = GO
    kind: Literal["llama_server", "openai"] | None = None
    """What a configuration calls it; None: an Ollama, which is found out."""
    key_env: str | None = None
    """Environment variable that a configuration is to name for its key; set by the test."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.host = host
        self.watch = Watch()
        self.faults = FaultBook()
        self.requests: list[SeenRequest] = []
        self.connections = 0
        self._port = port
        self._tls = tls
        self._listener: Listener | None = None
        self._open: set[Connection] = set()
        self._accepting: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen; a port of 0 becomes a free one and stays the server's own until `close`."""
        if self._listener is None:
            self._listener = Listener(self.host, self._port, self._accept)
            self._port = self._listener.port
        self._listener.open()

    async def stop(self) -> None:
        """Die as a killed process does: connections reset, port refusing, memory lost."""
        if self._listener is not None:
            self._listener.refuse()
        await self._drop_all()
        self.forget()
        self.watch.changed()

    async def restart(self) -> None:
        """Stop, and start on the same port with nothing loaded."""
        await self.stop()
        await self.start()

    async def close(self) -> None:
        """End for good and give the port back."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._drop_all()

    @property
    def port(self) -> int:
        """The port, once started."""
        return self._port

    @property
    def url(self) -> str:
        """Base address without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self._port}"

    @property
    def fault(self) -> Fault | None:
        """The first fault that is set. Assigning replaces all; None mends the server."""
        return self.faults.active[0] if self.faults.active else None

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self.set_faults(*([] if fault is None else [fault]))

    def set_faults(self, *faults: Fault) -> None:
        """Replace all faults; `FaultKind.REFUSE` closes the listener until it is taken away."""
        self.faults.put(*faults)
        if self._listener is None:
            return
        if self.faults.has(FaultKind.REFUSE):
            self._listener.refuse()
            for connection in list(self._open):
                connection.reset()
        else:
            self._listener.open()

    @property
    def inference(self) -> list[SeenRequest]:
        """The inference requests seen, oldest first."""
        return [request for request in self.requests if request.path in INFERENCE_PATHS]

    @property
    def disconnects(self) -> list[SeenRequest]:
        """Requests whose client left before the answer was complete."""
        return [request for request in self.requests if request.is_disconnected]

    @property
    def open_connections(self) -> int:
        """Connections that exist now."""
        return len(self._open)

    async def until(self, is_true: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait for a condition on this server; `TimeoutError` when it does not come true."""
        async with asyncio.timeout(timeout_s):
            await self.watch.until(is_true)

    def changed(self) -> None:
        """Something a test may wait for happened. No await."""
        self.watch.changed()

    def seen(self, request: SeenRequest) -> None:
        """Remember a request and decide which faults it meets. No await."""
        if request.path.startswith("/_"):
            return
        request.model = model_of(request.body)
        request.faults = self.faults.strike(request.path, request.model)
        if len(self.requests) < _REMEMBERED:
            self.requests.append(request)
        self.changed()

    def is_answered_early(self, request: SeenRequest) -> bool:
        """True when a fault answers before the body is there. No await."""
        return any(
            fault.kind is FaultKind.EARLY_REPLY and fault.strikes(request.path, fault.model)
            for fault in self.faults.active
        )

    def gone(self, connection: Connection) -> None:
        """Forget a connection that ended. No await."""
        self._open.discard(connection)

    async def handle(self, exchange: Exchange, connection: Connection) -> None:
        """Answer one request, or fail to."""
        if exchange.request.path.startswith("/_"):
            await self.controlled.reply_to_control(exchange)
            return
        await _fail_before_head(exchange, connection)
        await self.answer(exchange)

    @property
    def controlled(self) -> FakeServer:
        """Whom the control routes of this address control."""
        return self

    @abstractmethod
    async def answer(self, exchange: Exchange) -> None:
        """Answer a request that no fault of the wire met."""

    @abstractmethod
    def forget(self) -> None:
        """Lose what a restart loses. No await."""

    async def reply_to_control(self, exchange: Exchange) -> None:
        """Answer what a test asked this server's process for."""
        request = exchange.request
        try:
            answer = self.control(request.method, request.path, request.body)
        except (msgspec.DecodeError, LookupError) as error:
            await exchange.reply(400, msgspec.json.encode({"error": str(error)}), _JSON)
            return
        await exchange.reply(200, msgspec.json.encode(answer), _JSON)

    def control(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        """`POST /_fault` sets faults, `DELETE /_fault` mends, `GET /_state` tells. No await."""
        if (method, path) == ("POST", "/_fault"):
            many = msgspec.json.decode(body, type=list[Fault] | Fault)
            self.set_faults(*(many if isinstance(many, list) else [many]))
        elif (method, path) == ("DELETE", "/_fault"):
            self.set_faults()
        elif (method, path) != ("GET", "/_state"):
            raise LookupError(f"{method} {path} is no control route")
        return self.state()

    def state(self) -> dict[str, Any]:
        """Counters, as the program tells them. No await."""
        return {
            "requests": len(self.requests),
            "inference": len(self.inference),
            "disconnects": len(self.disconnects),
            "connections": self.connections,
            "open_connections": self.open_connections,
            "faults": msgspec.to_builtins(self.faults.active),
        }

    def _accept(self, accepted: socket.socket) -> None:
        self.connections += 1
        if self.faults.strike_accept():
            accepted.close()
            self.changed()
            return
        connection = Connection(self.connections, accepted, self)
        self._open.add(connection)
        task = asyncio.get_running_loop().create_task(self._connect(connection, accepted))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _connect(self, connection: Connection, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: connection, accepted, ssl=self._tls)
        except OSError:
            # A client that does not trust our certificate ends the handshake.
            accepted.close()
            self.gone(connection)
            self.changed()

    async def _drop_all(self) -> None:
        if self._accepting:
            await asyncio.wait(self._accepting)
        tasks = [connection.task for connection in self._open if connection.task is not None]
        for connection in list(self._open):
            connection.reset()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.watch.until(lambda: not self._open)


class ControlServer(FakeServer):
    """An address that only controls another server, whatever that one's faults."""

    def __init__(self, controlled: FakeServer, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host=host, port=port)
        self._controlled = controlled

    @property
    def controlled(self) -> FakeServer:
        return self._controlled

    async def answer(self, exchange: Exchange) -> None:
        await exchange.reply(404, b"", None)

    def forget(self) -> None:
        pass


def model_of(body: bytes) -> str:
    """The model that a request names, if any."""
    value: object = None
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        value = msgspec.json.decode(body)
    return str(value.get("model") or value.get("name") or "") if isinstance(value, dict) else ""


async def _fail_before_head(exchange: Exchange, connection: Connection) -> None:
    faults = exchange.request.faults
    if faults.get(FaultKind.STALE_KEEPALIVE) and connection.served:
        exchange.close()
    if faults.get(FaultKind.GARBAGE):
        exchange.garbage()
    if faults.get(FaultKind.HANG) or faults.get(FaultKind.HANG_HEAD):
        await hang()
    slow = faults.get(FaultKind.SLOW_PROBE) or faults.get(FaultKind.SLOW_HEAD)
    if slow is not None:
        await asyncio.sleep(slow.delay_s)
    cut = faults.cut()
    if cut is not None and not faults.get(FaultKind.EARLY_HEAD):
        await exchange.strike_if_due()
    if faults.get(FaultKind.INFORMATIONAL):
        exchange.informational()
