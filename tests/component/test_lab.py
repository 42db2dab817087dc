"""The way through, in short: one request of each sort."""

from __future__ import annotations

import json

from tests.component.lab import Lab


async def test_chat_whole() -> None:
    async with Lab() as lab:
        answer = await lab.chat()
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["X-Sollold-Node"] == "n1"
        assert (await answer.json())["done"] is True
        lab.assert_idle()


async def test_chat_streamed() -> None:
    async with Lab() as lab:
        answer = await lab.chat(stream=True)
        lines = [json.loads(line) for line in (await answer.read()).splitlines()]
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert lines[-1]["done"] is True
        assert len(lines) > 3
        lab.assert_idle()
