"""Proof of life for the service manager, given only by an event loop that answers in time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sollold.system.notify import Notifier

_STEPS = 8
"""Times within the manager's patience at which the loop measures itself."""

_log = logging.getLogger(__name__)


async def feed(notifier: Notifier, patience_s: float) -> None:
    """Feed the watchdog for ever, except when the loop is late by an eighth of `patience_s`.

    Nothing else feeds it, no thread above all: that would hide what the watchdog is for. A loop
    that stays late is ended by the manager.
    """
    loop = asyncio.get_running_loop()
    step_s = patience_s / _STEPS
    notifier.watchdog()
    while True:
        due_s = loop.time() + step_s
        await asyncio.sleep(step_s)
        late_s = loop.time() - due_s
        if late_s < step_s:
            notifier.watchdog()
        else:
            _log.warning("the event loop was blocked for %.1f s, the watchdog is not fed", late_s)
