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
_LIST = "/v1/models"
_EMBEDS = {200: True, 400: True, 500: True, 501: False}
"""What an answer to a request for embeddings without a text tells."""
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
        self,
        client: NodeClient,
        *,
        list_s: Callable[[], float],
        list_limit_s: float,
        clock: Callable[[], float],
    ) -> None:
        """Believe a list of models for as long as `list_s` says; that may change."""
        self._client = client
        self._list_s = list_s
        self._list_limit_s = list_limit_s
        self._clock = clock
        self._mark = b""
        self._list_due_s = 0.0
        self._is_embedding: bool | None = None
        self._has_asked = False
        self._ask_due_s = 0.0
        self._created_s: dict[str, int] = {}
        self._only: tuple[object, Listed] | None = None
        """What its only model was known by when it was listed, and how it was."""
        self._known: tuple[tuple[Facts, ...], int | None] | None = None
        """Its models, and the slots of each."""

    def forget(self) -> None:
        """Have everything asked anew; what is known stands until it is answered. No await."""
        self._mark, self._list_due_s = b"", 0.0

    async def look(self, place: Target, offer: Offer, limit_s: float) -> Seen:
        """Ask what it runs; the list only when something may have changed."""
        props = await self._props(place, limit_s)
        if not isinstance(props, tuple):
            return props
        said, latency_s = props
        if said.mark != self._mark:
            self._mark, self._has_asked, self._is_embedding = said.mark, False, None
            self._list_due_s = self._ask_due_s = 0.0
        is_open = not (self._has_asked or said.is_router or said.is_sleeping)
        if is_open and self._clock() >= self._ask_due_s:
            await self._ask_embedding(place, limit_s)
        if self._known is None or self._clock() >= self._list_due_s:
            failure = await self._list(place, said)
            if failure is not None and self._known is None:
                return failure
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
        if not isinstance(reply, Reply):
            return
        if reply.status in _EMBEDS:
            self._has_asked, self._list_due_s = True, 0.0
            self._is_embedding = _EMBEDS[reply.status]
        else:
            # Busy, or something in between: not now.
            self._ask_due_s = self._clock() + self._list_s()

    async def _list(self, place: Target, said: Props) -> Failure | None:
        """Read the list of models; without one, what was known of the same models stands.

        What `/props` says alone would be a model without a size, equal to others that it is not.
        """
        read = await self._listed(place)
        listed = read if isinstance(read, list) else []
        self._list_due_s = 0.0 if listed is not read else self._clock() + self._list_s()
        if said.is_router:
            if listed or (listed is read and self._known is None):
                self._known = await self._routed(place, listed)
        else:
            known_by = (said.alias, said.path, said.file_type, said.template)
            if listed:
                self._only = (known_by, self._aged(listed[0]))
            if self._only is not None:
                is_same = self._only[0] == known_by
                only = facts_of(said, self._only[1], is_embedding=self._is_embedding)
                self._known = ((only,) if is_same else (), said.slots)
        return None if isinstance(read, list) else read

    async def _listed(self, place: Target) -> list[Listed] | Failure:
        reply = await self._client.asker.ask(place, "GET", _LIST, self._list_limit_s)
        if not isinstance(reply, Reply):
            return reply
        failure = judge(reply, place, _LIST, SPEAKER)
        if failure is not None:
            return failure
        try:
            return parse_models(reply.body)
        except ReplyError as exc:
            return Misconfigured(f"{exc} to {_LIST}")

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
