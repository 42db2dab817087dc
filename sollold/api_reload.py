"""The document that answers a reload: what the daemon encodes and `sollolctl` decodes."""

from __future__ import annotations

from typing import Literal

import msgspec

from sollold.api_config import ConfigProblem
from sollold.api_types import ErrorBody


class ConfigChange(msgspec.Struct, frozen=True, kw_only=True):
    """One value that differs, as TOML without secrets; None: there is none."""

    key: str
    """`queue.length`; of a node `nodes[NAME].tier`, or `nodes[NAME]` when it comes or goes."""
    old: str | None = None
    new: str | None = None
    text: str
    """The change for people: `queue.length 512 -> 128`."""


class ReloadDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /api/v1/reload`; with status 422 the old configuration stays, and `error` says so."""

    schema: Literal["sollold.reload/1"] = "sollold.reload/1"
    at: str
    result: Literal["applied", "unchanged", "refused"]
    """`unchanged`: what was read is what runs, but for what waits for a restart."""
    live: tuple[ConfigChange, ...] = ()
    """What took effect."""
    restart: tuple[ConfigChange, ...] = ()
    """What takes effect at the next start."""
    notes: tuple[str, ...] = ()
    """What was noticed but does not stand in the way."""
    problems: tuple[ConfigProblem, ...] = ()
    """Every mistake, when it was refused."""
    files: tuple[str, ...] = ()
    """The files that were read."""
    error: ErrorBody | None = None
