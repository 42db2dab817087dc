"""A fake Ollama node for tests: in the test's own loop, or as a program that can be killed.

`FakeNode` answers like a real Ollama, remembers what it was asked, and breaks on demand.
As a program: `python -m tests.fakes.node --port 0 --models a,b --rate 50`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes import native, openai
from tests.fakes.decode import ApiError
from tests.fakes.engine import Load, Runner, Settings
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.models import FakeModel
from tests.fakes.ollama import FakeOllama, dump
from tests.fakes.routes import ROUTES, is_refused, reply_unrouted
from tests.fakes.server import FakeServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from tests.fakes.httpd import Exchange

_LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


class FakeNode(FakeServer):
    """One fake node. `settings`, `fault` and `models` may be changed at any time."""

    def __init__(
        self,
        models: Iterable[str | FakeModel] = ("llama3.2",),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        version: str = "0.33.0",
        settings: Settings | None = None,
        **speeds: Any,
    ) -> None:
        """`speeds` are fields of `Settings`: rate, prefill_s, load_s, slots, max_resident, …"""
        super().__init__(host=host, port=port)
        self.settings = Settings(**speeds) if settings is None else settings
        named = [FakeModel(name=m) if isinstance(m, str) else m for m in models]
        self.ollama = FakeOllama(named, self.settings, version, self.watch)

    def forget(self) -> None:
        """Lose what is loaded. No await."""
        self.ollama.engine.forget()

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

    async def answer(self, exchange: Exchange) -> None:
        """Answer as Ollama does."""
        try:
            await self._route(exchange)
        except ApiError as error:
            await _reply_error(exchange, error)

    def state(self) -> dict[str, Any]:
        """Counters, as the program tells them. No await."""
        return super().state() | {
            "active": self.active,
            "waiting": self.waiting,
            "max_active": self.max_active,
            "generated_tokens": self.generated_tokens,
            "loads": [load._asdict() for load in self.loads],
            "evictions": self.evictions,
            "residents": [runner.model.short for runner in self.residents],
        }

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


if __name__ == "__main__":
    from tests.fakes.program import main

    main()
