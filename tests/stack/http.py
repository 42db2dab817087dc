"""Blocking JSON calls to a server on this machine, for set-up and checks."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_EVERY_S = 0.02
_PROBE_LIMIT_S = 1.0

# Proxies of the environment never apply to loopback.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get_json(url: str, *, limit_s: float = 10.0) -> Any:
    """The JSON document at a URL."""
    with _opener.open(url, timeout=limit_s) as reply:
        return json.loads(reply.read())


def post_json(url: str, document: object, *, limit_s: float = 30.0) -> Any:
    """The JSON reply to a posted document."""
    return json.loads(_post(url, document, limit_s))


def post_lines(url: str, document: object, *, limit_s: float = 30.0) -> list[Any]:
    """The objects of a streamed NDJSON reply to a posted document."""
    return [json.loads(line) for line in _post(url, document, limit_s).splitlines()]


def answers(url: str, *, limit_s: float = _PROBE_LIMIT_S) -> bool:
    """Whether a GET is answered with 200 in time."""
    try:
        with _opener.open(url, timeout=limit_s) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def wait_until(
    condition: Callable[[], bool], *, limit_s: float, failure: Callable[[], str]
) -> None:
    """Return once a condition holds; raise with the failure's text when it does not in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(failure())
        time.sleep(_POLL_EVERY_S)


def _post(url: str, document: object, limit_s: float) -> bytes:
    request = urllib.request.Request(
        url, data=json.dumps(document).encode(), headers={"Content-Type": "application/json"}
    )
    with _opener.open(request, timeout=limit_s) as reply:
        return bytes(reply.read())
