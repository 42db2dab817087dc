"""A fake Ollama node for tests: in the test's own loop, or as a program that can be killed.

`FakeNode` answers like a real Ollama, remembers what it was asked, and breaks on demand.
As a program: `python -m tests.fakes.node --port 0 --models a,b --rate 50`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import msgspec

from tests.fakes import native, openai
from tests.fakes.connection import Connection, Listener
from tests.fakes.decode import ApiError
from tests.fakes.engine import Load, Runner, Settings
from tests.fakes.faults import INFERENCE_PATHS, Fault, FaultBook, FaultKind
from tests.fakes.httpd import Exchange, SeenRequest, hang
from tests.fakes.models import FakeModel
from tests.fakes.ollama import FakeOllama, dump
from tests.fakes.routes import ROUTES, is_refused, reply_unrouted
from tests.fakes.watch import Watch

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable, Sequence

_REMEMBERED = 100_000

_LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


class FakeNode:
    """One fake node. `settings`, `fault` and `models` may be changed at any time."""

    def __init__(
        self,
        models: Iterable[str | FakeModel] = ("llama3.2",),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        version: str = "0.33.0",
        settings: Settings | None = None,
        hands: FakeNode | None = None,
        **speeds: Any,
    ) -> None:
        """`speeds` are fields of `Settings`: rate, prefill_s, load_s, slots, max_resident, …

        With `hands` this address only controls that other node, whatever its faults.
        """
        self.host = host
        self._controlled = self if hands is None else hands
        self.settings = Settings(**speeds) if settings is None else settings
        self.watch = Watch()
        named = [FakeModel(name=m) if isinstance(m, str) else m for m in models]
        self.ollama = FakeOllama(named, self.settings, version, self.watch)
        self.faults = FaultBook()
        self.requests: list[SeenRequest] = []
        self.connections = 0
        self._port = port
        self._listener: Listener | None = None
        self._open: set[Connection] = set()
        self._accepting: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen; a port of 0 becomes a free one and stays the node's own until `close`."""
        if self._listener is None:
            self._listener = Listener(self.host, self._port, self._accept)
            self._port = self._listener.port
        self._listener.open()

    async def stop(self) -> None:
        """Die as a killed process does: connections reset, port refusing, memory lost."""
        if self._listener is not None:
            self._listener.refuse()
        await self._drop_all()
        self.ollama.engine.forget()
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
        return f"http://{host}:{self._port}"

    @property
    def fault(self) -> Fault | None:
        """The first fault that is set. Assigning replaces all; None mends the node."""
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
    def active(self) -> int:
        """Generations that hold a slot now."""
        return self.ollama.engine.active

    @property
    def max_active(self) -> int:
        """Most generations that ever held slots at once."""
        return self.ollama.engine.max_active

    @property
    def waiting(self) -> int:
        """Requests that wait for a load or a slot."""
        return self.ollama.engine.waiting

    @property
    def loads(self) -> list[Load]:
        """Every load so far."""
        return self.ollama.engine.loads

    @property
    def evictions(self) -> list[str]:
        """Every model pushed out of memory so far."""
        return self.ollama.engine.evictions

    @property
    def residents(self) -> list[Runner]:
        """What is in memory."""
        return self.ollama.engine.runners

    @property
    def generated_tokens(self) -> int:
        """Tokens computed so far, read or not."""
        return self.ollama.engine.generated_tokens

    @property
    def open_connections(self) -> int:
        """Connections that exist now."""
        return len(self._open)

    async def until(self, is_true: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait for a condition on this node; `TimeoutError` when it does not come true."""
        async with asyncio.timeout(timeout_s):
            await self.watch.until(is_true)

    def changed(self) -> None:
        """Something a test may wait for happened. No await."""
        self.watch.changed()

    def seen(self, request: SeenRequest) -> None:
        """Remember a request and decide which faults it meets. No await."""
        if request.path.startswith("/_"):
            return
        request.model = _model_of(request.body)
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
        request = exchange.request
        if request.path.startswith("/_"):
            await self._control(exchange)
            return
        await self._fail_before_head(exchange, connection)
        try:
            await self._route(exchange)
        except ApiError as error:
            await _reply_error(exchange, error)

    def _accept(self, accepted: socket.socket) -> None:
        self.connections += 1
        if self.faults.strike_accept():
            accepted.close()
            self.changed()
            return
        connection = Connection(self.connections, accepted, self)
        self._open.add(connection)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(lambda: connection, accepted))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

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

    async def _fail_before_head(self, exchange: Exchange, connection: Connection) -> None:
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

    async def _route(self, exchange: Exchange) -> None:
        request = exchange.request
        if is_refused(exchange):
            await exchange.reply(403, b"", None)
            return
        if request.faults.get(FaultKind.EARLY_REPLY):
            await _reply_status(exchange, request.faults.get(FaultKind.EARLY_REPLY))
            exchange.close()
        if fault := request.faults.status():
            await _reply_status(exchange, fault)
            return
        handler = ROUTES.get((request.method, request.path))
        if handler is None:
            await reply_unrouted(self.ollama, exchange)
        else:
            await handler(self.ollama, exchange)

    async def _control(self, exchange: Exchange) -> None:
        request = exchange.request
        try:
            answer = self._controlled.control(request.method, request.path, request.body)
        except (msgspec.DecodeError, LookupError) as error:
            await exchange.reply(400, dump({"error": str(error)}), native.JSON)
            return
        await exchange.reply(200, dump(answer), native.JSON)

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
            "active": self.active,
            "waiting": self.waiting,
            "max_active": self.max_active,
            "requests": len(self.requests),
            "inference": len(self.inference),
            "disconnects": len(self.disconnects),
            "connections": self.connections,
            "open_connections": self.open_connections,
            "generated_tokens": self.generated_tokens,
            "loads": [load._asdict() for load in self.loads],
            "evictions": self.evictions,
            "residents": [runner.model.short for runner in self.residents],
            "faults": msgspec.to_builtins(self.faults.active),
        }


async def _reply_status(exchange: Exchange, fault: Fault | None) -> None:
    if fault is None:
        return
    status, text = fault.status_and_text()
    headers: Sequence[tuple[str, str]] = ()
    if fault.kind is FaultKind.RATE_LIMITED or fault.retry_after_s is not None:
        wait_s = 1 if fault.retry_after_s is None else fault.retry_after_s
        headers = [("Retry-After", str(wait_s))]
    if fault.kind is FaultKind.LOADING and not fault.text:
        await exchange.reply(status, dump(_LOADING), native.JSON, headers=headers)
        return
    error = ApiError(status, text or f"model '{exchange.request.model}' not found")
    if headers:
        body = dump({"error": error.text})
        await exchange.reply(status, body, native.JSON, headers=headers)
        return
    await _reply_error(exchange, error)


async def _reply_error(exchange: Exchange, error: ApiError) -> None:
    is_openai = exchange.request.path.startswith("/v1/")
    reply: Callable[[Exchange, ApiError], Awaitable[None]]
    reply = openai.reply_error if is_openai else native.reply_error
    await reply(exchange, error)


def _model_of(body: bytes) -> str:
    try:
        value = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return str(value.get("model") or value.get("name") or "")


if __name__ == "__main__":
    from tests.fakes.program import main

    main()
