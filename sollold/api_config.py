"""The document about the configuration. It follows the rules of `sollold.api_types`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class ConfigValue(msgspec.Struct, frozen=True, kw_only=True):
    """One key, what it is set to, and where that comes from."""

    key: str
    """As `nodes[0].url`."""
    value: Any = None
    """Secrets in addresses are written as `***`."""
    source: str
    """`default`, `file`, `hosts file`, `environment` or `flag`."""
    origin: str
    """In words: `default`, `FILE:LINE:COLUMN`, `environment NAME`, `flag --NAME`."""
    is_live: bool
    """It can change without a restart."""


class ConfigDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/v1/config`."""

    schema: Literal["sollold.config/1"] = "sollold.config/1"
    at: str
    files: tuple[str, ...]
    """The files that were read."""
    values: tuple[ConfigValue, ...]
    """In the order of `etc/sollold.toml`."""


class ConfigProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake: where it is, what is wrong, what to do."""

    source: str
    """`file`, `hosts file`, `environment`, `flag` or `default`."""
    where: str
    """The path of a file, the name of a variable or a flag."""
    line: int | None = None
    key: str | None = None
    text: str
    remedy: str | None = None
    shown: str
    """All of it in one line."""
