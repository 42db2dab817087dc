"""Where nodes come from without looking around: configuration, hosts file, OLLAMA_HOST, localhost.

Reads files when told to; its methods may block and belong in a thread.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sollold.config.address import OLLAMA_PORT, parse_ollama_host
from sollold.config.hosts import read_hosts
from sollold.config.pin import parse_pin
from sollold.core.model import NodeKind
from sollold.core.names import key_of
from sollold.nodes.candidates import CONFIG, HOSTS_FILE, LOCALHOST, OLLAMA_HOST, Candidate
from sollold.nodes.offer import Offer
from sollold.nodes.tls import Trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.config import LoadedConfig
    from sollold.config.node import Node

log = logging.getLogger(__name__)

Found = dict[str, tuple[Candidate, ...]]
"""Candidates by source; a source that is present lists all it has."""


class StaticSources:
    """The sources of one configuration."""

    def __init__(
        self,
        nodes: Sequence[Node] = (),
        *,
        hosts_file: Path | None = None,
        ollama_host: str = "",
        has_localhost: bool = True,
    ) -> None:
        self._nodes = nodes
        self._hosts_file = hosts_file
        self._ollama_host = ollama_host
        self._has_localhost = has_localhost
        self._stamp: tuple[int, int] | None = None
        self._hosts: tuple[Candidate, ...] = ()

    @classmethod
    def of(cls, loaded: LoadedConfig) -> StaticSources:
        """Return those of a configuration; nodes of the hosts file are left to it: it changes."""
        config = loaded.config
        is_on = config.discovery.enabled
        path = config.discovery.hosts_file
        nodes = [
            node
            for index, node in enumerate(config.nodes)
            if not path or loaded.origin(f"nodes[{index}].url").source != "hosts file"
        ]
        return cls(
            nodes,
            hosts_file=Path(path) if path else None,
            ollama_host=config.discovery.ollama_host if is_on else "",
            has_localhost=is_on and config.discovery.local,
        )

    def read(self) -> Found:
        """Return everything. May block."""
        self._stamp = self._find_stamp()
        return {
            CONFIG: tuple(_configured(node) for node in self._nodes),
            HOSTS_FILE: self._read_hosts(),
            OLLAMA_HOST: self._ollama(),
            LOCALHOST: self._localhost(),
        }

    def poll(self) -> Found | None:
        """Return the hosts file's nodes when the file changed, else None. May block."""
        stamp = self._find_stamp()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        return {HOSTS_FILE: self._read_hosts()}

    def _find_stamp(self) -> tuple[int, int] | None:
        if self._hosts_file is None:
            return None
        try:
            found = self._hosts_file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _read_hosts(self) -> tuple[Candidate, ...]:
        """Return the usable lines. A file that cannot be read leaves its nodes as they were."""
        if self._hosts_file is None:
            return ()
        entries, problems = read_hosts(self._hosts_file, set())
        for problem in problems:
            log.warning("%s", problem)
        if entries or self._stamp is not None:
            self._hosts = tuple(Candidate(url=node.url, source=HOSTS_FILE) for node, _ in entries)
        return self._hosts

    def _ollama(self) -> tuple[Candidate, ...]:
        if not self._ollama_host:
            return ()
        try:
            url = parse_ollama_host(self._ollama_host)
        except ValueError as exc:
            log.warning("OLLAMA_HOST is ignored: it %s", exc)
            return ()
        return (Candidate(url=str(url), source=OLLAMA_HOST),)

    def _localhost(self) -> tuple[Candidate, ...]:
        if not self._has_localhost:
            return ()
        url = f"http://localhost:{OLLAMA_PORT}"
        return (Candidate(url=url, source=LOCALHOST, is_silent=True),)


def _configured(node: Node) -> Candidate:
    return Candidate(
        url=node.url,
        source=CONFIG,
        name=node.name,
        kind=None if node.kind is None else NodeKind(node.kind),
        tier=node.tier,
        slots=node.slots,
        key_env=node.key_env,
        mac=node.mac,
        trust=_trust(node),
        offer=Offer(
            name=node.model,
            names=tuple((node.models or {}).items()),
            same_as_ollama=frozenset(filter(None, map(key_of, node.same_as_ollama))),
        ),
    )


def _trust(node: Node) -> Trust | None:
    if node.ca_file is None and node.pin is None:
        return None
    return Trust(ca_file=node.ca_file, pin=None if node.pin is None else parse_pin(node.pin))
