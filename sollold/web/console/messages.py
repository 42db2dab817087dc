"""What is said over `/ws/console`, in JSON."""

from __future__ import annotations

import msgspec


class Panel(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="panel"):
    """A whole panel."""

    name: str
    html: str
    at: int


class Rows(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="rows"):
    """New rows of a list, for who looks for this request."""

    name: str
    request: str
    html: str
    at: int


class Title(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="title"):
    """The title, and the state whose shape the icon has."""

    text: str
    icon: str


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="hello"):
    """The first message: which daemon this is."""

    version: str
    at: int


class Tick(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tick"):
    """A sign of life."""

    at: int


class Said(msgspec.Struct):
    """What a page says: which view it has, and whether somebody looks at it."""

    view: str | None = None
    is_watching: bool | None = None
