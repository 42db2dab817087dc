"""What a reload would change, split by whether it can happen in the running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from sollold.config.address import parse_node_url
from sollold.config.keys import Path, config_keys, node_keys, path_text, tables, value_at
from sollold.config.values import masked, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sollold.config.node import Node
    from sollold.config.schema import Config

_NODES: Path = ("nodes",)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One value that differs, as TOML without secrets; None: there is none."""

    key: str
    """`queue.length`; of a node `nodes[NAME].tier`, or `nodes[NAME]` when it comes or goes."""
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if self.key.endswith("]"):
            return f"{self.key} {'removed' if self.new is None else 'added'}"
        return f"{self.key} {self.old or 'unset'} -> {self.new or 'unset'}"


class ConfigDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Values that differ."""

    live: tuple[Change, ...]
    """Can be applied now."""
    restart: tuple[Change, ...]
    """Take effect at the next start."""


def diff(old: Config, new: Config) -> ConfigDiff:
    """Return what differs."""
    live: list[Change] = []
    restart: list[Change] = []
    for path, key in config_keys().items():
        before, after = value_at(old, path), value_at(new, path)
        if before == after:
            continue
        into = live if key.is_live else restart
        if path == _NODES:
            into.extend(_node_changes(before, after))
        else:
            into.append(Change(key=path_text(path), old=shown(before), new=shown(after)))
    return ConfigDiff(live=tuple(live), restart=tuple(restart))


def with_live(old: Config, new: Config) -> Config:
    """Return the old configuration with the new one's values where they can change now."""
    return cast("Config", _mix(old, new, ()))


def _mix(old: Any, new: Any, path: Path) -> msgspec.Struct:
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(tables()[path]):
        below = (*path, field.name)
        before, after = getattr(old, field.name), getattr(new, field.name)
        if below in tables():
            values[field.name] = _mix(before, after, below)
        else:
            values[field.name] = after if config_keys()[below].is_live else before
    return tables()[path](**values)


def _node_changes(old: tuple[Node, ...], new: tuple[Node, ...]) -> Iterator[Change]:
    """Pair nodes that are the same, then by name, then by address; say what became of each."""
    gone, come = list(old), list(new)
    for is_pair in (_is_same, _has_same_name, _has_same_url):
        for node in tuple(gone):
            twin = next((other for other in come if is_pair(node, other)), None)
            if twin is not None:
                gone.remove(node)
                come.remove(twin)
                yield from _key_changes(node, twin)
    for node in gone:
        yield Change(key=f"nodes[{_called(node)}]", old=masked(node.url), new=None)
    for node in come:
        yield Change(key=f"nodes[{_called(node)}]", old=None, new=masked(node.url))


def _key_changes(old: Node, new: Node) -> Iterator[Change]:
    for name in node_keys():
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Change(key=f"nodes[{_called(new)}].{name}", old=_text(before), new=_text(after))


def _is_same(one: Node, other: Node) -> bool:
    return one == other


def _has_same_name(one: Node, other: Node) -> bool:
    return one.name is not None and one.name == other.name


def _has_same_url(one: Node, other: Node) -> bool:
    return one.url == other.url


def _called(node: Node) -> str:
    return node.name or str(parse_node_url(node.url).address)


def _text(value: object) -> str | None:
    if isinstance(value, dict):
        return shown([f"{name} = {text}" for name, text in value.items()])
    return None if value is None else shown(value)
