"""What can go wrong for the person at the terminal: exit code, sentence, and what to do."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, the same for every command. 2 is click's own for wrong usage."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    DEGRADED = 5
    CANNOT_SERVE = 6
    KEY = 7
    BAD_CONFIG = 78
    INTERRUPTED = 130


class PipeClosed(Exception):
    """Nobody reads the output any more."""


class Failure(Exception):
    """Ends a command. `hints` are pairs of a label and what to type or to look at."""

    def __init__(
        self,
        exit_code: Exit,
        code: str,
        message: str,
        hints: tuple[tuple[str, str], ...] = (),
        *,
        is_state: bool = False,
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code
        self.message = message
        self.hints = hints
        self.is_state = is_state
        """The message states how the daemon is, and is printed with the mark of that state."""
        self.is_told = False
        """The person has been told on stdout already."""
