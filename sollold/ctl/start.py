"""Starts a session; what is slow to load is loaded here, after the command line was read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sollold.ctl.options import Settings
    from sollold.ctl.session import Session


def session(settings: Settings) -> Session:
    """Return what a command needs to ask and to print."""
    from sollold.ctl.session import Session

    return Session(settings, os.environ)
