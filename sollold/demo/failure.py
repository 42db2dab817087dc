"""How the demo ends other than well."""

from __future__ import annotations

from sollold.errors import SollolError

EXIT_FAILED = 1
EXIT_TAKEN = 75


class DemoFailed(SollolError):
    """The demo cannot start or go on; the message says why, and what to do."""

    code = "demo"

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
