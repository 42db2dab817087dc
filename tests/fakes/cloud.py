"""A fake OpenAI-compatible server behind a key: strict as a cloud is, or lenient as vLLM is.

As a program: `python -m tests.fakes.cloud --port 0 --models gpt-a,gpt-b --api-key secret`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from tests.fakes import cloud_replies
from tests.fakes.cloud_check import CloudError, check
from tests.fakes.faults import FaultKind
from tests.fakes.httpd import Framing
from tests.fakes.llama_embed import pack, vector_of
from tests.fakes.llama_engine import pieces_of
from tests.fakes.llama_replies import random_id
from tests.fakes.server import FakeServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from tests.fakes.faults import Fault, Struck
    from tests.fakes.httpd import Exchange, Fields, SeenRequest

Body = dict[str, Any]

_JSON = "application/json"
_PING = b": keep-alive\n\n"
_FOREIGN = frozenset({"cookie", "x-api-key", "api-key", "proxy-authorization"})
_ENGINE_DIED = "The server had an error while processing your request"


class CloudSettings(msgspec.Struct, kw_only=True):
    """What a fake cloud offers. May be changed while it runs."""

    models: str = "gpt-fake"
    """Names with commas between them."""
    embedding_models: str = "embed-fake"
    api_key: str = "cloud-key"
    """Empty: nobody is asked for one, as at home."""
    is_strict: bool = True
    """Refuse arguments that OpenAI does not know; else ignore them, as vLLM does."""
    rate: float = 1000.0
    """Tokens a second and request; 0: as fast as it goes."""
    prefill_s: float = 0.0
    answer_tokens: int = 16
    max_parallel: int = 0
    """More requests at once are answered 429; 0: no limit."""
    context_length: int = 8192
    embedding_length: int = 64
    calls_tools: bool = False
    """Answers a user's message with one call of the first tool offered."""
    thinks: int = 0
    """Tokens of `reasoning_content` before the answer, which some servers give."""
    sets_cookie: bool = True


class Leak(msgspec.Struct, frozen=True):
    """A header field that was not meant for a cloud."""

    path: str
    name: str
    value: str


