"""How a fake llama-server generates: slot, prompt, tokens, end; and where faults strike."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from tests.fakes.faults import FaultKind
from tests.fakes.llama_check import LlamaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fakes.httpd import Exchange
    from tests.fakes.llama import FakeLlama
    from tests.fakes.llama_check import Body
    from tests.fakes.llama_engine import Plan, Slot, Token
    from tests.fakes.llama_replies import Reply

_SSE = "text/event-stream"
_PING = b":\n\n"
_DONE = b"data: [DONE]\n\n"
_ENGINE_DIED = "Compute error."


class _EndedEarly(Exception):
    """The generation ends without its terminator, on purpose."""


async def generate(
    llama: FakeLlama, exchange: Exchange, body: Body, reply: Reply, plans: Sequence[Plan]
) -> None:
    """Answer with these plans, one after the other."""
    run = _Run(llama, exchange, body, reply, is_many=len(plans) > 1)
    await llama.work(_generate(llama, exchange, run, plans), is_stream=run.is_stream)


async def _generate(llama: FakeLlama, exchange: Exchange, run: _Run, plans: Sequence[Plan]) -> None:
    wanted = run.body.get("id_slot")
    if run.is_stream and exchange.request.faults.get(FaultKind.EARLY_HEAD):
        await run.begin()
    try:
        for index, plan in enumerate(plans):
            async with llama.engine.lease(plan, wanted if isinstance(wanted, int) else -1) as slot:
                await run.one(index, plan, slot)
    except LlamaError as error:
        if not exchange.is_started:
            raise
        await exchange.chunk(_events([error.body()]))
        await exchange.finish()
        return
    except _EndedEarly:
        await exchange.finish()
        return
    await run.end()


class _Run:
    """One request under way."""

    def __init__(
        self, llama: FakeLlama, exchange: Exchange, body: Body, reply: Reply, *, is_many: bool
    ) -> None:
        self.llama = llama
        self.exchange = exchange
        self.body = body
        self.reply = reply
        self.is_stream = bool(body.get("stream"))
        self._faults = exchange.request.faults
        self._is_many = is_many
        self._tokens = 0

    async def begin(self) -> None:
        """The head, which is sent when the prompt is begun, long before a token."""
        if self.exchange.is_started:
            return
        fields = (*self.llama.fields(self.exchange), ("X-Accel-Buffering", "no"))
        await self.exchange.start(200, _SSE, headers=fields)
        if self._is_many and not self.reply.role(0):
            await self.exchange.chunk(_events([None]))

    async def one(self, index: int, plan: Plan, slot: Slot) -> None:
        """One answer, from its prompt to its end."""
        slot.body = self.body
        if self.is_stream:
            await self.begin()
        await self._read_prompt(index, slot)
        slot.begin_answer()
        pending = self.reply.role(index)
        if self.is_stream and pending and self._is_role_alone(plan):
            if not plan.tokens:
                pending[-1]["timings"] = slot.timings().as_dict()
            await self._send(pending)
            pending = []
        for token in plan.tokens:
            await self.llama.engine.tick(slot)
            await self._meet_faults()
            self._tokens += 1
            if self.is_stream:
                await self._send([*pending, self.reply.piece(index, self._fat(token), slot)])
                pending = []
        await self._meet_faults()
        self.reply.keep(index, plan, slot)
        if self.is_stream:
            await self._send(self.reply.end(index, plan, slot))

    async def end(self) -> None:
        """What follows the last answer."""
        if not self.is_stream:
            await self.llama.reply(self.exchange, 200, self.reply.whole())
            return
        if self.reply.has_done and not self._faults.get(FaultKind.NO_DONE):
            await self.exchange.chunk(_DONE)
        await self.exchange.finish()

    def _is_role_alone(self, plan: Plan) -> bool:
        """Whether the parser holds the first token back, so that the role goes out without it."""
        is_plain = bool(plan.tokens and plan.tokens[0].text)
        return not is_plain or self._faults.get(FaultKind.EMPTY_FIRST) is not None

    async def _read_prompt(self, index: int, slot: Slot) -> None:
        started_s = time.monotonic()
        read = len(slot.prompt)
        await self._progress(index, read, slot.cached, slot.cached, started_s)
        await self._pause(self.llama.engine.prefill_s(slot), self.llama.settings.ping_s)
        await self._progress(index, read, slot.cached, read, started_s)
        slot.prompt_ms = max(0.001, round((time.monotonic() - started_s) * 1e3, 3))

    async def _progress(
        self, index: int, total: int, cached: int, done: int, started_s: float
    ) -> None:
        if self.is_stream and self.body.get("return_progress"):
            lasted_ms = round((time.monotonic() - started_s) * 1e3)
            told = {"total": total, "cache": cached, "processed": done, "time_ms": lasted_ms}
            await self._send([self.reply.progress(index, told)])

    async def _meet_faults(self) -> None:
        """Strike if enough of the answer is out."""
        done = self.exchange.request.frames if self.is_stream else self._tokens
        pings = self._faults.get(FaultKind.PINGS)
        if pings is not None and pings.after_frames == done:
            await self._pause(pings.delay_s, pings.every_s)
        crash = self._faults.get(FaultKind.ENGINE_ERROR)
        if crash is not None and crash.after_frames == done:
            raise LlamaError(crash.status or 500, crash.text or _ENGINE_DIED)
        cut = self._faults.get(FaultKind.CUT_CLEAN)
        if self.is_stream and cut is not None and cut.after_frames == done:
            raise _EndedEarly

    async def _pause(self, lasts_s: float, ping_s: float) -> None:
        """Wait, with comments on a stream."""
        until_s = time.monotonic() + lasts_s
        while (left_s := until_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, ping_s) if ping_s > 0 else left_s)
            if self.is_stream and time.monotonic() < until_s:
                await self.exchange.comment(_PING)

    async def _send(self, events: Sequence[Body]) -> None:
        """Flush some events together."""
        await self.exchange.chunk(_events(events))

    def _fat(self, token: Token) -> Token:
        huge = self._faults.get(FaultKind.HUGE_LINE)
        if huge is None or huge.after_frames != self._tokens - 1:
            return token
        return token._replace(text=token.text + " " * huge.size_bytes)


def _events(events: Sequence[Body | None]) -> bytes:
    pieces = [json.dumps(event, separators=(",", ":"), ensure_ascii=False) for event in events]
    return "".join(f"data: {piece}\n\n" for piece in pieces).encode()
