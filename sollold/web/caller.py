"""What a request says about its caller: who, how urgent, until when."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

_MAX_TIMEOUT_S = 86_400.0
_LONGEST_NUMBER = 4
_USUAL_PRIORITY = 5


class ClientIdentity:
    """Tells clients apart for fairness: by key, else by address."""

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self._trusted = tuple(ipaddress.ip_network(item, strict=False) for item in trusted_proxies)

    def of(self, request: web.Request) -> str:
        """Return a stable name for the caller; keys are never kept as such."""
        key = request.headers.get("Authorization") or request.headers.get("x-api-key")
        if key:
            return "key:" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        address = request.remote or "local"
        if self._trusted and self._is_trusted(address):
            forwarded = request.headers.get("X-Forwarded-For", "").split(",")
            for hop in reversed([part.strip() for part in forwarded if part.strip()]):
                if not self._is_trusted(hop):
                    return hop[:64]
        return address

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)


def queried(request: web.Request, name: str) -> str | None:
    """Return a parameter of the query; taking queries apart is left to requests that have one."""
    return request.query.get(name) if "?" in request.raw_path else None


def priority_of(request: web.Request) -> int:
    """Return the priority asked for by header or query, 5 when none or nonsense."""
    text = request.headers.get("X-Sollold-Priority") or queried(request, "priority")
    if text is None:
        return _USUAL_PRIORITY
    is_number = len(text) <= _LONGEST_NUMBER and text.isascii() and text.isdigit()
    return min(10, max(1, int(text))) if is_number else _USUAL_PRIORITY


def deadline_s(request: web.Request, now_s: float) -> float | None:
    """Return the client's own time-out as a moment, as OpenAI's libraries declare it."""
    text = request.headers.get("X-Stainless-Timeout")
    if text is None:
        return None
    try:
        timeout_s = float(text)
    except ValueError:
        return None
    return now_s + timeout_s if 0.0 < timeout_s < _MAX_TIMEOUT_S else None


def target_for_node(request: web.Request) -> str:
    """Return path and query for a node; what is meant for this daemon is left out."""
    url = request.rel_url
    if "?" not in request.raw_path:
        return url.raw_path
    if url.raw_query_string and (url.query.keys() & {"priority", "routing"}):
        url = url.without_query_params("priority", "routing")
    return url.raw_path_qs
