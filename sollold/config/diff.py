"""What a reload would change, split by whether it can happen in the running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sollold.config.keys import config_keys, path_text, value_at

if TYPE_CHECKING:
    from sollold.config.schema import Config


class ConfigDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Keys whose values differ, as paths in text."""

    live: tuple[str, ...]
    """Can be applied now."""
    restart: tuple[str, ...]
    """Take effect at the next start."""


def diff(old: Config, new: Config) -> ConfigDiff:
    """Return the keys that differ."""
    changed = [
        (path_text(path), key.is_live)
        for path, key in config_keys().items()
        if value_at(old, path) != value_at(new, path)
    ]
    return ConfigDiff(
        live=tuple(name for name, is_live in changed if is_live),
        restart=tuple(name for name, is_live in changed if not is_live),
    )
