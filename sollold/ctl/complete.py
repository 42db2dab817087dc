"""Names for the Tab key, asked from the daemon over its control socket; silent when it is gone.

Standard library and click only, or a Tab press takes too long.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click

_LIMIT_S = 0.2
_PIECE_BYTES = 256 * 1024
_MAX_BYTES = 16 * 1024 * 1024
# Only what no shell reads as anything but a name: names come from the network.
_HARMLESS = re.compile(r"[\w.:@/+\-]+", re.ASCII)


def node_names(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return nodes, with their state as description."""
    nodes = _ask("/api/v1/nodes", "nodes")
    return _items([(node["name"], node["state"]) for node in nodes], incomplete)


def model_names(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return models, with the nodes that hold them as description."""
    models = _ask("/api/v1/models?next=0", "models")
    places = [
        (model["name"], f"on {', '.join(copy['node'] for copy in model['copies'])}")
        for model in models
    ]
    return _items(places, incomplete)


def request_ids(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return requests under way, with their model as description."""
    requests = _ask("/api/v1/requests", "running", "waiting")
    return _items([(item["id"], item["model"]) for item in requests], incomplete)


def _ask(path: str, *lists: str) -> list[dict[str, Any]]:
    """Return what the lists of a document hold; nothing where that takes too long."""
    places = _sockets()
    try:
        document = json.loads(_get(places[0], path)) if places else {}
        return [item for name in lists for item in document.get(name, ())]
    except (OSError, ValueError):
        return []


def _sockets() -> list[str]:
    from sollold.ctl.places import control_sockets

    url = os.environ.get("SOLLOLD_URL", "")
    if not url:
        return [place.host for place in control_sockets(os.environ)]
    # Another machine's names are not waited for, and this one's would be wrong.
    path = url.removeprefix("unix:")
    return [path.removeprefix("//")] if path != url else []


def _get(place: str, path: str) -> bytes:
    """Return the body of a good answer.

    Raises:
        OSError: nobody answers in time.
        ValueError: the answer is none.
    """
    end_s = time.monotonic() + _LIMIT_S
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_LIMIT_S)
        sock.connect(place)
        sock.sendall(_request(path))
        answer = b""
        while piece := sock.recv(_PIECE_BYTES):
            answer += piece
            left_s = end_s - time.monotonic()
            if left_s <= 0 or len(answer) > _MAX_BYTES:
                raise TimeoutError
            sock.settimeout(left_s)
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ValueError("no document")
    return body


def _request(path: str) -> bytes:
    # In HTTP/1.0 the body is what comes until the end.
    lines = [f"GET {path} HTTP/1.0", "Host: localhost", "Accept: application/json"]
    key = os.environ.get("SOLLOLD_KEY", "")
    if key and key.isprintable():
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode()


def _items(names: list[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(name, help=about if about.isprintable() else None)
        for name, about in sorted(names)
        if name.startswith(incomplete) and _HARMLESS.fullmatch(name)
    ]
