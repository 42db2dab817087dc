"""What a llama-server prints, as values. Bytes in, values out; raises `ReplyError`."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from sollold.core.model import EngineModel
from sollold.nodes.look import Facts, made_up_digest, quantization_name
from sollold.nodes.offer import stem
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
    from sollold.core.model import Digest

_MAX_TEMPLATE_CHARS = 256 * 1024
_MAX_VERSION_CHARS = 64
_MAX_SLOTS = 4096
_EMBEDDING_FLAGS = frozenset({"--embedding", "--embeddings"})
_LOADED = frozenset({"loaded", "sleeping"})


class Props(msgspec.Struct, frozen=True, kw_only=True):
    """What `/props` says; equal marks mean that nothing but sleep changed."""

    mark: bytes
    is_router: bool = False
    is_sleeping: bool = False
    slots: int | None = None
    alias: str = ""
    path: str = ""
    file_type: str = ""
    context_length: int | None = None
    """Tokens per slot."""
    version: str | None = None
    template: str = ""
    modalities: frozenset[str] = frozenset()
    template_capabilities: frozenset[str] | None = None
    """None: a build too old to say."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One element of `/v1/models`."""

    name: str
    aliases: tuple[str, ...] = ()
    created_s: int = 0
    is_loaded: bool = True
    is_embedding: bool | None = None
    """As its arguments say; None: they are not known."""
    file: str = ""
    size_bytes: int = 0
    file_type: str = ""
    parameter_count: int | None = None
    context_length: int | None = None
    train_context_length: int | None = None
    embedding_length: int | None = None
    vocabulary_length: int | None = None


class _Models(msgspec.Struct):
    data: list[dict[str, Any]] | None = None


def parse_props(body: bytes) -> Props:
    """Read `/props`."""
    raw = decode(body, dict[str, Any])
    settings = table_of(raw, "default_generation_settings")
    is_router = raw.get("role") == "router"
    if not is_router and "total_slots" not in raw and not settings:
        raise ReplyError("answers with JSON of another shape")
    slots = count_of(raw, "total_slots")
    return Props(
        mark=_mark(body),
        is_router=is_router,
        is_sleeping=raw.get("is_sleeping") is True,
        slots=None if slots is None else min(slots, _MAX_SLOTS),
        alias=text_of(raw, "model_alias"),
        path=text_of(raw, "model_path"),
        file_type=text_of(raw, "model_ftype"),
        context_length=count_of(settings, "n_ctx"),
        version=text_of(raw, "build_info")[:_MAX_VERSION_CHARS] or None,
        template=text_of(raw, "chat_template")[:_MAX_TEMPLATE_CHARS],
        modalities=_true_names(raw, "modalities"),
        template_capabilities=_true_names(raw, "chat_template_caps")
        if "chat_template_caps" in raw
        else None,
    )


def parse_models(body: bytes) -> list[Listed]:
    """Read `/v1/models`; the Ollama-looking list beside it says nothing."""
    entries = decode(body, _Models).data or []
    return [_listed(entry) for entry in entries[:MAX_MODELS] if text_of(entry, "id")]


def facts_of(props: Props, listed: Listed, *, is_embedding: bool | None) -> Facts:
    """Return what is known of the only model of a server."""
    name = stem(props.alias or listed.name)
    engine = _engine(name, listed, props)
    file_type = listed.file_type or props.file_type
    return Facts(
        engine=engine,
        digest=_digest(stem(props.path), listed, file_type),
        aliases=tuple(alias for alias in listed.aliases if stem(alias) == alias),
        size_bytes=listed.size_bytes,
        created_s=listed.created_s,
        format="gguf",
        quantization=quantization_name(file_type),
        capabilities=None
        if is_embedding is None
        else _capabilities(props, is_embedding=is_embedding),
    )


def routed_facts(listed: Listed, props: Props | None) -> Facts:
    """Return what is known of one model of several; `props` are its own while it is loaded."""
    props = props or Props(mark=b"")
    file_type = listed.file_type or props.file_type
    is_known = bool(props.template) or listed.is_embedding is True
    capabilities = _capabilities(props, is_embedding=listed.is_embedding is True)
    return Facts(
        engine=_engine(listed.name, listed, props),
        # Size and shape are told only while it is loaded, so they cannot be part of it.
        digest=made_up_digest("llama_server", listed.name, listed.file),
        aliases=listed.aliases,
        size_bytes=listed.size_bytes,
        created_s=listed.created_s,
        format="gguf",
        quantization=quantization_name(file_type),
        capabilities=capabilities if is_known else None,
        is_resident=listed.is_loaded,
    )


def _digest(file: str, listed: Listed, file_type: str) -> Digest:
    return made_up_digest(
        "llama_server",
        file,
        listed.size_bytes,
        listed.parameter_count,
        listed.vocabulary_length,
        listed.embedding_length,
        file_type,
    )


def _engine(name: str, listed: Listed, props: Props) -> EngineModel:
    return EngineModel(
        name=name,
        context_length=props.context_length or listed.context_length,
        train_context_length=listed.train_context_length,
        parameter_count=listed.parameter_count,
        embedding_length=listed.embedding_length,
        vocabulary_length=listed.vocabulary_length,
        template=props.template,
    )


def _capabilities(props: Props, *, is_embedding: bool) -> frozenset[str]:
    """Name in Ollama's words what the server can do."""
    if is_embedding:
        return frozenset({"embedding"})
    found = {"completion"} | (props.modalities & {"vision", "audio"})
    told = props.template_capabilities
    if "tools" in props.template if told is None else "supports_tools" in told:
        found.add("tools")
    # As Ollama tells it from a template; the engine's own flag is about earlier turns.
    if "<think>" in props.template and "</think>" in props.template:
        found.add("thinking")
    return frozenset(found)


def _listed(entry: dict[str, Any]) -> Listed:
    meta, status = table_of(entry, "meta"), table_of(entry, "status")
    arguments = texts_of(status, "args")
    return Listed(
        name=text_of(entry, "id"),
        aliases=texts_of(entry, "aliases"),
        created_s=count_of(entry, "created") or 0,
        is_loaded=not status or text_of(status, "value") in _LOADED,
        is_embedding=not _EMBEDDING_FLAGS.isdisjoint(arguments) if arguments else None,
        file=_file(arguments),
        size_bytes=count_of(meta, "size") or 0,
        file_type=text_of(meta, "ftype"),
        parameter_count=count_of(meta, "n_params"),
        context_length=count_of(meta, "n_ctx"),
        train_context_length=count_of(meta, "n_ctx_train"),
        embedding_length=count_of(meta, "n_embd"),
        vocabulary_length=count_of(meta, "n_vocab"),
    )


def _file(arguments: tuple[str, ...]) -> str:
    """Return what the model's file is called, without its folder."""
    for flag, value in pairwise(arguments):
        if flag in {"--model", "-m"}:
            return stem(value)
    return ""


def _mark(body: bytes) -> bytes:
    awake = body.replace(b'"is_sleeping":true', b'"is_sleeping":false')
    return hashlib.blake2b(awake, digest_size=16).digest()


def _true_names(entry: dict[str, Any], field: str) -> frozenset[str]:
    return frozenset(name for name, value in table_of(entry, field).items() if value is True)
