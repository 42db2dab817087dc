"""What one round of questions to a server other than Ollama yields, and the views made of it."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import msgspec

from sollold.core.health import Saturated
from sollold.core.model import Digest, EngineModel, ModelView, ResidentView
from sollold.nodes.ask import Failure, Target
from sollold.nodes.client import Peer

if TYPE_CHECKING:
    from sollold.nodes.offer import Offer, Offered

FOREVER = "2318-01-01T00:00:00Z"
"""When what never leaves memory expires; as far ahead as Ollama puts it."""
_ZERO_TIME = "0001-01-01T00:00:00Z"
_LAST_S = 253_402_300_799
_MIX = re.compile(r"(?P<base>\S+) - (?P<size>Small|Medium|Large)\b")


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The server answered, and this is what it runs."""

    latency_s: float
    models: tuple[ModelView, ...]
    residents: tuple[ResidentView, ...]
    version: str | None = None
    slots: int | None = None
    """Parallel requests per model, when it says so."""


Seen = Look | Peer | Saturated | Failure


class Looker(Protocol):
    """Asks one server of one kind, and remembers what need not be asked again."""

    async def look(self, place: Target, offer: Offer, limit_s: float) -> Seen:
        """Ask once."""

    def forget(self) -> None:
        """Have everything asked anew: somebody else may be there now. No await."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one of the server's models, under whatever names it is offered."""

    engine: EngineModel
    digest: Digest
    aliases: tuple[str, ...] = ()
    size_bytes: int = 0
    """Of the weights; 0: not known."""
    created_s: int = 0
    """0: not known."""
    format: str = ""
    quantization: str = ""
    capabilities: frozenset[str] | None = None
    is_resident: bool = True


def made_up_digest(*facts: object) -> Digest:
    """Return a digest for a model without a manifest: equal facts, equal digest.

    SHA-256 of the line `sollold 1` and one line per fact.
    """
    text = "".join(f"{fact}\n" for fact in ("sollold 1", *facts))
    return Digest(hashlib.sha256(text.encode("utf-8", "replace")).hexdigest())


def model_view(offered: Offered, facts: Facts, offer: Offer) -> ModelView:
    """Return a model as lists show it and routing takes it."""
    engine = msgspec.structs.replace(
        facts.engine, is_same_as_ollama=offered.key in offer.same_as_ollama
    )
    modified_at = _timestamp(facts.created_s)
    entry: dict[str, object] = {
        "name": offered.name,
        "model": offered.name,
        "modified_at": modified_at,
        "size": facts.size_bytes,
        "digest": facts.digest,
        "details": _details(facts),
    }
    if facts.capabilities is not None:
        entry["capabilities"] = sorted(facts.capabilities)
    return ModelView(
        key=offered.key,
        name=offered.name,
        digest=facts.digest,
        size_bytes=facts.size_bytes,
        modified_at=modified_at,
        capabilities=facts.capabilities,
        entry=entry,
        engine=engine,
        is_synthetic=True,
    )


def resident_view(model: ModelView) -> ResidentView:
    """Return a model that is always in memory. How much of which memory is not known."""
    context_length = None if model.engine is None else model.engine.context_length
    shown = {name: model.entry[name] for name in ("name", "model", "size", "digest", "details")}
    entry: dict[str, object] = {
        **shown,
        "expires_at": FOREVER,
        "size_vram": 0,
        "context_length": context_length or 0,
    }
    return ResidentView(
        key=model.key,
        digest=model.digest,
        context_length=context_length,
        expires_at=FOREVER,
        size_bytes=0,
        size_vram_bytes=0,
        entry=entry,
    )


def human_number(number: int) -> str:
    """Write a count of parameters as Ollama does: `268.10M`, `7.6B`, `8B`."""
    for unit, letter, places in ((10**9, "B", 1), (10**6, "M", 2)):
        if number >= unit:
            return f"{number / unit:.{0 if number % unit == 0 else places}f}{letter}"
    return f"{number / 1000:.0f}K" if number >= 1000 else str(number)


def quantization_name(text: str) -> str:
    """Turn llama.cpp's description of weights into the name Ollama uses: `Q4_K_M`."""
    text = text.removeprefix("all ").removesuffix("(guessed)").strip()
    mix = _MIX.match(text)
    if mix is None:
        return text.split(" ", 1)[0]
    base = mix["base"]
    # The only mix of its kind has no letter.
    return base if (base, mix["size"]) == ("Q2_K", "Medium") else f"{base}_{mix['size'][0]}"


def _details(facts: Facts) -> dict[str, object]:
    engine = facts.engine
    details: dict[str, object] = {
        "parent_model": "",
        "format": facts.format,
        "family": "",
        "families": None,
        "parameter_size": human_number(engine.parameter_count) if engine.parameter_count else "",
        "quantization_level": facts.quantization,
    }
    context_length = engine.context_length or engine.train_context_length
    if context_length:
        details["context_length"] = context_length
    if engine.embedding_length:
        details["embedding_length"] = engine.embedding_length
    return details


def _timestamp(created_s: int) -> str:
    if not 0 < created_s <= _LAST_S:
        return _ZERO_TIME
    return datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
