"""`/api/v1/models` and `/api/v1/loaded`: what there is, where, and who would serve it now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sollold import api_models
from sollold.core.model import NodeState, Reason
from sollold.core.names import display_of, key_of
from sollold.errors import InvalidRequest, ModelNotFound
from sollold.web.answer import json_answer, long_answer, now_text
from sollold.web.context import CONTEXT
from sollold.web.nearest import nearest
from sollold.web.route import Parameter, Route
from sollold.wire.catalogue import merging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aiohttp import web

    from sollold.core.model import Candidate, Fleet, ModelKey, ModelView, NodeView
    from sollold.routing.outlook import Oracle, Outlook
    from sollold.web.turns import Turns
    from sollold.wire.catalogue import Merged

_ABSENT = frozenset({NodeState.DOWN, NodeState.UNKNOWN})
_WITHOUT_NEXT = Parameter(
    name="next",
    type="boolean",
    text="0 leaves out which node would get it, which takes most of the time.",
)


class InventoryApi:
    """Handlers of the documents about models."""

    def __init__(
        self,
        *,
        fleet: Callable[[], Fleet],
        oracle: Oracle,
        clock: Callable[[], float],
        turns: Turns,
    ) -> None:
        """Answers about all models are made in turns, so that the loop is never held for long."""
        self._fleet = fleet
        self._oracle = oracle
        self._clock = clock
        self._turns = turns
        self._merged: tuple[int, dict[ModelKey, Merged]] = (-1, {})

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

    async def models(self, request: web.Request) -> web.StreamResponse:
        """Answer `/api/v1/models`."""
        wants_next = _flag(request, "next")
        document = api_models.ModelsDocument(at=now_text(), models=())
        items = self._rows(self._fleet(), await self._models(), wants_next=wants_next)
        return await long_answer(request, document, items, self._turns)

    async def model(self, request: web.Request) -> web.Response:
        """Answer `/api/v1/models/{name}`."""
        name = request.match_info["name"]
        models = await self._models()
        fleet = self._fleet()
        key = key_of(name)
        found = None if key is None else models.get(key)
        if found is None:
            near = await nearest(name, [item.view.name for item in models.values()], self._turns)
            request[CONTEXT].hint = None if near is None else f"did you mean '{near}'?"
            raise ModelNotFound(f"no model '{name[:100]}'")
        view = found.view
        outlook = self._ask(view)
        asked = outlook.request
        return json_answer(
            api_models.ModelDocument(
                at=now_text(),
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
        return json_answer(api_models.LoadedDocument(at=now_text(), loaded=tuple(rows)))

    async def _models(self) -> dict[ModelKey, Merged]:
        """Return every model in the order of names; merged once per generation of the fleet."""
        fleet = self._fleet()
        if self._merged[0] != fleet.generation:
            found = await self._turns.all(merging(fleet))
            found.sort(key=lambda item: item.view.name.casefold())
            self._merged = (fleet.generation, {item.view.key: item for item in found})
        return self._merged[1]

    def _rows(
        self, fleet: Fleet, models: Mapping[ModelKey, Merged], *, wants_next: bool
    ) -> Iterator[bytes | None]:
        for merged in models.values():
            outlook = self._ask(merged.view) if wants_next else None
            yield msgspec.json.encode(_model(merged.view, fleet, outlook))

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
