"""`sollolctl` on a real terminal: what it is sent, and how it is left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

SOLLOLCTL = (sys.executable, "-c", "from sollold.ctl.main import main; main()")
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"

_LIMIT_S = 30.0
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_OTHER = re.compile(r"\x1b\[[KJ]")


class Terminal:
    """A pseudo-terminal with the command on it; a context manager."""

    def __init__(self, *args: str, columns: int = 80, lines: int = 24, **env: str) -> None:
        self._args, self._env = args, env
        self._size = (lines, columns)
        self.sent = ""

    def __enter__(self) -> Self:
        self._controller, self._terminal = pty.openpty()
        self.resize(*self._size)
        self.before = self.modes()
        self.child = subprocess.Popen(
            [*SOLLOLCTL, *self._args],
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            env=os.environ | self._env,
            start_new_session=True,
            preexec_fn=self._take,
        )
        return self

    def _take(self) -> None:
        """Make it the terminal that Ctrl-C is typed at."""
        fcntl.ioctl(self._terminal, termios.TIOCSCTTY, 0)

    def __exit__(self, *exc: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(_LIMIT_S)
        os.close(self._controller)
        os.close(self._terminal)

    def modes(self) -> list[Any]:
        """How the terminal treats keys: compared before and after."""
        return termios.tcgetattr(self._terminal)

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._controller, keys.encode())

    def until(self, is_true: Callable[[], bool]) -> None:
        """Read what is sent until a condition holds."""
        deadline_s = time.monotonic() + _LIMIT_S
        while not is_true():
            assert time.monotonic() < deadline_s, self.sent[-3000:]
            if select.select([self._controller], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    self.sent += os.read(self._controller, 65536).decode(errors="replace")

    def until_shown(self, text: str) -> None:
        self.until(lambda: text in self.shown)

    def end(self) -> int:
        """Read to the end; return the exit code."""
        self.until(lambda: self.child.poll() is not None)
        while select.select([self._controller], [], [], 0.05)[0]:
            self.sent += os.read(self._controller, 65536).decode(errors="replace")
        return self.child.wait()

    @property
    def frame(self) -> str:
        """The last whole screen, styles included."""
        parts = self.sent.split("\x1b[H")
        whole = [part for part in parts[1:] if "\x1b[J" in part]
        return _OTHER.sub("", whole[-1].partition("\x1b[J")[0]) if whole else ""

    @property
    def shown(self) -> str:
        """The last whole screen as words."""
        return _STYLE.sub("", self.frame).replace("\r\n", "\n")
