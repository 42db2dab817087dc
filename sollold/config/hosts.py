"""The hosts file: one node per line, `host[:port]`, with `#` comments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.config.address import Address, parse_node_url
from sollold.config.decode import Origin, Problem
from sollold.config.node import Node
from sollold.config.text import read_small
from sollold.config.values import masked

if TYPE_CHECKING:
    from pathlib import Path as FilePath


def read_hosts(
    path: FilePath, known: set[tuple[Address, str]]
) -> tuple[list[tuple[Node, Origin]], list[Problem]]:
    """Return the file's nodes that are not yet `known` (address and path), and every wrong line."""
    try:
        text = read_small(path).decode()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        fault = f"cannot be read: {reason}; mend the file, or discovery.hosts_file that names it"
        return [], [Problem(Origin("hosts file", str(path)), (), fault)]
    seen = set(known)
    nodes: list[tuple[Node, Origin]] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        origin = Origin("hosts file", str(path), number)
        try:
            url = parse_node_url(entry)
        except ValueError as exc:
            problems.append(Problem(origin, (), f'"{masked(entry)}" {exc}'))
            continue
        if (url.address, url.path) not in seen:
            seen.add((url.address, url.path))
            nodes.append((Node(url=str(url)), origin))
    return nodes, problems
