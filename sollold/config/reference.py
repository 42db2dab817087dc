"""The schema as text for people: `etc/sollold.toml` and the tables of `docs/configuration.md`.

Also the tables of `docs/migration.md`. `python -m sollold.config.reference etc/sollold.toml
docs/configuration.md docs/migration.md` brings all three up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from sollold.config.keys import (
    REQUIRED,
    Key,
    config_keys,
    example,
    expectation,
    node_keys,
    path_text,
    tables,
)
from sollold.config.node import Node
from sollold.config.predecessor import render_migration
from sollold.config.sources import variable
from sollold.config.values import size_text, toml_text

if TYPE_CHECKING:
    import msgspec

BEGIN = "<!-- keys: begin -->"
END = "<!-- keys: end -->"

_HEAD = """\
# Every key of sollold with its default. A key counts once its # is removed; until then the default
# applies, so this file can be installed as it is. docs/configuration.md says more.
#
# Read in this order, later wins: defaults, /etc/sollold/sollold.toml,
# ~/.config/sollold/sollold.toml, environment (SOLLOLD_QUEUE__LENGTH=64), command line.
# Times are seconds or texts like "30s", "5m", "1h30m"; sizes are bytes or texts like "4 MiB".
"""


def render_toml() -> str:
    """Return `etc/sollold.toml`."""
    lines = [_HEAD]
    table: tuple[str, ...] = ()
    for key in config_keys().values():
        if key.path == ("nodes",):
            lines.append(_nodes_block())
            continue
        if key.path[:-1] != table:
            table = key.path[:-1]
            lines.append(f"\n# {_purpose(tables()[table])}\n[{path_text(table)}]\n")
        lines.append(_toml_key(key))
    return "".join(lines)


def render_tables() -> str:
    """Return the tables of `docs/configuration.md`."""
    parts: list[str] = []
    for path, table in tables().items():
        keys = [key for key in config_keys().values() if key.path[:-1] == path]
        if path:
            parts.append(_table(f"[{path_text(path)}]", table, keys))
        if path == ("listen",):
            parts.append(_table("[[nodes]]", Node, list(node_keys().values())))
    return "\n".join(parts)


def update(path: FilePath) -> None:
    """Write a file anew: a TOML file whole, any other between its two marks."""
    if path.suffix == ".toml":
        path.write_text(render_toml(), "utf-8")
        return
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    tables = render_migration() if path.name == "migration.md" else render_tables()
    path.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}", "utf-8")


def _purpose(table: type[msgspec.Struct]) -> str:
    return (table.__doc__ or "").replace("`", "")


def _nodes_block() -> str:
    keys = "".join(_toml_key(key) for key in node_keys().values())
    return f"\n# {_purpose(Node)}\n#[[nodes]]\n{keys}"


def _toml_key(key: Key) -> str:
    shown = example(key) if key.default in (None, REQUIRED) else _default(key)
    return f"# {key.text}{_hint(key)}\n#{key.name} = {shown}\n"


def _hint(key: Key) -> str:
    is_shown = key.default in (None, REQUIRED) or not key.example
    return "" if is_shown else f" Example: {key.example}"


def _default(key: Key) -> str:
    """Write a default as a person would: one address without its list, a size with its unit."""
    if isinstance(key.default, tuple) and len(key.default) == 1:
        return toml_text(key.default[0])
    if key.is_size:
        return toml_text(size_text(key.default))
    return toml_text(key.default)


def _table(heading: str, table: type[msgspec.Struct], keys: list[Key]) -> str:
    is_nodes = table is Node
    first, rule = "| key | default | takes | live | meaning |", "| --- | --- | --- | --- | --- |"
    lines = [f"### `{heading}`", "", _purpose(table), ""]
    if not is_nodes:
        lines += [f"Variables: `{variable((*keys[0].path[:-1], 'KEY'))}`.", ""]
    lines += [first, rule, *(_row(key) for key in keys), ""]
    return "\n".join(lines)


def _row(key: Key) -> str:
    default = {None: "", REQUIRED: "required"}.get(key.default, f"`{_default(key)}`")
    cells = [f"`{key.name}`", default, expectation(key), "yes" if key.is_live else "no"]
    return f"| {' | '.join(cells)} | {key.text}{_hint(key)} |"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        update(FilePath(argument))
