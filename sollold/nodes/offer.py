"""Under which names the models of a server other than Ollama are offered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from sollold.core.model import ModelKey
from sollold.core.names import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MAX_CHARS = 80
_FILE = re.compile(r"\.gguf$", re.IGNORECASE)
_PART_OF_FILE = re.compile(r"-[0-9]{5}-of-[0-9]{5}$")
_NOT_IN_NAMESPACE = re.compile(r"[^A-Za-z0-9_-]+")
_NOT_IN_MODEL = re.compile(r"[^A-Za-z0-9_.-]+")


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What configuration says of a node's models."""

    name: str | None = None
    """For its only model."""
    names: tuple[tuple[str, str], ...] = ()
    """Offered names, each with the engine's own; when there are any, nothing else is offered."""
    same_as_ollama: frozenset[ModelKey] = frozenset()


class Offered(msgspec.Struct, frozen=True):
    """One name, and which of the engine's models it stands for."""

    key: ModelKey
    name: str
    """With a tag, as lists show it."""
    engine_name: str


def choose(listed: Mapping[str, Iterable[str]], offer: Offer) -> list[Offered]:
    """Return what is offered of the listed models, whose other names stand with their own.

    Of names that mean the same the first one counts.
    """
    if offer.names:
        own = {alias: name for name, aliases in listed.items() for alias in (name, *aliases)}
        pairs = [(name, own[engine]) for name, engine in offer.names if engine in own]
    elif offer.name is not None and len(listed) == 1:
        pairs = [(offer.name, name) for name in listed]
    else:
        pairs = [
            (ollama_name(alias), name)
            for name, aliases in listed.items()
            for alias in dict.fromkeys((name, *aliases))
        ]
    found: dict[ModelKey, Offered] = {}
    for wanted, engine_name in pairs:
        name = parse(wanted.strip())
        if name is not None:
            found.setdefault(name.key, Offered(name.key, name.display, engine_name))
    return list(found.values())


def ollama_name(name: str) -> str:
    """Return the nearest name that Ollama's grammar allows; of a path only the file's."""
    name = stem(name.strip())
    if parse(name) is not None:
        return name
    base, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        base, tag = name, ""
    *front, model = base.split("/")
    namespace = _clean(_NOT_IN_NAMESPACE, front[-1]) if front else ""
    model, tag = _clean(_NOT_IN_MODEL, model), _clean(_NOT_IN_MODEL, tag)
    return f"{f'{namespace}/' if namespace else ''}{model or 'model'}{f':{tag}' if tag else ''}"


def stem(name: str) -> str:
    """Cut a path down to what its file is called."""
    is_path = name.startswith(("/", "./", "../", "~")) or "\\" in name or _FILE.search(name)
    if not is_path:
        return name
    file = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return _PART_OF_FILE.sub("", _FILE.sub("", file))


def _clean(unwanted: re.Pattern[str], part: str) -> str:
    return unwanted.sub("-", part).strip("-.")[:_MAX_CHARS]
