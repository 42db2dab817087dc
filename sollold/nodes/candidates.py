"""What a source says about a place where a node may be. Nothing here was looked at yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sollold.config.address import parse_node_url
from sollold.core.model import NodeKind
from sollold.nodes.offer import Offer
from sollold.nodes.tls import Trust

if TYPE_CHECKING:
    from sollold.config.address import NodeUrl

CONFIG = "config"
HOSTS_FILE = "hosts file"
OLLAMA_HOST = "OLLAMA_HOST"
LOCALHOST = "localhost"

SOURCES = (CONFIG, HOSTS_FILE, OLLAMA_HOST, LOCALHOST)
"""The strongest first: it names the node and says its tier."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One place and what is known of it beforehand."""

    url: str
    """In any form `sollold.config.address.parse_node_url` reads."""
    source: str
    name: str | None = None
    kind: NodeKind | None = None
    """None: found out."""
    tier: int = 5
    slots: int | None = None
    key_env: str | None = None
    mac: str | None = None
    trust: Trust | None = None
    """How its certificate is checked; None: as this machine does."""
    offer: Offer = Offer()
    is_silent: bool = False
    """Not worth a word until something answers there."""

    def place(self) -> NodeUrl:
        """Return the address in its parts. Raises ValueError with what is wrong."""
        return parse_node_url(self.url)
