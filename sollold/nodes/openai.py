"""Questions to a server of OpenAI's API: vLLM, LM Studio, a cloud.

Asks for its list of models and nothing else: the list is free everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sollold.core.health import Misconfigured, Saturated
from sollold.core.model import EngineModel
from sollold.nodes.ask import Reply, is_daemon, is_llama, judge
from sollold.nodes.client import Peer
from sollold.nodes.look import Facts, Look, made_up_digest, model_view, resident_view
from sollold.nodes.offer import choose
from sollold.nodes.parse import (
    MAX_MODELS,
    ReplyError,
    count_of,
    decode,
    table_of,
    text_of,
    texts_of,
)

if TYPE_CHECKING:
    from sollold.nodes.ask import Target
    from sollold.nodes.client import NodeClient
    from sollold.nodes.look import Seen
    from sollold.nodes.offer import Offer

SPEAKER = "OpenAI's API"
_PATH = "/v1/models"
_MAX_NAME_CHARS = 512
# What vLLM, OpenRouter and Together, Groq, LM Studio and Mistral call it.
_CONTEXT_LENGTHS = ("max_model_len", "context_length", "context_window", "max_context_length")


class OpenAiLooker:
    """Asks one server."""

    def __init__(self, client: NodeClient) -> None:
        self._client = client
        self._created_s: dict[str, int] = {}

    def forget(self) -> None:
        """Nothing is kept that could be out of date. No await."""

    async def look(self, place: Target, offer: Offer, limit_s: float) -> Seen:
        """Ask for the list of models."""
        reply = await self._client.asker.ask(place, "GET", _PATH, limit_s)
        if not isinstance(reply, Reply):
            return reply
        if is_daemon(reply):
            return Peer(None)
        if is_llama(reply):
            remedy = 'write kind = "llama_server", or leave kind out'
            return Misconfigured(f"a llama.cpp server answers on {place.port}; {remedy}")
        if reply.status == 429:
            return Saturated(_retry_after_s(reply), is_probe=True)
        failure = judge(reply, place, _PATH, SPEAKER)
        if failure is not None:
            return failure
        try:
            entries = parse_models(reply.body)
        except ReplyError as exc:
            return Misconfigured(f"{exc} to {_PATH}")
        return self._result(place, offer, entries, reply.latency_s)

    def _result(
        self, place: Target, offer: Offer, entries: list[dict[str, Any]], latency_s: float
    ) -> Look:
        found = {text_of(entry, "id"): entry for entry in entries}
        offered = choose(dict.fromkeys(found, ()), offer)
        models = tuple(
            model_view(one, self._facts(place, found[one.engine_name]), offer) for one in offered
        )
        residents = tuple(resident_view(model) for model in models)
        return Look(latency_s=latency_s, models=models, residents=residents)

    def _facts(self, place: Target, entry: dict[str, Any]) -> Facts:
        name = text_of(entry, "id")
        if len(self._created_s) > MAX_MODELS:
            self._created_s.clear()
        # Some servers print the current time.
        created_s = self._created_s.setdefault(name, count_of(entry, "created") or 0)
        where = f"{place.scheme}://{place.host or place.address}:{place.port}{place.path}"
        return Facts(
            engine=EngineModel(name=name, context_length=_context_length(entry)),
            digest=made_up_digest("openai", where, name),
            created_s=created_s,
            capabilities=_capabilities(entry),
        )


def parse_models(body: bytes) -> list[dict[str, Any]]:
    """Read `/v1/models`, which some print without the object around the list."""
    raw = decode(body, object)
    entries = raw.get("data") if isinstance(raw, dict) else raw
    if entries is None and isinstance(raw, dict) and raw.get("object") == "list":
        entries = []
    if not isinstance(entries, list):
        raise ReplyError("answers with JSON of another shape")
    return [
        entry
        for entry in entries[:MAX_MODELS]
        if isinstance(entry, dict) and 0 < len(text_of(entry, "id")) <= _MAX_NAME_CHARS
    ]


def _context_length(entry: dict[str, Any]) -> int | None:
    lengths = (count_of(entry, field) for field in _CONTEXT_LENGTHS)
    return next((length for length in lengths if length is not None), None)


def _capabilities(entry: dict[str, Any]) -> frozenset[str] | None:
    """Name in Ollama's words what a model can do, where the list says it as OpenRouter's does."""
    architecture, parameters = (
        table_of(entry, "architecture"),
        texts_of(entry, "supported_parameters"),
    )
    if not architecture and not parameters:
        return None
    found = {"completion"}
    if "image" in texts_of(architecture, "input_modalities"):
        found.add("vision")
    if "tools" in parameters:
        found.add("tools")
    if "reasoning" in parameters:
        found.add("thinking")
    return frozenset(found)


def _retry_after_s(reply: Reply) -> float | None:
    """Return the pause in seconds; a date is left aside, the usual pause will do."""
    text = reply.headers.get("Retry-After", "").strip()
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