class FakeCloud(FakeServer):
    """One fake cloud. `settings` and `fault` may be changed at any time."""

    kind = "openai"
    framing = Framing(counted_bytes=None)

    def __init__(
        self,
        *models: str,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        settings: CloudSettings | None = None,
        **fields: Any,
    ) -> None:
        """`fields` are those of `CloudSettings`: api_key, is_strict, rate, max_parallel, …"""
        super().__init__(host=host, port=port, tls=tls)
        if models:
            fields["models"] = ",".join(models)
        self.settings = CloudSettings(**fields) if settings is None else settings
        self.leaks: list[Leak] = []
        self.active = 0
        self.max_active = 0
        self.generated_tokens = 0

    def forget(self) -> None:
        """Nothing is lost: a cloud has its models always. No await."""

    def seen(self, request: SeenRequest) -> None:
        """Remember a request, and which of its header fields should not be here. No await."""
        super().seen(request)
        own = f"Bearer {self.settings.api_key}"
        for name, value in request.headers:
            is_foreign = name.lower() == "authorization" and value != own
            if is_foreign or name.lower() in _FOREIGN:
                self.leaks.append(Leak(request.path, name, value))

    def state(self) -> dict[str, Any]:
        """Counters, as the program tells them. No await."""
        return super().state() | {
            "active": self.active,
            "max_active": self.max_active,
            "generated_tokens": self.generated_tokens,
            "leaks": msgspec.to_builtins(self.leaks),
        }

    async def answer(self, exchange: Exchange) -> None:
        """Answer as OpenAI does."""
        faults = exchange.request.faults
        early = faults.get(FaultKind.EARLY_REPLY)
        fault = early or faults.status()
        if fault is not None:
            await self._reply_fault(exchange, fault)
            if early is not None:
                exchange.close()
            return
        try:
            self._check_key(exchange.request)
            await self._route(exchange)
        except CloudError as error:
            if exchange.is_started:
                await exchange.chunk(cloud_replies.event(error.body()))
                await exchange.finish()
            else:
                await self._reply_error(exchange, error)

    def _check_key(self, request: SeenRequest) -> None:
        key = self.settings.api_key
        told = request.header("authorization") or ""
        if key and not told.startswith("Bearer "):
            raise CloudError(401, "You didn't provide an API key.")
        if key and told != f"Bearer {key}":
            raise CloudError(401, "Incorrect API key provided.", code="invalid_api_key")

    async def _route(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.method in {"GET", "HEAD"} and request.path.startswith("/v1/models"):
            await self._models(exchange)
            return
        handlers = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completions,
            "/v1/embeddings": self._embeddings,
        }
        handler = handlers.get(request.path)
        if handler is None:
            raise CloudError(404, f"Invalid URL ({request.method} {request.path})")
        if request.method != "POST":
            raise CloudError(405, f"Not allowed to {request.method} on {request.path}")
        body = check(request.path, request.body, self.settings)
        if request.faults.get(FaultKind.NO_ROOM):
            raise cloud_replies.too_long(self.settings.context_length + 1, self.settings)
        async with self._place():
            await handler(exchange, body)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the requests that may be under way."""
        if 0 < self.settings.max_parallel <= self.active:
            raise _too_many()
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        self.changed()
        try:
            yield
        finally:
            self.active -= 1
            self.changed()

    async def _models(self, exchange: Exchange) -> None:
        settings = self.settings
        listed = [*settings.models.split(","), *settings.embedding_models.split(",")]
        entries = {
            name: {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "fake"}
            for name in listed
            if name
        }
        one = unquote(exchange.request.path).removeprefix("/v1/models").removeprefix("/")
        if not one:
            await self._reply(exchange, {"object": "list", "data": list(entries.values())})
        elif one in entries:
            await self._reply(exchange, entries[one])
        else:
            raise cloud_replies.no_model(one)

    async def _chat(self, exchange: Exchange, body: Body) -> None:
        prompt = [word for message in body["messages"] for word in str(message).split()]
        await self._generate(exchange, cloud_replies.ChatReply(body, self.settings, len(prompt)))

    async def _completions(self, exchange: Exchange, body: Body) -> None:
        prompt = str(body["prompt"]).split()
        await self._generate(exchange, cloud_replies.TextReply(body, self.settings, len(prompt)))

    async def _generate(self, exchange: Exchange, reply: cloud_replies.Reply) -> None:
        if reply.is_stream and exchange.request.faults.get(FaultKind.EARLY_HEAD):
            await self._begin(exchange)
        await asyncio.sleep(self.settings.prefill_s)
        due_s = time.monotonic()
        for done, piece in enumerate(reply.pieces()):
            rate = self.settings.rate
            due_s += 1 / rate if rate > 0 else 0.0
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            if await self._meets_end(exchange, reply, done):
                await exchange.finish()
                return
            self.generated_tokens += 1
            if reply.is_stream:
                await self._begin(exchange)
                await exchange.chunk(cloud_replies.event(reply.chunk(piece)))
        if not reply.is_stream:
            await self._reply(exchange, reply.whole())
            return
        if not await self._meets_end(exchange, reply, exchange.request.frames):
            for chunk in reply.end():
                await exchange.chunk(cloud_replies.event(chunk))
            if not exchange.request.faults.get(FaultKind.NO_DONE):
                await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.finish()

    async def _meets_end(self, exchange: Exchange, reply: cloud_replies.Reply, done: int) -> bool:
        """Whether a fault ends the answer here; some only hold it up, or break it."""
        faults = exchange.request.faults
        pings = faults.get(FaultKind.PINGS)
        if pings is not None and pings.after_frames == done:
            if reply.is_stream:
                await self._begin(exchange)
            until_s = time.monotonic() + pings.delay_s
            while time.monotonic() < until_s:
                if reply.is_stream:
                    await exchange.comment(_PING)
                await asyncio.sleep(pings.every_s)
        _crash(faults, done)
        cut = faults.get(FaultKind.CUT_CLEAN)
        return exchange.is_started and cut is not None and cut.after_frames == done

    async def _embeddings(self, exchange: Exchange, body: Body) -> None:
        _crash(exchange.request.faults, 0)
        given = body["input"]
        texts = given if isinstance(given, list) else [given]
        length = body.get("dimensions") or self.settings.embedding_length
        vectors = [vector_of(str(text), length) for text in texts]
        is_packed = body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": pack(vector) if is_packed else vector,
            }
            for index, vector in enumerate(vectors)
        ]
        tokens = sum(len(pieces_of(str(text))) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = {"object": "list", "data": data, "model": body["model"], "usage": usage}
        await self._reply(exchange, answer)

    async def _begin(self, exchange: Exchange) -> None:
        kind = "text/event-stream; charset=utf-8"
        await exchange.start(200, kind, headers=self._fields())

    async def _reply(self, exchange: Exchange, value: object) -> None:
        await exchange.reply(200, msgspec.json.encode(value), _JSON, headers=self._fields())

    async def _reply_error(self, exchange: Exchange, error: CloudError) -> None:
        wait_s = error.retry_after_s
        more = () if wait_s is None else (("Retry-After", str(wait_s)),)
        body = msgspec.json.encode(error.body())
        headers = (*self._fields(), *more)
        await exchange.reply(error.status, body, _JSON, headers=headers)

    async def _reply_fault(self, exchange: Exchange, fault: Fault) -> None:
        status, text = fault.status_and_text()
        if fault.kind is FaultKind.PAGE:
            await exchange.reply(status, text.encode(), "text/html", headers=self._fields())
            return
        if fault.kind is FaultKind.RATE_LIMITED:
            error = _too_many(fault.text, 1 if fault.retry_after_s is None else fault.retry_after_s)
        elif fault.kind is FaultKind.MISSING:
            error = cloud_replies.no_model(exchange.request.model)
        else:
            error = CloudError(status, text, retry_after_s=fault.retry_after_s)
        await self._reply_error(exchange, error)

    def _fields(self) -> Fields:
        """Header fields that a cloud adds and that concern nobody else."""
        cookie = (("Set-Cookie", "__fake=1; path=/; HttpOnly; Secure"),)
        told = (("x-request-id", f"req_{random_id()}"), ("openai-processing-ms", "7"))
        return (*told, *(cookie if self.settings.sets_cookie else ()))


def _crash(faults: Struck, done: int) -> None:
    crash = faults.get(FaultKind.ENGINE_ERROR)
    if crash is not None and crash.after_frames == done:
        raise CloudError(crash.status or 500, crash.text or _ENGINE_DIED)


def _too_many(text: str = "", wait_s: int = 1) -> CloudError:
    text = text or "Rate limit reached for requests"
    code = "rate_limit_exceeded"
    return CloudError(429, text, kind="requests", code=code, retry_after_s=wait_s)


if __name__ == "__main__":
    from tests.fakes.program import main_cloud

    main_cloud()
