"""Names for the Tab key, asked from the daemon over its control socket; silent when it is gone."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, TypeVar

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click

T = TypeVar("T")

_LIMIT_S = 0.2
# Only what no shell reads as anything but a name: names come from the network.
_HARMLESS = re.compile(r"[\w.:@/+\-]+", re.ASCII)


def node_names(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return nodes, with their state as description."""
    from sollold.api_types import NodesDocument

    document = _ask("/api/v1/nodes", NodesDocument)
    if document is None:
        return []
    return _items({node.name: node.state for node in document.nodes}, incomplete)


def model_names(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return models, with the nodes that hold them as description."""
    from sollold.api_models import ModelsDocument

    document = _ask("/api/v1/models", ModelsDocument, {"next": "0"})
    if document is None:
        return []
    places = {
        model.name: f"on {', '.join(copy.node for copy in model.copies)}"
        for model in document.models
    }
    return _items(places, incomplete)


def request_ids(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return requests under way, with their model as description."""
    from sollold.api_types import RequestsDocument

    document = _ask("/api/v1/requests", RequestsDocument)
    if document is None:
        return []
    requests = (*document.running, *document.waiting)
    return _items({item.id: item.model for item in requests}, incomplete)


def _ask(path: str, document: type[T], query: dict[str, str] | None = None) -> T | None:
    from sollold.ctl.client import Client, control_sockets, endpoints
    from sollold.ctl.failure import Failure

    url = os.environ.get("SOLLOLD_URL", "")
    try:
        places = endpoints(url, os.environ) if url else control_sockets(os.environ)
        if not places:
            return None
        return Client(places, timeout_s=_LIMIT_S).get(path, query).document(document)
    except Failure:
        return None


def _items(names: dict[str, str], incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(name, help=about if about.isprintable() else None)
        for name, about in sorted(names.items())
        if name.startswith(incomplete) and _HARMLESS.fullmatch(name)
    ]
