"""A fake llama-server: in the test's own loop, or as a program that can be killed.

As a program: `python -m tests.fakes.llama --port 0 --model tiny --slots 2 --rate 50`.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import TYPE_CHECKING, Any

from tests.fakes import llama_info, llama_routes
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.httpd import Framing
from tests.fakes.llama_check import LlamaError
from tests.fakes.llama_engine import LlamaEngine, LlamaSettings, Vocabulary
from tests.fakes.server import FakeServer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.fakes.httpd import Exchange, Fields

JSON = "application/json; charset=utf-8"
_LOADING = {"message": "Loading model", "type": "unavailable_error", "code": 503}
_NO_KEY = {"message": "Invalid API Key", "type": "authentication_error", "code": 401}
_NO_FILE = {"message": "File Not Found", "type": "not_found_error", "code": 404}
_PUBLIC = frozenset({"/health", "/v1/health", "/"})
_LISTINGS = frozenset({"/models", "/v1/models"})
_PREFLIGHT = (
    ("Access-Control-Allow-Credentials", "true"),
    ("Access-Control-Allow-Headers", "*"),
    ("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"),
)
_NO_ROOM_TOKENS = 1_000_000


class FakeLlama(FakeServer):
    """One fake llama-server. `settings` and `fault` may be changed at any time."""

    kind = "llama_server"
    framing = Framing(
        counted_bytes=None,
        is_dated=False,
        on_keep=(("Keep-Alive", "timeout=5, max=100"),),
        errors_say_close=True,
        idle_s=5.0,
        most_requests=100,
    )

    def __init__(
        self,
        model: str = "tiny",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: LlamaSettings | None = None,
        **fields: Any,
    ) -> None:
        """`fields` are those of `LlamaSettings`: rate, slots, n_ctx, load_s, api_key, …"""
        super().__init__(host=host, port=port)
        self.settings = LlamaSettings(model=model, **fields) if settings is None else settings
        self.engine = LlamaEngine(self.settings, self.watch)
        self.vocabulary = Vocabulary()
        self._loaded_s = 0.0
        self._deaf: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, and load for as long as the settings say."""
        self._loaded_s = time.monotonic() + self.settings.load_s
        await super().start()

    async def close(self) -> None:
        """End for good, with what is still generated for nobody."""
        await self._end_deaf()
        await super().close()

    async def stop(self) -> None:
        """Die as a killed process does."""
        await self._end_deaf()
        await super().stop()

    def forget(self) -> None:
        """Lose every prompt. No await."""
        self.engine.forget()

    async def work(self, work: Coroutine[Any, Any, None], *, is_stream: bool) -> None:
        """Generate, and stop when the client leaves if that is heard."""
        if is_stream or self.settings.hears_leaving:
            await work
            return
        task = asyncio.get_running_loop().create_task(work)
        self._deaf.add(task)
        task.add_done_callback(self._deaf.discard)
        await asyncio.shield(task)

    async def _end_deaf(self) -> None:
        for task in list(self._deaf):
            task.cancel()
        if self._deaf:
            await asyncio.wait(self._deaf)

    @property
    def is_loading(self) -> bool:
        """True while every path says so. Assigning begins a load without end, or ends it."""
        return time.monotonic() < self._loaded_s

    @is_loading.setter
    def is_loading(self, is_loading: bool) -> None:
        self._loaded_s = math.inf if is_loading else 0.0
        self.watch.changed()

    @property
    def active(self) -> int:
        """Slots at work now."""
        return self.engine.active

    @property
    def max_active(self) -> int:
        """Most slots that ever worked at once."""
        return self.engine.max_active

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return self.engine.waiting

    @property
    def generated_tokens(self) -> int:
        """Tokens computed so far, read or not."""
        return self.engine.generated_tokens

    def state(self) -> dict[str, Any]:
        """Counters, as the program tells them. No await."""
        return super().state() | {
            "active": self.active,
            "waiting": self.waiting,
            "max_active": self.max_active,
            "generated_tokens": self.generated_tokens,
            "is_loading": self.is_loading,
            "slots": llama_info.slots(self.engine),
        }

    async def answer(self, exchange: Exchange) -> None:
        """Answer as llama-server does."""
        if await self._answer_before_routes(exchange):
            return
        try:
            await llama_routes.route(self, exchange)
        except LlamaError as error:
            await self.reply(exchange, error.status, error.body())

    async def reply(self, exchange: Exchange, status: int, value: object) -> None:
        """A whole answer in JSON."""
        await self.reply_raw(exchange, status, dump(value), JSON)

    async def reply_raw(
        self, exchange: Exchange, status: int, body: bytes, kind: str, more: Fields = ()
    ) -> None:
        """A whole answer of any kind."""
        if exchange.request.method == "HEAD":
            more = (*more, ("Accept-Ranges", "bytes"))
        await exchange.reply(status, body, kind, headers=(*self.fields(exchange), *more))

    def fields(self, exchange: Exchange) -> Fields:
        """Header fields of every answer."""
        origin = exchange.request.header("origin") or ""
        return (("Server", "llama.cpp"), ("Access-Control-Allow-Origin", origin))

    async def _answer_before_routes(self, exchange: Exchange) -> bool:
        """What comes before any route: faults, loading, CORS, the key."""
        request = exchange.request
        early = request.faults.get(FaultKind.EARLY_REPLY)
        fault = early or request.faults.status()
        if fault is not None:
            await self._reply_fault(exchange, fault)
            if early is not None:
                exchange.close()
        elif self.is_loading:
            await self.reply(exchange, 503, {"error": _LOADING})
        elif request.method == "OPTIONS":
            await self.reply_raw(exchange, 200, b"", "text/html", _PREFLIGHT)
        elif not self._may_pass(exchange):
            await self.reply(exchange, 401, {"error": _NO_KEY})
        elif request.faults.get(FaultKind.NO_ROOM):
            await self.reply(exchange, 400, self._no_room())
        else:
            return False
        return True

    async def _reply_fault(self, exchange: Exchange, fault: Fault) -> None:
        status, text = fault.status_and_text()
        if fault.kind is FaultKind.PAGE:
            await self.reply_raw(exchange, status, text.encode(), "text/html")
            return
        answer: dict[str, Any] = LlamaError(status, text).body()
        if not fault.text:
            known = {FaultKind.LOADING: _LOADING, FaultKind.UNAUTHORIZED: _NO_KEY}
            answer = {"error": known.get(fault.kind, answer["error"])}
        wait_s = fault.retry_after_s
        more = () if wait_s is None else (("Retry-After", str(wait_s)),)
        await self.reply_raw(exchange, status, dump(answer), JSON, more)

    def _may_pass(self, exchange: Exchange) -> bool:
        request, key = exchange.request, self.settings.api_key
        is_listing = request.path in _LISTINGS and not self.settings.is_newer
        if not key or request.path in _PUBLIC or is_listing:
            return True
        told = request.header("authorization") or request.header("x-api-key") or ""
        return told.removeprefix("Bearer ") == key

    def _no_room(self) -> dict[str, Any]:
        room = self.settings.n_ctx
        text = (
            f"request ({_NO_ROOM_TOKENS} tokens) exceeds the available context size "
            f"({room} tokens), try increasing it"
        )
        kind = "exceed_context_size_error"
        return LlamaError(400, text, kind, n_prompt_tokens=_NO_ROOM_TOKENS, n_ctx=room).body()


def dump(value: object) -> bytes:
    """JSON as llama-server writes it: compact, letters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


if __name__ == "__main__":
    from tests.fakes.program import main_llama

    main_llama()
