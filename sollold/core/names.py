"""Model names: the one place that parses, compares and prints them.

Owns the grammar of names, source suffixes and node pins. Must not know which models exist.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from sollold.core.model import ModelKey

_DEFAULT_HOST: Final = "registry.ollama.ai"
_DEFAULT_NAMESPACE: Final = "library"
_DEFAULT_TAG: Final = "latest"
_DEFAULT_SCHEME: Final = "https"

# Parts are bounded by the grammar, but a scheme is not, and cached names must be small.
_MAX_NAME_CHARS: Final = 1024

_HOST: Final = r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"
_NAMESPACE: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
# A scheme ends at the first "://" and may be followed by an empty host, which means the default.
_NAME: Final = re.compile(
    rf"""
    (?:
        (?:
            (?P<scheme> (?: (?!://) . )* ) :// (?P<scheme_host> {_HOST} )? /
            | (?P<host> {_HOST} ) /
        )?
        (?P<namespace> {_NAMESPACE} ) /
    )?
    (?P<model> {_PART} )
    (?: : (?P<tag> {_PART} ) )?
    """,
    re.VERBOSE | re.DOTALL,
)


class ModelName(msgspec.Struct, frozen=True, kw_only=True):
    """A valid name with every default filled in, spelled as it was given."""

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = _DEFAULT_SCHEME

    @property
    def full(self) -> str:
        """Host, namespace, model and tag, as error texts about capabilities print it."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def key(self) -> ModelKey:
        """What two names share exactly when they mean the same model."""
        return ModelKey(self.full.lower())

    @property
    def display(self) -> str:
        """The short form of catalogues: defaults left out, the tag always there."""
        short = f"{self.model}:{self.tag}"
        if self.host.lower() != _DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{short}"
        if self.namespace.lower() != _DEFAULT_NAMESPACE:
            return f"{self.namespace}/{short}"
        return short


class Source(StrEnum):
    """Where the suffix of a name says the model runs."""

    ANY = "any"
    LOCAL = "local"
    CLOUD = "cloud"
    BOTH = "both"
    """Two suffixes; a caller's mistake."""


def parse(name: str) -> ModelName | None:
    """Parse a name as it stands, or None when it breaks the grammar."""
    if len(name) > _MAX_NAME_CHARS:
        return None
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    return ModelName(
        host=found["scheme_host"] or found["host"] or _DEFAULT_HOST,
        namespace=found["namespace"] or _DEFAULT_NAMESPACE,
        model=found["model"],
        tag=found["tag"] or _DEFAULT_TAG,
        scheme=found["scheme"] or _DEFAULT_SCHEME,
    )


def key_of(name: str) -> ModelKey | None:
    """Return the canonical key of a name, space around it ignored, or None when it is invalid."""
    if len(name) > _MAX_NAME_CHARS:
        return None
    return _cached_key(name)


def display_of(key: ModelKey) -> str:
    """Return the short form of a key, or the key where it is none."""
    parsed = parse(key)
    return key if parsed is None else parsed.display


@lru_cache(maxsize=4096)
def _cached_key(name: str) -> ModelKey | None:
    parsed = parse(name.strip())
    return None if parsed is None else parsed.key


def split_source(name: str) -> tuple[str, Source]:
    """Take a ``:local``, ``:cloud`` or ``-cloud`` suffix off a name.

    The name comes back without space around it, and with both suffixes when there are two.
    """
    raw = name.strip()
    base, source = _cut_source(raw)
    if source is not Source.ANY and _cut_source(base)[1] is not Source.ANY:
        return raw, Source.BOTH
    return base, source


def _cut_source(raw: str) -> tuple[str, Source]:
    base, colon, suffix = raw.rpartition(":")
    if not colon:
        return raw, Source.ANY
    suffix = suffix.strip()
    folded = suffix.lower()
    if folded == "cloud":
        return base, Source.CLOUD
    if folded == "local":
        return base, Source.LOCAL
    if folded.endswith("-cloud") and "/" not in suffix:
        return f"{base}:{suffix[: -len('-cloud')]}", Source.CLOUD
    return raw, Source.ANY
