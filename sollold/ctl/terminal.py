"""The alternate screen of a terminal: taken, drawn on, and given back whatever happens."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from sollold.ctl.failure import PipeClosed

if TYPE_CHECKING:
    from types import FrameType

    from sollold.ctl.screen import Screen

# Alternate screen, no cursor, no wrapping of long lines; and back.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_GONE = frozenset({errno.EIO, errno.EPIPE, errno.EBADF})
_EXIT_TERMINATED = 128 + signal.SIGTERM


class Stage:
    """A context manager that owns the terminal while it is open."""

    def __init__(self) -> None:
        self.has_keys = sys.stdin.isatty()
        """Whether a key arrives without Enter."""
        self._saved: list[object] | None = None
        self._handlers: dict[int, object] = {}
        self._reader, self._writer = -1, -1
        self._was_resized = False

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        os.set_blocking(self._reader, False)
        try:
            for number, handler in (
                (signal.SIGTERM, _terminated),
                (signal.SIGWINCH, self._resized),
                (signal.SIGTSTP, self._stopped),
            ):
                self._handlers[number] = signal.signal(number, handler)
            self._enter()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        # A second Ctrl-C must not keep the terminal from being given back.
        last = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._leave()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            self._handlers.clear()
            for number in (self._reader, self._writer):
                os.close(number)
            signal.signal(signal.SIGINT, last)

    def wake(self) -> None:
        """End a wait; from any thread."""
        with contextlib.suppress(OSError):
            os.write(self._writer, b".")

    def wait(self, limit_s: float) -> str:
        """Return the key that was pressed; empty when woken or after the limit."""
        ready, _, _ = select.select(
            [self._reader, *([sys.stdin] if self.has_keys else [])], [], [], limit_s
        )
        if self._reader in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)
        if sys.stdin not in ready:
            return ""
        try:
            keys = os.read(sys.stdin.fileno(), 64)
        except OSError as error:
            raise PipeClosed from error
        if not keys:
            raise PipeClosed
        return "q" if b"q" in keys.lower() else keys.decode("ascii", "replace")[:1]

    def is_resized(self) -> bool:
        """Return whether the terminal has another size, or was away, since the last call."""
        was, self._was_resized = self._was_resized, False
        return was

    def screen(self, out: Screen) -> Screen:
        """Return what the terminal can show at its size now."""
        return replace(out, width=shutil.get_terminal_size().columns)

    def dim(self, line: str) -> str:
        """Return the line in grey."""
        return f"{_DIM}{line}{_PLAIN}"

    def draw(self, lines: list[str], footer: str) -> None:
        """Put the lines on the screen and the footer on its last line.

        Raises:
            PipeClosed: the terminal is gone.
        """
        room = max(1, shutil.get_terminal_size().lines - 1)
        if len(lines) > room:
            footer += f"; {len(lines) - room} more lines below"
            lines = lines[:room]
        shown = [*lines, *[""] * (room - len(lines))]
        body = "".join(f"{line}{_PLAIN}{_CLEAR_LINE}\r\n" for line in shown)
        self._write(f"{_HOME}{body}{footer}{_CLEAR_LINE}{_CLEAR_REST}")

    def _enter(self) -> None:
        if self.has_keys:
            self._saved = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSANOW)
        self._write(_ENTER)

    def _leave(self) -> None:
        with contextlib.suppress(PipeClosed):
            self._write(_LEAVE)
        if self._saved is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSANOW, self._saved)  # type: ignore[arg-type]
            self._saved = None

    def _write(self, text: str) -> None:
        """Write past Python's buffer, which a signal's handler must not enter twice."""
        data = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]
        except OSError as error:
            if error.errno in _GONE:
                raise PipeClosed from error
            raise

    def _resized(self, _number: int, _frame: FrameType | None) -> None:
        self._was_resized = True
        self.wake()

    def _stopped(self, _number: int, _frame: FrameType | None) -> None:
        """Give the terminal back while the program is stopped, and take it again after."""
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()
        self._was_resized = True
        self.wake()


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_EXIT_TERMINATED)
