"""Keeps pages live over `/ws/console`: a whole panel when it changed, decisions as they happen.

Renders only while somebody looks, each panel once for all who look at the same, and gives nobody a
panel more often than once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from sollold import __version__
from sollold.web.answer import add_headers
from sollold.web.console import messages
from sollold.web.console.contents import CONTENTS
from sollold.web.console.events import CHANGE_KINDS, is_wanted, wanted
from sollold.web.console.panels import view_of
from sollold.web.console.view import View
from sollold.web.console.viewer import Frame, Viewer
from sollold.web.push import check_origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sollold.events.bus import EventBus
    from sollold.events.ring import Record
    from sollold.events.subscription import Batch
    from sollold.web.console.contents import Snapshot
    from sollold.web.console.panels import Panels

_log = logging.getLogger(__name__)

MAX_VIEWERS = 32
RESTARTING = b"sollold is restarting"

_STEP_S = 1.0
_TOGETHER_S = 0.05
_QUIET_S = 5.0
"""A page that hears nothing for longer would take the connection for lost."""
_HEARTBEAT_S = 20.0
_GOODBYE_S = 0.5
_VIEW_STEP_S = 0.1
_SLICE_S = 0.01
_RESTS = 3.0
"""How long to rest after so much rendering at a time, in times of what it took."""
_TITLE = ("title", View())
_MAX_ROWS = 50
_PUSHED = "decisions"
"""The panel that grows by rows; it is rendered whole only for a page that lacks it."""


class _Turn:
    """One look at everything, shared by all who get something of it."""

    def __init__(self, now_s: float, now: Snapshot, looked: set[str], title: Frame) -> None:
        self.now_s = now_s
        self.now = now
        self.looked = looked
        """Panels that are due."""
        self.title = title
        self.made: set[tuple[str, View]] = set()

    def later(self) -> None:
        """Note that time passed: rows that came since are in no list made before. No await."""
        self.made = {key for key in self.made if key[0] != _PUSHED}


class Hub:
    """All pages that are open. State changes in its synchronous methods only."""

    def __init__(
        self,
        panels: Callable[[], Awaitable[Panels]],
        bus: EventBus,
        is_stopping: Callable[[], bool],
    ) -> None:
        """`panels` gives what renders, ready to use."""
        self._make_panels = panels
        self._bus = bus
        self._viewers: dict[Viewer, web.Request] = {}
        self._places = 0
        """Pages that are kept live, are greeted or say goodbye."""
        self._frames: dict[tuple[str, View], Frame] = {}
        self._due_s = {name: 0.0 for name in CONTENTS if name != _PUSHED}
        """When a panel is looked at next."""
        self._free_s = dict(self._due_s)
        """When it may be sent again."""
        self._loop_task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._is_stopping = is_stopping

    @property
    def viewers(self) -> int:
        """Pages open now."""
        return len(self._viewers)

    @property
    def full(self) -> int:
        """How many pages are kept live if no more can be, else 0."""
        return MAX_VIEWERS if self._places >= MAX_VIEWERS else 0

    @property
    def is_running(self) -> bool:
        """Whether anything is rendered now and then."""
        return self._loop_task is not None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer `/ws/console`."""
        check_origin(request)
        if self._is_stopping():
            raise web.HTTPServiceUnavailable(reason="sollold is stopping")
        if self.full:
            raise web.HTTPServiceUnavailable(reason=f"{MAX_VIEWERS} pages are open, close one")
        # Counted before anything is awaited: those who come together are told apart here.
        self._places += 1
        try:
            return await self._keep_live(request)
        finally:
            self._places -= 1

    async def _keep_live(self, request: web.Request) -> web.StreamResponse:
        panels = await self._make_panels()
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, max_msg_size=4096, timeout=_GOODBYE_S
        )
        add_headers(socket, request)
        await socket.prepare(request)
        viewer = Viewer(socket, View.parse(request.query_string))
        self._join(viewer, request, panels)
        sender = asyncio.create_task(self._deliver(viewer, request), name="console-send")
        try:
            await self._listen(viewer)
        finally:
            self._leave(viewer)
            sender.cancel()
            await asyncio.wait({sender})
            await self._say_goodbye(socket, request)
        return socket

    def _join(self, viewer: Viewer, request: web.Request, panels: Panels) -> None:
        """Greet a page and start rendering if it is the first. No await."""
        self._viewers[viewer] = request
        hello = messages.Hello(version=__version__, at=_now_ms(panels.look()))
        viewer.offer("hello", _frame("", hello), _loop_s())
        if self._loop_task is None:
            self._loop_task = asyncio.create_task(self._run(panels), name="console")
        self._wake.set()

    def _leave(self, viewer: Viewer) -> None:
        """Forget a page; with the last one rendering ends. No await."""
        self._viewers.pop(viewer, None)
        if not self._viewers and self._loop_task is not None:
            self._loop_task.cancel()
            self._loop_task = None
            self._frames.clear()

    async def _deliver(self, viewer: Viewer, request: web.Request) -> None:
        """Send to one page; one that takes nothing is cut."""
        try:
            await viewer.deliver()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass

    async def _listen(self, viewer: Viewer) -> None:
        """Take what a page says until it leaves."""
        async for message in viewer.socket:
            if message.type is not WSMsgType.TEXT:
                break
            try:
                said = msgspec.json.decode(message.data, type=messages.Said)
            except msgspec.DecodeError:
                continue
            self._heed(viewer, said)
            # Somebody who types a filter asks often; this bounds what it costs.
            await asyncio.sleep(_VIEW_STEP_S)

    def _heed(self, viewer: Viewer, said: messages.Said) -> None:
        """Take a page's new view. No await."""
        if said.view is not None:
            view = View.parse(said.view)
            changed = [n for n in CONTENTS if view_of(n, view) != view_of(n, viewer.view)]
            viewer.view = view
            viewer.ask(*changed)
        if said.is_watching is not None:
            viewer.is_watching = said.is_watching
            if said.is_watching:
                viewer.ask(*CONTENTS)
        self._wake.set()

    async def close(self, app: web.Application) -> None:
        """Say goodbye to every page; for `on_shutdown`."""
        await asyncio.gather(
            *(
                _close(viewer.socket, request, WSCloseCode.GOING_AWAY, RESTARTING)
                for viewer, request in list(self._viewers.items())
            )
        )
        task = self._loop_task
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _say_goodbye(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        """Close one page's socket; a daemon that stops says so."""
        if self._is_stopping():
            await _close(socket, request, WSCloseCode.GOING_AWAY, RESTARTING)
        else:
            await _close(socket, request, WSCloseCode.OK, b"")

    async def _run(self, panels: Panels) -> None:
        """Render while somebody looks; ends by being cancelled."""
        subscription = self._bus.subscribe()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._step(panels), name="console-step")
                async for batch in subscription:
                    self._take(batch, panels)
        except Exception:
            _log.exception("the console's loop failed, its pages connect again")
            self._loop_task = None
            for request in self._viewers.values():
                if request.transport is not None:
                    request.transport.abort()
        finally:
            subscription.close()

    async def _step(self, panels: Panels) -> None:
        """Look at each panel once a second, and sooner where something happened."""
        while True:
            pause_s = max(0.0, min(self._due_s.values()) - _loop_s())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            self._wake.clear()
            await self._show(panels)

    def _hurry(self) -> None:
        """Look at every panel as soon as it may be sent. No await."""
        for name in self._due_s:
            self._due_s[name] = min(self._due_s[name], self._free_s[name])
        self._wake.set()

    def _take(self, batch: Batch[Record], panels: Panels) -> None:
        """Push decisions, and look at the panels when a node changed. No await."""
        if any(record.event.kind in CHANGE_KINDS for record in batch.records):
            self._hurry()
        now_s = _loop_s()
        made: dict[str, bytes | None] = {}
        for viewer in self._viewers:
            if not viewer.is_watching:
                continue
            asked = viewer.view.request
            if asked not in made:
                made[asked] = self._rows(batch, asked, panels)
            data = made[asked]
            if data is not None:
                viewer.offer_rows(_PUSHED, data, now_s)

    def _rows(self, batch: Batch[Record], asked: str, panels: Panels) -> bytes | None:
        filter_ = wanted(asked)
        records: list[Record] = [item for item in batch.records if is_wanted(item, filter_)]
        if not records:
            return None
        now = panels.look()
        html = str(panels.rows(records[-_MAX_ROWS:]))
        rows = messages.Rows(name=_PUSHED, request=asked, html=html, at=_now_ms(now))
        return msgspec.json.encode(rows)

    async def _show(self, panels: Panels) -> None:
        """Give every page the panels that changed.

        Views that differ cost a rendering each, so that this rests now and then: with many of
        them panels come later, and requests are relayed as before.
        """
        turn = self._begin(panels)
        started_s = _loop_s()
        for viewer in list(self._viewers):
            if viewer in self._viewers:
                self._serve(viewer, turn, panels)
            spent_s = _loop_s() - started_s
            if spent_s > _SLICE_S:
                await asyncio.sleep(_RESTS * spent_s)
                started_s = _loop_s()
                turn.later()
        self._forget_frames()

    def _begin(self, panels: Panels) -> _Turn:
        """Look at the clock and at what is due. No await."""
        now_s, now = _loop_s(), panels.look()
        looked = {
            name
            for name, due_s in self._due_s.items()
            if due_s <= now_s + _TOGETHER_S and self._free_s[name] <= now_s
        }
        for name in looked:
            self._due_s[name] = now_s + _STEP_S
        return _Turn(now_s, now, looked, self._title(panels, now))

    def _serve(self, viewer: Viewer, turn: _Turn, panels: Panels) -> None:
        """Give one page what is new for it. No await."""
        now_s = turn.now_s
        viewer.offer("title", turn.title, now_s)
        for name in CONTENTS:
            if not viewer.wants(name, is_new=name in turn.looked):
                continue
            key = (name, view_of(name, viewer.view))
            if key not in turn.made:
                turn.made.add(key)
                self._make(key, panels, turn)
            viewer.offer(name, self._frames[key], now_s)
        if now_s - viewer.quiet_since_s >= _QUIET_S:
            viewer.offer("tick", _frame("", messages.Tick(at=_now_ms(turn.now))), now_s)

    def _make(self, key: tuple[str, View], panels: Panels, turn: _Turn) -> None:
        """Render a panel; a frame that is as it was stays the same. No await."""
        name, view = key
        html = str(panels.render(name, view, turn.now, is_live=True))
        known = self._frames.get(key)
        if known is None or known.html != html:
            message = messages.Panel(name=name, html=html, at=_now_ms(turn.now))
            self._frames[key] = _frame(html, message)
            # A view that is new says nothing about when the panel was sent to others.
            if name != _PUSHED and (known is not None or name in turn.looked):
                self._free_s[name] = self._due_s[name] = turn.now_s + _STEP_S

    def _title(self, panels: Panels, now: Snapshot) -> Frame:
        text, icon = panels.title(now)
        known = self._frames.get(_TITLE)
        if known is None or known.html != text + icon:
            known = self._frames[_TITLE] = _frame(text + icon, messages.Title(text=text, icon=icon))
        return known

    def _forget_frames(self) -> None:
        """Drop the frames of views that nobody has any more. No await."""
        wanted = {(n, view_of(n, viewer.view)) for viewer in self._viewers for n in CONTENTS}
        for key in self._frames.keys() - wanted - {_TITLE}:
            del self._frames[key]


def _frame(html: str, message: msgspec.Struct) -> Frame:
    return Frame(html, msgspec.json.encode(message))


def _now_ms(now: Snapshot) -> int:
    return round(now.now_s * 1000)


def _loop_s() -> float:
    return asyncio.get_running_loop().time()


async def _close(
    socket: web.WebSocketResponse, request: web.Request, code: WSCloseCode, text: bytes
) -> None:
    """Say goodbye; a page that reads no more is cut."""
    try:
        async with asyncio.timeout(_GOODBYE_S):
            await socket.close(code=code, message=text)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
