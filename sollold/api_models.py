"""The documents about models: where they are, what is in memory, who would serve them now.

They follow the rules of `sollold.api_types`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sollold.core.model import Reason


class ModelCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A model on one node."""

    node: str
    state: str
    """The node's."""
    digest: str
    size_bytes: int | None = None
    is_loaded: bool | None = None
    """None: the node does not tell."""
    left_out: Reason | None = None
    """Why this copy serves no request now."""


class NextNode(msgspec.Struct, frozen=True, kw_only=True):
    """What routing would decide about one more request at this moment."""

    node: str | None = None
    """None: no node would get it."""
    wait_ms: float | None = None
    """Until a slot is free there; 0: it would start at once."""
    is_load: bool | None = None
    """The node would have to load the model first; None while it would wait."""
    reason: Reason
    equals: tuple[str, ...] = ()
    """Other nodes that cost about the same; which of them is taken changes."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model by the name clients use."""

    name: str
    digest: str
    """What the name stands for; copies with another digest are left out."""
    size_bytes: int | None = None
    modified_at: str | None = None
    capabilities: tuple[str, ...] | None = None
    copies: tuple[ModelCopy, ...] = ()
    next: NextNode | None = None
    """None when it was not asked for."""


class ModelsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/v1/models`."""

    schema: Literal["sollold.models/1"] = "sollold.models/1"
    at: str
    models: tuple[Model, ...]
    """By name."""


class AskedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The request that `next` and the costs are about."""

    task: str
    prompt_tokens: float
    output_tokens: float
    """As long as answers of this model have been of late."""


class NodeCost(msgspec.Struct, frozen=True, kw_only=True):
    """What the request would cost on one node, term by term, before the weights."""

    node: str
    total_ms: float | None = None
    """What is compared, weights included; None when it was left out."""
    wait_ms: float | None = None
    load_ms: float | None = None
    swap_ms: float | None = None
    foreign_ms: float | None = None
    prefill_ms: float | None = None
    decode_ms: float | None = None
    risk_ms: float | None = None
    tier_ms: float | None = None
    is_measured: bool | None = None
    """False while a guess stands in for a rate."""


class ModelDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/v1/models/{name}`."""

    schema: Literal["sollold.model/1"] = "sollold.model/1"
    at: str
    model: Model
    asked: AskedRequest
    costs: tuple[NodeCost, ...] = ()
    """The cheapest first; empty while a request would have to wait."""


class LoadedCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A model in the memory of one node."""

    name: str
    node: str
    digest: str
    size_bytes: int | None = None
    size_vram_bytes: int | None = None
    context_length: int | None = None
    expires_at: str | None = None


class LoadedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/v1/loaded`."""

    schema: Literal["sollold.loaded/1"] = "sollold.loaded/1"
    at: str
    loaded: tuple[LoadedCopy, ...]
    """By name, then node; nodes that do not answer are left out."""
