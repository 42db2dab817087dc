"""`--watch`: the same document again and again, in place on a terminal, as news in a pipe."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, NoReturn, Self

from sollold.ctl.failure import Exit, Failure
from sollold.ctl.session import report_here
from sollold.ctl.terminal import Stage
from sollold.words import figures as words

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.ctl.client import Reply
    from sollold.ctl.session import Session
    from sollold.ctl.views import Frame, View

_TICK_S = 1.0


def watch(session: Session, view: View, every_s: float) -> None:
    """Show a document until the reader has enough.

    Raises:
        Failure: no daemon answers at first, or it refuses.
        PipeClosed: the reader has left.
    """
    first = session.get(view.path)
    if session.settings.is_json:
        _as_json(session, view, first, every_s)
    if session.out.is_terminal and not session.out.is_dumb:
        _Screenful(session, view, every_s).run(first)
        return
    _as_news(session, view, first, every_s)


def _as_json(session: Session, view: View, reply: Reply | None, every_s: float) -> NoReturn:
    tries = _Tries(session)
    while True:
        if reply is not None:
            session.print_document(reply)
        session.pause(every_s)
        reply = tries.get(view.path)


def _as_news(session: Session, view: View, reply: Reply | None, every_s: float) -> NoReturn:
    tries = _Tries(session)
    known: dict[str, tuple[str, ...]] = {}
    header: tuple[str, ...] | None = None
    note = ""
    while True:
        if reply is not None:
            frame = view.frame(reply, session, session.out, None)
            if frame.note and frame.note != note:
                session.note(frame.note)
            note = frame.note
            if frame.header and header is None:
                header = frame.header
                session.print(header)
            known = _tell_news(session, frame, known)
        session.pause(every_s)
        reply = tries.get(view.path)


def _tell_news(
    session: Session, frame: Frame, known: dict[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    current = {row.name: row.steady for row in frame.rows}
    lines = [row.line for row in frame.rows if known.get(row.name) != row.steady]
    lines += [f"-- {name} is gone --" for name in known if name not in current]
    session.print(lines)
    return current


class _Tries:
    """Asks again and again; says once that the daemon is gone, and once that it is back."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._is_lost = False

    def get(self, path: str) -> Reply | None:
        """Return the document; None while no daemon answers.

        Raises:
            Failure: it refuses.
        """
        try:
            reply = self._session.client.get(path)
        except Failure as failure:
            if failure.exit_code != Exit.UNREACHABLE:
                raise
            if not self._is_lost:
                message = f"lost sollold, retrying ({failure.message})"
                report_here(self._session, Failure(Exit.UNREACHABLE, failure.code, message))
            self._is_lost = True
            return None
        if self._is_lost and not self._session.settings.is_json:
            self._session.note("sollold is back")
        self._is_lost = False
        return reply


class _Screenful:
    """The terminal's alternate screen with the last document on it."""

    def __init__(self, session: Session, view: View, every_s: float) -> None:
        self._session = session
        self._view = view
        self._every_s = every_s
        self._frame: Frame | None = None
        self._before: Frame | None = None
        self._reply: Reply | None = None
        self._answered_s = 0.0
        self._is_lost = False

    def run(self, first: Reply) -> None:
        """Show it until `q`."""
        self._take(first)
        path, every_s = self._view.path, self._every_s
        with Stage() as stage, _Fetcher(self._session, path, every_s, stage.wake) as fetcher:
            self._draw(stage)
            while stage.wait(_TICK_S) != "q":
                news = fetcher.news()
                for item in news:
                    self._take(item)
                if news or self._is_lost or stage.is_resized():
                    self._draw(stage)

    def _take(self, item: Reply | Failure) -> None:
        if isinstance(item, Failure):
            if item.exit_code != Exit.UNREACHABLE:
                raise item
            self._is_lost = True
            return
        self._answered_s, self._is_lost = time.monotonic(), False
        self._reply, self._before = item, self._frame
        # Read at once: what is wrong with it ends the command before the screen is taken.
        self._frame = self._view.frame(item, self._session, self._session.out, self._before)

    def _draw(self, stage: Stage) -> None:
        screen = stage.screen(self._session.out)
        if self._is_lost:
            screen = screen.without_color()
        before = None if self._is_lost else self._before
        if self._reply is None:
            return
        frame = self._view.frame(self._reply, self._session, screen, before)
        lines = frame.lines or [frame.note]
        how = "q quits" if stage.has_keys else "Ctrl-C quits"
        every = f"{self._every_s:g}"
        footer = f"every {every} s, {how}"
        if self._is_lost:
            ago = words.waited((time.monotonic() - self._answered_s) * 1000)
            lines = [f"lost sollold {ago} ago, retrying", *(stage.dim(line) for line in lines)]
        stage.draw(lines, footer)


class _Fetcher:
    """Asks in a thread of its own, so that a key or a resize never waits for an answer."""

    def __init__(
        self, session: Session, path: str, every_s: float, wake: Callable[[], None]
    ) -> None:
        self._client, self._path = session.client, path
        self._every_s, self._wake = every_s, wake
        self._found: queue.SimpleQueue[Reply | Failure] = queue.SimpleQueue()
        self._done = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()

    def news(self) -> list[Reply | Failure]:
        """Return what has come since the last call."""
        found: list[Reply | Failure] = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._found.get_nowait())
        return found

    def _run(self) -> None:
        while not self._done.wait(self._every_s):
            try:
                self._found.put(self._client.get(self._path))
            except Failure as failure:
                self._found.put(failure)
            self._wake()
