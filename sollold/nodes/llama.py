"""Questions to llama.cpp's llama-server.

Asks only what wakes no sleeping server and loads no model: `/props` and `/v1/models`. `/slots` and
`/metrics` do wake it, and stay silent while it reads a prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from sollold.core.health import Misconfigured
from sollold.nodes.ask import Reply, is_daemon, is_llama, judge
from sollold.nodes.client import Peer, Version
from sollold.nodes.llama_parse import (
    Listed,
    Props,
    facts_of,
    parse_models,
    parse_props,
    routed_facts,
)
from sollold.nodes.look import Look, model_view, resident_view
from sollold.nodes.offer import choose
from sollold.nodes.parse import ReplyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollold.nodes.ask import Failure, Target
    from sollold.nodes.client import NodeClient
    from sollold.nodes.look import Facts, Seen
    from sollold.nodes.offer import Offer

SPEAKER = "a llama.cpp server"
_MAX_LOADED = 16
"""Models of one server whose properties are asked for."""


async def is_llama_server(client: NodeClient, place: Target, limit_s: float) -> bool:
    """Tell whether a server that does not say so is llama.cpp's."""
    reply = await client.asker.ask(place, "GET", "/props", limit_s)
    if not isinstance(reply, Reply) or reply.status != 200:
        return False
    try:
        parse_props(reply.body)
    except ReplyError:
        return False
    return True


class LlamaLooker:
    """Asks one llama-server."""

    def __init__(
        self, client: NodeClient, *, list_s: float, list_limit_s: float, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._list_s = list_s
        self._list_limit_s = list_limit_s
        self._clock = clock
        self._mark = b""
        self._list_due_s = 0.0
        self._is_embedding: bool | None = None
        self._has_asked = False
        self._created_s: dict[str, int] = {}
        self._known: tuple[tuple[Facts, ...], int | None] | None = None
        """Its models, and the slots of each."""

    def forget(self) -> None:
        """Have everything asked anew. No await."""
        self._mark, self._list_due_s = b"", 0.0

    async def look(self, place: Target, offer: Offer, limit_s: float) -> Seen:
        """Ask what it runs; the list only when something may have changed."""
        props = await self._props(place, limit_s)
        if not isinstance(props, tuple):
            return props
        said, latency_s = props
        if said.mark != self._mark:
            self._mark, self._has_asked, self._is_embedding = said.mark, False, None
            self._list_due_s = 0.0
        if not (self._has_asked or said.is_router or said.is_sleeping):
            await self._ask_embedding(place, limit_s)
        if self._known is None or self._clock() >= self._list_due_s:
            await self._list(place, said)
        return self._result(said, offer, latency_s)

    async def _props(self, place: Target, limit_s: float) -> tuple[Props, float] | Peer | Failure:
        reply = await self._client.asker.ask(place, "GET", "/props", limit_s)
        if not isinstance(reply, Reply):
            return reply
        if is_daemon(reply):
            return Peer(None)
        failure = judge(reply, place, "/props", SPEAKER)
        if isinstance(failure, Misconfigured) and reply.status == 404 and not is_llama(reply):
            return await self._who(place, failure, limit_s)
        if failure is not None:
            return failure
        try:
            return parse_props(reply.body), reply.latency_s
        except ReplyError as exc:
            return Misconfigured(f"{exc}, not as {SPEAKER} does, on {place.port}")

    async def _who(self, place: Target, failure: Misconfigured, limit_s: float) -> Peer | Failure:
        """Name who is there instead, if it can be named."""
        found = await self._client.version(place, limit_s)
        if isinstance(found, Version):
            return Misconfigured(f"an Ollama answers on {place.port}, not {SPEAKER}")
        return found if isinstance(found, Peer) else failure

    async def _ask_embedding(self, place: Target, limit_s: float) -> None:
        """Ask whether it was started for embeddings, which only its refusals tell.

        The input is missing, so nothing is computed either way.
        """
        reply = await self._client.asker.ask(place, "POST", "/v1/embeddings", limit_s, b"{}")
        if isinstance(reply, Reply):
            self._has_asked, self._list_due_s = True, 0.0
            self._is_embedding = {501: False, 400: True, 500: True}.get(reply.status)

    async def _list(self, place: Target, said: Props) -> None:
        """Read the list of models; without one there is only what `/props` says."""
        reply = await self._client.asker.ask(place, "GET", "/v1/models", self._list_limit_s)
        listed: list[Listed] = []
        if isinstance(reply, Reply) and reply.status == 200:
            try:
                listed = parse_models(reply.body)
            except ReplyError:
                listed = []
        if not listed and self._known is not None and said.is_router:
            return
        self._list_due_s = self._clock() + self._list_s if listed else 0.0
        if said.is_router:
            facts, slots = await self._routed(place, listed)
        else:
            only = listed[0] if listed else Listed(name=said.alias)
            facts = (facts_of(said, self._aged(only), is_embedding=self._is_embedding),)
            slots = said.slots
        self._known = (facts, slots)

    async def _routed(
        self, place: Target, listed: list[Listed]
    ) -> tuple[tuple[Facts, ...], int | None]:
        """Gather the models of a server that starts one process for each."""
        facts, slots = [], []
        asked = 0
        for model in map(self._aged, listed):
            props = None
            if model.is_loaded and asked < _MAX_LOADED:
                asked += 1
                props = await self._props_of(place, model.name)
            if props is not None and props.slots is not None:
                slots.append(props.slots)
            facts.append(routed_facts(model, props))
        return tuple(facts), min(slots, default=None)

    async def _props_of(self, place: Target, name: str) -> Props | None:
        """Ask for the properties of a loaded model, without having it loaded if it is not."""
        path = f"/props?model={quote(name, safe='')}&autoload=false"
        reply = await self._client.asker.ask(place, "GET", path, self._list_limit_s)
        if not isinstance(reply, Reply) or reply.status != 200:
            return None
        try:
            return parse_props(reply.body)
        except ReplyError:
            return None

    def _aged(self, model: Listed) -> Listed:
        """Keep the time that was told first: the server prints the current one."""
        if len(self._created_s) > 1024:
            self._created_s.clear()
        created_s = self._created_s.setdefault(model.name, model.created_s)
        return msgspec.structs.replace(model, created_s=created_s)

    def _result(self, said: Props, offer: Offer, latency_s: float) -> Look:
        facts, slots = self._known or ((), None)
        by_name = {one.engine.name: one for one in facts}
        offered = choose({name: one.aliases for name, one in by_name.items()}, offer)
        models = tuple(model_view(one, by_name[one.engine_name], offer) for one in offered)
        return Look(
            latency_s=latency_s,
            version=said.version,
            slots=slots,
            models=models,
            residents=tuple(
                resident_view(model)
                for model, one in zip(models, offered, strict=True)
                if by_name[one.engine_name].is_resident and not said.is_sleeping
            ),
        )
