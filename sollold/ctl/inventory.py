"""What `models`, `models MODEL` and `ps` do."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from sollold.api_models import LoadedDocument, ModelDocument, ModelsDocument
from sollold.core.names import key_of
from sollold.ctl.lists import ListView
from sollold.ctl.models import (
    LOADED_FILTERS,
    MODEL_FILTERS,
    loaded_columns,
    loaded_summary,
    model_columns,
    model_lines,
    models_summary,
)
from sollold.ctl.names import resolve
from sollold.ctl.showing import show
from sollold.ctl.views import ScreenView
from sollold.words.names import natural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.api_models import Model
    from sollold.ctl.client import Reply
    from sollold.ctl.screen import Screen
    from sollold.ctl.session import Session

_NO_MODELS = "No models yet: no known node has one. Nodes: sollolctl nodes. Get one: ollama pull"
_NONE_LOADED = (
    "No model is in memory. The first request for a model loads it; that request waits for the load"
)


def models(session: Session) -> None:
    """Print the list of models."""
    view = ListView(
        path="/api/v1/models",
        noun="model",
        rows=_by_name,
        columns=lambda _screen: model_columns(session.zone),
        filters=MODEL_FILTERS,
        name=lambda row: row.name,
        key=lambda row: row.name,
        summary=models_summary,
        empty=_NO_MODELS,
    )
    show(session, view)


def model(session: Session, wanted: str) -> None:
    """Print everything about one model."""
    session.refuse_beside_json()
    name = quote(model_name(wanted, known_models(session)), safe="")
    show(session, ScreenView(path=f"/api/v1/models/{name}", lines=_lines, steady=_lines))


def loaded(session: Session) -> None:
    """Print the models in memory."""
    view = ListView(
        path="/api/v1/loaded",
        noun="loaded model",
        rows=lambda reply: reply.document(LoadedDocument).loaded,
        columns=lambda _screen: loaded_columns(session.now()),
        filters=LOADED_FILTERS,
        name=lambda row: row.name,
        key=lambda row: f"{row.name} on {row.node}",
        summary=loaded_summary,
        empty=f"{_NONE_LOADED}.",
    )
    show(session, view)


def known_models(session: Session) -> Sequence[Model]:
    """Return all models, without asking who would serve them."""
    return session.get("/api/v1/models", {"next": "0"}).exact(ModelsDocument).models


def model_name(wanted: str, known: Sequence[Model]) -> str:
    """Return the full name of the model that is meant, as clients may shorten it.

    Raises:
        Failure: none fits, or several do.
    """
    names = {key_of(item.name): item.name for item in known}
    found = names.get(key_of(wanted))
    return found or resolve(wanted, list(names.values()), "model")


def _lines(reply: Reply, session: Session, screen: Screen) -> list[str]:
    return model_lines(reply.document(ModelDocument), screen, session.zone)


def _by_name(reply: Reply) -> list[Model]:
    found = reply.document(ModelsDocument).models
    return sorted(found, key=lambda item: natural(item.name))
