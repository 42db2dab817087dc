"""`/api/v1/models` and `/api/v1/loaded`: what there is, where, and who would serve it now."""

from __future__ import annotations

import asyncio
import difflib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from sollold import api_models
from sollold.core.model import NodeState, Reason
from sollold.core.names import display_of, key_of
from sollold.errors import InvalidRequest, ModelNotFound
from sollold.events.ring import rfc3339
from sollold.web.context import CONTEXT
from sollold.web.route import Parameter, Route
from sollold.wire.catalogue import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sollold.core.model import Candidate, Fleet, ModelView, NodeView
    from sollold.routing.outlook import Oracle, Outlook

_TURN_S = 0.002
"""How long the loop is held at a stretch."""
_ABSENT = frozenset({NodeState.DOWN, NodeState.UNKNOWN})
_WITHOUT_NEXT = Parameter(
    name="next",
    type="boolean",
    text="0 leaves out which node would get it, which takes most of the time.",
)


class InventoryApi:
    """Handlers of the documents about models."""

    def __init__(
        self, *, fleet: Callable[[], Fleet], oracle: Oracle, clock: Callable[[], float]
    ) -> None:
        self._fleet = fleet
        self._oracle = oracle
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                method="GET",
                path="/api/v1/models",
                handler=self.models,
                summary="All models, where they are, and which node would get each now",
                tag="Models",
                parameters=(_WITHOUT_NEXT,),
                answer=api_models.ModelsDocument,
            ),
            Route(
                method="GET",
                path="/api/v1/models/{name}",
                handler=self.model,
                summary="Everything about one model, with what each node would cost",
                tag="Models",
                parameters=(
                    Parameter(name="name", place="path", text="A model's name, as clients say it."),
                ),
                answer=api_models.ModelDocument,
            ),
            Route(
                method="GET",
                path="/api/v1/loaded",
                handler=self.loaded,
                summary="Models in memory, node by node",
                tag="Models",
                answer=api_models.LoadedDocument,
            ),
        ]

    async def models(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/models`."""
        wants_next = _flag(request, "next")
        fleet = self._fleet()
        found: list[api_models.Model] = []
        until_s = self._clock() + _TURN_S
        for merged in sorted(merge(fleet), key=lambda item: item.view.name.casefold()):
            outlook = self._ask(merged.view) if wants_next else None
            found.append(_model(merged.view, fleet, outlook))
            if self._clock() > until_s:
                await asyncio.sleep(0)
                until_s = self._clock() + _TURN_S
        return _json(api_models.ModelsDocument(at=_now_text(), models=tuple(found)))

    async def model(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/models/{name}`."""
        name = request.match_info["name"]
        fleet = self._fleet()
        views = {item.view.key: item.view for item in merge(fleet)}
        key = key_of(name)
        view = None if key is None else views.get(key)
        if view is None:
            near = difflib.get_close_matches(name, [item.name for item in views.values()], n=1)
            if near:
                request[CONTEXT].hint = f"did you mean '{near[0]}'?"
            raise ModelNotFound(f"no model '{name[:100]}'")
        outlook = self._ask(view)
        asked = outlook.request
        return _json(
            api_models.ModelDocument(
                at=_now_text(),
                model=_model(view, fleet, outlook),
                asked=api_models.AskedRequest(
                    task=asked.kind.value,
                    prompt_tokens=asked.prompt_tokens,
                    output_tokens=asked.output_tokens,
                ),
                costs=_costs(outlook),
            )
        )

    async def loaded(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/loaded`."""
        rows = [row for node in self._fleet().nodes for row in _loaded(node)]
        rows.sort(key=lambda row: (row.name.casefold(), row.node))
        return _json(api_models.LoadedDocument(at=_now_text(), loaded=tuple(rows)))

    def _ask(self, view: ModelView) -> Outlook:
        return self._oracle.ask(view.key, view.digest, view, self._clock())


def _model(view: ModelView, fleet: Fleet, outlook: Outlook | None) -> api_models.Model:
    known = view.capabilities
    return api_models.Model(
        name=view.name,
        digest=view.digest,
        size_bytes=view.size_bytes or None,
        modified_at=view.modified_at or None,
        capabilities=None if known is None else tuple(sorted(known)),
        copies=tuple(_copies(view, fleet, outlook)),
        next=None if outlook is None else _next(outlook),
    )


def _copies(
    view: ModelView, fleet: Fleet, outlook: Outlook | None
) -> Iterator[api_models.ModelCopy]:
    for node in fleet.nodes:
        copy = node.models.get(view.key)
        if copy is None:
            continue
        yield api_models.ModelCopy(
            node=node.id,
            state=node.state.value,
            digest=copy.digest,
            size_bytes=copy.size_bytes or None,
            is_loaded=_is_loaded(node, copy),
            left_out=None if outlook is None else _left_out(node, outlook),
        )


def _is_loaded(node: NodeView, copy: ModelView) -> bool | None:
    if not node.tells_memory or node.state in _ABSENT:
        return None
    return any(item.digest == copy.digest for item in node.residents)


def _left_out(node: NodeView, outlook: Outlook) -> Reason | None:
    """Return why a copy serves nothing; that it is busy is no reason, nor that it is the one."""
    is_chosen = outlook.grant is not None and outlook.grant.node == node.id
    reason = outlook.rejections.get(node.id)
    return None if is_chosen or reason is None or reason.code == "busy" else reason


def _next(outlook: Outlook) -> api_models.NextNode:
    grant, reserved = outlook.grant, outlook.reservation
    if grant is not None:
        reason = grant.decision.reason
        return api_models.NextNode(
            node=grant.node,
            wait_ms=0.0,
            is_load=grant.is_load,
            reason=Reason(reason.replace(",", "").replace(" ", "_"), reason),
            equals=outlook.equals,
        )
    if reserved is not None:
        return api_models.NextNode(
            node=reserved.node,
            wait_ms=reserved.expected_start_s * 1000,
            reason=Reason("waits", f"{reserved.node} is full"),
        )
    return api_models.NextNode(reason=_nobody(outlook))


def _nobody(outlook: Outlook) -> Reason:
    holders = [item for item in outlook.rejections.values() if item.code != "no_model"]
    if any(item.code == "busy" for item in holders):
        return Reason("busy", f"every node that has it is busy, {outlook.ahead} requests wait")
    return Reason("no_usable_node", "; ".join(item.text for item in holders))


def _costs(outlook: Outlook) -> tuple[api_models.NodeCost, ...]:
    if outlook.grant is None:
        return ()
    eligible = [item for item in outlook.grant.decision.candidates if not item.excluded]
    return tuple(_cost(item) for item in sorted(eligible, key=lambda item: item.cost_s))


def _cost(item: Candidate) -> api_models.NodeCost:
    return api_models.NodeCost(
        node=item.node,
        total_ms=item.cost_s * 1000,
        wait_ms=item.wait_s * 1000,
        load_ms=item.load_s * 1000,
        swap_ms=item.swap_s * 1000,
        foreign_ms=item.foreign_s * 1000,
        prefill_ms=item.prefill_s * 1000,
        decode_ms=item.decode_s * 1000,
        risk_ms=item.risk_s * 1000,
        tier_ms=item.tier_s * 1000,
        is_measured=item.is_measured,
    )


def _loaded(node: NodeView) -> Iterator[api_models.LoadedCopy]:
    if node.state in _ABSENT or not node.tells_memory:
        return
    for item in node.residents:
        yield api_models.LoadedCopy(
            name=str(item.entry.get("name") or display_of(item.key)),
            node=node.id,
            digest=item.digest,
            size_bytes=item.size_bytes or None,
            size_vram_bytes=item.size_vram_bytes if item.size_bytes else None,
            context_length=item.context_length,
            expires_at=item.expires_at or None,
        )


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "1")
    if text not in {"0", "1", "true", "false"}:
        raise InvalidRequest(f"{name} is 0 or 1, not '{text[:20]}'")
    return text in {"1", "true"}


def _now_text() -> str:
    return rfc3339(datetime.now(UTC).timestamp())


def _json(document: msgspec.Struct) -> web.Response:
    response = web.Response(body=msgspec.json.encode(document))
    response.headers["Content-Type"] = "application/json; charset=utf-8"
    return response
