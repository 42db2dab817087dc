"""One person's page on the other end of a WebSocket: what it has, and what it is to get next.

Each message is whole, so a newer one simply takes the place of one that was not sent yet.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from aiohttp import WSMsgType

if TYPE_CHECKING:
    from aiohttp import web

    from sollold.web.console.view import View

SEND_LIMIT_S = 30.0
_MAX_ROWS = 20
"""Messages with rows that may wait; beyond them the whole panel is sent instead."""


class Frame(msgspec.Struct, frozen=True, eq=False):
    """One panel as it was at some moment; encoded once for everybody who looks at it."""

    html: str
    data: bytes


class Viewer:
    """What one page has and lacks."""

    def __init__(self, socket: web.WebSocketResponse, view: View) -> None:
        self.socket = socket
        self.view = view
        self.is_watching = True
        """Neither hidden nor paused: it gets panels and not just the title."""
        self.quiet_since_s = 0.0
        """When it last was given something."""
        self._has: dict[str, Frame] = {}
        self._asked: set[str] = set()
        """Panels that its person asked for by another view."""
        self._panels: dict[str, Frame] = {}
        self._rows: list[bytes] = []
        self._news = asyncio.Event()

    def lacks(self, name: str) -> bool:
        """Whether it was never given this panel, or has to be given it again."""
        return name not in self._has

    def ask(self, *names: str) -> None:
        """Note that these panels have to be given again, even to a page that is held. No await."""
        for name in names:
            self._has.pop(name, None)
            self._asked.add(name)

    def wants(self, name: str, *, is_new: bool) -> bool:
        """Whether a panel, or what is new of it, is to be offered."""
        if self.is_watching:
            return is_new or self.lacks(name)
        return name in self._asked

    def offer(self, name: str, frame: Frame, now_s: float) -> None:
        """Give it a panel, unless it has just that. No await."""
        self._asked.discard(name)
        if self._has.get(name) is frame:
            return
        self._has[name] = frame
        self._panels.pop(name, None)
        self._panels[name] = frame
        self._wake(now_s)

    def offer_rows(self, panel: str, data: bytes, now_s: float) -> None:
        """Give it new rows of a list; too many at once, and the whole list is due. No await."""
        if self.lacks(panel):
            return
        if len(self._rows) >= _MAX_ROWS:
            self._rows.clear()
            self._panels.pop(panel, None)
            self._has.pop(panel, None)
            return
        self._rows.append(data)
        self._wake(now_s)

    def _wake(self, now_s: float) -> None:
        self.quiet_since_s = now_s
        self._news.set()

    async def deliver(self) -> None:
        """Send what it is given, until it is cancelled.

        Raises:
            TimeoutError: nothing got through for too long.
            ConnectionError: it left.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            panels, self._panels = self._panels, {}
            rows, self._rows = self._rows, []
            for data in (*(frame.data for frame in panels.values()), *rows):
                async with asyncio.timeout(SEND_LIMIT_S):
                    await self.socket.send_frame(data, WSMsgType.TEXT)
