"""What an Ollama node prints, as values. Bytes in, values out.

Raises `ReplyError` with a phrase that says what came instead. Drops entries no gateway could use.
"""

from __future__ import annotations

import hashlib
import re
from sys import intern
from typing import Any, TypeVar

import msgspec

from sollold.core.model import Digest, ModelView, ResidentView
from sollold.core.names import key_of

MAX_MODELS = 10_000
_MAX_VERSION_CHARS = 64
_MAX_SHARED = 4096
_MAX_COUNT = 2**63
_T = TypeVar("_T")
_BLOB = re.compile(r"^FROM [^\n]*sha256-([0-9a-f]{64})\s*$", re.MULTILINE)


class ReplyError(Exception):
    """The reply is not what this request is answered with; the text says what it is."""


class Tags(msgspec.Struct, frozen=True):
    """A catalogue as printed; equal marks mean equal bytes."""

    models: tuple[ModelView, ...]
    mark: bytes


class Shown(msgspec.Struct, frozen=True):
    """What `/api/show` says about one model."""

    capabilities: frozenset[str] | None
    """None: a node too old to say."""
    weights: str | None
    """Digest of the weights file, which several models may share."""


class _List(msgspec.Struct):
    models: list[dict[str, Any]] | None = None


class _Version(msgspec.Struct):
    version: str


class _Show(msgspec.Struct):
    capabilities: list[str] | None = None
    modelfile: str = ""


class _Schema(msgspec.Struct):
    schema: str
    version: str = ""


class Shared:
    """Keeps one copy of what many nodes print alike. Bounded; forgets all when full."""

    def __init__(self) -> None:
        self._details: dict[Digest, object] = {}
        self._sets: dict[frozenset[str], frozenset[str]] = {}

    def details(self, digest: Digest, value: object) -> object:
        """Return an equal object met before under this digest, else `value`."""
        known = self._details.get(digest)
        if known == value:
            return known
        if len(self._details) >= _MAX_SHARED:
            self._details.clear()
        self._details[digest] = value
        return value

    def names(self, values: frozenset[str]) -> frozenset[str]:
        """Return an equal set met before, else `values`."""
        if len(self._sets) >= _MAX_SHARED:
            self._sets.clear()
        return self._sets.setdefault(values, values)


def parse_version(body: bytes) -> str:
    """Read `/api/version`."""
    version = decode(body, _Version).version
    if not version or len(version) > _MAX_VERSION_CHARS or not version.isprintable():
        raise ReplyError("names no usable version")
    return intern(version)


def parse_tags(body: bytes, shared: Shared, known: Tags | None = None) -> Tags:
    """Read `/api/tags`; returns `known` itself when it was made of the same bytes."""
    mark = hashlib.blake2b(body, digest_size=16).digest()
    if known is not None and known.mark == mark:
        return known
    entries = decode(body, _List).models or []
    views = (_model(entry, shared) for entry in entries[:MAX_MODELS])
    return Tags(tuple(view for view in views if view is not None), mark)


def parse_ps(body: bytes) -> tuple[ResidentView, ...]:
    """Read `/api/ps`."""
    entries = decode(body, _List).models or []
    views = (_resident(entry) for entry in entries[:MAX_MODELS])
    return tuple(view for view in views if view is not None)


def parse_show(body: bytes) -> Shown:
    """Read `/api/show`, skipping all that is large."""
    show = decode(body, _Show)
    blob = _BLOB.search(show.modelfile)
    names = None if show.capabilities is None else frozenset(map(intern, show.capabilities))
    return Shown(names, blob[1] if blob else None)


def parse_daemon(body: bytes) -> str | None:
    """Return the version in the status document of a sollold; None when it is none."""
    try:
        status = msgspec.json.decode(body, type=_Schema)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return status.version[:_MAX_VERSION_CHARS] if status.schema.startswith("sollold.") else None


def decode(body: bytes, kind: type[_T]) -> _T:
    """Read a body. Raises `ReplyError` with a phrase that says what it is instead."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as exc:
        raise ReplyError("answers with JSON of another shape") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        start = body[:256].lstrip().lower()
        what = "a web page" if start.startswith((b"<!doctype", b"<html")) else "something not JSON"
        raise ReplyError(f"answers with {what}") from exc


def _model(entry: dict[str, Any], shared: Shared) -> ModelView | None:
    name = _name(entry)
    key = key_of(name)
    digest = _digest(entry)
    if key is None or not digest:
        return None
    if "details" in entry:
        entry["details"] = shared.details(digest, entry["details"])
    for field in ("name", "model", "digest"):
        if isinstance(entry.get(field), str):
            entry[field] = intern(entry[field])
    listed = entry.get("capabilities")
    capabilities = None
    if isinstance(listed, list):
        capabilities = shared.names(frozenset(item for item in listed if isinstance(item, str)))
    return ModelView(
        key=key,
        name=intern(name),
        digest=digest,
        size_bytes=integer_of(entry, "size") or 0,
        modified_at=text_of(entry, "modified_at"),
        capabilities=capabilities,
        is_remote=bool(entry.get("remote_model") or entry.get("remote_host")),
        entry=entry,
    )


def _resident(entry: dict[str, Any]) -> ResidentView | None:
    key = key_of(_name(entry))
    digest = _digest(entry)
    if key is None or not digest:
        return None
    return ResidentView(
        key=key,
        digest=digest,
        context_length=integer_of(entry, "context_length"),
        expires_at=text_of(entry, "expires_at"),
        size_bytes=integer_of(entry, "size") or 0,
        size_vram_bytes=integer_of(entry, "size_vram") or 0,
        entry=entry,
    )


def _name(entry: dict[str, Any]) -> str:
    return text_of(entry, "name") or text_of(entry, "model")


def _digest(entry: dict[str, Any]) -> Digest:
    return Digest(intern(text_of(entry, "digest").removeprefix("sha256:").lower()))


def text_of(entry: dict[str, Any], field: str) -> str:
    """Return a field that has to be a text; empty when it is none."""
    value = entry.get(field)
    return value if isinstance(value, str) else ""


def integer_of(entry: dict[str, Any], field: str) -> int | None:
    """Return a field that has to be a whole number; None when it is none."""
    value = entry.get(field)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count_of(entry: dict[str, Any], field: str) -> int | None:
    """Return a field that has to be a positive number of reasonable size; None when it is none."""
    value = integer_of(entry, field)
    return value if value is not None and 0 < value < _MAX_COUNT else None


def table_of(entry: dict[str, Any], field: str) -> dict[str, Any]:
    """Return a field that has to be an object; empty when it is none."""
    value = entry.get(field)
    return value if isinstance(value, dict) else {}


def texts_of(entry: dict[str, Any], field: str) -> tuple[str, ...]:
    """Return the texts of a field that has to be a list; empty when it is none."""
    value = entry.get(field)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
