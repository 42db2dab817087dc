"""Ollama's model names: grammar, defaults and display form.

Written from the contract and independent of the product's own parser: one can judge the other.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")

_DEFAULT_HOST = "registry.ollama.ai"
_DEFAULT_NAMESPACE = "library"


class FullName(NamedTuple):
    """The four parts of a name, defaults filled in."""

    host: str
    namespace: str
    model: str
    tag: str

    def folded(self) -> str:
        """Two names are one model when this is equal."""
        return self.qualified().casefold()

    def qualified(self) -> str:
        """All four parts, as some error texts print them."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    def short(self) -> str:
        """The form of listings: defaults left out, the tag always there."""
        tail = f"{self.model}:{self.tag}"
        if self.host.casefold() != _DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{tail}"
        if self.namespace.casefold() != _DEFAULT_NAMESPACE:
            return f"{self.namespace}/{tail}"
        return tail


def parse_name(text: str) -> FullName | None:
    """The parts of a name, or None when its syntax is wrong."""
    rest = text.partition("://")[2] if "://" in text else text
    tag = "latest"
    if rest.rfind(":") > rest.rfind("/"):
        rest, _, tag = rest.rpartition(":")
    parts = rest.split("/")
    if len(parts) > 3:
        return None
    model = parts.pop()
    namespace = parts.pop() if parts else _DEFAULT_NAMESPACE
    host = parts.pop() if parts else _DEFAULT_HOST
    name = FullName(host, namespace, model, tag)
    return name if _is_valid(name) else None


def _is_valid(name: FullName) -> bool:
    return bool(
        _HOST.fullmatch(name.host)
        and _NAMESPACE.fullmatch(name.namespace)
        and _PART.fullmatch(name.model)
        and _PART.fullmatch(name.tag)
    )
