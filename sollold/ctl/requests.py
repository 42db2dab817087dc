"""The words of `sollolctl requests`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.ctl.table import Column, number_column, text_column
from sollold.words import figures as words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sollold.api_types import Request

QUEUE = "(queue)"


def request_columns() -> list[Column[Request]]:
    """Return the columns of the request list."""
    return [
        text_column("ID", lambda item: item.id),
        text_column("MODEL", lambda item: item.model, is_name=True),
        text_column("NODE", lambda item: item.node or QUEUE, is_name=True),
        number_column("FOR", lambda item: item.age_ms, words.waited, is_clock=True),
        text_column("PHASE", lambda item: item.phase),
        number_column("TOKENS", lambda item: item.tokens, words.count, drop_rank=2),
        number_column("TOK/S", lambda item: item.tokens_per_s, words.rate, drop_rank=1),
        text_column("CLIENT", lambda item: item.client or words.UNKNOWN, drop_rank=3),
        number_column("PRIORITY", lambda item: item.priority, words.count, is_wide=True),
        number_column("TRY", lambda item: item.attempt, words.count, is_wide=True),
        number_column("QUEUED", lambda item: item.queue_ms, words.duration, is_wide=True),
        text_column("TASK", lambda item: item.task or words.UNKNOWN, is_wide=True),
        text_column("WHY", lambda item: item.reason or words.UNKNOWN, is_wide=True),
    ]


REQUEST_FILTERS: dict[str, Callable[[Request], Sequence[str]]] = {
    "id": lambda item: (item.id,),
    "model": lambda item: (item.model,),
    "node": lambda item: (item.node or QUEUE,),
    "phase": lambda item: (item.phase,),
    "task": lambda item: (item.task or "",),
    "client": lambda item: (item.client or "",),
}


def summary(requests: Sequence[Request]) -> str:
    """Return the line under the list."""
    waiting = sum(item.node is None for item in requests)
    return f"{len(requests) - waiting} running, {waiting} waiting"
